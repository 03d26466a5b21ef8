"""Tokens a second of our decoder's directory, beside GenAI's own model builder and beside JAX.

A Llama with random weights, 8 layers of width 512, in float32 and in int4; the same weights go
through the builder as safetensors. The builder's Python has onnxruntime-genai, torch and
transformers 5. A prompt of 128 tokens and 24 new ones, in turns: the median of each, and the median
of the ratios of each turn, ours over theirs, so that other work on the machine meets both. JAX's
tokens a second are of the median single step.

Run: python -m benchmarks.decoder --builder ~/builder/bin/python
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

import fnckpt
from benchmarks import needs

LAYERS, WIDTH, HEADS, GROUPS, INNER, WORDS = 8, 512, 8, 4, 1408, 8000
SIZE, PROMPT, NEW, TURNS = WIDTH // HEADS, 128, 24, 15
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (WIDTH, GROUPS * SIZE),
    "self_attn.v_proj": (WIDTH, GROUPS * SIZE), "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (WIDTH, INNER), "mlp.up_proj": (WIDTH, INNER), "mlp.down_proj": (INNER, WIDTH),
}  # fmt: skip
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH,
    "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS, "vocab_size": WORDS, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "torch_dtype": "float32",
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
Params = dict[str, np.ndarray]
Cache = dict[str, dict[str, jax.Array]]


def weights() -> Params:
    rng = np.random.default_rng(0)
    each = {f"layers.{i}.{n}": shape for i in range(LAYERS) for n, shape in SHAPES.items()}
    each |= {"embed_tokens": (WIDTH, WORDS), "lm_head": (WIDTH, WORDS)}
    made = {n: rng.normal(0, 0.02, shape).astype(np.float32) for n, shape in each.items()}
    norms = [
        f"layers.{i}.{n}_layernorm" for i in range(LAYERS) for n in ("input", "post_attention")
    ]
    return made | {n: np.ones(WIDTH, np.float32) for n in [*norms, "norm"]}


def rms(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def rotated(x: jax.Array, positions: jax.Array) -> jax.Array:
    steps = (1 / 10000.0 ** (np.arange(0, SIZE, 2) / SIZE)).astype(np.float32)
    angles = positions[:, None, :, None] * steps
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def apply(params: Params, ids: jax.Array, mask: jax.Array, cache: Cache):
    """The decoder: rotary embedding in halves, grouped heads, a gated SiLU."""
    (batch, new), total = ids.shape, mask.shape[1]
    positions = jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)[:, total - new :].astype(jnp.float32)
    seen = jnp.arange(total) <= jnp.arange(new)[:, None] + total - new
    seen = (seen & (mask[:, None] > 0))[:, None, None]
    x, after = params["embed_tokens"].T[ids], {}
    for i in range(LAYERS):
        layer = {n: params[f"layers.{i}.{n}"] for n in SHAPES}
        y = rms(x, params[f"layers.{i}.input_layernorm"])
        q, k, v = (
            (y @ layer[f"self_attn.{n}_proj"]).reshape(batch, new, -1, SIZE).swapaxes(1, 2)
            for n in "qkv"
        )
        q, k, old = rotated(q, positions), rotated(k, positions), cache[f"layer_{i}"]
        k, v = jnp.concatenate([old["key"], k], 2), jnp.concatenate([old["value"], v], 2)
        after[f"layer_{i}"] = {"key": k, "value": v}
        q = q.reshape(batch, GROUPS, HEADS // GROUPS, new, SIZE)
        scores = jnp.where(seen, jnp.einsum("bgrsd,bgtd->bgrst", q, k) / SIZE**0.5, -1e30)
        mixed = jnp.einsum("bgrst,bgtd->bgrsd", jax.nn.softmax(scores), v)
        rows = mixed.reshape(batch, HEADS, new, SIZE).swapaxes(1, 2).reshape(batch, new, WIDTH)
        x = x + rows @ layer["self_attn.o_proj"]
        y = rms(x, params[f"layers.{i}.post_attention_layernorm"])
        gate = jax.nn.silu(y @ layer["mlp.gate_proj"]) * (y @ layer["mlp.up_proj"])
        x = x + gate @ layer["mlp.down_proj"]
    return rms(x, params["norm"]) @ params["lm_head"], after


def cache_of(batch: int, past: int) -> Cache:
    each = jnp.zeros((batch, GROUPS, past, SIZE))
    return {f"layer_{i}": {"key": each, "value": each} for i in range(LAYERS)}


def as_transformers(params: Params, directory: Path) -> None:
    """The files of the same network that the builder reads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    prefixed = {n if n == "lm_head" else f"model.{n}": x for n, x in params.items()}
    save_file(
        {f"{n}.weight": np.ascontiguousarray(x.T) for n, x in prefixed.items()},
        directory / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    (directory / "config.json").write_text(json.dumps(CONFIG))
    letters = ["<pad>", "<s>", "</s>", *pre_tokenizers.ByteLevel.alphabet()]
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(directory)


def by_builder(python: str, source: Path, target: Path, precision: str) -> None:
    command = [python, "-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o",
               str(target), "-p", precision, "-e", "cpu", "-c", str(source)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


Turn = tuple[float, float]  # seconds of the median token, and of the prompt


def turn(model: Any, genai: Any) -> Turn:
    """A prompt and what follows."""
    ids = (np.arange(PROMPT, dtype=np.int32) * 7 % 1000 + 10)[None]
    params = genai.GeneratorParams(model)
    params.set_search_options(max_length=PROMPT + NEW, min_length=PROMPT + NEW, do_sample=False)
    generator, start = genai.Generator(model, params), time.perf_counter()
    generator.append_tokens(ids)
    generator.generate_next_token()
    prefill, tokens = time.perf_counter() - start, list[float]()
    while not generator.is_done():
        start = time.perf_counter()
        generator.generate_next_token()
        tokens.append(time.perf_counter() - start)
    return statistics.median(tokens), prefill


def in_turns(*directories: Path) -> list[list[Turn]]:
    """The turns of each, one after the other."""
    genai = import_module("onnxruntime_genai")
    models = [genai.Model(str(directory)) for directory in directories]
    rounds = [[turn(model, genai) for model in models] for _ in range(TURNS)]
    return [list(each) for each in zip(*rounds, strict=True)]


def of_jax(params: Params) -> Turn:
    """The same of jitted JAX, each step with the cache after the prompt."""
    device = {n: jnp.asarray(x) for n, x in params.items()}
    step = jax.jit(apply)
    found: list[float] = []
    for new, past in ((1, PROMPT), (PROMPT, 0)):
        given = (jnp.ones((1, new), int), jnp.ones((1, past + new), int), cache_of(1, past))
        jax.block_until_ready(step(device, *given))
        seconds: list[float] = []
        for _ in range(2 * TURNS):
            start = time.perf_counter()
            jax.block_until_ready(step(device, *given))
            seconds.append(time.perf_counter() - start)
        found.append(statistics.median(seconds))
    return found[0], found[1]


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("model.onnx*"))


def show(name: str, ours: list[Turn], theirs: list[Turn], jitted: Turn) -> None:
    token, prompt = (statistics.median(each) for each in zip(*ours, strict=True))
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [statistics.median(other[i] / own[i] for own, other in pairs) for i in (0, 1)]
    print(
        f"{name:8} {1 / token:7.1f} tokens/s {1e3 * prompt:7.1f} ms   "
        f"builder: {ratios[0]:.2f} x tokens/s, {ratios[1]:.2f} x prefill; "
        f"JAX float32: {jitted[0] / token:.2f} x tokens/s, {jitted[1] / prompt:.2f} x prefill"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builder", help="the Python of the builder's environment")
    builder, params = parser.parse_args().builder, weights()
    if builder is None:
        packages = "onnxruntime-genai, torch and transformers 5"
        needs.skip(f"needs --builder, a Python with {packages}, whose model builder it compares")
    jitted = of_jax(params)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        source.mkdir()
        as_transformers(params, source)
        for name, precision, quantize in (("float32", "fp32", None), ("int4", "int4", "int4")):
            own, other = Path(place, f"own-{name}"), Path(place, f"builder-{name}")
            fnckpt.export_decoder(
                params, apply, own, cache=cache_of(1, 5), config=CONFIG, quantize=quantize,
                external_data=True,
            )  # fmt: skip
            by_builder(builder, source, other, precision)
            ours, theirs = in_turns(own, other)
            show(name, ours, theirs, jitted)
            print(f"{'':8} {size(own):,} bytes, {size(own) / size(other):.3f} x the builder's")


if __name__ == "__main__":
    main()
