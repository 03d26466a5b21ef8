"""In ONNX a scale and a shift of channels are one BatchNorm, the means over channels products."""

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
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized, preferred

RNG = np.random.default_rng(8)
X = (2 + 3 * RNG.standard_normal((2, 6, 4, 5))).astype(np.float32)
SCALE, SHIFT = RNG.standard_normal((2, 6)).astype(np.float32)


def affine(w: Any, x: jax.Array) -> jax.Array:
    return x * w["scale"] + w["shift"]


def each(*shape: int) -> dict[str, np.ndarray]:
    return {"scale": SCALE.reshape(shape), "shift": SHIFT.reshape(shape)}


AFFINE = {
    "channels": (X, each(6, 1, 1), "BatchNorm"),
    "channels of a signal": (X[..., 0], each(6, 1), "BatchNorm"),
    "channels in groups": (
        X.reshape(2, 2, 3, 4, 5), each(1, 2, 3, 1, 1), "Reshape BatchNorm Reshape",
    ),
    "another shape of each": (
        X, {"scale": SCALE.reshape(6, 1, 1), "shift": SHIFT[:4, None]}, "Mul Add",
    ),
    "the last axis": (np.moveaxis(X, 1, -1), each(6), "Mul Add"),
    "columns": (X[..., 0, 0], each(6), "Mul Add"),
    "one number": (X, {"scale": np.float32(3), "shift": np.float32(2)}, "Mul Add"),
    "an infinite scale": (X, each(6, 1, 1) | {"scale": np.full((6, 1, 1), np.inf, np.float32)},
                          "Mul Add"),
    "integers": (X.astype(np.int32), {k: v.astype(np.int32) for k, v in each(6, 1, 1).items()},
                 "Mul Add"),
}  # fmt: skip


@pytest.mark.parametrize("name", AFFINE)
def test_a_scale_and_a_shift_are_one_norm_where_each_channel_has_its_own(name: str) -> None:
    x, weights, left = AFFINE[name]
    graph = trace(weights, affine, (x,), name="affine")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert " ".join(node.op for node in after.cnodes()) == left
    again = preferred(after, target("ONNX"))
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]
    (found,), (wanted,) = evaluate(after, [x]), evaluate(graph, [x])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("strange", [0.5, -0.0, 3e38, 1e-44, np.nan, np.inf, -np.inf])
def test_the_runtime_scales_and_shifts_what_is_strange_as_jax_does(
    strange: float, tmp_path: Path
) -> None:
    weights = each(6, 1, 1)
    weights["scale"][2], weights["scale"][3] = 0, 1e3
    x = X.copy()
    x[1, :, 2] = strange
    model = fnckpt.export(weights, affine, x, "ONNX", file_name=tmp_path / "affine")
    wanted = np.asarray(jax.jit(affine)(weights, x))
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (x,))[0], wanted, rtol=1e-6, atol=1e-6)


def over_channels(_: None, x: jax.Array) -> jax.Array:
    """As ``channels_first`` leaves the norm of ConvNeXt."""
    centred = x - jnp.mean(x, 1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), 1, keepdims=True) + 1e-6)


PRODUCTS = "Reshape MatMul Sub Mul Gemm Sqrt Div Reshape"
MEANS = "ReduceMean Sub Mul ReduceMean Add Sqrt Div"


@pytest.mark.parametrize(
    ("x", "left"),
    [(X[:1], PRODUCTS), (X[:1, :, :, 0], PRODUCTS), (X, MEANS), (X[:1].astype(np.float64), MEANS)],
    ids=["one image", "one signal", "two images", "doubles"],
)
def test_the_means_over_the_channels_of_one_image_are_products(
    x: np.ndarray, left: str, tmp_path: Path
) -> None:
    with jax.enable_x64(x.dtype == np.float64):
        graph = trace(None, over_channels, (x,), name="norm")
        after = legalized(optimized(graph), target("ONNX"))
        assert " ".join(node.op for node in after.cnodes()) == left
        model = fnckpt.export(None, over_channels, x, "ONNX", file_name=tmp_path / "norm")
        wanted = np.asarray(jax.jit(over_channels)(None, x))
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (x,))[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 1e4])
def test_a_norm_over_channels_is_strange_where_that_of_jax_is(
    strange: float, tmp_path: Path
) -> None:
    x = X[:1].copy()
    x[0, 1, 2, 3] = strange
    model = fnckpt.export(None, over_channels, x, "ONNX", file_name=tmp_path / "norm")
    wanted = np.asarray(jax.jit(over_channels)(None, x))
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (x,))[0], wanted, rtol=1e-4, atol=1e-4)
