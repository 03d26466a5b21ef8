"""Decoders as people have them: modules of linen and NNX with a cache, two functions, one array."""

from collections.abc import Callable

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tests.decoders.families import (
    HEADS,
    LAYERS,
    SIZE,
    VOCABULARY,
    WIDTH,
    Family,
    rms,
    weights,
)

PyTree = object
LONGEST = 16


class LinenSpeaker(nn.Module):
    """Attention with ``decode=True``, which takes one token a call, and places in the cache."""

    @nn.compact
    def __call__(self, ids: jax.Array, deterministic: bool = False) -> jax.Array:
        words = nn.Embed(VOCABULARY, WIDTH, embedding_init=nn.initializers.normal(1.0))
        begun = self.has_variable("cache", "place")
        place = self.variable("cache", "place", lambda: jnp.zeros((), jnp.uint32))
        table = self.param("places", nn.initializers.normal(0.5), (128, WIDTH))
        x = words(ids) + table[place.value + jnp.arange(ids.shape[1])]
        if begun:
            place.value = place.value + 1
        for _ in range(LAYERS):
            heads = nn.MultiHeadDotProductAttention(HEADS, decode=True, dropout_rate=0.5)
            x = x + heads(nn.LayerNorm()(x), deterministic=deterministic)
            x = x + nn.Dense(WIDTH)(nn.gelu(nn.Dense(48)(x)))
        return words.attend(x)


class NnxBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=True, rngs=rngs)
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)
        self.dense = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm(x), mask=mask[:, None, None] > 0)
        return x + nnx.silu(self.dense(x))


class NnxSpeaker(nnx.Module):
    """``nnx.MultiHeadAttention(decode=True)``, whose cache is in variables ``nnx.Cache``."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.places = nnx.Embed(128, WIDTH, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(rngs) for _ in range(LAYERS)])
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, ids: jax.Array, mask: jax.Array, positions: jax.Array) -> jax.Array:
        x = self.words(ids) * 3 + self.places(positions)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x) * 3


def linen() -> Family:
    module = LinenSpeaker()
    ids = jnp.zeros((1, LONGEST), jnp.int32)
    return Family(module.init(jax.random.key(0), ids, deterministic=True), module, None)


def of_nnx() -> Family:
    model = NnxSpeaker(nnx.Rngs(0))
    for block in model.blocks:
        block.attention.init_cache((1, LONGEST, WIDTH))
    return Family(None, model, None)


def block_weights(seed: int) -> dict[str, jax.Array]:
    names = ("q", "k", "v", "o")
    return {n: weights(WIDTH, WIDTH, seed=seed + i) for i, n in enumerate(names)}


def attended(
    layer: dict[str, jax.Array], x: jax.Array, seen: jax.Array, k: jax.Array, v: jax.Array
) -> jax.Array:
    """``k`` and ``v`` are ``[batch, heads, total, size]``."""
    q = split(rms(x, jnp.ones(WIDTH)) @ layer["q"])
    scores = jnp.where(seen, q @ k.swapaxes(2, 3) * SIZE**-0.5, -1e9)
    mixed = (jax.nn.softmax(scores) @ v).swapaxes(1, 2).reshape(x.shape)
    return x + mixed @ layer["o"]


def split(x: jax.Array) -> jax.Array:
    return x.reshape(*x.shape[:2], HEADS, SIZE).swapaxes(1, 2)


def keys(layer: dict[str, jax.Array], x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = rms(x, jnp.ones(WIDTH))
    return split(y @ layer["k"]), split(y @ layer["v"])


def of_two_functions() -> Family:
    """The prompt without a cache, and a step into a buffer of 40 places."""
    params = {
        "words": weights(VOCABULARY, WIDTH, seed=0) * 8,
        "layers": [block_weights(5 * i) for i in range(LAYERS)],
    }

    def prefill(params: PyTree, ids: jax.Array, mask: jax.Array) -> PyTree:
        assert isinstance(params, dict)
        x, length = params["words"][ids], ids.shape[1]
        seen = jnp.tril(jnp.ones((length, length), bool)) & (mask[:, None, None] > 0)
        cache = []
        for layer in params["layers"]:
            k, v = keys(layer, x)
            x = attended(layer, x, seen, k, v)
            cache.append({"k": k.swapaxes(1, 2), "v": v.swapaxes(1, 2)})
        return x @ params["words"].T, {"layers": cache, "index": jnp.asarray(length, jnp.int32)}

    def step(params: PyTree, ids: jax.Array, mask: jax.Array, cache: PyTree) -> PyTree:
        assert isinstance(params, dict)
        assert isinstance(cache, dict)
        if ids.shape[1] != 1:
            raise ValueError("one token a call")
        x, at, after = params["words"][ids], cache["index"], []
        for layer, old in zip(params["layers"], cache["layers"], strict=True):
            new = dict(zip("kv", keys(layer, x), strict=True))
            both = {
                n: jax.lax.dynamic_update_slice(old[n], new[n].swapaxes(1, 2), (0, at, 0, 0))
                for n in "kv"
            }
            seen = (jnp.arange(old["k"].shape[1]) <= at) & (mask[:, None, None] > 0)
            x = attended(layer, x, seen, both["k"].swapaxes(1, 2), both["v"].swapaxes(1, 2))
            after.append(both)
        return x @ params["words"].T, {"layers": after, "index": at + 1}

    past = jax.ShapeDtypeStruct((1, 40, HEADS, SIZE), np.float32)
    index = jax.ShapeDtypeStruct((), np.int32)
    cache = {"layers": [{"k": past, "v": past}] * LAYERS, "index": index}
    return Family(params, (prefill, step), cache)


def of_one_array() -> Family:
    """All layers in one array of keys and one of values, through ``lax.scan``."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[block_weights(5 * i) for i in range(LAYERS)])
    params = {"words": weights(VOCABULARY, WIDTH, seed=0) * 8, "layers": stacked}

    def apply(params: PyTree, ids: jax.Array, mask: jax.Array, cache: PyTree) -> PyTree:
        assert isinstance(params, dict)
        assert isinstance(cache, dict)
        new, total = ids.shape[1], mask.shape[1]
        rows = jnp.arange(new)[:, None] + total - new
        seen = (jnp.arange(total) <= rows) & (mask[:, None, None] > 0)

        def layer(x: jax.Array, given: tuple[dict[str, jax.Array], jax.Array, jax.Array]):
            own, old_k, old_v = given
            k, v = keys(own, x)
            k, v = jnp.concatenate([old_k, k], 2), jnp.concatenate([old_v, v], 2)
            return attended(own, x, seen, k, v), (k, v)

        rest = (params["layers"], cache["k"], cache["v"])
        x, (k, v) = jax.lax.scan(layer, params["words"][ids], rest)
        return x @ params["words"].T, {"k": k, "v": v}

    past = jax.ShapeDtypeStruct((LAYERS, 1, HEADS, 4, SIZE), np.float32)
    return Family(params, apply, {"k": past, "v": past})


class Equinox(eqx.Module):
    """A module that takes its cache and returns it."""

    words: jax.Array
    layers: list[dict[str, jax.Array]]

    def __call__(
        self, ids: jax.Array, mask: jax.Array, cache: list[tuple[jax.Array, jax.Array]]
    ) -> PyTree:
        new, total = ids.shape[1], mask.shape[1]
        rows = jnp.arange(new)[:, None] + total - new
        seen = (jnp.arange(total) <= rows) & (mask[:, None, None] > 0)
        x, after = self.words[ids], []
        for layer, (old_k, old_v) in zip(self.layers, cache, strict=True):
            k, v = keys(layer, x)
            k, v = jnp.concatenate([old_k, k], 2), jnp.concatenate([old_v, v], 2)
            x = attended(layer, x, seen, k, v)
            after.append((k, v))
        return x @ self.words.T, after


def of_equinox() -> Family:
    layers = [block_weights(5 * i) for i in range(LAYERS)]
    past = jax.ShapeDtypeStruct((1, HEADS, 3, SIZE), np.float32)
    model = Equinox(weights(VOCABULARY, WIDTH, seed=0) * 8, layers)
    return Family(None, model, [(past, past)] * LAYERS)


def said_by_linen(family: Family, prompts: np.ndarray, new: int) -> np.ndarray:
    """Greedy tokens as a user of linen gets them: one token a call, the cache as a collection."""
    module, variables = family.apply, family.params
    assert isinstance(module, nn.Module)
    assert isinstance(variables, dict)
    length = prompts.shape[1] + new
    ids = jnp.zeros((len(prompts), length), jnp.int32)
    cache = module.init(jax.random.key(0), ids, deterministic=True)["cache"]

    @jax.jit
    def step(cache: PyTree, token: jax.Array) -> PyTree:
        given = {"params": variables["params"], "cache": cache}
        logits, after = module.apply(given, token, deterministic=True, mutable=["cache"])
        assert isinstance(logits, jax.Array)
        return logits[:, -1].argmax(-1)[:, None].astype(jnp.int32), after["cache"]

    return one_by_one(step, cache, prompts, new)


def said_by_nnx(family: Family, prompts: np.ndarray, new: int) -> np.ndarray:
    model, length = family.apply, prompts.shape[1] + new
    assert isinstance(model, NnxSpeaker)
    for block in model.blocks:
        block.attention.init_cache((len(prompts), length, WIDTH))

    @nnx.jit
    def speak(model: NnxSpeaker, token: jax.Array, at: jax.Array) -> jax.Array:
        mask = jnp.ones((token.shape[0], length), jnp.int32)
        logits = model(token, mask, jnp.broadcast_to(at, token.shape))
        return logits[:, -1].argmax(-1)[:, None].astype(jnp.int32)

    def step(at: PyTree, token: jax.Array) -> PyTree:
        return speak(model, token, jnp.asarray(at)), int(str(at)) + 1

    return one_by_one(step, 0, prompts, new)


def said_by_two(family: Family, prompts: np.ndarray, new: int) -> np.ndarray:
    """The prompt's cache is put into the buffer of a step."""
    assert isinstance(family.apply, tuple)
    prefill, step = map(jax.jit, family.apply)
    mask = jnp.ones((len(prompts), 40), jnp.int32)
    logits, cache = prefill(family.params, prompts, mask[:, : prompts.shape[1]])
    room = ((0, 0), (0, 40 - prompts.shape[1]), (0, 0), (0, 0))
    cache = {
        "layers": jax.tree.map(lambda x: jnp.pad(x, room), cache["layers"]),
        "index": cache["index"],
    }
    found = [logits[:, -1].argmax(-1)[:, None]]
    for _ in range(new - 1):
        logits, cache = step(family.params, found[-1], mask, cache)
        found.append(logits[:, -1].argmax(-1)[:, None])
    return np.concatenate(found, 1)


def one_by_one(
    step: Callable[[PyTree, jax.Array], PyTree], state: PyTree, prompts: np.ndarray, new: int
) -> np.ndarray:
    """The tokens behind prompts that are read one token after the other."""
    found, token = list[jax.Array](), jnp.asarray(prompts[:, :1])
    for at in range(prompts.shape[1] + new - 1):
        result = step(state, token)
        assert isinstance(result, tuple)
        token, state = result
        if at + 1 < prompts.shape[1]:
            token = jnp.asarray(prompts[:, at + 1 : at + 2])
        else:
            found.append(token)
    return np.concatenate(found, 1)


FORMS: dict[str, Callable[[], Family]] = {
    "a module of linen": linen,
    "a module of NNX": of_nnx,
    "two functions": of_two_functions,
    "all layers in one array": of_one_array,
    "a module of Equinox": of_equinox,
}
SAID = {
    "a module of linen": said_by_linen,
    "a module of NNX": said_by_nnx,
    "two functions": said_by_two,
}
