"""Encoder-decoders with a cross cache, and pooled embeddings."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import fnckpt
from tests.decoders.families import LAYERS, VOCABULARY, WIDTH, rms, weights
from tests.decoders.forms import attended, block_weights, keys

Params = dict[str, list[dict[str, jax.Array]]]
Pairs = list[dict[str, jax.Array]]
INT64 = np.dtype(np.int64)
IDS = np.array([[5, 9, 2, 7, 1], [3, 3, 8, 0, 0]])
MASK = (IDS > 0).astype(np.int64)
NEW = 24
WORDS = weights(VOCABULARY, WIDTH, seed=0) * 8
PARAMS: Params = {
    name: [block_weights(first + 5 * i) for i in range(LAYERS)]
    for name, first in (("encoder", 0), ("decoder", 50), ("cross", 90))
}


def encode(params: Params, ids: jax.Array, mask: jax.Array) -> tuple[jax.Array, Pairs]:
    """The last states, and what the decoder asks of them: keys and values of each layer."""
    x, seen = WORDS[ids], mask[:, None, None] > 0
    for layer in params["encoder"]:
        x = attended(layer, x, seen, *keys(layer, x))
    return x, [
        dict(zip(("key", "value"), keys(layer, x), strict=True)) for layer in params["cross"]
    ]


def decode(
    params: Params,
    input_ids: jax.Array,
    encoder_attention_mask: jax.Array,
    past_key_values: list[dict[str, dict[str, jax.Array]]],
) -> dict[str, object]:
    """The cross cache goes in only; the decoder's own comes back longer."""
    x, after = WORDS[input_ids], []
    layers = zip(params["decoder"], params["cross"], past_key_values, strict=True)
    for own, cross, past in layers:
        old, of = past["decoder"], past["encoder"]
        new_k, new_v = keys(own, x)
        k, v = jnp.concatenate([old["key"], new_k], 2), jnp.concatenate([old["value"], new_v], 2)
        rows = jnp.arange(x.shape[1])[:, None] + k.shape[2] - x.shape[1]
        x = attended(own, x, jnp.arange(k.shape[2]) <= rows, k, v)
        x = attended(cross, x, encoder_attention_mask[:, None, None] > 0, of["key"], of["value"])
        after.append({"decoder": {"key": k, "value": v}})
    return {"logits": rms(x, jnp.ones(WIDTH)) @ WORDS.T, "present": after}


def said_by_jax() -> np.ndarray:
    _, cross = jax.jit(encode)(PARAMS, IDS, MASK)
    empty = jnp.zeros((2, *cross[0]["key"].shape[1:2], 0, cross[0]["key"].shape[3]))
    past = [{"decoder": {"key": empty, "value": empty}, "encoder": each} for each in cross]
    ids, found = jnp.zeros((2, 1), jnp.int32), []
    for _ in range(NEW):
        result = decode(PARAMS, ids, jnp.asarray(MASK), past)
        logits, present = result["logits"], result["present"]
        assert isinstance(logits, jax.Array)
        assert isinstance(present, list)
        past = [{**old, **new} for old, new in zip(past, present, strict=True)]
        ids = logits[:, -1].argmax(-1)[:, None].astype(jnp.int32)
        found.append(ids)
    return np.concatenate(found, 1)


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_an_encoder_and_a_decoder_with_a_cross_cache_speak_as_jax(
    quantize: str | None, tmp_path: Path
) -> None:
    batch, seen, new, past = jax.export.symbolic_shape("batch, seen, sequence, past")
    row = jax.ShapeDtypeStruct((batch, seen), INT64)

    def encoder(params: Params, input_ids: jax.Array, attention_mask: jax.Array):
        states, cross = encode(params, input_ids, attention_mask)
        present = [{"encoder": each} for each in cross]
        return {"last_hidden_state": states, "present": present}

    first = fnckpt.export(
        PARAMS, encoder, row, row, "ONNX", file_name=tmp_path / "encoder_model",
        runtime="onnxruntime",
    )  # fmt: skip
    states = first.outputs[-1].shape
    pair = {
        "decoder": dict.fromkeys(("key", "value"), jax.ShapeDtypeStruct(
            (batch, int(states[1]), past, int(states[3])), np.float32)),
        "encoder": dict.fromkeys(("key", "value"), jax.ShapeDtypeStruct(
            (batch, int(states[1]), seen, int(states[3])), np.float32)),
    }  # fmt: skip
    second = fnckpt.export(
        PARAMS, decode, jax.ShapeDtypeStruct((batch, new), INT64), row, [pair] * LAYERS, "ONNX",
        file_name=tmp_path / "decoder_with_past_model", runtime="onnxruntime", quantize=quantize,
    )  # fmt: skip
    names = [value.name for value in second.inputs]
    assert names[:3] == ["input_ids", "encoder_attention_mask", "past_key_values.0.decoder.key"]
    sessions = [onnxruntime.InferenceSession(each.path) for each in (first, second)]
    made = sessions[0].run(None, {"input_ids": IDS, "attention_mask": MASK})
    cross = [n.replace("present", "past_key_values") for n in [v.name for v in first.outputs][1:]]
    given = dict(zip(cross, map(np.asarray, made[1:]), strict=True))
    empty = np.zeros((2, int(states[1]), 0, int(states[3])), np.float32)
    given |= {name: empty for name in names if ".decoder." in name}
    given |= {"input_ids": np.zeros((2, 1), np.int64), "encoder_attention_mask": MASK}
    found = []
    for _ in range(NEW):
        logits, *present = map(np.asarray, sessions[1].run(None, given))
        given["input_ids"] = logits[:, -1].argmax(-1)[:, None].astype(np.int64)
        found.append(given["input_ids"])
        own = (v.name.replace("present", "past_key_values") for v in second.outputs[1:])
        given |= dict(zip(own, present, strict=True))
    if quantize is None:
        np.testing.assert_array_equal(np.concatenate(found, 1), said_by_jax())
    else:
        assert second.quantized is not None
        assert 0 < second.quantized.error < 0.1


def test_an_embedding_is_the_mean_of_what_the_mask_shows(tmp_path: Path) -> None:
    def pooled(params: Params, input_ids: jax.Array, attention_mask: jax.Array):
        states, _ = encode(params, input_ids, attention_mask)
        shown = attention_mask[..., None].astype(jnp.float32)
        mean = (states * shown).sum(1) / jnp.maximum(shown.sum(1), 1e-9)
        return {"sentence_embedding": mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)}

    batch, length = jax.export.symbolic_shape("batch, sequence")
    row = jax.ShapeDtypeStruct((batch, length), INT64)
    for runtime in (None, "onnxruntime"):
        result = fnckpt.export(
            PARAMS, pooled, row, row, "ONNX", file_name=tmp_path / "model", runtime=runtime
        )
        assert [str(v) for v in result.outputs] == ["sentence_embedding: float32[batch,32]"]
        (found,) = fnckpt.run(result, [IDS, MASK])
        wanted = pooled(PARAMS, jnp.asarray(IDS), jnp.asarray(MASK))["sentence_embedding"]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
