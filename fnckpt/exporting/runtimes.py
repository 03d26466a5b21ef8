"""Running an exported file in a runtime that we did not write."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.extras import install, require

Arrays = Sequence[np.ndarray]

# A Python that imports nothing from the working directory, which may hold another's numpy.py.
ISOLATED = (sys.executable, "-P")

# MindSpore runs in a process of its own: a file that it does not like can end the interpreter.
MINDSPORE = """
import sys
import numpy as np
import mindspore as ms
ms.set_context(mode=ms.GRAPH_MODE)
path, given, found = sys.argv[1:]
inputs = np.load(given)
net = ms.nn.GraphCell(ms.load(path))
result = net(*(ms.Tensor(inputs[f"arr_{i}"]) for i in range(len(inputs.files))))
results = result if isinstance(result, (tuple, list)) else (result,)
np.savez(found, *(r.asnumpy() for r in results))
"""


def run_onnx(path: str | os.PathLike[str], inputs: Arrays) -> list[np.ndarray]:
    """The outputs of an ``.onnx`` file in ONNX Runtime on the CPU.

    Raises:
      RuntimeError: ONNX Runtime does not run the file; the message ends with what it said.
      ModuleNotFoundError: onnxruntime is not installed (``pip install 'fnckpt[run]'``).
    """
    require("onnxruntime", "running an .onnx file")
    import onnxruntime

    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    raised = tuple(
        each
        for each in vars(state).values()
        if isinstance(each, type) and issubclass(each, Exception)
    )
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # what is wrong is in the error, not also on the terminal
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), quiet, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in session.get_inputs()]
        results = session.run(None, dict(zip(names, inputs, strict=True)))
        return [np.asarray(result) for result in results]
    except (*raised, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise RuntimeError(f"{path}: ONNX Runtime does not run it: {error}") from None


def run_mindir(path: str | os.PathLike[str], inputs: Arrays) -> list[np.ndarray]:
    """The outputs of a ``.mindir`` file in MindSpore, graph mode, on the CPU.

    Raises:
      RuntimeError: MindSpore does not run the file; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        given, found = Path(directory, "given.npz"), Path(directory, "found.npz")
        np.savez(given, *inputs)
        command = [*ISOLATED, "-c", MINDSPORE, os.path.abspath(path), str(given), str(found)]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{path}: MindSpore does not run it: {done.stderr[-2000:]}")
        with np.load(found) as results:
            return [results[f"arr_{i}"] for i in range(len(results.files))]


def run_air(path: str | os.PathLike[str], inputs: Arrays) -> list[np.ndarray]:
    """The outputs of an ``.air`` file as its operators' documentation has them, in numpy.

    No Ascend machine is needed, and none is imitated: this computes in the file's own dtypes.

    Raises:
      FormatError: the file is damaged; nothing was computed unless it is said of a result.
    """
    from fnckpt.ir.targets.air.check import check
    from fnckpt.ir.targets.air.evaluate import evaluate
    from fnckpt.ir.targets.foreign import BAD_NUMBERS

    faults = check(path)  # before memory is asked for by the file's word
    if faults:
        more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise FormatError(f"{path}: {faults[0]}{more}")
    try:
        return list(evaluate(Path(path), inputs))
    except FormatError:
        raise
    except BAD_NUMBERS as error:
        raise FormatError(
            f"{path}: an operator does not fit its inputs ({type(error).__name__}: {error})"
        ) from None


RUNTIMES = {
    "ONNX": ("onnxruntime", run_onnx),
    "MINDIR": ("mindspore", run_mindir),
    "AIR": ("numpy", run_air),
}


def is_installed(file_format: str) -> bool:
    """Whether the runtime of a format is there."""
    return find_spec(RUNTIMES[file_format][0]) is not None


def check_installed(file_format: str, what: str) -> None:
    """``what`` needs the runtime of a format.

    Raises:
      ValueError: it is not installed; the message has the command that installs it.
    """
    if not is_installed(file_format):
        runtime = RUNTIMES[file_format][0]
        raise ValueError(f"{what}: needs {runtime}, which is not installed; {install(runtime)}")
