"""``fnckpt.export_decoder``: the directory, forms of functions and caches, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from tests.decoders.families import VOCABULARY, plain

PyTree = object
Pair = tuple[jax.Array, jax.Array]
PARAMS = {"words": np.random.default_rng(0).normal(size=(23, 8)).astype(np.float32)}
GROWING = (jax.ShapeDtypeStruct((1, 1, 5, 8), np.float32),) * 2
LAST = {"eos_token_id": 22}


def attend(words: jax.Array, x: jax.Array, seen: jax.Array, key: jax.Array, value: jax.Array):
    scores = jnp.where(seen, x @ key.swapaxes(2, 3), -1e9)
    return (jax.nn.softmax(scores) @ value)[:, 0] @ words.T


def seen_by_rows(new: int, total: int) -> jax.Array:
    return jnp.arange(total) <= jnp.arange(new)[:, None] + total - new


def with_mask(params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array, cache: Pair):
    x = params["words"][ids][:, None]
    key, value = (jnp.concatenate([old, x], 2) for old in cache)
    seen = seen_by_rows(ids.shape[1], key.shape[2]) & (mask[:, None, None] > 0)
    return attend(params["words"], x, seen, key, value), (key, value)


def with_positions(params: dict[str, jax.Array], ids: jax.Array, positions: jax.Array, cache: Pair):
    x = params["words"][ids][:, None]
    key, value = (jnp.concatenate([old, x], 2) for old in cache)
    seen = jnp.arange(key.shape[2]) <= positions[:, None, :, None]
    return attend(params["words"], x, seen, key, value), (key, value)


def with_ids(params: dict[str, jax.Array], ids: jax.Array, cache: Pair):
    x = params["words"][ids][:, None]
    key, value = (jnp.concatenate([old, x], 2) for old in cache)
    seen = seen_by_rows(ids.shape[1], key.shape[2])
    return {"logits": attend(params["words"], x, seen, key, value), "cache": (key, value)}


def with_buffer(
    params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array, cache: dict[str, jax.Array]
):
    """Flax's way: a buffer ``[batch, length, heads, size]`` and an index."""
    x, at = params["words"][ids][:, :, None], cache["cache_index"]
    after = {
        n: jax.lax.dynamic_update_slice(cache[n], x, (0, at, 0, 0))
        for n in ("cached_key", "cached_value")
    }
    key, value = (after[n].swapaxes(1, 2) for n in after)
    rows = jnp.arange(ids.shape[1])[:, None] + at
    seen = (jnp.arange(key.shape[2]) <= rows) & (mask[:, None, None] > 0)
    found = attend(params["words"], x.swapaxes(1, 2), seen, key, value)
    return found, {**after, "cache_index": at + ids.shape[1]}


BUFFER = {
    "cached_key": jax.ShapeDtypeStruct((1, 16, 1, 8), np.float32),
    "cached_value": jax.ShapeDtypeStruct((1, 16, 1, 8), np.float32),
    "cache_index": jax.ShapeDtypeStruct((), np.int32),
}

FORMS: dict[str, tuple[Callable[..., PyTree], PyTree, list[str]]] = {
    "a mask": (with_mask, GROWING, ["attention_mask"]),
    "positions": (with_positions, GROWING, ["position_ids"]),
    "ids alone": (with_ids, GROWING, []),
    "a buffer with an index": (with_buffer, BUFFER, ["attention_mask"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_function_and_cache_is_generated_with(form: str, tmp_path: Path) -> None:
    apply, cache, inputs = FORMS[form]
    result = fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", cache=cache, config=LAST)
    names = [value.name for value in result.model.inputs]
    past = ["past_key_values.0.key", "past_key_values.0.value"]
    assert names == ["input_ids", *inputs, *past]
    assert [str(v) for v in result.model.outputs][1:] == [
        f"present.0.{kind}: float32[batch,1,sequence + past,8]" for kind in ("key", "value")
    ]
    assert result.generated is not None
    assert len(result.generated) > 4
    assert "ScatterND" not in {n.op for n in result.model.graph.cnodes()}


def test_a_directory_has_the_model_its_configuration_and_the_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tok").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "README.md"):
        (tmp_path / "tok" / name).write_text("{}")
    family = plain()
    result = fnckpt.export_decoder(
        family.params, family.apply, tmp_path / "d", cache=family.cache,
        config={"max_position_embeddings": 77, "num_attention_heads": 4, "eos_token_id": [3, 5]},
        tokenizer=tmp_path / "tok", external_data=True,
    )  # fmt: skip
    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert names - {
        "model.onnx",
        "genai_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } == {name for name in names if name.endswith(".data")}
    assert {path.name for path in tmp_path.iterdir()} == {"d", "tok"}
    config = json.loads((tmp_path / "d" / "genai_config.json").read_text())["model"]
    assert (config["context_length"], config["vocab_size"]) == (77, VOCABULARY)
    assert (config["eos_token_id"], config["pad_token_id"]) == ([3, 5], 3)
    decoder = config["decoder"]
    assert decoder["num_hidden_layers"], decoder["num_attention_heads"] == (2, 4)
    assert (decoder["num_key_value_heads"], decoder["head_size"]) == (2, 8)
    assert result.tokenizer == ("tokenizer.json", "tokenizer_config.json")
    assert "tokenizer.json" in repr(result)


def test_a_second_export_takes_the_place_of_the_first(tmp_path: Path) -> None:
    for seed in (0, 1):
        words = np.random.default_rng(seed).normal(size=(64, 8)).astype(np.float32)
        fnckpt.export_decoder(
            {"words": words}, with_mask, tmp_path / "d", cache=GROWING, external_data=True
        )
    assert len(list((tmp_path / "d").glob("*.data"))) == 1


@pytest.mark.parametrize("quantize", ["int4", "int8"])
def test_integers_generate_and_tell_their_error(quantize: str, tmp_path: Path) -> None:
    family = plain()
    result = fnckpt.export_decoder(
        family.params, family.apply, tmp_path / "d", cache=family.cache, quantize=quantize
    )
    facts = result.model.quantized
    assert facts is not None
    assert len(facts.weights) >= 4
    assert 0 < facts.error < {"int4": 0.5, "int8": 0.05}[quantize]


def test_more_than_nine_layers_stay_in_order(tmp_path: Path) -> None:
    def apply(params: dict[str, jax.Array], ids: jax.Array, cache: dict[str, Pair]):
        results = [with_ids(params, ids, cache[f"h{i}"]) for i in range(11)]
        scaled = [jnp.asarray(i * r["logits"]) for i, r in enumerate(results)]
        return sum(scaled), {f"h{i}": r["cache"] for i, r in enumerate(results)}

    cache = {f"h{i}": GROWING for i in range(11)}
    result = fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", cache=cache)
    kept = [v.name for v in result.model.outputs if v.name.endswith("key")]
    assert kept == [f"present.{i}.key" for i in range(11)]


def shrinking(params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array, cache: Pair):
    logits, after = with_mask(params, ids, mask, cache)
    return logits, tuple(each[:, :, -4:] for each in after)


def fixed(params: dict[str, jax.Array], ids: jax.Array, cache: Pair):
    found = with_ids(params, ids, cache)
    return found["logits"], cache


REFUSED: dict[str, tuple[Callable[..., PyTree], PyTree, type[Exception], str]] = {
    "a cache that shrinks": (
        shrinking, GROWING, ValueError,
        r"0 is float32\[1,1,5,8\] and comes back as float32\[1,1,4,8\] after 3 new tokens; 1 is "
        r".*a cache grows by the number of new tokens along one axis",
    ),
    "a cache that stays": (
        fixed, GROWING, ValueError, r"comes back as float32\[1,1,5,8\] after 3 new tokens",
    ),
    "another structure": (
        lambda p, ids, cache: (with_ids(p, ids, (cache["k"], cache["v"]))["logits"], {"k": 1}),
        {"k": GROWING[0], "v": GROWING[1]}, ValueError, "another structure: without v",
    ),
    "a lone array": (
        lambda p, ids, cache: (p["words"][ids], jnp.pad(cache, ((0, 0), (0, 0), (0, 3), (0, 0)))),
        GROWING[0], ValueError, "no pairs of a key and a value: cache; call them key and value",
    ),
    "an empty cache": (with_ids, (), ValueError, "cache has no arrays"),
    "two arguments": (lambda p, ids: ids, GROWING, TypeError, r"takes p, ids; it must be apply_fn"),
    "two masks": (
        lambda p, ids, a, b, cache: ids, GROWING, TypeError, "a and b, of which one must be called",
    ),
    "one result": (
        lambda p, ids, cache: p["words"][ids], GROWING, TypeError, r"must return \(logits, cache\)",
    ),
    "no cache": (with_mask, None, TypeError, "cache is missing"),
    "a function that does not take it": (
        with_mask, tuple(jax.ShapeDtypeStruct((1, 1, 5, 7), np.float32) for _ in "kv"), ValueError,
        "does not take the cache with 3 new tokens:\n  with a past of 1 tokens: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_decoder_is_refused_and_nothing_is_written(case: str, tmp_path: Path) -> None:
    apply, cache, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", cache=cache)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"tokenizer": "nowhere"}, FileNotFoundError, "nowhere has none of tokenizer.json"),
        ({"tokenizer": 3}, TypeError, "a directory or a tokenizer of transformers, got int"),
        ({"config": 3}, TypeError, "a dict, a config of transformers or the path of a config.json"),
    ],
)
def test_a_tokenizer_or_configuration_that_is_none_is_named(
    given: dict[str, str], kind: type[Exception], text: str, tmp_path: Path
) -> None:
    tokenizer, config = given.get("tokenizer"), given.get("config")
    with pytest.raises(kind, match=text):
        fnckpt.export_decoder(
            PARAMS, with_ids, tmp_path / "d", cache=GROWING, tokenizer=tokenizer, config=config
        )
    assert not list(tmp_path.iterdir())


def test_tokens_that_jax_would_not_choose_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fnckpt.decoders import generating

    monkeypatch.setattr(
        generating, "generate", lambda place, prompt, new: np.concatenate([prompt, prompt], 1)
    )
    text = "onnxruntime-genai continues .* with .*, JAX with .*; nothing was written"
    with pytest.raises(fnckpt.VerificationError, match=text):
        fnckpt.export_decoder(PARAMS, with_ids, tmp_path / "d", cache=GROWING)
    assert not list(tmp_path.iterdir())
