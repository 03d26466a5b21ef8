"""What others reshape too is not reshaped behind an operator: the graphs, and equal numbers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import PASSES, run

Function = Callable[[jax.Array], object]
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(1, 12)
MASK, ROW = np.arange(4)[:, None] < 2, np.arange(12, dtype=np.float32)[None]


def also(y: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """With another user of the reshaped ``x``."""
    return y, jnp.cumsum(x.reshape(4, 3), axis=0)


# What stays: operators in the order of the graph.
MOVED: dict[str, tuple[Function, list[str]]] = {
    "a sum": (lambda x: also((x + 1).reshape(4, 3), x), ["Reshape", "Add", "CumSum"]),
    "two": (
        lambda x: also(jnp.tanh(x * ROW).reshape(4, 3), x), ["Reshape", "Mul", "Tanh", "CumSum"]),
    "a choice": (
        lambda x: also(jnp.where(np.repeat(MASK, 3).reshape(1, 12), x, 0).reshape(4, 3), x),
        ["Reshape", "Select", "CumSum"]),
    "a number that is repeated": (
        lambda x: also((x.reshape(4, 3)[:1, :1] + x).reshape(4, 3), x),
        ["Reshape", "Slice", "Add", "CumSum"]),
}  # fmt: skip
STAY: dict[str, Function] = {
    "no other user": lambda x: jnp.tanh(x).reshape(4, 3),
    "another shape": lambda x: also(jnp.tanh(x).reshape(3, 4), x),
    "another user of what is computed": lambda x: (
        *also(jnp.tanh(x).reshape(4, 3), x), jnp.tanh(x)),
    "what else is computed": lambda x: also((x + jnp.cumsum(x, 1)).reshape(4, 3), x),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVED)
def test_one_reshape_is_left(name: str) -> None:
    function, wanted = MOVED[name]
    graph = trace((), lambda _, x: function(x), (X,), name="f")
    after = run(graph, ("finish", "share_finished"), debug=True)
    assert [node.op for node in after.cnodes()] == wanted
    for a, b in zip(evaluate(after, [X]), evaluate(graph, [X]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", STAY)
def test_others_stay(name: str) -> None:
    graph = trace((), lambda _, x: STAY[name](x), (X,), name="f")
    graph = run(graph, ("share",))
    after = PASSES["finish"](graph)
    assert [node.op for node in after.cnodes()] == [node.op for node in graph.cnodes()]
