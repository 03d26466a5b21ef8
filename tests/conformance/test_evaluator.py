"""Each case through lowering and the reference evaluator, before and after all passes."""

import re

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering import NotLowered
from tests.conformance.case import Case, assert_close, expected, graph_of, optimized_graph
from tests.conformance.cases import CASES


def test_each_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_graph_computes_what_jax_computes(case: Case) -> None:
    if "graph" in case.cannot:
        with pytest.raises(NotLowered) as caught:
            graph_of(case)
        assert re.search(case.cannot["graph"], str(caught.value))
        return
    inputs = [np.asarray(x) for x in case.args]
    assert_close(case, evaluate(graph_of(case), inputs), expected(case))
    assert_close(case, evaluate(optimized_graph(case), inputs), expected(case))
