"""How each target computes a case: its file, in the runtime that reads it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fnckpt.ir.targets import target
from fnckpt.ir.targets.air.evaluate import evaluate as evaluate_air
from fnckpt.ir.targets.target import legalized
from tests.conformance.case import Case, optimized_graph
from tests.targets.onnx.test_operators import computed as computed_by_onnxruntime

Arrays = Sequence[np.ndarray]


def written(case: Case, file_format: str, path: Path) -> Path:
    """The case as a file of ``file_format``.

    Raises:
      Refused: the target cannot write it.
    """
    goal = target(file_format)
    with path.open("wb") as file:
        file.writelines(goal.encode(legalized(optimized_graph(case), goal)).parts)
    return path


def by_onnxruntime(path: Path, inputs: Arrays) -> Arrays:
    """What ONNX Runtime computes on the CPU."""
    return list(computed_by_onnxruntime(path, inputs))


def by_air(path: Path, inputs: Arrays) -> Arrays:
    """What the file's operators mean by GE's documents, in numpy."""
    return evaluate_air(path, inputs)


RUNNERS: dict[str, Callable[[Path, Arrays], Arrays]] = {"ONNX": by_onnxruntime, "AIR": by_air}
