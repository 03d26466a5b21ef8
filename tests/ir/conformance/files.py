"""Each case as a file of a target: refused as the table of limits says, or good and judged."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.lowering import NotLowered
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import Refused, legalized, preferred
from tests.ir.conformance.case import Case, assert_close, expected, optimized_graph
from tests.ir.conformance.cases import CASES
from tests.ir.conformance.limits import DIFFERS, REFUSED, listed

Arrays = Sequence[np.ndarray]

LOWERED = [case for case in CASES if "graph" not in case.cannot]
every_case = pytest.mark.parametrize("case", LOWERED, ids=lambda case: case.id)


def inputs_of(case: Case) -> Arrays:
    return [np.asarray(x) for x in case.args]


def is_refused(case: Case, limits: str, **options: int | str) -> bool:
    """Whether the table of limits says so; then it must be so, with that reason.

    ``limits`` is a format, or one with its option: ``ONNX-17``.
    """
    goal = target(limits.split("-")[0])
    if goal.name in case.cannot:
        with pytest.raises(NotLowered) as caught:
            optimized_graph(case, loops=goal.loops)
        assert re.search(case.cannot[goal.name], str(caught.value))
        return True
    reason = listed(REFUSED, limits, case.name)
    if reason is None:
        return False
    with pytest.raises(Refused) as refused:
        goal.encode(legalized(optimized_graph(case), goal), **options)
    for _, text in refused.value.places:
        assert re.search(reason, text)
        assert "; " in text, "a refusal says what to do"
    return True


def written(case: Case, file_format: str, path: Path, **options: int | str) -> Path:
    """The case as a file that is a good one."""
    goal = target(file_format)
    with path.open("wb") as file:
        graph = optimized_graph(case, loops=goal.loops)
        graph = legalized(preferred(graph, goal), goal)
        file.writelines(goal.encode(graph, **options).parts)
    assert goal.check(path) == []
    return path


def judge(case: Case, file_format: str, found: Arrays) -> None:
    """As JAX, but for what the table of limits says."""
    if listed(DIFFERS, file_format, case.name) is None:
        assert_close(case, found, expected(case))
    else:
        with pytest.raises(AssertionError):
            assert_close(case, found, expected(case))


def unused_limits(file_format: str) -> list[str]:
    """The patterns of the table of limits that no case matches."""
    names = [case.name for case in LOWERED]
    patterns = (*REFUSED[file_format], *DIFFERS[file_format])
    return [each for each in patterns if not any(re.search(each, name) for name in names)]
