"""Each case as a MindIR file, in MindSpore."""

from collections.abc import Mapping
from functools import cache

from tests.conformance.arrays import BF16
from tests.conformance.case import Case, expected, optimized_graph
from tests.conformance.files import (
    LOWERED,
    every_case,
    inputs_of,
    is_refused,
    judge,
    unused_limits,
)
from tests.conformance.limits import REFUSED, listed
from tests.targets.mindir.batch import Job, judge_groups
from tests.targets.mindir.judge import Judged

# MindSpore compiles several functions in one graph faster than each in its own.
TOGETHER = 24


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
    if is_refused(case, "MINDIR"):
        return
    judged = of_mindspore()[case.id]
    assert not judged.error, judged.error
    dtypes = [wanted.dtype for wanted in expected(case)]
    found = zip(judged.outputs, dtypes, strict=True)
    judge(case, "MINDIR", [x.astype(d) if d == BF16 else x for x, d in found])


def test_every_limit_is_that_of_a_case() -> None:
    assert unused_limits("MINDIR") == []
