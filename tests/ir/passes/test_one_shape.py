"""Values of one computation have one shape: the graphs, and equal numbers."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.one_shape import one_shape
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.share import share
from fnckpt.ir.targets import target
from fnckpt.ir.verify import verify

Function = Callable[[Any], Any]
X = np.linspace(-2, 3, 6, dtype=np.float32)

M = np.arange(6, dtype=np.float32).reshape(3, 2)


def size(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jax.lax.square(x).sum())


def reshapes(function: Function) -> tuple[int, int]:
    """How many there are before, and after; the numbers are equal, bit by bit."""
    graph = share(trace((), lambda _, x: function(x), (X,), name="f"))
    after = one_shape(graph)
    verify(after)
    for a, b in zip(evaluate(after, [X]), evaluate(graph, [X]), strict=True):
        assert a.shape == b.shape
        np.testing.assert_array_equal(a, b)
    assert one_shape(after) is after
    before, left = ([n.op for n in each.cnodes()].count("Reshape") for each in (graph, after))
    return before, left


FEWER: dict[str, tuple[Function, int]] = {
    "a factor of a vector": (lambda x: x * jnp.exp(size(x).reshape(1)), 0),
    "a factor that was put back": (lambda x: x * jnp.exp(size(x).reshape(1)).reshape(()), 0),
    "a number for two": (lambda x: (x * size(x).reshape(1), x[:, None] + size(x).reshape(1, 1)), 1),
    "an output": (lambda x: (jnp.exp(size(x).reshape(1)), x * size(x).reshape(1)), 0),
    "a part": (lambda x: jnp.exp(x[2:3].reshape(()) + 1.5).reshape(1) * x[3:4], 0),
    "two forms of a vector": (lambda x: jnp.cumsum(jnp.sin(x.reshape(2, 3)).reshape(6) + x), 0),
    "a choice": (
        lambda x: jnp.cumsum(jnp.where(x.reshape(2, 3) > 0, 1.5, x.reshape(2, 3)).reshape(6)), 0),
    "a constant": (lambda x: jnp.cumsum((x.reshape(3, 2) * M).reshape(6)), 0),
    "a sum of all": (lambda x: (jnp.cumsum(2 * (y := x[:, None])[:, 0]), jnp.square(y).sum()), 0),
    "sums of columns": (
        lambda x: ((y := x.reshape(2, 3)) / (s := y.sum(0, keepdims=True)), s.reshape(3)), 1),
    "greatest ones of rows": (
        lambda x: jnp.cumsum((1 + x.reshape(2, 3).max(1, keepdims=True)).reshape(2)), 1),
    "parts of two": (lambda x: jnp.cumsum(x[2:3].reshape(()) + x[3:4].reshape(()) + x), 0),
}  # fmt: skip
STAY: dict[str, Function] = {
    "an output in another shape": lambda x: x[2:3].reshape(()),
    "two outputs of one number": lambda x: (size(x), size(x).reshape(1, 1)),
    "what says the shape": lambda x: x.sum() + x[:1].reshape(1, 1),
    "an output of several elements": lambda x: jnp.tanh(x.reshape(2, 3)),
    "what is repeated": lambda x: jnp.tanh(x.reshape(6, 1)) * x,
}


@pytest.mark.parametrize("name", FEWER)
def test_fewer_reshapes_are_left(name: str) -> None:
    function, wanted = FEWER[name]
    before, left = reshapes(function)
    assert (before > wanted, left) == (True, wanted)


@pytest.mark.parametrize("name", STAY)
def test_others_stay(name: str) -> None:
    before, left = reshapes(STAY[name])
    assert left == before > 0


def test_what_is_used_with_its_axes_and_without_is_reduced_once() -> None:
    def both(_: tuple[()], x: jax.Array) -> object:
        greatest = x.max(1, keepdims=True)
        return x - greatest, jnp.cumsum(greatest[:, 0]), jnp.sum(x, 0), x * jnp.sum(x, 0)

    ops = [n.op for n in optimized(trace((), both, (X.reshape(2, 3),), name="f")).cnodes()]
    assert (ops.count("ReduceMax"), ops.count("ReduceSum"), ops.count("Reshape")) == (1, 1, 1)


SHAPES = st.integers(0, 3)
OF_SIZE = {1: [(), (1,), (1, 1), (1, 1, 1)], 6: [(6,), (2, 3), (1, 6), (6, 1)]}
STEPS = st.tuples(
    st.sampled_from([jnp.add, jnp.multiply, jnp.maximum]),
    st.integers(0, 9), st.integers(0, 9), SHAPES,
)  # fmt: skip


def fits(a: jax.Array, b: jax.Array) -> bool:
    try:
        return math.prod(np.broadcast_shapes(a.shape, b.shape)) in OF_SIZE
    except ValueError:
        return False


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=9))
def test_numbers_and_shapes_of_results_are_equal_for_any_mixture(
    steps: list[tuple[Callable[..., jax.Array], int, int, int]],
) -> None:
    def mixed(x: jax.Array) -> object:
        values = [x, x[:1], size(x), x.max(keepdims=True)]
        for function, one, two, shape in steps:
            a, b = values[one % len(values)], values[two % len(values)]
            new = function(a, b if fits(a, b) else b.max())
            values.append(new.reshape(OF_SIZE[new.size][shape]))
        return [*values[4:], values[-1].ravel()[:1] - 1]

    before, left = reshapes(mixed)
    assert left <= before


# What the file takes of a vector's numbers: one Split if all of them are used.
OF_VECTORS: dict[str, tuple[Function, set[str]]] = {
    "some": (lambda x: x[0] * x[1] + x[2], {"Gather", "Mul", "Add"}),
    "all": (lambda x: x[0] * x[1] + x[2] * x[3] - x[4] * x[5],
            {"Split", "Mul", "Add", "Sub", "Reshape"}),
    "with the vector": (lambda x: jnp.sin(x[0]) * x, {"Slice", "Sin", "Mul"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_VECTORS)
def test_numbers_of_a_vector_take_the_fewest_operators(name: str, tmp_path: Path) -> None:
    function, wanted = OF_VECTORS[name]
    file = fnckpt.export({}, lambda _, x: function(x), X, "ONNX", file_name=tmp_path / "net")
    assert {node.op for node in target("ONNX").summarize(file.path).nodes} == wanted
    np.testing.assert_allclose(fnckpt.run(file, X)[0], np.asarray(function(X)), rtol=1e-6)
