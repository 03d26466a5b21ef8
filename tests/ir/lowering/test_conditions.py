"""jnp.select and jnp.piecewise choose by their conditions; other indices stay indices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from tests.ir.conformance.case import trace

Function = Callable[[Any], Any]
X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(4, 6)
TESTS: list[Function] = [lambda x: x < -1, lambda x: (x > -2) & (x < 1), lambda x: x > 0.5]
CASES: list[Function] = [lambda x: -x, jnp.square, lambda x: x + 1, jnp.zeros_like]


def lowered(function: Function, x: np.ndarray = X) -> FuncGraph:
    """The graph without what is not needed, which computes what JAX does."""
    graph = optimized(trace((), lambda _, x: function(x), (x,), name="f"))
    (found,) = evaluate(graph, [x])
    np.testing.assert_allclose(found, function(x), rtol=1e-6)
    return graph


def places(x: Any) -> jax.Array:
    return jnp.argmax(jnp.stack([test(x) for test in TESTS]), 0)


CHOSEN: dict[str, Function] = {
    "the first, or a default": lambda x: jnp.select([t(x) for t in TESTS], [x, 2 * x, 3 * x], 7),
    "the last, or a default": lambda x: jnp.piecewise(x, [t(x) for t in TESTS], CASES),
    "the last, or 0": lambda x: jnp.piecewise(x, [t(x) for t in TESTS], CASES[:3]),
    "the first by hand": lambda x: lax.select_n(places(x), *(case(x) for case in CASES[:3])),
    "fewer conditions than cases": lambda x: lax.select_n(places(x), *(f(x) for f in CASES)),
    "of a number": lambda x: jnp.select([t(x[0, 0]) for t in TESTS], list(x[1, :3]), x[0, 5]),
    "of one of two": lambda x: jnp.select([x > 1, x > 0], [x, 2 * x], 1),
}
STAY: dict[str, Function] = {
    "the greatest number": lambda x: lax.select_n(
        jnp.argmax(jnp.stack([x, 1 - x, x * x]), 0), x, -x, 2 * x),
    "the place along another axis": lambda x: lax.select_n(
        jnp.argmax(jnp.stack([t(x) for t in TESTS], 1), 1), x, -x, 2 * x),
    "sums from the end": lambda x: lax.select_n(
        jnp.argmax(lax.cumsum(jnp.stack([t(x) for t in TESTS]).astype(int), 0, reverse=True), 0),
        x, -x, 2 * x),
    "a limit within": lambda x: lax.select_n(jnp.minimum(places(x), 1), x, -x, 2 * x),
    "conditions in one array": lambda x: lax.select_n(
        jnp.argmax(x.reshape(2, 2, 6) > 0, 0), x[:2], -x[:2]),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_no_place_of_a_condition_is_computed(name: str) -> None:
    assert not {"ArgMax", "CumSum", "LessEqual"} & lowered(CHOSEN[name]).ops


@pytest.mark.parametrize("name", STAY)
def test_what_is_no_place_of_a_condition_stays(name: str) -> None:
    assert "ArgMax" in lowered(STAY[name]).ops


BOUNDS = st.tuples(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))


@settings(max_examples=40, deadline=None)
@given(st.lists(BOUNDS, min_size=1, max_size=4), st.booleans())
def test_any_conditions_choose_what_jax_chooses(
    bounds: list[tuple[float, float]], first: bool
) -> None:
    def chosen(x: Any) -> Any:
        tests = [(x > low) & (x < high) for low, high in bounds]
        scaled = [x * (i + 2) for i in range(len(bounds))]
        if first:
            return jnp.select(tests, scaled, x)
        functions = [lambda x, i=i: x * (i + 2) for i in range(len(bounds))]
        return jnp.piecewise(x, tests, [*functions, lambda x: x])

    assert "ArgMax" not in lowered(chosen).ops
