"""Tokens a second of our decoder's directory, beside GenAI's own model builder and beside JAX.

A Llama with random weights, 8 layers of width 512, in float32 and in int4; the same weights go
through the builder as safetensors. The builder's Python has onnxruntime-genai, torch and
transformers 5. A prompt of 128 tokens and 64 new ones, the best of several runs in turns; ratios
are ours over theirs. JAX's tokens a second are of the best single step.

Run: python -m benchmarks.decoder --builder ~/builder/bin/python
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

import fnckpt

LAYERS, WIDTH, HEADS, GROUPS, INNER, WORDS = 8, 512, 8, 4, 1408, 8000
SIZE, PROMPT, NEW, RUNS = WIDTH // HEADS, 128, 64, 3
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


def timed(directory: Path) -> tuple[float, float]:
    """Tokens a second, and the milliseconds of the prompt."""
    genai = import_module("onnxruntime_genai")
    model, rate, prefill = genai.Model(str(directory)), 0.0, float("inf")
    ids = (np.arange(PROMPT, dtype=np.int32) * 7 % 1000 + 10)[None]
    for _ in range(RUNS):
        params = genai.GeneratorParams(model)
        params.set_search_options(max_length=PROMPT + NEW, min_length=PROMPT + NEW, do_sample=False)
        generator, start = genai.Generator(model, params), time.perf_counter()
        generator.append_tokens(ids)
        generator.generate_next_token()
        prefill = min(prefill, 1e3 * (time.perf_counter() - start))
        count, start = 0, time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
            count += 1
        rate = max(rate, count / (time.perf_counter() - start))
    return rate, prefill


def of_jax(params: Params) -> tuple[float, float]:
    """The same of jitted JAX, each step with the cache after the prompt."""
    device = {n: jnp.asarray(x) for n, x in params.items()}
    step = jax.jit(apply)
    seconds: list[float] = []
    for new, past in ((1, PROMPT), (PROMPT, 0)):
        given = (jnp.ones((1, new), int), jnp.ones((1, past + new), int), cache_of(1, past))
        jax.block_until_ready(step(device, *given))
        best = float("inf")
        for _ in range(10 * RUNS):
            start = time.perf_counter()
            jax.block_until_ready(step(device, *given))
            best = min(best, time.perf_counter() - start)
        seconds.append(best)
    return 1 / seconds[0], 1e3 * seconds[1]


def size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("model.onnx*"))


def show(name: str, ours: tuple[float, float], theirs: Mapping[str, tuple[float, float]]) -> None:
    ratios = "; ".join(
        f"{other}: {ours[0] / rate:.2f} x tokens/s, {prefill / ours[1]:.2f} x prefill"
        for other, (rate, prefill) in theirs.items()
    )
    print(f"{name:8} {ours[0]:7.1f} tokens/s {ours[1]:7.1f} ms   {ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builder", required=True, help="the Python of the builder's environment")
    builder, params = parser.parse_args().builder, weights()
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
            pairs = [(timed(own), timed(other)) for _ in range(2)]  # in turns: the machine drifts
            best = [
                (max(r for r, _ in each), min(p for _, p in each))
                for each in zip(*pairs, strict=True)
            ]
            show(name, best[0], {"builder": best[1], "JAX float32": jitted})
            print(f"{'':8} {size(own):,} bytes, {size(own) / size(other):.3f} x the builder's")


if __name__ == "__main__":
    main()
