"""What ``runtime="onnxruntime"`` makes of a transformer's sums and norms, and JAX's numbers."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.skips import skip_norms

X = np.random.default_rng(0).normal(size=(2, 3, 16)).astype(np.float32)
PARAMS = {
    "layers": [
        {"scale": np.full(16, 1.5, np.float32), "w": np.eye(16, dtype=np.float32) + i}
        for i in range(3)
    ]
}
Params = dict[str, list[dict[str, jax.Array]]]


def blocks(params: Params, x: jax.Array) -> jax.Array:
    """Pre-norm blocks: each sum goes into a norm and into the next sum."""
    for layer in params["layers"]:
        y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * layer["scale"]
        x = x + jnp.tanh(y @ layer["w"])
    return x


def without_activation(params: Params, x: jax.Array) -> jax.Array:
    """The sum is in the product, as ONNX's Gemm has it."""
    for layer in params["layers"]:
        y = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * layer["scale"]
        x = x + y @ layer["w"]
    return x


def wide(params: Params, x: jax.Array) -> jax.Array:
    """What is added is repeated, which the operator does not take."""
    x = x + params["layers"][0]["scale"]
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("sizes", [None, ("b", "s", 16)])
@pytest.mark.parametrize("opset", [20, 23])
@pytest.mark.parametrize("function", [blocks, without_activation])
def test_a_sum_and_its_norm_are_one_operator(
    function: Callable[..., jax.Array],
    sizes: tuple[int | str, ...] | None,
    opset: int,
    tmp_path: Path,
) -> None:
    result = fnckpt.export(
        PARAMS, function, X if sizes is None else sizes, "ONNX", file_name=tmp_path / "net",
        runtime="onnxruntime", opset=opset, verify=True,
    )  # fmt: skip
    model = onnx.load(str(result))
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["SkipSimplifiedLayerNormalization"] == 2
    assert {each.domain for each in model.opset_import} == {"", "com.microsoft"}
    (found,) = fnckpt.run(result, X)
    np.testing.assert_allclose(
        found, np.asarray(jax.jit(function)(PARAMS, X)), rtol=2e-5, atol=1e-5
    )


def test_without_a_runtime_there_are_standard_operators_alone(tmp_path: Path) -> None:
    result = fnckpt.export(PARAMS, blocks, X, "ONNX", file_name=tmp_path / "net")
    assert {each.domain for each in onnx.load(str(result)).opset_import} == {""}


def test_the_rewrite_is_an_equation() -> None:
    before = optimized(trace(PARAMS, blocks, (X,), name="net"))
    after = skip_norms(before)
    assert Counter(n.op for n in after.cnodes())["SkipRmsNorm"] == 2
    np.testing.assert_allclose(evaluate(after, [X])[0], evaluate(before, [X])[0], rtol=1e-6)


def test_a_sum_that_is_repeated_is_left_alone() -> None:
    graph = optimized(trace(PARAMS, wide, (X,), name="net"))
    assert skip_norms(graph) is graph
