"""Each case as an ONNX file that the checker finds good, in ONNX Runtime."""

from pathlib import Path

import pytest

from tests.conformance.case import Case
from tests.conformance.files import (
    LOWERED,
    every_case,
    inputs_of,
    is_refused,
    judge,
    unused_limits,
    written,
)
from tests.targets.onnx.test_operators import computed

SAMPLE = LOWERED[::12]


def run(case: Case, path: Path, **options: int) -> None:
    file = written(case, "ONNX", path / "case.onnx", **options)
    judge(case, "ONNX", list(computed(file, inputs_of(case))))


@every_case
def test_onnx_runtime_computes_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "ONNX"):
        run(case, tmp_path)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
@pytest.mark.parametrize("opset", [17, 23])
def test_so_it_does_with_the_operators_of_another_opset(
    case: Case, opset: int, tmp_path: Path
) -> None:
    if not is_refused(case, "ONNX-17" if opset == 17 else "ONNX", opset=opset):
        run(case, tmp_path, opset=opset)


def test_every_limit_is_that_of_a_case() -> None:
    assert unused_limits("ONNX") == []
