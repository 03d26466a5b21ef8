"""Work on all parts of a value, done once on the whole: what is left, what stays, equal numbers."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.parts import COMPOSE
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

RNG = np.random.default_rng(4)
X = RNG.standard_normal((2, 3, 6)).astype(np.float32)
W = {k: RNG.standard_normal(s).astype(np.float32) for k, s in (("w", (6, 6)), ("b", (6,)))}
Function = Callable[[Any, jax.Array], jax.Array]


def recurrent(w: Any, x: jax.Array) -> jax.Array:
    h = jnp.tanh(x[:, 0])
    for step in range(x.shape[1]):
        h = jnp.tanh(x[:, step] @ w["w"] + (h @ w["w"] + w["b"]))
    return h


def last_step(w: Any, x: jax.Array) -> jax.Array:
    return x[:, 1] @ w["w"] + x[:, 2] @ w["w"]


def gates(w: Any, x: jax.Array) -> jax.Array:
    i, f, g = jnp.split(x, (1, 4), -1)
    return jax.nn.sigmoid(i) * jnp.tanh(f) + g.sum(-1, keepdims=True)


def some_gates(w: Any, x: jax.Array) -> jax.Array:
    return x[..., :2] * x[..., 3:5]


def two_shapes(w: Any, x: jax.Array) -> jax.Array:
    return x[1] * x[1].reshape(6, 3).T


CASES: dict[str, tuple[Function, str]] = {
    "steps": (recurrent, "Gather Tanh Reshape Gemm Reshape " + 3 * "Gather Gemm Tanh "),
    "not every step": (last_step, "Gather MatMul Gather Gemm"),
    "gates": (gates, "Split Sigmoid Tanh Mul ReduceSum Add"),
    "not every gate": (some_gates, "Slice Slice Mul"),
    "a row in two shapes": (two_shapes, "Gather Reshape Transpose Mul"),
}


def left_of(graph: FuncGraph) -> str:
    return " ".join(sorted(n.op for n in graph.cnodes() if n.op != "TupleGetItem"))


def assert_same(found: FuncGraph, graph: FuncGraph, x: np.ndarray) -> None:
    (mine,), (wanted,) = evaluate(found, (x,)), evaluate(graph, (x,))
    np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_work_on_all_parts_is_done_once(name: str) -> None:
    function, left = CASES[name]
    graph = trace(W, function, (X,), name="case")
    common = optimized(graph, debug=True)
    after = preferred(common, target("ONNX"))
    assert left_of(after) == " ".join(sorted(left.split()))
    apart = rewrite(after, COMPOSE)
    assert "Split" not in left_of(apart)
    for each in (common, after, apart):
        assert_same(each, graph, X)
    assert left_of(optimized(common, debug=True)) == left_of(common)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_row_along_an_axis_is_a_part_of_one_split(axis: int) -> None:
    x = RNG.standard_normal((4, 5, 6)).astype(np.float32)

    def steps(w: Any, x: jax.Array) -> jax.Array:
        y = jnp.sin(x)
        rows = [jax.lax.index_in_dim(y, i, axis, keepdims=False) for i in range(x.shape[axis])]
        h = jnp.tanh(rows[-1])
        for row in rows:
            h = jnp.tanh(h @ w[: h.shape[-1], : h.shape[-1]] + row)
        return h

    graph = trace(W["w"], steps, (x,), name="case")
    after = preferred(optimized(graph), target("ONNX"))
    ops = left_of(after).split()
    assert (ops.count("Split"), ops.count("Gather")) == (1, 0)
    assert ops.count("Transpose") == (0 if axis == 0 else 1)
    assert_same(after, graph, x)
    assert_same(rewrite(after, COMPOSE), graph, x)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.booleans())
def test_any_cuts_keep_the_numbers(cuts: list[int], whole: bool) -> None:
    ends = [0, *sorted(cuts), 6] if whole else sorted(cuts)

    def cut(w: Any, x: jax.Array) -> jax.Array:
        parts = [x[..., a:b] for a, b in pairwise(ends)]
        return jnp.concatenate([x[..., :1], *(jnp.sin(part) for part in parts)], -1)

    graph = trace(None, cut, (X,), name="case")
    after = preferred(optimized(graph), target("ONNX"))
    assert_same(after, graph, X)
    assert_same(rewrite(after, COMPOSE), graph, X)
