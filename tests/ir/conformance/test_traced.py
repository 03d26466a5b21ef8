"""Each operator says once what it computes: NumPy's evaluator and JAX's function agree."""

import jax
import numpy as np
import pytest

from fnckpt.ir.traced import TracedFunction, narrowed
from tests.ir.conformance.case import Case, assert_close, expected, graph_of
from tests.ir.conformance.cases import CASES

SOME = [case for case in CASES if "graph" not in case.cannot][::40]


@pytest.mark.parametrize("case", SOME, ids=lambda case: case.id)
def test_a_graph_is_a_function_that_jax_compiles(case: Case) -> None:
    function = TracedFunction(graph_of(case), {})
    with case.bits():
        found = jax.jit(function)(*map(jax.numpy.asarray, case.args))
        assert_close(case, [np.asarray(value) for value in found], expected(case))


def test_an_integer_that_32_bits_do_not_hold_becomes_the_nearest() -> None:
    ends = narrowed(np.array([-(2**60), 3, 2**60]))
    assert ends.tolist() == [-(2**31), 3, 2**31 - 1]
    assert narrowed(np.array([2.5], np.float64)).dtype == np.float32
