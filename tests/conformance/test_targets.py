"""Each case as a file of each format, in the runtime that reads it."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.targets import target
from fnckpt.ir.targets.air.evaluate import evaluate as evaluated_by_air
from fnckpt.ir.targets.target import Refused, legalized
from tests.conformance.arrays import BF16
from tests.conformance.case import Case, assert_close, expected, optimized_graph
from tests.conformance.cases import CASES
from tests.conformance.limits import DIFFERS, REFUSED, listed
from tests.targets.mindir.batch import Job, judge_groups
from tests.targets.mindir.judge import Judged
from tests.targets.onnx.test_operators import computed as computed_by_onnxruntime

Arrays = Sequence[np.ndarray]
LOWERED = [case for case in CASES if "graph" not in case.cannot]
# MindSpore compiles several functions in one graph faster than each in its own.
TOGETHER = 24
every_case = pytest.mark.parametrize("case", LOWERED, ids=lambda case: case.id)


def inputs_of(case: Case) -> Arrays:
    return [np.asarray(x) for x in case.args]


def is_refused(case: Case, file_format: str) -> bool:
    """Whether the table of limits says so; then it must be so, with that reason."""
    reason = listed(REFUSED, file_format, case.name)
    if reason is None:
        return False
    goal = target(file_format)
    with pytest.raises(Refused, match=reason) as refused:
        goal.encode(legalized(optimized_graph(case), goal))
    assert all("; " in text for _, text in refused.value.places)
    return True


def written(case: Case, file_format: str, path: Path) -> Path:
    """The case as a file that is a good one."""
    goal = target(file_format)
    with path.open("wb") as file:
        file.writelines(goal.encode(legalized(optimized_graph(case), goal)).parts)
    assert goal.check(path) == []
    return path


def judge(case: Case, file_format: str, found: Arrays) -> None:
    """As JAX, but for what the table of limits says."""
    if listed(DIFFERS, file_format, case.name) is None:
        assert_close(case, found, expected(case))
    else:
        with pytest.raises(AssertionError):
            assert_close(case, found, expected(case))


@every_case
def test_onnx_runtime_computes_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "ONNX"):
        path = written(case, "ONNX", tmp_path / "case.onnx")
        judge(case, "ONNX", list(computed_by_onnxruntime(path, inputs_of(case))))


@every_case
def test_the_air_file_means_what_jax_computes(case: Case, tmp_path: Path) -> None:
    if not is_refused(case, "AIR"):
        path = written(case, "AIR", tmp_path / "case.air")
        judge(case, "AIR", evaluated_by_air(path, inputs_of(case)))


@cache
def of_mindspore() -> Mapping[str, Judged]:
    """What MindSpore makes of all cases but the refused ones."""
    jobs = [
        Job(case.id, optimized_graph(case), inputs_of(case))
        for case in LOWERED
        if listed(REFUSED, "MINDIR", case.name) is None
    ]
    return judge_groups([jobs[i : i + TOGETHER] for i in range(0, len(jobs), TOGETHER)])


@every_case
def test_mindspore_computes_what_jax_computes(case: Case) -> None:
    if not is_refused(case, "MINDIR"):
        judged = of_mindspore()[case.id]
        assert not judged.error, judged.error
        dtypes = [wanted.dtype for wanted in expected(case)]
        found = zip(judged.outputs, dtypes, strict=True)
        judge(case, "MINDIR", [x.astype(d) if d == BF16 else x for x, d in found])
