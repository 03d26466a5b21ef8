"""What is known of integers whatever the inputs are: it holds, and it is as narrow as it should."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.lowering.ranges import range_of

LEAST, MOST = np.iinfo(np.int32).min, np.iinfo(np.int32).max
I = np.array([LEAST, LEAST + 1, -9, -8, *range(-5, 6), 8, 9, MOST - 1, MOST], np.int32)  # noqa: E741
Function = Callable[[jax.Array], jax.Array]


def of_rest(i: jax.Array, function: Function) -> jax.Array:
    return function(lax.rem(i, 9))


CASES: dict[str, tuple[Function, int, int]] = {
    "a remainder": (lambda i: i % 4, 0, 3),
    "a remainder in C": (lambda i: lax.rem(i, 4), -3, 3),
    "a remainder of what is not negative": (lambda i: lax.rem(jnp.maximum(i, 0), 4), 0, 3),
    "a remainder of what is less": (lambda i: lax.rem(jnp.clip(i, -1, 2), 9), -1, 2),
    "a remainder by what may be 0": (lambda i: lax.rem(i, jnp.clip(i, 0, 3)), LEAST, MOST),
    "a remainder by a negative number": (lambda i: lax.rem(i, -4), LEAST, MOST),
    "a remainder in parts": (lambda i: i - lax.div(i, 4) * 4, -3, 3),
    "nearly a remainder": (lambda i: i - lax.div(i, 4) * 5, LEAST, MOST),
    "a product": (lambda i: (i % 4) * (i % 3), 0, 6),
    "a product with a negative number": (lambda i: (i % 4) * -2, -6, 0),
    "a product of negative numbers": (lambda i: jnp.clip(i, -3, 2) * jnp.clip(i, -2, 4), -12, 8),
    "a product that overflows": (lambda i: (i % 90_000) * (i % 90_000), LEAST, MOST),
    "from the end": (lambda i: of_rest(i, lambda r: jnp.where(r < 0, r + 9, r)), 0, 8),
    "a choice of a part": (lambda i: of_rest(i, lambda r: jnp.where(r < 2, 1, r)), 1, 8),
    "a choice that says nothing": (lambda i: jnp.where(i < i[::-1], 1, lax.rem(i, 5)), -4, 4),
    "a choice by what is no comparison": (lambda i: jnp.where(~(i < 3), 1, lax.rem(i, 5)), -4, 4),
    "a sum that overflows": (lambda i: jnp.where(i < 0, i + LEAST, 1), LEAST, MOST),
}


@pytest.mark.parametrize("name", CASES)
def test_a_range_holds_and_is_narrow(name: str) -> None:
    function, low, high = CASES[name]
    graph = trace({}, lambda _, i: function(i), (I,), name="case")
    found = range_of(graph.outputs[0]).whole()
    assert (found.low, found.high) == (low, high)
    with np.errstate(all="ignore"):
        (values,) = evaluate(graph, (I,))
    assert low <= values.min()
    assert values.max() <= high
    np.testing.assert_array_equal(values, function(jnp.asarray(I)))


def test_an_index_that_lies_inside_is_not_brought_inside() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)

    def read(i: jax.Array) -> jax.Array:
        best = jnp.argmax(jnp.asarray(x), axis=1)
        return jnp.asarray(x)[i % 4] + jnp.take_along_axis(jnp.asarray(x), best[:, None], 1)[0]

    graph = trace({}, lambda _, i: read(i), (np.int32(0),), name="case")
    ops = [node.op for node in graph.cnodes()]
    assert not {"Maximum", "Minimum", "GreaterEqual", "LessEqual"} & set(ops)
    for i in (-5, -1, 0, 3, 4, 9):
        (found,) = evaluate(graph, (np.asarray(i, np.int32),))
        np.testing.assert_array_equal(found, read(jnp.int32(i)))
