"""Layers and functions of the libraries, each in a dtype, as they come from their packages.

An entry makes, for a dtype, weights, the pure function, and an input.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import numpy as np
from flax import nnx

Dtype = np.dtype
Function = Callable[[Any, jax.Array], jax.Array]
Layer = tuple[Any, Function, np.ndarray]
Make = Callable[[Dtype], Layer]

Shape = tuple[int, ...]

MATRIX, ROWS, IMAGE, FIRST = (3, 18), (2, 5, 8), (2, 5, 6, 8), (2, 8, 5, 6)
WORDS = np.array([[0, 3, 6], [5, 1, 2]], np.int32)


def made(x: Shape | np.ndarray, dtype: Dtype) -> np.ndarray:
    """The input itself, or of a shape numbers of both signs around a mean that is not 0."""
    if isinstance(x, np.ndarray):
        return x
    return (0.5 + 2 * np.random.default_rng(11).standard_normal(x)).astype(dtype)


def shaken(weights: Any) -> Any:
    """As if trained: fresh scales and biases are all alike."""

    def shake(x: Any) -> Any:
        if not eqx.is_inexact_array(x):
            return x
        wave = 0.3 * np.cos(np.arange(x.size)).reshape(x.shape)
        return (np.asarray(x, np.float32) + wave).astype(x.dtype)

    return jax.tree.map(shake, weights)


def of_function(function: Callable[[jax.Array], jax.Array], x: Shape) -> Make:
    return lambda dtype: (None, lambda _, each: function(each), made(x, dtype))


def called(layer: Any) -> Function:
    """A module of linen or Haiku as a function of its weights."""

    def apply(weights: Any, x: jax.Array) -> jax.Array:
        return layer.apply(weights, x)

    return apply


def of_linen(module: Callable[..., nn.Module], x: Shape | np.ndarray) -> Make:
    def make(dtype: Dtype) -> Layer:
        layer, given = module(dtype=dtype, param_dtype=dtype), made(x, dtype)
        return shaken(layer.init(jax.random.key(0), given)), called(layer), given

    return make


def of_nnx(module: Callable[..., nnx.Module], x: Shape | np.ndarray) -> Make:
    def make(dtype: Dtype) -> Layer:
        layer = module(dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
        graphdef, state = nnx.split(layer)

        def apply(state: Any, x: jax.Array) -> jax.Array:
            net: Any = nnx.merge(graphdef, state)
            return net(x)

        return shaken(state), apply, made(x, dtype)

    return make


def of_equinox(module: Callable[..., eqx.Module], x: Shape | np.ndarray, axes: int = 1) -> Make:
    """Mapped over the first axes."""

    def make(dtype: Dtype) -> Layer:
        def apply(net: Any, x: jax.Array) -> jax.Array:
            for _ in range(axes):
                net = jax.vmap(net)
            return net(x)

        def narrow(leaf: Any) -> Any:
            return leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf

        return shaken(jax.tree.map(narrow, module())), apply, made(x, dtype)

    return make


def of_haiku(module: Callable[[], Any], x: Shape | np.ndarray) -> Make:
    """Its weights have the type of its input, or float32 where that is integers."""

    def make(dtype: Dtype) -> Layer:
        layer = hk.without_apply_rng(hk.transform(lambda x: module()(x)))
        given = made(x, dtype)
        weights = jax.tree.map(lambda w: w.astype(dtype), layer.init(jax.random.key(0), given))
        return shaken(weights), called(layer), given

    return make


def of_keras(module: Callable[..., Any], x: Shape | np.ndarray) -> Make:
    def make(dtype: Dtype) -> Layer:
        layer, given = module(dtype=dtype.name), made(x, dtype)
        layer.build(given.shape)
        fixed = shaken([v.value for v in layer.non_trainable_variables])
        weights = shaken([v.value for v in layer.trainable_variables])

        def apply(weights: Any, x: jax.Array) -> jax.Array:
            return layer.stateless_call(weights, fixed, x)[0]

        return weights, apply, given

    return make
