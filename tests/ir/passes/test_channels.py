"""Norms and Dense over the channels of an image: no transposes between convolutions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized

X = np.random.default_rng(4).standard_normal((2, 6, 5, 8)).astype(np.float32)


class Block(nn.Module):
    """A block of ConvNeXt."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Conv(8, (3, 3), feature_group_count=8)(x)
        y = nn.gelu(nn.Dense(16)(nn.LayerNorm()(y)))
        return x + nn.Dense(8)(y)


class Down(nn.Module):
    """Two blocks with a norm and a convolution of stride 2 between them."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Block()(nn.LayerNorm()(nn.Conv(8, (1, 1))(x)))
        return Block()(nn.Conv(8, (2, 2), 2)(nn.LayerNorm()(x)))


class NormLast(nn.Module):
    """A norm of what a convolution gives, and nothing behind it."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm()(nn.Conv(8, (1, 1))(x))


class Windows(nn.Module):
    """The norm goes on to a Dense over the rows of windows, as in Swin."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(nn.Conv(8, (1, 1))(x))
        return nn.Dense(4)(y.reshape(2, 3, 2, 5, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 2, 8))


class Tokens(nn.Module):
    """The places of an image as rows: no image any more."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Conv(8, (1, 1))(x).reshape(2, -1, 8)
        return nn.Dense(4)(nn.LayerNorm()(y))


# The numbers of transposes, LayerNorm, Standardize and Conv that are left.
CASES: dict[str, tuple[nn.Module, tuple[int, int, int, int]]] = {
    "a block": (Block(), (2, 0, 1, 3)),
    "blocks with a stride between": (Down(), (2, 0, 4, 8)),
    "a norm at the end": (NormLast(), (2, 1, 0, 1)),
    "windows": (Windows(), (3, 1, 0, 1)),
    "tokens": (Tokens(), (2, 1, 0, 1)),
}
COUNTED = ("Transpose", "LayerNorm", "Standardize", "Conv")


def network(name: str) -> tuple[Any, Callable[..., Any]]:
    module = CASES[name][0]
    params = module.init(jax.random.key(0), X)
    return jax.tree.map(lambda w: w + 0.1 * jnp.cos(jnp.arange(w.size)).reshape(w.shape), params), (
        module.apply
    )


@pytest.mark.parametrize("name", CASES)
def test_only_the_transposes_at_the_ends_are_left(name: str) -> None:
    params, function = network(name)
    graph = trace(params, function, (X,), name="case")
    after = optimized(graph, debug=True)
    ops = [node.op for node in after.cnodes()]
    assert tuple(map(ops.count, COUNTED)) == CASES[name][1], ops
    (before,), (found,) = evaluate(graph, (X,)), evaluate(after, (X,))
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)
    again = optimized(after, debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
@pytest.mark.parametrize("name", CASES)
def test_the_runtime_gives_the_numbers_of_jax(name: str, file_format: str, tmp_path: Path) -> None:
    params, function = network(name)
    model = fnckpt.export(params, function, X, file_format, file_name=tmp_path / "case")
    wanted = np.asarray(jax.jit(function)(params, X))
    (found,) = RUNTIMES[file_format][1](model, (X,))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_no_number_stays_at_its_place() -> None:
    params, function = network("a block")
    graph = trace(params, function, (X,), name="case")
    x = X.copy()
    x[0, 1, 2, 3] = np.nan
    (before,), (found,) = evaluate(graph, (x,)), evaluate(optimized(graph), (x,))
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)


def test_a_double_stays_a_product_of_matrices() -> None:
    with jax.enable_x64(True):
        x = X.astype(np.float64)
        params = {"k": x[0, :1, :1], "w": x[0, 0, :, :3].T.repeat(3, 1)[:, :8].T}

        def net(params: Any, x: jax.Array) -> jax.Array:
            dims = ("NHWC", "HWIO", "NHWC")
            kernel = params["k"].reshape(1, 1, 1, 8)
            y = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=dims, feature_group_count=8
            )
            return y @ params["w"]

        graph = trace(params, net, (x,), name="case")
    ops = [node.op for node in optimized(graph).cnodes()]
    assert "MatMul" in ops
