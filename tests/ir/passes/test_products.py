"""The larger operators of a target: what is left, what stays, equal numbers, taken apart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.products import COMPOSE
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

RNG = np.random.default_rng(2)
X = (4 * RNG.standard_normal((2, 4, 6))).astype(np.float32)
W = {
    k: RNG.standard_normal(s).astype(np.float32)
    for k, s in (("k", (6, 6)), ("b", (6,)), ("c", (4, 6)), ("t", (2, 6, 6)))
}
Function = Callable[[Any, jax.Array], jax.Array]


def residual(w: Any, x: jax.Array) -> jax.Array:
    y = x + jax.nn.relu(x @ w["k"] + w["b"])
    return y + (y @ w["k"] + w["b"])


def attention(w: Any, x: jax.Array) -> jax.Array:
    heads = x.reshape(2, 4, 3, 2)
    scores = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", heads, heads))
    return jnp.einsum("bhqk,bkhd->bqhd", scores, heads)


def conv(x: jax.Array, w: jax.Array, **options: Any) -> jax.Array:
    """Along one axis, channels last, with kernels of one place."""
    options = {"window_strides": (1,), "padding": "VALID"} | options
    layout = ("NHC", "HIO", "NHC")
    return jax.lax.conv_general_dilated(x, w[None], dimension_numbers=layout, **options)


def excite(w: Any, x: jax.Array) -> jax.Array:
    """A factor for each channel, out of the means of all."""
    squeezed = jax.nn.relu(conv(x.mean(1, keepdims=True), w["k"]) + w["b"])
    return x * jax.nn.sigmoid(conv(squeezed, w["k"]))


CASES: dict[str, tuple[Function, str]] = {
    "squeeze and excite": (excite, "ReduceMean Gemm Relu MatMul Sigmoid Reshape Mul"),
    "a place beside others stays": (
        lambda w, x: conv(x, w["k"]),
        "Transpose Conv Transpose",
    ),
    "a place whose window sees only padding stays": (
        lambda w, x: conv(x[:, :1], w["k"], padding=((1, 1),), window_strides=(3,)),
        "Slice Reshape Conv Reshape",
    ),
    "a place whose channels are in groups stays": (
        lambda w, x: conv(x[:, :1], w["k"][:3], feature_group_count=2),
        "Slice Slice Transpose Reshape Reshape Conv Reshape",
    ),
    "relu6": (lambda w, x: jax.nn.relu6(x), "Clip"),
    "clip": (lambda w, x: jnp.clip(x, -1.0, 2.0), "Clip"),
    "limits the wrong way round stay": (lambda w, x: jnp.clip(x, 2.0, 1.0), "Maximum Minimum"),
    "a product with a bias": (lambda w, x: x[0] @ w["k"] + w["b"], "Gather Gemm"),
    "rows stay a matrix": (residual, "Reshape Gemm Relu Add Gemm Add Reshape"),
    "a sum behind a product": (lambda w, x: x[0] @ w["k"] + x[1], "Gather Gather Gemm"),
    "a row that is added to each matrix": (
        lambda w, x: x + (x[:, 0] @ w["k"])[:, None],
        "Gather MatMul Reshape Add",
    ),
    "ones are put in behind a transpose": (
        lambda w, x: jnp.transpose(x[:, None], (2, 0, 1, 3)),
        "Transpose Reshape",
    ),
    "a mask of heads": (
        lambda w, x: jnp.einsum("hqk,h->hqk", jnp.sin(x), jnp.ones(2)),
        "Sin",
    ),
    "a part of the columns": (
        lambda w, x: jnp.sin((x @ w["k"])[..., :3]),
        "Reshape MatMul Slice Sin Reshape",
    ),
    "a transposed convolution with a bias": (
        lambda w, x: jax.lax.conv_transpose(x, w["t"], (2,), "SAME") + w["b"],
        "Transpose ConvTranspose Transpose",
    ),
    "a product with the inverse of a root": (
        lambda w, x: x * jax.lax.rsqrt(jnp.abs(x)),
        "Abs Sqrt Div",
    ),
    "a choice by what is not equal": (
        lambda w, x: jnp.where(x != 0, jnp.sin(x), 1.0),
        "Equal Sin Select",
    ),
    "columns that are mixed": (
        lambda w, x: (jax.nn.relu(x[:1].swapaxes(1, 2) @ w["c"] + w["b"])).swapaxes(1, 2),
        "Gather Gemm Relu Reshape",
    ),
    "columns that are mixed, of several": (
        lambda w, x: (jax.nn.relu(x.swapaxes(1, 2) @ w["c"] + w["b"])).swapaxes(1, 2),
        "MatMul Add Relu",
    ),
    "a product of two inputs": (lambda w, x: x @ x.swapaxes(1, 2), "Transpose MatMul"),
    "attention": (
        attention,
        "Reshape Transpose Transpose MatMul Softmax MatMul Transpose",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_operators_that_onnx_prefers_are_the_ones_meant(name: str) -> None:
    function, left = CASES[name]
    graph = trace(W, function, (X,), name="case")
    after = preferred(optimized(graph), target("ONNX"), opset=20)
    ops = sorted(node.op for node in after.cnodes())
    assert " ".join(ops) == " ".join(sorted(left.split())), [n.op for n in after.cnodes()]
    (before,), (found,) = evaluate(graph, (X,)), evaluate(after, (X,))
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)
    apart = rewrite(after, COMPOSE)
    assert not {"Clip", "Gemm"} & {node.op for node in apart.cnodes()}
    np.testing.assert_allclose(evaluate(apart, (X,))[0], before, rtol=1e-4, atol=1e-4)


def test_a_table_that_is_read_and_multiplied_with_is_in_the_file_once(tmp_path: Path) -> None:
    table = RNG.standard_normal((5000, 16)).astype(np.float32)
    words = np.array([3, 1, 4], np.int32)

    def net(w: Any, words: jax.Array) -> jax.Array:
        return jnp.tanh(w[words]).mean(0, keepdims=True) @ w.T

    model = fnckpt.export(table, net, words, "ONNX", file_name=tmp_path / "net")
    assert table.nbytes < model.bytes < 1.1 * table.nbytes
    wanted = np.asarray(net(jnp.asarray(table), jnp.asarray(words)))
    found = RUNTIMES["ONNX"][1](model, (words,))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_clip_keeps_what_is_no_number() -> None:
    function, _ = CASES["clip"]
    graph = preferred(optimized(trace(W, function, (X,), name="case")), target("ONNX"))
    strange = np.full(X.shape, np.nan, np.float32)
    assert np.isnan(evaluate(graph, (strange,))[0]).all()
