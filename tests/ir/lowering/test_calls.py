"""Calls that lowering knows by their names, beside functions of the user with such names."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fnckpt
from fnckpt.ir.operators.network import product_of_channels
from fnckpt.ir.targets import target

STRIDES = (2, 1)


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X, W = normal(3, 3, 5, 4, seed=0), normal(3, 3, 1, 1, seed=1)


def exported(function: object, *inputs: object, folder: Path) -> fnckpt.ExportResult:
    assert callable(function)
    return fnckpt.export({}, lambda _, *x: function(*x), inputs, "ONNX", file_name=folder / "net")


def operators(result: fnckpt.ExportResult) -> list[str]:
    return [node.op for node in target("ONNX").summarize(result.path).nodes]


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return jax.jit(product_of_channels, static_argnums=2)(x, w, STRIDES)


def test_a_product_of_channels_is_a_convolution_of_sizes_that_stay_open_too(tmp_path: Path) -> None:
    batch, rows = jax.export.symbolic_shape("batch, rows")
    shape = jax.ShapeDtypeStruct((batch, 3, rows, 4), np.float32)
    result = exported(product, shape, W, folder=tmp_path)
    assert operators(result) == ["Conv"]
    np.testing.assert_allclose(fnckpt.run(result, [X, W])[0], product(X, W), rtol=1e-5, atol=1e-6)


def test_what_vmap_and_grad_make_of_it_keeps_the_numbers(tmp_path: Path) -> None:
    def both(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slope = jax.grad(lambda w: (product(x, w) ** 2).sum())(w)
        return jax.vmap(product, (None, 0))(x, np.ones((2, 1, 1, 1, 1), np.float32) * w), slope

    result = exported(both, X, W, folder=tmp_path)
    for found, wanted in zip(fnckpt.run(result, [X, W]), both(X, W), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_function_of_the_user_may_have_its_name(tmp_path: Path) -> None:
    def turned(w: np.ndarray, x: np.ndarray) -> np.ndarray:
        return product_of_channels(x, w, STRIDES[:1] * 2)

    def ones() -> jax.Array:
        return jnp.ones(())

    turned.__name__ = ones.__name__ = product_of_channels.__name__
    x, w = normal(3, 3, 1, 1, seed=2), W
    result = exported(lambda x, w: jax.jit(turned)(w, x) + jax.jit(ones)(), x, w, folder=tmp_path)
    wanted = turned(w, x) + 1
    np.testing.assert_allclose(fnckpt.run(result, [x, w])[0], wanted, rtol=1e-5, atol=1e-6)
