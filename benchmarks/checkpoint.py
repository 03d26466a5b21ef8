"""How fast checkpoints are saved and loaded, against the disk itself and other libraries.

    python -m benchmarks.checkpoint [--rounds 5] [--slow-rounds 1] [--trees large,small,one]

Every save ends with fsync of all files and of the directory, for each library alike; files are
removed before they are written again; reads find the file in the page cache. "raw" is one
``write`` of the bytes of the fnckpt file, and one ``read`` of it. Ratios are medians over rounds of
raw time / time in the same round: 1.0 is the speed of the disk, more is better; in each round
another begins. What is slow runs in the first ``--slow-rounds`` only (0: not at all). MindSpore
runs in a process of its own; its time to make Tensors is not counted.

"extra MiB" is memory that belongs to no file (RssAnon), at its peak in one more round that is not
timed: of a save all of it, of a load what is over the arrays themselves.

To expect: save and load at about 1.0 of raw on large leaves, ``mmap`` in milliseconds. On 100,000
tiny leaves the cost of Python for each leaf is all; "Python alone" is the least of it, without any
format: to save, the bytes of each array, joined and written at once; to load, one array read at
once and a dict of its rows under names that are known. No library can be faster.
"""

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from flax import serialization
from safetensors.numpy import load_file, save_file

from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.files import sync_directory

Tree = dict[str, np.ndarray]

MANY = 1000  # leaves, from which on each costs more than its bytes

MINDSPORE = """
import json, os, sys, time
import numpy as np, mindspore
from mindspore import Parameter, Tensor
count, items, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tree = [{"name": f"layer_{i}.kernel",
         "data": Parameter(Tensor(np.full(items, i % 97, np.float32)), name=f"layer_{i}.kernel")}
        for i in range(count)]
started = time.perf_counter()
mindspore.save_checkpoint(tree, path)
descriptor = os.open(path, os.O_RDONLY)
os.fsync(descriptor)
saved = time.perf_counter()
mindspore.load_checkpoint(path)
print(json.dumps([saved - started, time.perf_counter() - saved]))
"""


@dataclass(frozen=True)
class Method:
    """A way to save and load: ``save(tree, path)``, ``load(path)``.

    ``slow`` ones run in fewer rounds; ``views`` are loaded without memory for the arrays.
    """

    name: str
    save: Callable[[Tree, Path], object]
    load: Callable[[Path], Any]
    slow: bool = False
    views: bool = False


def trees(names: Iterable[str]) -> dict[str, tuple[str, int, int]]:
    """Name -> what it is, number of leaves, float32 items in each."""
    known = {
        "large": ("128 leaves of 4 MiB, 512 MiB", 128, 1 << 20),
        "small": ("100,000 leaves of 64 bytes", 100_000, 16),
        "one": ("one leaf of 2.2 GB", 1, 550_000_000),
    }
    return {name: known[name] for name in names}


def synced(path: Path) -> None:
    """Make ``path``, a file or a directory with all that is in it, durable."""
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    sync_directory(path.parent)


def raw_save(source: Path) -> Callable[[Tree, Path], None]:
    """Write the bytes of ``source``, which are in memory."""
    content = source.read_bytes()

    def save(tree: Tree, path: Path) -> None:
        with open(path, "wb", buffering=0) as file:
            rest = memoryview(content)
            while rest:
                rest = rest[file.write(rest) :]

    return save


def orbax_save(tree: Tree, path: Path) -> None:
    """One Orbax PyTree checkpoint with its defaults."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(path, tree)


def orbax_load(path: Path) -> Any:
    """All of it as NumPy arrays."""
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path)


def numpy_load(path: Path) -> Tree:
    """All arrays of a ``.npz``, which NumPy reads only when asked for each."""
    with np.load(path) as file:
        return dict(file)


def python_alone(tree: Tree) -> Method:
    """The cost of as many objects as ``tree`` has, without names or shapes in the file."""
    names, first = list(tree), next(iter(tree.values()))

    def save(tree: Tree, path: Path) -> None:
        path.write_bytes(b"".join([array.tobytes() for array in tree.values()]))

    def load(path: Path) -> Tree:
        rows = np.frombuffer(path.read_bytes(), first.dtype).reshape(-1, *first.shape)
        return dict(zip(names, rows, strict=True))

    return Method("Python alone", save, load, views=True)


def methods(source: Path, tree: Tree) -> list[Method]:
    """All ways, the raw one first."""
    return [
        Method("raw", raw_save(source), Path.read_bytes),
        *([python_alone(tree)] if len(tree) > MANY else []),
        Method("fnckpt", save_checkpoint, load_checkpoint),
        Method(
            "fnckpt, mmap",
            save_checkpoint,
            lambda path: load_checkpoint(path, mmap=True),
            views=True,
        ),
        Method("fnckpt, crc", lambda t, p: save_checkpoint(t, p, crc=True), load_checkpoint),
        Method("safetensors", save_file, load_file),
        Method("numpy savez", lambda t, p: np.savez(p, **t), numpy_load, slow=True),  # pyright: ignore[reportArgumentType] - names are strings
        Method(
            "flax msgpack",
            lambda t, p: p.write_bytes(serialization.msgpack_serialize(t)),
            lambda p: serialization.msgpack_restore(p.read_bytes()),
            slow=True,
        ),
        Method("orbax", orbax_save, orbax_load, slow=True),
    ]


def removed(path: Path) -> None:
    """Take ``path`` away, and let what was read from it go."""
    gc.collect()
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def timed(method: Method, tree: Tree, path: Path) -> tuple[float, float]:
    """Seconds to save and to load once."""
    removed(path)
    started = time.perf_counter()
    method.save(tree, path)
    synced(path)
    saved = time.perf_counter()
    loaded = method.load(path)
    done = time.perf_counter()
    del loaded
    return saved - started, done - saved


def peak(work: Callable[[], object]) -> int:
    """The most anonymous memory that ``work`` takes over what is taken before, in bytes."""

    def taken() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(taken())

    gc.collect()
    before, seen, done = taken(), [], threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    kept = work()
    seen.append(taken())
    done.set()
    thread.join()
    del kept
    return max(seen) - before


def extra(way: Method, tree: Tree, path: Path) -> tuple[int, int]:
    """Bytes that ``way`` takes to save, and to load over those of the arrays."""
    removed(path)
    saving = peak(lambda: way.save(tree, path))
    loading = peak(lambda: way.load(path))
    size = 0 if way.views else sum(array.nbytes for array in tree.values())
    return saving, max(loading - size, 0)


def mindspore(count: int, items: int, path: Path) -> tuple[float, float]:
    """Seconds to save and to load once, in a process of its own."""
    command = [sys.executable, "-c", MINDSPORE, *map(str, (count, items, path))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    saved, loaded = json.loads(printed.splitlines()[-1])
    return saved, loaded


def file_of(way: Method, directory: Path) -> Path:
    """Where ``way`` writes; NumPy insists on its suffix."""
    suffix = ".npz" if "numpy" in way.name else ".ckpt"
    return directory / f"{way.name.replace(', ', '-').replace(' ', '-')}{suffix}"


def compare(
    count: int, items: int, options: argparse.Namespace, directory: Path
) -> tuple[dict[str, list[Any]], dict[str, tuple[int, int]]]:
    """Method -> (seconds to save, to load) of each round; -> (bytes to save, to load)."""
    tree = {f"layer_{i}.kernel": np.full(items, i % 97, np.float32) for i in range(count)}
    source = save_checkpoint(tree, directory / "source.ckpt")
    slow = options.slow_rounds
    ways = [way for way in methods(source, tree) if not way.slow or slow]
    removed(source)
    found: dict[str, list[Any]] = {way.name: [] for way in ways}
    for turn in range(options.rounds):
        begin = turn % len(ways)
        for way in ways[begin:] + ways[:begin]:
            if not way.slow or turn < slow:
                found[way.name].append(timed(way, tree, file_of(way, directory)))
                removed(file_of(way, directory))
        if turn < slow:
            seconds = mindspore(count, items, directory / "mindspore.ckpt")
            found.setdefault("mindspore", []).append(seconds)
    memory: dict[str, tuple[int, int]] = {}
    for way in ways:
        if not way.slow:
            memory[way.name] = extra(way, tree, file_of(way, directory))
            removed(file_of(way, directory))
    return found, memory


def table(found: dict[str, list[Any]], memory: dict[str, tuple[int, int]], size: int) -> str:
    """Seconds, GB/s, ratios to raw and MiB, as Markdown."""
    lines = [
        "| | save s | GB/s | of raw | extra MiB | load s | GB/s | of raw | extra MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, times in found.items():
        cells = [name]
        for which in (0, 1):
            seconds = statistics.median(round_[which] for round_ in times)
            raw = found["raw"][: len(times)]
            ratio = statistics.median(
                base[which] / round_[which] for base, round_ in zip(raw, times, strict=True)
            )
            cells += [f"{seconds:.4f}", f"{size / seconds / 1e9:.2f}", f"{ratio:.3g}"]
            cells.append(f"{memory[name][which] / (1 << 20):.0f}" if name in memory else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print one table for each tree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="rounds of what is slow")
    parser.add_argument("--trees", default="large,small,one")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        for title, count, items in trees(options.trees.split(",")).values():
            found, memory = compare(count, items, options, Path(directory))
            text = table(found, memory, 4 * count * items)
            print(f"\n{title}, {options.rounds} rounds\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
