"""A decoder as two MindIR files of fixed sizes: the prompt's, and a step's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.decoders.call import decoder
from fnckpt.decoders.fixed import Fixed, Part, Sizes
from fnckpt.decoders.in_mindspore import continued
from tests.decoders.families import plain
from tests.decoders.test_export_decoder import (
    BUFFER,
    GROWING,
    PARAMS,
    Pair,
    with_buffer,
    with_mask,
)
from tests.decoders.test_families import as_decoder, tokens_of_jax

PyTree = object
NEW = 64
PROMPTS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7, 9], [3]]


def with_index(params: dict[str, jax.Array], ids: jax.Array, cache: dict[str, jax.Array]):
    """A buffer without a mask."""
    ones = jnp.ones((ids.shape[0], cache["cached_key"].shape[1]), jnp.int32)
    return with_buffer(params, ids, ones, cache)


FORMS: dict[str, tuple[Callable[..., PyTree], PyTree]] = {
    "a growing cache": (with_mask, GROWING),
    "a buffer": (with_buffer, BUFFER),
    "a buffer without a mask": (with_index, BUFFER),
}


def test_prompts_of_several_lengths_get_the_tokens_of_jax_in_mindspore(tmp_path: Path) -> None:
    family = plain()
    result = fnckpt.export_decoder(
        family.params, family.apply, tmp_path / "d", cache=family.cache, file_format="MINDIR",
        batch=2, prompt=6, config={"context_length": 80}, verify=False,
    )  # fmt: skip
    names = {path.name for path in (tmp_path / "d").iterdir()}
    assert names == {"prefill.mindir", "step.mindir", "decoder.json"}
    assert result.prefill is not None
    assert [str(value) for value in result.model.inputs][:2] == [
        "input_ids: int32[2,1]", "attention_mask: int32[2,80]"
    ]  # fmt: skip
    found = fnckpt.generate(result, PROMPTS, NEW)
    wanted = tokens_of_jax(as_decoder(family), PROMPTS)
    np.testing.assert_array_equal(found[:, -NEW:], wanted[:, :NEW])


def test_a_buffer_is_checked_in_mindspore_before_it_is_written(tmp_path: Path) -> None:
    result = fnckpt.export_decoder(
        PARAMS, with_index, tmp_path / "d", cache=BUFFER, file_format="mindir",
        prompt=3, config={"context_length": 9},
    )  # fmt: skip
    assert result.generated is not None
    assert len(result.generated) == 9
    assert "9 tokens by mindspore" in repr(result)


@pytest.mark.parametrize("prompt", [2, 5])
@pytest.mark.parametrize("form", FORMS)
def test_prompts_shorter_and_longer_than_the_file_takes_go_on_as_in_jax(
    form: str, prompt: int
) -> None:
    apply, cache = FORMS[form]
    found = decoder(PARAMS, apply, cache)
    fixed = Fixed(found, Sizes(2, prompt, 16))

    def run(part: Part) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
        compiled = jax.jit(part.apply)

        def compute(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
            count = sum(isinstance(each, jax.ShapeDtypeStruct) for each in part.sample)
            given = [*inputs[:count], *([list(inputs[count:])] if part is step else [])]
            return [np.asarray(x) for x in jax.tree.leaves(compiled(PARAMS, *given))]

        return compute

    first, step = fixed.prompt(), fixed.step()
    facts = fixed.facts("", "", [], 0)
    rows = [[3, 1, 4], [9, 2, 6]] if form.endswith("mask") else [[3, 1, 4], [9, 2]]
    length = max(prompt, 3) if fixed.masked else 3
    ids = np.array([[0] * (length - len(row)) + row for row in rows], np.int32)
    tokens = continued(run(first), run(step), facts, ids, (ids > 0).astype(np.int32), 4)
    np.testing.assert_array_equal(tokens, tokens_of_jax(found, rows, 4))


def test_behind_an_end_comes_padding() -> None:
    fixed = Fixed(decoder(PARAMS, with_mask, GROWING), Sizes(2, 2, 9))
    facts = fixed.facts("", "", [7], 5)
    assert json.loads(json.dumps(asdict(facts)))["cache"] == [[2, 1, 8, 8]] * 2
    scores = iter([[7, 1], [3, 7], [2, 2]])

    def compute(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.eye(23, dtype=np.float32)[next(scores)], *inputs[2:]]

    ids = np.ones((2, 2), np.int32)
    np.testing.assert_array_equal(
        continued(compute, compute, facts, ids, ids, 5), [[7, 5, 5, 5, 5], [1, 7, 5, 5, 5]]
    )


def no_mask(params: dict[str, jax.Array], ids: jax.Array, cache: Pair):
    return with_mask(params, ids, jnp.ones((1, 5 + ids.shape[1]), jnp.int32), cache)


REFUSED = {
    "AIR": ({"file_format": "AIR"}, with_mask, "file_format is 'AIR'; give one of ONNX, MINDIR"),
    "sizes of ONNX": (
        {"batch": 2, "prompt": 3, "file_format": "ONNX"}, with_mask,
        "batch=2, prompt=3 with ONNX, whose files take any batch and prompt",
    ),
    "a prompt as long as the context": (
        {"prompt": 9, "config": {"context_length": 9}}, with_mask,
        "batch 1, prompt 9, context 9; .* the context is longer than the prompt",
    ),
    "no mask": ({}, no_mask, "takes no mask, and its cache grows: in a file of fixed sizes"),
    "integers": (
        {"quantize": "int4"}, with_mask, "step cannot be exported to MINDIR with quantize='int4'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_fixed_sizes_cannot_have_is_refused_and_nothing_is_written(
    case: str, tmp_path: Path
) -> None:
    options, apply, text = REFUSED[case]
    given = {"file_format": "MINDIR", "cache": GROWING, **options}
    with pytest.raises((ValueError, fnckpt.UnsupportedError), match=text):
        fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", **given)
    assert not list(tmp_path.iterdir())


def test_prompts_that_the_files_cannot_take_are_refused(tmp_path: Path) -> None:
    for apply, cache in ((with_mask, GROWING), (with_index, BUFFER)):
        fnckpt.export_decoder(
            PARAMS, apply, tmp_path / apply.__name__, cache=cache, file_format="MINDIR",
            prompt=3, config={"context_length": 9}, verify=False,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"4 tokens and 6 new ones are more than the context of 9"):
        fnckpt.generate(tmp_path / "with_mask", [[1, 2, 3, 4]], 6)
    with pytest.raises(ValueError, match=r"have \[1, 2\] tokens, but the function takes no mask"):
        fnckpt.generate(tmp_path / "with_index", [[1, 2], [3]], 1)
