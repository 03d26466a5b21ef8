"""Reshapes into rows around products: none is left between the blocks of a transformer."""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.reshape import RULES as RESHAPE
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.passes.rows import RULES
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

X = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
PARAMS = {
    n: np.random.default_rng(i).normal(size=(16, 16)).astype(np.float32)
    for i, n in enumerate("abc")
}
Params = dict[str, jax.Array]


def rms(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def gated(params: Params, x: jax.Array) -> jax.Array:
    y = rms(x)
    return x + (jax.nn.silu(y @ params["a"]) * (y @ params["b"])) @ params["c"]


def in_a_row(params: Params, x: jax.Array) -> jax.Array:
    for name in "abc":
        x = jnp.tanh(x @ params[name]) * 2 + params[name][0]
    return x


def prepared(function: Callable[..., jax.Array]) -> FuncGraph:
    return preferred(optimized(trace(PARAMS, function, (X,), name="net")), target("ONNX"))


def reshapes(graph: FuncGraph) -> int:
    return Counter(node.op for node in graph.cnodes())["Reshape"]


@pytest.mark.parametrize("function", [gated, in_a_row])
def test_products_are_of_arrays_as_they_lie(function: Callable[..., jax.Array]) -> None:
    before = prepared(function)
    after = rewrite(before, (*RESHAPE, *RULES))
    assert (reshapes(before) > 0, reshapes(after)) == (True, 0)
    np.testing.assert_allclose(
        evaluate(after, [X])[0], evaluate(before, [X])[0], rtol=1e-5, atol=1e-5
    )
