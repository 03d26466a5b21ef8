"""Decoders as people have them give the tokens of their own framework, in two runtimes."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import fnckpt
from fnckpt.decoders.adapters.table import ADAPTERS, adapts
from tests.decoders.families import VOCABULARY, Family
from tests.decoders.forms import FORMS, SAID, Equinox, LinenSpeaker, NnxSpeaker, of_equinox
from tests.decoders.test_export_decoder import BUFFER, GROWING, PARAMS, with_buffer, with_mask
from tests.decoders.test_families import as_decoder, tokens_of_jax, tokens_of_onnx_runtime

PyTree = object
NEW = 16
PROMPTS = [[3, 1, 4], [9, 2, 6], [5, 3, 5]]


@pytest.mark.parametrize("name", FORMS)
def test_greedy_tokens_are_those_of_the_framework(name: str, tmp_path: Path) -> None:
    family = FORMS[name]()
    found = as_decoder(family)
    wanted = (
        SAID[name](family, np.array(PROMPTS, np.int32), NEW)
        if name in SAID
        else tokens_of_jax(found, PROMPTS, NEW)
    )
    end = min(set(range(1, VOCABULARY)) - set(wanted.flat))
    result = fnckpt.export_decoder(
        family.params, family.apply, tmp_path / "d", cache=family.cache, verify=False,
        config={"context_length": 40, "pad_token_id": 0, "eos_token_id": end},
    )  # fmt: skip
    spoken = tokens_of_onnx_runtime(result.model.path, PROMPTS, NEW)
    np.testing.assert_array_equal(spoken, wanted)
    np.testing.assert_array_equal(fnckpt.generate(result, PROMPTS, NEW)[:, -NEW:], wanted)
    if "mask" not in found.between:
        return
    rows = [[3, 1, 4], [9], [7, 7]]
    spoken = tokens_of_onnx_runtime(result.model.path, rows, 4)
    np.testing.assert_array_equal(spoken, tokens_of_jax(found, rows, 4))


def test_a_module_alone_is_exported_with_its_own_weights(tmp_path: Path) -> None:
    family = of_equinox()
    assert isinstance(family.apply, Equinox)
    result = fnckpt.export_decoder(
        family.apply, tmp_path / "d", cache=family.cache, verify=False, config={"n_positions": 9}
    )
    names = {weight.name for weight in result.model.graph.weights()}
    assert {"words", "layers.0.q"} <= names
    with pytest.raises(TypeError, match="directory is missing; give the path of one"):
        fnckpt.export_decoder(family.apply, cache=family.cache)


def test_a_kind_has_one_adapter() -> None:
    assert len(ADAPTERS) > 5
    with pytest.raises(ValueError, match="a function is already adapted by _of_function"):
        adapts("a function")(lambda given: None)


class OfImages(nn.Module):
    @nn.compact
    def __call__(self, ids: jax.Array, images: jax.Array) -> jax.Array:
        return ids + images


def other_cache(params: PyTree, ids: jax.Array, mask: jax.Array) -> PyTree:
    return jnp.zeros((1, 3, 23)), {"memory": jnp.zeros(3)}


def of_positions(params: PyTree, ids: jax.Array, positions: jax.Array) -> PyTree:
    return other_cache(params, ids, positions)


def one_token(params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array, cache: PyTree):
    if ids.shape[1] > 1:
        raise ValueError("one token, please")
    assert isinstance(cache, tuple)
    return with_mask(params, ids, mask, cache)


REFUSED = {
    "a module of NNX without a cache": (
        NnxSpeaker(nnx.Rngs(0)), None, ValueError, r"NnxSpeaker has no variables nnx\.Cache; make",
    ),
    "a module of linen with another argument": (
        OfImages(), None, TypeError, "takes images; behind the ids it may take a mask, positions",
    ),
    "a text": ("speak", GROWING, TypeError, "a module or a pair of functions .*, got str"),
    "a prompt with another cache": (
        (other_cache, with_buffer), BUFFER, ValueError,
        "the function of the prompt gives a cache with memory, that of a step takes cache_index, ",
    ),
    "a prompt with other arguments": (
        (of_positions, with_buffer), BUFFER, TypeError,
        "the function of the prompt takes params, ids, positions; it must take params, ids, mask",
    ),
    "one token a call, and a cache that grows": (
        one_token, GROWING, ValueError,
        "takes one token a call, and its cache grows: .* one token, please; let it take several",
    ),
    "keys and values of other sizes": (
        with_mask, tuple(jax.ShapeDtypeStruct((1, 1, 5, 8), t) for t in (np.float32, np.float16)),
        ValueError, "comes back as|differ among the keys and values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_decoder_is_refused_by_name(case: str, tmp_path: Path) -> None:
    apply, cache, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", cache=cache)
    assert not list(tmp_path.iterdir())


def test_a_buffer_of_heads_first_is_known_by_the_axis_that_may_be_longer(tmp_path: Path) -> None:
    def apply(params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array, cache: PyTree):
        turned = jax.tree.map(lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x, cache)
        logits, after = with_buffer(params, ids, mask, turned)
        return logits, jax.tree.map(lambda x: x.swapaxes(1, 2) if x.ndim == 4 else x, after)

    past = jax.ShapeDtypeStruct((1, 1, 16, 8), np.float32)
    cache = {**BUFFER, "cached_key": past, "cached_value": past}
    result = fnckpt.export_decoder(PARAMS, apply, tmp_path / "d", cache=cache)
    assert result.model.inputs[2].shape[1] == 1


def test_a_linen_module_may_be_bound_or_given_by_its_apply() -> None:
    ids = jnp.zeros((1, 16), jnp.int32)
    variables = LinenSpeaker().init(jax.random.key(0), ids, deterministic=True)
    bound = LinenSpeaker().bind(variables)
    wanted = as_decoder(Family(variables, LinenSpeaker(), None))
    for found in (
        as_decoder(Family(None, bound, None)),
        as_decoder(Family(variables["params"], LinenSpeaker().apply, None)),
    ):
        assert found.cache == wanted.cache
        assert found.one_by_one
