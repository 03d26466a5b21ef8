"""Greedy tokens of exported decoders are those of jitted JAX, in two runtimes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import fnckpt
from fnckpt.decoders.adapters.forms import adapted
from fnckpt.decoders.adapters.table import Given
from fnckpt.decoders.call import Decoder, decoder
from tests.decoders.families import FAMILIES, LAYERS, LONGEST, VOCABULARY, Family

NEW, PROMPTS = 64, 10
LEFT_ALONE = ("NNX with ALiBi",)
RNG = np.random.default_rng(0)
PROMPT_IDS = [RNG.integers(1, VOCABULARY, RNG.integers(3, 9)).tolist() for _ in range(PROMPTS)]

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about Flax


def as_decoder(family: Family) -> Decoder:
    found = adapted(Given(family.params, family.apply, family.cache))
    return decoder(found.params, found.apply_fn, found.cache, found.prefill)


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of one length, 0 in front of the shorter ones."""
    longest = max(map(len, rows))
    return np.array([[0] * (longest - len(row)) + list(row) for row in rows], np.int64)


def tokens_of_jax(found: Decoder, prompts: Sequence[Sequence[int]], new: int = NEW) -> np.ndarray:
    """Each token from all before it, computed anew: one program of one length."""
    ids, mask = padded(prompts), padded([[1] * len(row) for row in prompts])
    room = ((0, 0), (new, 0))
    ids, mask = np.pad(ids, room), np.pad(mask, room)

    @jax.jit
    def step(params: object, ids: jax.Array, mask: jax.Array) -> jax.Array:
        logits, _ = found(params, ids, mask, None, found.cache.empty(len(prompts)))
        return logits[:, -1].argmax(-1)

    for _ in range(new):
        token = np.asarray(step(found.params, jnp.asarray(ids), jnp.asarray(mask)))
        ids = np.concatenate([ids[:, 1:], token[:, None]], 1)
        mask = np.concatenate([mask[:, 1:], np.ones_like(token[:, None])], 1)
    return ids[:, -new:]


def tokens_of_onnx_runtime(
    file: Path, prompts: Sequence[Sequence[int]], new: int = NEW
) -> np.ndarray:
    """With the cache of the file, shorter prompts padded at the left."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = {value.name: value for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    ids, mask = padded(prompts), padded([[1] * len(row) for row in prompts])
    cache = {
        name: np.zeros((len(prompts), value.shape[1], 0, value.shape[3]), np.float32)
        for name, value in inputs.items()
        if name.startswith("past")
    }
    found: list[np.ndarray] = []
    for _ in range(new):
        places = np.maximum(np.cumsum(mask, 1) - 1, 0)[:, -ids.shape[1] :]
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": places} | cache
        results = session.run(None, {name: given[name] for name in inputs})
        outputs = dict(zip(names, results, strict=True))
        ids = np.asarray(outputs.pop("logits"))[:, -1].argmax(-1)[:, None].astype(np.int64)
        found.append(ids)
        mask = np.concatenate([mask, np.ones_like(ids)], 1)
        cache = {n.replace("present", "past_key_values"): np.asarray(x) for n, x in outputs.items()}
    return np.concatenate(found, 1)


def batches(size: int) -> Iterator[list[int]]:
    """The numbers of the prompts, so many at a time."""
    return (list(range(i, min(i + size, PROMPTS))) for i in range(0, PROMPTS, size))


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_are_those_of_jax(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]()
    wanted = tokens_of_jax(as_decoder(family), PROMPT_IDS)
    assert len(np.unique(wanted)) > 5
    end = min(set(range(1, VOCABULARY)) - set(wanted.flat))  # GenAI goes on to the last
    result = fnckpt.export_decoder(
        family.params, family.apply, tmp_path / "model", cache=family.cache,
        config={"context_length": LONGEST, "pad_token_id": 0, "eos_token_id": end},
    )  # fmt: skip
    fused = Counter(node.op for node in result.model.graph.cnodes())["CachedAttention"]
    assert fused == (0 if name in LEFT_ALONE else LAYERS)
    for size in (1, 4):
        for rows in batches(size):
            prompts = [PROMPT_IDS[i] for i in rows]
            found = tokens_of_onnx_runtime(result.model.path, prompts)
            np.testing.assert_array_equal(found, wanted[rows])
            if family.by_place and size > 1:  # GenAI pads behind the prompt
                continue
            written = fnckpt.generate(result, prompts, NEW)[:, -NEW:]
            np.testing.assert_array_equal(written, wanted[rows])
    if family.by_place:
        prompts = [row[:3] for row in PROMPT_IDS[:4]]
        written = fnckpt.generate(result, prompts, NEW // 2)[:, 3:]
        wanted = tokens_of_jax(as_decoder(family), prompts)[:, : NEW // 2]
        np.testing.assert_array_equal(written[:, : wanted.shape[1]], wanted)
