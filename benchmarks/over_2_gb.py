"""A tensor of 2.2 GB in one file: from fnckpt to the real MindSpore and back, every byte compared.

    python -m benchmarks.over_2_gb [--directory DIRECTORY]

Prints seconds; an error, or "differs", is a failure. Takes 5 GB of disk and 10 GB of memory, hence
no test. MindSpore runs in a process of its own; making its Tensor and starting it are not counted.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint

Result = TypeVar("Result")

ITEMS = 550_000_000  # of 4 bytes

MINDSPORE = """
import sys, time
import numpy as np, mindspore
path, what, items = sys.argv[1], sys.argv[2], int(sys.argv[3])
if what == "loads":
    started = time.perf_counter()
    loaded = mindspore.load_checkpoint(path)
    seconds = time.perf_counter() - started
    found = loaded["w"].asnumpy()
    assert np.array_equal(found, np.arange(items, dtype=np.int32)), "differs"
else:
    tensor = mindspore.Tensor(np.arange(items, dtype=np.int32))
    started = time.perf_counter()
    mindspore.save_checkpoint([{"name": "w", "data": tensor}], path)
    seconds = time.perf_counter() - started
print(seconds)
"""


def mindspore(path: Path, what: str) -> None:
    """Let MindSpore load and compare the file, or save it; print the seconds."""
    command = [sys.executable, "-c", MINDSPORE, str(path), what, str(ITEMS)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(f"MindSpore {what} {float(printed.splitlines()[-1]):8.3f} s", flush=True)


def timed(what: str, work: Callable[[], Result]) -> Result:
    """Print the seconds of ``work``."""
    started = time.perf_counter()
    done = work()
    print(f"fnckpt {what:12} {time.perf_counter() - started:8.3f} s", flush=True)
    return done


def compare(path: Path) -> None:
    """Load the file in both ways and compare."""
    for what, mmap in (("loads", False), ("maps", True)):
        found = timed(what, lambda mmap=mmap: load_checkpoint(path, mmap=mmap))["w"]
        assert np.array_equal(found, np.arange(ITEMS, dtype=np.int32)), "differs"
        del found


def main() -> None:
    """Ours to all readers, then theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=None, help="on a disk with 5 GB of room")
    with tempfile.TemporaryDirectory(dir=parser.parse_args().directory) as directory:
        ours, theirs = Path(directory, "ours.ckpt"), Path(directory, "theirs.ckpt")
        timed("saves", lambda: save_checkpoint({"w": np.arange(ITEMS, dtype=np.int32)}, ours))
        compare(ours)
        mindspore(ours, "loads")
        ours.unlink()
        mindspore(theirs, "saves")
        compare(theirs)


if __name__ == "__main__":
    main()
