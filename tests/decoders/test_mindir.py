"""A decoder as two MindIR files with fixed sizes, run in MindSpore: the prompt, and a step."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from tests.decoders.families import FAMILIES, GROUPS, HEADS, SIZE, VOCABULARY

PROMPT, ROOM, NEW = 4, 8, 4
PyTree = object


@pytest.mark.parametrize(
    ("name", "heads"), [("a plain function", GROUPS), ("NNX with ALiBi", HEADS)]
)
def test_a_prompt_and_steps_in_mindspore_give_the_tokens_of_jax(
    name: str, heads: int, tmp_path: Path
) -> None:
    family = FAMILIES[name]()
    axis = 1 if name == "a plain function" else 2
    shape = (1, 0, heads, SIZE) if axis == 1 else (1, heads, 0, SIZE)

    def parts(result: PyTree) -> tuple[jax.Array, PyTree]:
        found = list(result.values()) if isinstance(result, dict) else result
        assert isinstance(found, list | tuple)
        return found[0], found[1]

    def prompt(params: PyTree, ids: jax.Array, mask: jax.Array):
        """The cache gets zeros in front, which the mask hides."""
        empty = jax.tree.map(lambda _: jnp.zeros(shape), family.cache)
        logits, cache = parts(family.apply(params, ids, mask, empty))
        room = [(ROOM - PROMPT, 0) if i == axis else (0, 0) for i in range(4)]
        return logits[:, -1], jax.tree.map(lambda x: jnp.pad(x, room), cache)

    def step(params: PyTree, ids: jax.Array, mask: jax.Array, cache: PyTree):
        """The oldest place goes, so that the cache keeps its length."""
        logits, after = parts(family.apply(params, ids, mask, cache))
        return logits[:, -1], jax.tree.map(
            lambda x: jax.lax.slice_in_dim(x, 1, ROOM + 1, axis=axis), after
        )

    ids = np.random.default_rng(0).integers(1, VOCABULARY, (1, PROMPT)).astype(np.int32)
    mask = np.ones((1, PROMPT), np.int32)
    logits, cache = jax.jit(prompt)(family.params, ids, mask)
    first = fnckpt.export(
        family.params, prompt, (ids, mask), "MINDIR", file_name=tmp_path / "prompt"
    )
    found = fnckpt.run(first, [ids, mask])
    np.testing.assert_allclose(found[0], logits, rtol=1e-3, atol=1e-4)

    token = np.argmax(found[0], -1).astype(np.int32)[:, None]
    seen = np.zeros((1, ROOM + 1), np.int32)
    seen[:, ROOM - PROMPT :] = 1
    second = fnckpt.export(
        family.params, step, (token, seen, cache), "MINDIR", file_name=tmp_path / "step"
    )
    for _ in range(NEW):
        logits, cache = jax.jit(step)(family.params, token, seen, cache)
        found = fnckpt.run(second, [token, seen, *found[1:]])
        np.testing.assert_allclose(found[0], logits, rtol=1e-3, atol=1e-4)
        token = np.argmax(found[0], -1).astype(np.int32)[:, None]
        assert token == np.argmax(logits, -1)
        seen = np.concatenate([seen[:, 1:], np.ones((1, 1), np.int32)], 1)
