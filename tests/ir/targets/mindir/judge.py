"""Many MindIR files run by the real MindSpore, in one child process for as long as it lives."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

Arrays = Sequence[np.ndarray]
GO_ON = 75  # the exit status of a child that asks for another to take the rest

# bfloat16 has no numpy dtype that npz keeps, so it travels as float32, which holds every value.
CHILD = """
import os, sys
import numpy as np
os.environ["GLOG_v"] = "4"
import mindspore as ms
ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
folder, start = sys.argv[1], int(sys.argv[2])
names = open(folder + "/jobs").read().split("\\n")
def given(path):
    with np.load(path) as held:
        return [
            ms.Tensor(held[f"arr_{i}"], ms.bfloat16 if narrow else None)
            for i, narrow in enumerate(held["bfloat16"])
        ]
def found(result):
    return result.astype(ms.float32).asnumpy() if result.dtype == ms.bfloat16 else result.asnumpy()
for number in range(start, len(names)):
    print(number, flush=True)
    path = folder + "/" + names[number]
    try:
        net = ms.nn.GraphCell(ms.load(path + ".mindir"))
        result = net(*given(path + ".in.npz"))
        results = result if isinstance(result, (tuple, list)) else (result,)
        np.savez(path + ".out.npz", *map(found, results))
    except Exception as error:  # whatever MindSpore raises is what it makes of the file
        open(path + ".error", "w").write(f"{type(error).__name__}: {error}")
"""


@dataclass(frozen=True)
class Judged:
    """What MindSpore made of one file: its ``outputs``, or the ``error``."""

    outputs: tuple[np.ndarray, ...] = ()
    error: str = ""


def save_inputs(path: Path, inputs: Arrays) -> None:
    """The inputs as ``.npz``, with which of them are bfloat16."""
    narrow = [x.dtype == ml_dtypes.bfloat16 for x in inputs]
    arrays = [x.astype(np.float32) if n else x for x, n in zip(inputs, narrow, strict=True)]
    np.savez(path, *arrays, bfloat16=np.array(narrow))


def judge(
    folder: Path,
    jobs: Mapping[str, Arrays],
    run: Callable[[int], Sequence[str]] | None = None,
) -> dict[str, Judged]:
    """Run ``folder/<name>.mindir`` with its inputs for each job, whatever happens to the others.

    Args:
      folder: where the files lie, and the results are left.
      jobs: the inputs of each.
      run: the command that runs the jobs from a number on and prints each number before it begins;
        the installed MindSpore if none. It may end with ``GO_ON`` to be called for the rest.
    """
    run = run or (lambda start: [sys.executable, "-c", CHILD, str(folder), str(start)])
    for name, inputs in jobs.items():
        save_inputs(folder / f"{name}.in.npz", inputs)
    names = list(jobs)
    (folder / "jobs").write_text("\n".join(names))
    crashed: dict[str, Judged] = {}
    start = 0
    while start < len(names):
        child = subprocess.run(run(start), cwd=folder, capture_output=True, text=True, check=False)
        if child.returncode == 0:
            break
        numbers = [int(word) for word in child.stdout.splitlines() if word.isdigit()]
        last = numbers[-1] if numbers else start
        if child.returncode == GO_ON:
            start = last
            continue
        error = f"the process ended with {child.returncode}: {child.stderr[-300:]}"
        crashed[names[last]] = Judged(error=error)
        start = last + 1
    return {name: crashed.get(name) or _judged(folder / name) for name in names}


def _judged(path: Path) -> Judged:
    error = path.with_name(path.name + ".error")
    if error.exists():
        return Judged(error=error.read_text())
    with np.load(path.with_name(path.name + ".out.npz")) as held:
        return Judged(outputs=tuple(held[name] for name in held.files))
