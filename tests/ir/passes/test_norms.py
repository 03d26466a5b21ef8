"""Normalization as each library writes it: what is left in common and for ONNX, equal numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes import instances, norms
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred
from fnckpt.showing.inspect import check_file

RNG = np.random.default_rng(3)
X = (2 + 3 * RNG.standard_normal((2, 5, 6, 8))).astype(np.float32)
W = {k: RNG.standard_normal(8).astype(np.float32) for k in ("scale", "bias")}
Function = Callable[[Any, jax.Array], jax.Array]


@dataclass(frozen=True)
class Norm:
    """A function of weights and ``X``, what is left of it in common, and what for ONNX."""

    name: str
    function: Function
    left: str
    onnx: str
    weights: Any = None


def linen(name: str, module: nn.Module, left: str, onnx: str) -> Norm:
    def apply(weights: Any, x: jax.Array) -> jax.Array:
        result = module.apply(weights, x)
        assert isinstance(result, jax.Array)
        return result

    return Norm(name, apply, left, onnx, shaken(module.init(jax.random.key(0), X)))


def shaken(weights: Any) -> Any:
    return jax.tree.map(lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), weights)


def with_channels_first(norm: Function) -> Function:
    """Between two convolutions of channels first, as a network has it."""
    return lambda w, x: jnp.moveaxis(norm(w, jnp.moveaxis(x, 1, -1)), -1, 1)


def group_norm_of_haiku(w: Any, x: jax.Array) -> jax.Array:
    y = x.reshape(2, 5, 6, 4, 2)
    scale, bias = (w[k].reshape(4, 2) for k in ("scale", "bias"))
    spread = jax.lax.rsqrt(y.var((1, 2, 4), keepdims=True) + 1e-5)
    return ((y - y.mean((1, 2, 4), keepdims=True)) * spread * scale + bias).reshape(x.shape)


def group_norm_of_equinox(w: Any, x: jax.Array) -> jax.Array:
    y = x.reshape(2, 4, 2, 6, 5)
    spread = jax.lax.rsqrt(jnp.maximum(y.var((2, 3, 4), keepdims=True), 0.0) + 1e-5)
    return ((y - y.mean((2, 3, 4), keepdims=True)) * spread).reshape(x.shape) * w["scale"]


def layer_norm_of_keras(w: Any, x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-3) * w["scale"]
    return x * factor + (-mean * factor + w["bias"])


def layer_norm_by_quotient(w: Any, x: jax.Array) -> jax.Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)


def rms_norm_of_haiku(w: Any, x: jax.Array) -> jax.Array:
    return x * w["scale"] * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-5)


def rms_norm_of_keras(w: Any, x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6) * w["scale"]


def rms_norm_of_t5(w: Any, x: jax.Array) -> jax.Array:
    return w["scale"] * (x / jnp.sqrt(jnp.power(x, 2).mean(-1, keepdims=True) + 1e-6))


def rms_norm_of_equinox(w: Any, x: jax.Array) -> jax.Array:
    def row(x: jax.Array) -> jax.Array:
        return x * jax.lax.rsqrt(jnp.mean(x**2) + 1e-5) * w["scale"] + w["bias"]

    return jax.vmap(jax.vmap(jax.vmap(row)))(x)


def rms_norm_of_gemma(w: Any, x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * (1 + w["scale"])


GROUPS = "Reshape Standardize Mul Add Reshape"
IN_ONNX = "Reshape InstanceNorm Reshape BatchNorm"


class BehindMean(nn.Module):
    """A norm of the means of an image, as at the end of ConvNeXt."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm()(x.mean((1, 2)))


class BehindReshape(nn.Module):
    """A norm of the places of an image as rows, as at the beginning of a mixer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm()(x.reshape(2, -1, 8))


def nnx_norm(name: str, module: nnx.Module, left: str) -> Norm:
    graphdef, state = nnx.split(module)
    return Norm(
        f"{name} of NNX",
        lambda state, x: nnx.merge(graphdef, state)(x),
        left,
        left,
        shaken(state),
    )


CASES = [
    linen("RMSNorm", nn.RMSNorm(), "RmsNorm", "RmsNorm"),
    linen("RMSNorm without scale", nn.RMSNorm(use_scale=False), "RmsNorm", "RmsNorm"),
    nnx_norm("RMSNorm", nnx.RMSNorm(8, rngs=nnx.Rngs(0)), "RmsNorm"),
    Norm("RMSNorm of Haiku", rms_norm_of_haiku, "RmsNorm", "RmsNorm", W),
    Norm("RMSNorm of Keras", rms_norm_of_keras, "RmsNorm", "RmsNorm", W),
    Norm("RMSNorm of T5", rms_norm_of_t5, "RmsNorm", "RmsNorm", W),
    Norm("RMSNorm of Equinox", rms_norm_of_equinox, "RmsNorm Add", "RmsNorm Add", W),
    Norm("RMSNorm of Gemma", rms_norm_of_gemma, "RmsNorm", "RmsNorm", W),
    linen("LayerNorm", nn.LayerNorm(), "LayerNorm", "LayerNorm"),
    linen("exact LayerNorm", nn.LayerNorm(use_fast_variance=False), "LayerNorm", "LayerNorm"),
    linen("LayerNorm without bias", nn.LayerNorm(use_bias=False), "LayerNorm", "LayerNorm"),
    linen("LayerNorm without scale", nn.LayerNorm(use_scale=False), "LayerNorm", "LayerNorm"),
    linen("LayerNorm of means", BehindMean(), *2 * ["ReduceMean LayerNorm Reshape"]),
    linen("LayerNorm of places", BehindReshape(), *2 * ["LayerNorm Reshape"]),
    linen("GroupNorm", nn.GroupNorm(4), GROUPS, GROUPS),
    linen("exact GroupNorm", nn.GroupNorm(4, use_fast_variance=False), GROUPS, GROUPS),
    linen("InstanceNorm", nn.InstanceNorm(), "Standardize Mul Add", "Standardize Mul Add"),
    nnx_norm("GroupNorm", nnx.GroupNorm(8, 4, rngs=nnx.Rngs(0)), GROUPS),
    Norm("LayerNorm of Keras", layer_norm_of_keras, "LayerNorm", "LayerNorm", W),
    Norm("LayerNorm by a quotient", layer_norm_by_quotient, "LayerNorm", "LayerNorm", W),
    Norm(
        "GroupNorm of Haiku",
        group_norm_of_haiku,
        GROUPS,
        GROUPS,
        W,
    ),
    Norm(
        "GroupNorm of Equinox",
        group_norm_of_equinox,
        "Reshape Standardize Reshape Mul",
        "Reshape InstanceNorm Reshape Mul",
        W,
    ),
]


def assert_same(found: FuncGraph, graph: FuncGraph, x: np.ndarray) -> None:
    (mine,), (wanted,) = evaluate(found, (x,)), evaluate(graph, (x,))
    np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_norm_is_recognized_as_each_library_writes_it(case: Norm) -> None:
    graph = trace(case.weights, case.function, (X,), name="case")
    after = optimized(graph, debug=True)
    assert " ".join(node.op for node in after.cnodes()) == case.left
    chosen = preferred(after, target("ONNX"))
    assert " ".join(node.op for node in chosen.cnodes()) == case.onnx
    apart = rewrite(chosen, (*instances.COMPOSE, *norms.COMPOSE))
    assert not {"Standardize", "InstanceNorm", "RmsNorm"} & {node.op for node in apart.cnodes()}
    for each in (after, chosen, apart):
        assert_same(each, graph, X)
    again = optimized(after, debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_no_number_stays_in_its_group(case: Norm, strange: float) -> None:
    graph = trace(case.weights, case.function, (X,), name="case")
    x = X.copy()
    x[0, 1, 2, 3] = strange
    assert_same(preferred(optimized(graph), target("ONNX")), graph, x)


@pytest.mark.parametrize("opset", [13, 17, 20, 23])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_runtime_gives_the_numbers_of_jax(case: Norm, opset: int, tmp_path: Path) -> None:
    path = tmp_path / "norm"
    model = fnckpt.export(case.weights, case.function, X, "ONNX", file_name=path, opset=opset)
    wanted = np.asarray(jax.jit(case.function)(case.weights, X))
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (X,))[0], wanted, rtol=1e-4, atol=1e-4)


CHANNELS_FIRST = {
    "GroupNorm": (nn.GroupNorm(4), IN_ONNX),
    "GroupNorm of one group": (nn.GroupNorm(1), "Reshape InstanceNorm Reshape BatchNorm"),
    "GroupNorm of single channels": (nn.GroupNorm(8), "InstanceNorm"),
    "InstanceNorm": (nn.InstanceNorm(), "InstanceNorm"),
    "RMSNorm": (nn.RMSNorm(), "RmsNorm"),
}


@pytest.mark.parametrize("name", CHANNELS_FIRST)
def test_no_transpose_is_left_around_a_norm_of_channels_first(name: str) -> None:
    module, left = CHANNELS_FIRST[name]
    case = linen(name, module, "", left)
    x = np.moveaxis(X, -1, 1)
    graph = trace(case.weights, with_channels_first(case.function), (x,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert " ".join(node.op for node in after.cnodes()) == left
    assert_same(after, graph, x)


LARGE = (2 + 3 * RNG.standard_normal((2, 9, 8, 8))).astype(np.float32)
CHANNELS_LAST = {
    "InstanceNorm": (nn.InstanceNorm(), "Transpose InstanceNorm Transpose"),
    "InstanceNorm without bias": (
        nn.InstanceNorm(use_bias=False),
        "Transpose InstanceNorm Transpose",
    ),
    "GroupNorm": (nn.GroupNorm(4), "Transpose Reshape InstanceNorm Reshape Transpose Mul Add"),
    "GroupNorm of single channels": (nn.GroupNorm(8), "Transpose InstanceNorm Transpose"),
}


@pytest.mark.parametrize("strange", [0.5, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", CHANNELS_LAST)
def test_a_norm_of_many_places_with_channels_last_is_one_of_channels_first(
    name: str, strange: float, tmp_path: Path
) -> None:
    module, left = CHANNELS_LAST[name]
    case = linen(name, module, "", left)
    x = LARGE.copy()
    x[0, 1, 2, 3] = strange
    graph = trace(case.weights, case.function, (x,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert " ".join(node.op for node in after.cnodes()) == left
    again = preferred(after, target("ONNX"))
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]
    assert_same(after, graph, x)
    model = fnckpt.export(case.weights, case.function, x, "ONNX", file_name=tmp_path / "norm")
    wanted = np.asarray(jax.jit(case.function)(case.weights, x))
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (x,))[0], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1,)], ids=["the batch", "nine elements"])
def test_a_norm_that_transposes_would_slow_down_stays(axes: tuple[int, ...]) -> None:
    def standardize(w: Any, x: jax.Array) -> jax.Array:
        return (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + 1e-5)

    graph = trace(None, standardize, (LARGE,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert [node.op for node in after.cnodes()] == ["Standardize"]
    assert_same(after, graph, LARGE)


def half_the_groups(w: Any, x: jax.Array) -> jax.Array:
    y = x.reshape(2, 5, 6, 4, 2)
    mean = jnp.tile(y.mean((1, 2, 4)), 2)[:, None, None]
    variance = jnp.tile(y.var((1, 2, 4)), 2)[:, None, None]
    return (x - mean) * (jax.lax.rsqrt(variance + 1e-5) * w["scale"]) + w["bias"]


def other_axes(w: Any, x: jax.Array) -> jax.Array:
    spread = jax.lax.rsqrt(jnp.square(x - x.mean(-1, keepdims=True)).mean((1, 2, 3)) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) * spread[:, None, None, None]


def another_square(w: Any, x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x + 1), -1, keepdims=True) + 1e-6)


def square_of_two_axes(w: Any, x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), (-2, -1), keepdims=True) + 1e-6)


LEFT_ALONE = {
    "groups tiled, not repeated": half_the_groups,
    "two kinds of axes": other_axes,
    "the square of something else": another_square,
    "the square of two axes": square_of_two_axes,
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_looks_like_a_norm_is_left_alone(name: str) -> None:
    graph = trace(W, LEFT_ALONE[name], (X,), name="case")
    after = optimized(graph, debug=True)
    assert "Rsqrt" in {node.op for node in after.cnodes()}
    assert_same(after, graph, X)


NODES_OF_RMS_NORM = {20: 6, 23: 1}


@pytest.mark.parametrize("opset", NODES_OF_RMS_NORM)
@pytest.mark.parametrize("large", [1.0, 1e15, 1e20, 1e-25])
def test_a_norm_by_squares_is_as_many_nodes_as_the_opset_needs(
    large: float, opset: int, tmp_path: Path
) -> None:
    x = large * X
    model = fnckpt.export(W, rms_norm_of_t5, x, "ONNX", file_name=tmp_path / "norm", opset=opset)
    assert model.nodes == NODES_OF_RMS_NORM[opset]
    assert check_file(model.path) == []
    wanted = np.asarray(jax.jit(rms_norm_of_t5)(W, x))
    scale = np.abs(wanted).max()
    found = RUNTIMES["ONNX"][1](model, (x,))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * scale)
