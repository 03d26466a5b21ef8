"""Decoders at reduced width with random weights: of transformers, of NNX, and plain functions."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

PyTree = object
VOCABULARY, LAYERS, HEADS, GROUPS, SIZE = 61, 2, 4, 2, 8
WIDTH = HEADS * SIZE
LONGEST = 128


@dataclass(frozen=True)
class Family:
    """A decoder as ``export_decoder`` takes it.

    ``cache`` None is that of a transformers model. ``by_place``: distances are counted in places of
    the cache, so that padding between a prompt and what follows counts.
    """

    params: PyTree
    apply: Callable[..., PyTree] | tuple[Callable[..., PyTree], Callable[..., PyTree]]
    cache: PyTree
    by_place: bool = False


def rms(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def turned(x: jax.Array, positions: jax.Array) -> jax.Array:
    """Rotary embedding of neighbours, ``[batch, sequence, heads, size]``."""
    angles = positions[..., None, None] * 10000.0 ** (-jnp.arange(0, SIZE, 2) / SIZE)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    even, odd = x[..., ::2], x[..., 1::2]
    both = jnp.stack([even * cos - odd * sin, odd * cos + even * sin], -1)
    return both.reshape(x.shape)


def weights(*shape: int, seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape) / np.sqrt(shape[0])


def plain() -> Family:
    """Rotary of neighbours, grouped heads, a soft cap, a cache of ``[b, t, heads, size]``."""
    names = {"q": HEADS, "k": GROUPS, "v": GROUPS}
    layer = {n: weights(WIDTH, heads, SIZE, seed=i) for i, (n, heads) in enumerate(names.items())}
    layer |= {"o": weights(HEADS, SIZE, WIDTH, seed=4) / 2, "scale": jnp.ones(WIDTH)}
    layer |= {"up": weights(WIDTH, 48, seed=5), "down": weights(48, WIDTH, seed=6)}
    params = {"words": weights(VOCABULARY, WIDTH, seed=7) * 8, "layers": [layer] * LAYERS}

    def apply(params: PyTree, ids: jax.Array, mask: jax.Array, cache: PyTree) -> PyTree:
        assert isinstance(params, dict)
        assert isinstance(cache, list)
        new, total = ids.shape[1], mask.shape[1]
        positions = jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)[:, total - new :]
        rows = jnp.arange(new)[:, None] + total - new
        seen = (jnp.arange(total) <= rows) & (mask[:, None] > 0)
        x, after = params["words"][ids], []
        for layer, (old_k, old_v) in zip(params["layers"], cache, strict=True):
            y = rms(x, layer["scale"])
            q, k, v = (jnp.einsum("btw,whs->bths", y, layer[n]) for n in "qkv")
            q, k = turned(q, positions), turned(k, positions)
            k, v = jnp.concatenate([old_k, k], 1), jnp.concatenate([old_v, v], 1)
            after.append((k, v))
            groups = q.reshape(*q.shape[:2], GROUPS, HEADS // GROUPS, SIZE)
            scores = jnp.einsum("btgrs,bugs->bgrtu", groups, k) * SIZE**-0.5
            scores = jnp.where(seen[:, None, None], 20 * jnp.tanh(scores / 20), -1e30)
            mixed = jnp.einsum("bgrtu,bugs->btgrs", jax.nn.softmax(scores), v).reshape(q.shape)
            x = x + jnp.einsum("bths,hsw->btw", mixed, layer["o"])
            x = x + jax.nn.gelu(rms(x, layer["scale"]) @ layer["up"]) @ layer["down"]
        return x @ params["words"].T, after

    past = jax.ShapeDtypeStruct((1, 3, GROUPS, SIZE), np.float32)
    return Family(params, apply, [(past, past)] * LAYERS)


class Block(nnx.Module):
    """Attention whose scores fall with the distance (ALiBi), and two products."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.qkv = nnx.Linear(WIDTH, 3 * WIDTH, rngs=rngs)
        self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 48, rngs=rngs)
        self.down = nnx.Linear(48, WIDTH, rngs=rngs)

    def __call__(
        self, x: jax.Array, bias: jax.Array, old: dict[str, jax.Array]
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        parts = self.qkv(self.norm(x)).reshape(*x.shape[:2], 3, HEADS, SIZE)
        q, k, v = parts.transpose(2, 0, 3, 1, 4)
        k, v = jnp.concatenate([old["key"], k], 2), jnp.concatenate([old["value"], v], 2)
        seen = jax.nn.softmax(q @ k.swapaxes(2, 3) / SIZE**0.5 + bias) @ v
        x = x + self.out(seen.transpose(0, 2, 1, 3).reshape(x.shape))
        return x + self.down(nnx.relu(self.up(x))), {"key": k, "value": v}


class Speaker(nnx.Module):
    """A decoder of NNX."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.words = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.head = nnx.Linear(WIDTH, VOCABULARY, rngs=rngs)

    def __call__(self, ids: jax.Array, mask: jax.Array, cache: dict[str, PyTree]) -> PyTree:
        total = mask.shape[1]
        rows = jnp.arange(ids.shape[1])[:, None] + total - ids.shape[1]
        distance = rows - jnp.arange(total)
        falls = 2.0 ** -jnp.arange(1, HEADS + 1)[:, None, None] * -distance
        bias = jnp.where((distance >= 0) & (mask[:, None, None] > 0), falls, -1e9)
        x, after = self.words(ids), {}
        for i, block in enumerate(self.blocks):
            old = cache[f"layer_{i}"]
            assert isinstance(old, dict)
            x, after[f"layer_{i}"] = block(x, bias, old)
        return {"logits": self.head(x), "cache": after}


def of_nnx() -> Family:
    graph, params = nnx.split(Speaker(nnx.Rngs(0)))

    def apply(params: nnx.State, ids: jax.Array, mask: jax.Array, cache: PyTree) -> PyTree:
        model = nnx.merge(graph, params)
        assert isinstance(cache, dict)
        return model(ids, mask, cache)

    past = jax.ShapeDtypeStruct((1, HEADS, 4, SIZE), np.float32)
    cache = {f"layer_{i}": {"key": past, "value": past} for i in range(LAYERS)}
    return Family(params, apply, cache, by_place=True)


def of_transformers(name: str) -> Family:
    import transformers

    common = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS,
        "max_position_embeddings": LONGEST, "initializer_range": 0.2,
    }  # fmt: skip
    kinds = {
        "llama": common,
        "gemma": {**common, "head_dim": SIZE, "hidden_activation": "gelu_pytorch_tanh"},
        "mistral": {**common, "sliding_window": 6},
        "gpt2": {
            "vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS,
            "n_positions": LONGEST, "initializer_range": 0.2,
        },
    }  # fmt: skip
    config = transformers.AutoConfig.for_model(name, **kinds[name])
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 0, None, None
    model = transformers.FlaxAutoModelForCausalLM.from_config(config, seed=0)
    return Family(model.params, model, None, by_place=name == "mistral")


FAMILIES: dict[str, Callable[[], Family]] = {
    "Llama": lambda: of_transformers("llama"),
    "Gemma": lambda: of_transformers("gemma"),
    "Mistral with a sliding window": lambda: of_transformers("mistral"),
    "GPT-2": lambda: of_transformers("gpt2"),
    "NNX with ALiBi": of_nnx,
    "a plain function": plain,
}
