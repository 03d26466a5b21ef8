"""The cases that the onnx wheel generates, with what is not right in them and why."""

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase

Arrays: TypeAlias = list[np.ndarray]

# Patterns of names, and why a case is not computed. What no pattern names must be right.
NOT_RIGHT: dict[str, str] = {
    r"string|strnorm|regex|tfidf|label_encoder|equal_string": "it computes with texts",
    r"(?<!reverse)sequence|optional|_opt\b|identity_opt|if_seq|if_opt|loop1[36]_seq": (
        "a sequence or an optional value is an input or an output"
    ),
    r"nonmaxsuppression|unique|compress|nonzero": "the shape of its result depends on data",
    r"loop11|range_.*_expanded": "a loop whose end depends on data stacks results",
    r"bernoulli": "it makes random numbers",
    r"training_dropout_(default|default_mask)?$|training_dropout(_mask)?$": (
        "Dropout is imported as after training"
    ),
    r"image_decoder": "it decodes a file",
    r"adagrad|adam|momentum": "no rule for the optimizers of the domain of training",
    r"tree_ensemble": "no rule for the domain of classical machine learning",
    r"attention_.*causal_bf16|attention_.*padded_kv_bf16": "rounded to bfloat16 at other places",
    r"cast_e8m0_FLOAT(16)?_to_FLOAT8E8M0": "a type of exponents alone is rounded to nearest",
    r"dft_inverse": "the expected zeros are 3e-7 in float32",
}


@dataclass(frozen=True)
class NodeCase:
    """A model of one operator with inputs and outputs."""

    name: str
    model: onnx.ModelProto
    inputs: Arrays
    outputs: Arrays
    rtol: float
    atol: float


def why_not(name: str) -> str | None:
    """The reason of the table; None for what must be right."""
    return next((reason for p, reason in NOT_RIGHT.items() if re.search(p, name)), None)


def names() -> list[str]:
    """The names of all cases."""
    return sorted(_all())


def node_case(name: str) -> NodeCase:
    """The case of a name, which computes with arrays."""
    case = _all()[name]
    assert case.data_sets is not None
    assert case.model is not None
    ((inputs, outputs), *_) = case.data_sets
    return NodeCase(name, case.model, arrays(inputs), arrays(outputs), case.rtol, case.atol)


def _all() -> dict[str, TestCase]:
    if not FOUND:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FOUND.update(
                (case.name, case) for case in onnx.backend.test.loader.load_model_tests(kind="node")
            )
    return FOUND


FOUND: dict[str, TestCase] = {}


def arrays(values: object) -> Arrays:
    """The arrays of a data set, tensors among them decoded."""
    assert isinstance(values, list | tuple)
    return [
        numpy_helper.to_array(each) if isinstance(each, onnx.TensorProto) else np.asarray(each)
        for each in values
    ]


@dataclass(frozen=True)
class Folder:
    """A model of the wheel with its data sets."""

    name: str
    path: Path

    def sets(self) -> Iterator[tuple[Arrays, Arrays]]:
        """The inputs and outputs of each data set."""
        for folder in sorted(self.path.glob("test_data_set_*")):
            yield _stored(folder, "input"), _stored(folder, "output")


def folders(kind: str) -> list[Folder]:
    """The models of a kind: ``pytorch-converted``, ``pytorch-operator``, ``simple``."""
    cases = onnx.backend.test.loader.load_model_tests(kind=kind)
    return [Folder(case.name, Path(str(case.model_dir))) for case in cases]


def _stored(folder: Path, what: str) -> Arrays:
    files = sorted(folder.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.split("_")[-1]))
    found: Arrays = []
    for file in files:
        tensor = onnx.TensorProto.FromString(file.read_bytes())
        found.append(numpy_helper.to_array(tensor))
    return found
