"""Running an exported file in a runtime that we did not write."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np

from fnckpt.errors import FormatError
from fnckpt.exporting import runtime_values
from fnckpt.extras import install, require

Arrays = Sequence[np.ndarray]

# A Python that imports nothing from the working directory, which may hold another's numpy.py.
ISOLATED = (sys.executable, "-P")

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# MindSpore runs in a process of its own: a file that it does not like can end the interpreter.
# NumPy does not have bfloat16: such arrays go there and back as float32.
MINDSPORE = """
import sys
import numpy as np
import mindspore as ms
ms.set_context(mode=ms.GRAPH_MODE)
path, given, found, *narrow = sys.argv[1:]
inputs = np.load(given)
tensors = {name: ms.Tensor(inputs[name]) for name in inputs.files}
tensors |= {name: tensors[name].astype(ms.bfloat16) for name in narrow}
net = ms.nn.GraphCell(ms.load(path))
result = net(*(tensors[f"arr_{i}"] for i in range(len(tensors))))
results = result if isinstance(result, (tuple, list)) else (result,)
arrays = {f"arr_{i}": r for i, r in enumerate(results)}
narrow = [name for name, r in arrays.items() if r.dtype == ms.bfloat16]
arrays |= {name: arrays[name].astype(ms.float32) for name in narrow}
np.savez(found, narrow=narrow, **{name: r.asnumpy() for name, r in arrays.items()})
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
        return runtime_values.outputs(session, inputs)
    except (*raised, RuntimeError, ValueError, TypeError, MemoryError) as error:
        raise RuntimeError(f"{path}: ONNX Runtime does not run it: {error}") from None


def run_mindir(path: str | os.PathLike[str], inputs: Arrays) -> list[np.ndarray]:
    """The outputs of a ``.mindir`` file in MindSpore, graph mode, on the CPU.

    Raises:
      RuntimeError: MindSpore does not run the file; the message ends with what it said.
    """
    with tempfile.TemporaryDirectory() as directory:
        given, found = Path(directory, "given.npz"), Path(directory, "found.npz")
        narrow = [f"arr_{i}" for i, array in enumerate(inputs) if array.dtype == BFLOAT16]
        wide = (x.astype(np.float32) if x.dtype == BFLOAT16 else x for x in inputs)
        np.savez(given, *wide)
        files = os.path.abspath(path), str(given), str(found)
        command = [*ISOLATED, "-c", MINDSPORE, *files, *narrow]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{path}: MindSpore does not run it: {done.stderr[-2000:]}")
        with np.load(found) as results:
            narrow = results["narrow"].tolist()
            names = [f"arr_{i}" for i in range(len(results.files) - 1)]
            return [
                results[name].astype(BFLOAT16) if name in narrow else results[name]
                for name in names
            ]


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
