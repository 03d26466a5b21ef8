"""Each case: as a graph, and as a file of each target in a runtime that we did not write.

All in one file, so that one process has what JAX computes for a case, and its graph, only once.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering import NotLowered
from fnckpt.ir.targets.air.evaluate import evaluate as evaluate_air
from tests.ir.conformance.arrays import BF16
from tests.ir.conformance.case import Case, assert_close, expected, graph_of, optimized_graph
from tests.ir.conformance.cases import CASES
from tests.ir.conformance.files import (
    LOWERED,
    every_case,
    inputs_of,
    is_refused,
    judge,
    unused_limits,
    written,
)
from tests.ir.conformance.limits import REFUSED, listed
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.mindir.judge import Judged
from tests.ir.targets.onnx.test_operators import computed

OF_ANOTHER_OPSET = LOWERED[::12]

# MindSpore compiles several functions in one graph faster than each in its own.
TOGETHER = 24


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_every_limit_is_that_of_a_case(file_format: str) -> None:
    assert unused_limits(file_format) == []


# ------------------------------------------------------------------------------------------- graph


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_graph_computes_what_jax_computes_before_and_after_all_passes(case: Case) -> None:
    if "graph" in case.cannot:
        with pytest.raises(NotLowered) as caught:
            graph_of(case)
        assert re.search(case.cannot["graph"], str(caught.value))
        return
    inputs = [np.asarray(x) for x in case.args]
    assert_close(case, evaluate(graph_of(case), inputs), expected(case))
    assert_close(case, evaluate(optimized_graph(case), inputs), expected(case))


# -------------------------------------------------------------------------------------------- ONNX


def run_onnx(case: Case, path: Path, **options: int) -> None:
    file = written(case, "ONNX", path / "case.onnx", **options)
    judge(case, "ONNX", list(computed(file, inputs_of(case))))


@every_case
def test_onnx_runtime_computes_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "ONNX"):
        run_onnx(case, tmp_path)


@pytest.mark.parametrize("case", OF_ANOTHER_OPSET, ids=lambda case: case.id)
@pytest.mark.parametrize("opset", [17, 23])
def test_so_it_does_with_the_operators_of_another_opset(
    case: Case, opset: int, tmp_path: Path
) -> None:
    if not is_refused(case, "ONNX-17" if opset == 17 else "ONNX", opset=opset):
        run_onnx(case, tmp_path, opset=opset)


# --------------------------------------------------------------------------------------------- AIR


@every_case
def test_what_lies_in_an_air_file_computes_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "AIR"):
        file = written(case, "AIR", tmp_path / "case.air")
        judge(case, "AIR", evaluate_air(file, inputs_of(case)))


# ------------------------------------------------------------------------------------------ MindIR


@pytest.fixture(scope="session")
def of_mindspore(request: pytest.FixtureRequest) -> Mapping[str, Judged]:
    """What MindSpore makes of the cases that this run takes, but the refused ones."""
    mine = "test_mindspore_computes_what_jax_computes"
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    params = [item.callspec.params for item in items if item.originalname == mine]
    taken = {case.id for each in params if isinstance(case := each["case"], Case)}
    jobs = [
        Job(case.id, optimized_graph(case), inputs_of(case))
        for case in LOWERED
        if case.id in taken and listed(REFUSED, "MINDIR", case.name) is None
    ]
    return judge_groups([jobs[i : i + TOGETHER] for i in range(0, len(jobs), TOGETHER)])


@every_case
def test_mindspore_computes_what_jax_computes(
    case: Case, of_mindspore: Mapping[str, Judged]
) -> None:
    if is_refused(case, "MINDIR"):
        return
    judged = of_mindspore[case.id]
    assert not judged.error, judged.error
    dtypes = [wanted.dtype for wanted in expected(case)]
    found = zip(judged.outputs, dtypes, strict=True)
    judge(case, "MINDIR", [x.astype(d) if d == BF16 else x for x, d in found])
