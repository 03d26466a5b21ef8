"""Loops: recurrent networks, a while loop, a decoder that writes its own tokens, a sampler."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Loop = tuple[Any, Callable[..., Any], tuple[np.ndarray, ...]]
Params = dict[str, np.ndarray]

UNITS, TRIPS, SIDE = 256, 10_000, 64
BATCH, STEPS_OF_BATCH = 4, 256
LAYERS, WIDTH, HEADS, WORDS, PLACES, TOKENS = 4, 256, 4, 1000, 64, 48
STEPS, IMAGE, CHANNELS = 50, 32, 32


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def recurrent(kind: type[nn.RNNCellBase], steps: int) -> Loop:
    """One layer of ``UNITS`` over as many features, a sequence alone; the time axis first."""
    cell, zeros = kind(features=UNITS), jnp.zeros((1, UNITS))
    carry = (zeros, zeros) if kind is nn.OptimizedLSTMCell else zeros

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return lax.scan(lambda carry, row: cell.apply(params, carry, row), carry, x)[1]

    return cell.init(jax.random.key(0), carry, zeros), apply, (normal(steps, 1, UNITS),)


def masked(kind: type[nn.RNNCellBase], *, lengths: bool) -> Loop:
    """A batch whose sequences end, so that their states stay from there.

    ``lengths``: the mask is compared from lengths in the function, else it is an input.
    """
    cell, zeros = kind(features=UNITS), jnp.zeros((BATCH, UNITS))
    carry = (zeros, zeros) if kind is nn.OptimizedLSTMCell else zeros
    lives = np.arange(STEPS_OF_BATCH)[:, None] < (1 + np.arange(BATCH)) * STEPS_OF_BATCH // BATCH

    def apply(params: Any, x: jax.Array, given: jax.Array) -> jax.Array:
        live = jnp.arange(STEPS_OF_BATCH)[:, None] < given if lengths else given

        def step(carry: Any, row: Any) -> tuple[Any, jax.Array]:
            x, live = row
            live = live[:, None]
            after, shown = cell.apply(params, carry, x)
            kept = jax.tree.map(lambda new, old: jnp.where(live, new, old), after, carry)
            return kept, jnp.where(live, shown, 0)

        return lax.scan(step, carry, (x, live))[1]

    given = lives.sum(0).astype(np.int32) if lengths else lives
    params = cell.init(jax.random.key(0), carry, zeros)
    return params, apply, (normal(STEPS_OF_BATCH, BATCH, UNITS), given)


def while_of_products(trips: int = TRIPS) -> Loop:
    """A loop whose trips are data; each is a product of 64 x 64 and its tanh."""

    def apply(params: Params, x: jax.Array, trips: jax.Array) -> jax.Array:
        step = lambda c: (c[0] + 1, jnp.tanh(c[1] @ params["w"]))  # noqa: E731
        return lax.while_loop(lambda c: c[0] < trips, step, (jnp.int32(0), x))[1]

    params = {"w": normal(SIDE, SIDE, scale=SIDE**-0.5, seed=1)}
    return params, apply, (normal(SIDE, SIDE), np.array(trips, np.int32))


def norm(x: jax.Array) -> jax.Array:
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def layer(params: Params, i: int, x: jax.Array, place: jax.Array, cache: jax.Array):
    """One layer of the decoder on one token; ``cache`` has the keys and values of all places."""
    size = WIDTH // HEADS
    q, k, v = jnp.split(norm(x) @ params[f"qkv_{i}"], 3)
    cache = lax.dynamic_update_slice(cache, jnp.stack([k, v])[:, None], (0, place, 0))
    keys, values = cache.reshape(2, PLACES, HEADS, size)
    scores = jnp.einsum("hd,thd->ht", q.reshape(HEADS, size), keys) / size**0.5
    weights = jax.nn.softmax(jnp.where(jnp.arange(PLACES) <= place, scores, -1e30))
    x = x + jnp.einsum("ht,thd->hd", weights, values).reshape(WIDTH) @ params[f"out_{i}"]
    return x + jax.nn.gelu(norm(x) @ params[f"up_{i}"]) @ params[f"down_{i}"], cache


def decode(params: Params, first: jax.Array) -> jax.Array:
    """Greedy tokens until one that ends, or until all places are full."""

    def step(state: Any) -> Any:
        place, token, caches, tokens = state
        x, after = params["table"][token] + params["places"][place], []
        for i in range(LAYERS):
            x, cache = layer(params, i, x, place, caches[i])
            after.append(cache)
        token = jnp.argmax(params["table"] @ norm(x)).astype(jnp.int32)
        return place + 1, token, tuple(after), tokens.at[place].set(token)

    caches = (jnp.zeros((2, PLACES, WIDTH)),) * LAYERS
    start = jnp.int32(0), first, caches, jnp.zeros(PLACES, jnp.int32)
    return lax.while_loop(lambda s: (s[0] < TOKENS) & (s[1] != -1), step, start)[3]


def decoder() -> Loop:
    """A decoder of 4 layers of width 256, all its tokens in one call."""
    shapes = {"table": (WORDS, WIDTH), "places": (PLACES, WIDTH)}
    for i in range(LAYERS):
        shapes |= {f"qkv_{i}": (WIDTH, 3 * WIDTH), f"out_{i}": (WIDTH, WIDTH)}
        shapes |= {f"up_{i}": (WIDTH, 4 * WIDTH), f"down_{i}": (4 * WIDTH, WIDTH)}
    made = enumerate(shapes.items())
    params = {n: normal(*shape, scale=WIDTH**-0.5, seed=seed) for seed, (n, shape) in made}
    return params, decode, (np.array(7, np.int32),)


class Denoiser(nn.Module):
    """Convolutions on two scales, told the noise by a bias of each channel."""

    @nn.compact
    def __call__(self, x: jax.Array, time: jax.Array) -> jax.Array:
        angles = time * jnp.exp(-jnp.arange(16) / 2.0)
        told = nn.silu(nn.Dense(CHANNELS)(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])))
        x = nn.Conv(CHANNELS, (3, 3))(x)
        y = nn.silu(nn.GroupNorm(8)(x) + nn.Dense(CHANNELS)(told))
        y = nn.Conv(2 * CHANNELS, (3, 3), strides=2)(y)
        y = nn.Conv(2 * CHANNELS, (3, 3))(nn.silu(nn.GroupNorm(8)(y)))
        y = jax.image.resize(y, (1, IMAGE, IMAGE, 2 * CHANNELS), "nearest")
        x = jnp.concatenate([x, nn.Conv(CHANNELS, (3, 3))(y)], -1)
        return nn.Conv(3, (3, 3))(nn.silu(nn.GroupNorm(8)(x)))


def sampler() -> Loop:
    """DDIM: 50 steps from noise to an image."""
    net, x = Denoiser(), normal(1, IMAGE, IMAGE, 3)
    kept = np.cos(np.linspace(1.5, 0.0, STEPS + 1)).astype(np.float32) ** 2

    def apply(params: Any, x: jax.Array) -> jax.Array:
        def step(x: jax.Array, now: jax.Array) -> tuple[jax.Array, None]:
            before, after, time = now
            noise = net.apply(params, x, time)
            clean = (x - jnp.sqrt(1 - before) * noise) / jnp.sqrt(before)
            return jnp.sqrt(after) * clean + jnp.sqrt(1 - after) * noise, None

        times = np.linspace(1, 0, STEPS, dtype=np.float32)
        return lax.scan(step, x, (kept[:-1], kept[1:], times))[0]

    return net.init(jax.random.key(0), x, jnp.float32(0.5)), apply, (x,)


LOOPS: dict[str, Callable[[], Loop]] = {
    "LSTM, 512 steps": partial(recurrent, nn.OptimizedLSTMCell, 512),
    "LSTM, 2,000 steps": partial(recurrent, nn.OptimizedLSTMCell, 2000),
    "GRU, 512 steps": partial(recurrent, nn.GRUCell, 512),
    "GRU, 2,000 steps": partial(recurrent, nn.GRUCell, 2000),
    "LSTM, 4 by their lengths": partial(masked, nn.OptimizedLSTMCell, lengths=True),
    "LSTM, 4 by a mask": partial(masked, nn.OptimizedLSTMCell, lengths=False),
    "GRU, 4 by their lengths": partial(masked, nn.GRUCell, lengths=True),
    "GRU, 4 by a mask": partial(masked, nn.GRUCell, lengths=False),
    "while, 10,000 trips": while_of_products,
    "decoder, 48 tokens": decoder,
    "sampler, 50 steps": sampler,
}
