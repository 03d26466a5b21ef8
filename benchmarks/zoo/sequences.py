"""Transformers in Flax linen and NNX, and an LSTM written out over 16 steps."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.zoo.images import Network, image, initialized


def words(length: int, known: int) -> np.ndarray:
    """One sentence of word numbers."""
    return np.random.default_rng(0).integers(0, known, (1, length)).astype(np.int32)


class PreNorm(nn.Module):
    """Dosovitskiy et al., "An image is worth 16 x 16 words": the norm is before."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm(1e-6)(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads, deterministic=True)(y, y)
        y = nn.Dense(4 * x.shape[-1])(nn.LayerNorm(1e-6)(x))
        return x + nn.Dense(x.shape[-1])(nn.gelu(y, approximate=False))


class ViTSmall(nn.Module):
    """12 blocks of 384 features and 6 heads on patches of 16 x 16."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(384, (16, 16), 16, padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        first = self.param("first", nn.initializers.normal(0.02), (1, 1, 384))
        x = jnp.concatenate([jnp.tile(first, (x.shape[0], 1, 1)), x], 1)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, x.shape[1], 384))
        for _ in range(12):
            x = PreNorm(6)(x)
        return nn.Dense(1000)(nn.LayerNorm(1e-6)(x)[:, 0])


class Bert(nn.Module):
    """Devlin et al., "BERT", base: 768 features, 12 heads, the norm behind; 4 layers."""

    @nn.compact
    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        places = jnp.arange(tokens.shape[1])[None]
        x = nn.Embed(30522, 768)(tokens) + nn.Embed(512, 768)(places)
        x = nn.LayerNorm(1e-12)(x)
        visible = nn.make_attention_mask(mask, mask)
        for _ in range(4):
            y = nn.MultiHeadDotProductAttention(12, deterministic=True)(x, x, mask=visible)
            x = nn.LayerNorm(1e-12)(x + y)
            y = nn.Dense(768)(nn.gelu(nn.Dense(3072)(x), approximate=False))
            x = nn.LayerNorm(1e-12)(x + y)
        return nn.tanh(nn.Dense(768)(x[:, 0]))


def split(module: nnx.Module, *inputs: np.ndarray) -> Network:
    """An NNX module as its state and a pure function of it."""
    graphdef, state = nnx.split(module)
    return state, lambda state, *args: nnx.merge(graphdef, state)(*args), inputs


class GptBlock(nnx.Module):
    """Radford et al., "GPT-2": attention to what came before, the norm in front."""

    def __init__(self, size: int, heads: int, rngs: nnx.Rngs) -> None:
        self.heads = heads
        self.before, self.between = nnx.LayerNorm(size, rngs=rngs), nnx.LayerNorm(size, rngs=rngs)
        self.parts = nnx.Linear(size, 3 * size, rngs=rngs)
        self.joined = nnx.Linear(size, size, rngs=rngs)
        self.up = nnx.Linear(size, 4 * size, rngs=rngs)
        self.down = nnx.Linear(4 * size, size, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        batch, length, size = x.shape
        parts = jnp.split(self.parts(self.before(x)), 3, -1)
        q, k, v = (part.reshape(batch, length, self.heads, -1) for part in parts)
        visible = nnx.make_causal_mask(jnp.ones((batch, length)))
        y = nnx.dot_product_attention(q, k, v, mask=visible)
        x = x + self.joined(y.reshape(batch, length, size))
        return x + self.down(nnx.gelu(self.up(self.between(x))))


class Gpt2(nnx.Module):
    """The 124M form with 4 of its 12 layers; the words' vectors are the last layer, too."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(50257, 768, rngs=rngs)
        self.places = nnx.Embed(1024, 768, rngs=rngs)
        self.blocks = nnx.List([GptBlock(768, 12, rngs) for _ in range(4)])
        self.norm = nnx.LayerNorm(768, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.words(tokens) + self.places(jnp.arange(tokens.shape[1])[None])
        for block in self.blocks:
            x = block(x)
        return self.words.attend(self.norm(x)[:, -1])


class Lstm(nnx.Module):
    """A cell of 256 over 16 steps, written out."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.cell = nnx.OptimizedLSTMCell(128, 256, rngs=rngs)
        self.last = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        c = h = jnp.zeros((x.shape[0], 256))
        for step in range(x.shape[1]):
            (c, h), _ = self.cell((c, h), x[:, step])
        return self.last(h)


SEQUENCES: dict[str, Callable[[], Network]] = {
    "ViT-S": lambda: initialized(ViTSmall(), image()),
    "BERT-base": lambda: initialized(Bert(), words(128, 30522), np.ones((1, 128), np.float32)),
    "GPT-2": lambda: split(Gpt2(nnx.Rngs(0)), words(64, 50257)),
    "LSTM": lambda: split(
        Lstm(nnx.Rngs(0)), np.random.default_rng(0).standard_normal((4, 16, 128), np.float32)
    ),
}
