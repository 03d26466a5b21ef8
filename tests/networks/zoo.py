"""The networks that every format is proven on: linen and NNX, random weights.

An entry is a function of no arguments that gives parameters, the pure function, and inputs.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Network = tuple[Any, Callable[..., Any], tuple[np.ndarray, ...]]

ZOO: dict[str, Callable[[], Network]] = {}


def network(make: Callable[[], Network]) -> Callable[[], Network]:
    """Register the decorated function under its own name."""
    ZOO[make.__name__] = cache(make)
    return make


def images(*shape: int) -> np.ndarray:
    """Normally distributed numbers, always the same."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def initialized(module: nn.Module, *inputs: np.ndarray) -> Network:
    """A linen module with drawn variables."""
    return drawn(jax.eval_shape(module.init, jax.random.key(0), *inputs)), module.apply, inputs


def drawn(shapes: Any) -> Any:
    """Weights as if trained: of variance 1 / inputs, scales and statistics uneven.

    Flax's own are all alike there, and take seconds: XLA compiles each operation of ``init``.
    """
    random = np.random.default_rng(1)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        around = 1 if jax.tree_util.keystr(path[-1:], simple=True) in ("scale", "var") else 0
        wave = around + 0.1 * np.cos(np.arange(leaf.size)).reshape(leaf.shape)
        normal = random.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        return (normal if len(leaf.shape) > 1 else wave).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


class Cnn(nn.Module):
    """The demo's layers."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (8, 16):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.softmax(nn.Dense(10)(x.reshape(x.shape[0], -1)))


@network
def linen_cnn() -> Network:
    return initialized(Cnn(), images(3, 8, 8, 1))


class TwoByTwo(nn.Module):
    """Two inputs, and a dictionary of two outputs."""

    @nn.compact
    def __call__(self, left: jax.Array, right: jax.Array) -> dict[str, jax.Array]:
        x = jnp.concatenate([nn.silu(nn.Dense(16)(left)), nn.gelu(nn.Dense(8)(right))], -1)
        x = nn.Dropout(0.5, deterministic=True)(nn.tanh(nn.Dense(16)(x)))
        return {"score": nn.sigmoid(nn.Dense(1)(x))[:, 0], "logits": nn.log_softmax(nn.Dense(5)(x))}


@network
def linen_mlp() -> Network:
    return initialized(TwoByTwo(), images(4, 7), images(4, 3))


class Block(nn.Module):
    """A residual block, with a projection where the shape changes."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(size: int, stride: int, x: jax.Array) -> jax.Array:
            x = nn.Conv(self.features, (size, size), stride, use_bias=False)(x)
            return nn.BatchNorm(use_running_average=True)(x)

        y = conv(3, 1, nn.relu(conv(3, self.stride, x)))
        return nn.relu(y + (x if y.shape == x.shape else conv(1, self.stride, x)))


class ResNet(nn.Module):
    """A stem, three blocks, the mean over the image."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(8, (7, 7), 2, padding=3)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for features, stride in ((8, 1), (16, 2), (32, 2)):
            x = Block(features, stride)(x)
        return nn.Dense(10)(x.mean((1, 2)))


@network
def linen_resnet() -> Network:
    return initialized(ResNet(), images(2, 32, 32, 3))


class Encoder(nn.Module):
    """Two transformer blocks over embedded tokens, with a mask of what is padding."""

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        positions = self.param("positions", nn.initializers.normal(0.1), (1, 6, 16))
        x = nn.Embed(50, 16)(tokens) + positions
        visible = nn.make_attention_mask(mask, mask)
        for _ in range(2):
            h = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(4, deterministic=True)(h, h, mask=visible)
            h = nn.gelu(nn.Dense(32)(nn.LayerNorm()(x)), approximate=False)
            x = x + nn.Dense(16)(h)
        return nn.LayerNorm()(x)


def tokens() -> tuple[np.ndarray, np.ndarray]:
    """Two sentences of up to six tokens, and which of the places are words."""
    numbers = np.random.default_rng(0).integers(0, 50, (2, 6)).astype(np.int32)
    return numbers, np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], np.float32)


@network
def linen_transformer() -> Network:
    return initialized(Encoder(), *tokens())


def split(module: nnx.Module, *inputs: np.ndarray) -> Network:
    """An NNX module as its state and a pure function of it."""
    graphdef, state = nnx.split(module)
    return state, lambda state, *args: nnx.merge(graphdef, state)(*args), inputs


class NnxCnn(nnx.Module):
    """The CNN again, with average pooling."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.dense = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.avg_pool(nnx.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        return nnx.softmax(self.dense(self.drop(x.reshape(x.shape[0], -1))))


@network
def nnx_cnn() -> Network:
    return split(NnxCnn(nnx.Rngs(0)), images(3, 8, 8, 1))


class NnxTransformer(nnx.Module):
    """One block of the transformer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(50, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            num_heads=4, in_features=16, decode=False, deterministic=True, rngs=rngs
        )
        self.up = nnx.Linear(16, 32, rngs=rngs)
        self.down = nnx.Linear(32, 16, rngs=rngs)

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        x = self.embed(tokens)
        visible = nnx.make_attention_mask(mask, mask)
        x = x + self.attend(self.norm(x), mask=visible)
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


@network
def nnx_transformer() -> Network:
    return split(NnxTransformer(nnx.Rngs(0)), *tokens())


class NnxViT(nnx.Module):
    """Patches, a class token, learned positions, one block."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.patch = nnx.Conv(3, 16, (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.first = nnx.Param(jax.random.normal(rngs.params(), (1, 1, 16)))
        self.places = nnx.Param(jax.random.normal(rngs.params(), (1, 17, 16)))
        self.before, self.after = nnx.LayerNorm(16, rngs=rngs), nnx.LayerNorm(16, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            num_heads=4, in_features=16, decode=False, deterministic=True, rngs=rngs
        )
        self.up, self.down = nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patch(x).reshape(x.shape[0], -1, 16)
        first = jnp.broadcast_to(self.first[...], (x.shape[0], 1, 16))
        x = jnp.concatenate([first, x], 1) + self.places[...]
        x = x + self.attend(self.before(x))
        x = x + self.down(nnx.gelu(self.up(self.after(x)), approximate=False))
        return self.head(x[:, 0])


@network
def nnx_vit() -> Network:
    return split(NnxViT(nnx.Rngs(0)), images(2, 16, 16, 3))


class UNet(nn.Module):
    """Down and up once, GroupNorm and SiLU, the shortcut across."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def twice(x: jax.Array, features: int) -> jax.Array:
            for _ in range(2):
                x = nn.silu(nn.GroupNorm(2)(nn.Conv(features, (3, 3))(x)))
            return x

        across = twice(x, 4)
        x = twice(nn.max_pool(across, (2, 2), (2, 2)), 8)
        x = nn.ConvTranspose(4, (2, 2), (2, 2))(x)
        return nn.Conv(2, (1, 1))(twice(jnp.concatenate([x, across], -1), 4))


@network
def linen_unet() -> Network:
    return initialized(UNet(), images(2, 8, 8, 3))
