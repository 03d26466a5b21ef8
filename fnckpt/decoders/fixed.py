"""A decoder as two functions of fixed sizes: one of a prompt, and one of the step behind it.

MindSpore compiles a file for the sizes it has. So the cache has one length, and what is not yet
filled is hidden. A buffer with an index is filled from the front, as the function does by itself. A
cache that grows is filled from the back: each step drops the oldest place, and the mask hides
the places that no token has taken yet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.decoders.cache import STACKED, CacheError, names_of
from fnckpt.decoders.call import Decoder, positions_of
from fnckpt.decoders.in_mindspore import Facts

PyTree = object
Struct = jax.ShapeDtypeStruct
INT32 = np.dtype(np.int32)
MASKS, PLACES, INDEX = "attention_mask", "position_ids", "cache_index"


@dataclass(frozen=True)
class Sizes:
    """What is fixed in the files.

    Attributes:
      batch: how many prompts at once.
      prompt: how many tokens of a prompt the first file takes.
      context: how many tokens a step sees, the new one among them.
    """

    batch: int
    prompt: int
    context: int

    def __post_init__(self) -> None:
        if self.batch < 1 or not 0 < self.prompt < self.context:
            found = ", ".join(f"{name} {n}" for name, n in asdict(self).items())
            raise ValueError(
                f"export_decoder: {found}; a batch has at least 1 prompt, a prompt at least 1 "
                "token, and the context is longer than the prompt"
            )


@dataclass(frozen=True)
class Part:
    """One of the two functions, ``apply(params, *inputs)``, and the names in its file."""

    apply: Callable[..., PyTree]
    sample: tuple[PyTree, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Fixed:
    """A decoder whose sizes are fixed."""

    decoder: Decoder
    sizes: Sizes

    def __post_init__(self) -> None:
        if not self.buffers and not self.masked:
            raise CacheError(
                "apply_fn takes no mask, and its cache grows: in a file of fixed sizes a mask "
                "hides the places of the cache that are not filled; let it take a mask, or give "
                "it a buffer of one length with an index beside it"
            )

    @property
    def buffers(self) -> bool:
        """Whether the function has buffers with an index."""
        return bool(self.decoder.cache.indices)

    @property
    def masked(self) -> bool:
        """Whether the function takes a mask."""
        return "mask" in self.decoder.between

    @property
    def names(self) -> list[str]:
        """Of the arrays of the cache, in the order of the function's own."""
        cache = self.decoder.cache
        every = names_of(cache.structure.unflatten(cache.leaves))
        return [every[i] for i in sorted(cache.axes)]

    def prompt(self) -> Part:
        """Ids and a mask to the last logits ``[batch, vocabulary]`` and a filled cache."""
        sizes = self.sizes
        ids = Struct((sizes.batch, sizes.prompt), INT32)
        outputs = ("logits", *(f"present.{name}" for name in self.names))

        def prefill(params: PyTree, ids: jax.Array, mask: jax.Array | None = None) -> PyTree:
            return self._of_prompt(params, ids, jnp.ones_like(ids) if mask is None else mask)

        given = ("input_ids", MASKS) if self.masked else ("input_ids",)
        return Part(prefill, (ids,) * len(given), given, outputs)

    def step(self) -> Part:
        """A token, a mask or place, and a cache to logits ``[batch, vocabulary]`` and the cache."""
        batch = self.sizes.batch
        token, row = Struct((batch, 1), INT32), Struct((batch, self.sizes.context), INT32)
        given: dict[str, Struct] = {"input_ids": token}
        if self.masked:
            given[MASKS] = row
        elif "positions" in self.decoder.between:
            given[PLACES] = token
        if self.buffers:
            given[INDEX] = Struct((), INT32)
        names = tuple(given)

        def step(params: PyTree, *inputs: PyTree) -> PyTree:
            given, past = jax.tree.leaves(inputs[:-1]), jax.tree.leaves(inputs[-1])
            return self._of_step(params, dict(zip(names, given, strict=True)), past)

        return Part(
            step,
            (*given.values(), self._room()),
            (*names, *(f"past.{name}" for name in self.names)),
            ("logits", *(f"present.{name}" for name in self.names)),
        )

    def facts(self, prefill: str, step: str, ends: Sequence[int], pad: int) -> Facts:
        """What is needed to run the files."""
        prompt, one, count = self.prompt(), self.step(), len(self.names)
        return Facts(
            prefill,
            step,
            **asdict(self.sizes),
            vocab_size=self.decoder.vocabulary,
            eos_token_id=list(ends),
            pad_token_id=pad,
            prefill_inputs=list(prompt.inputs),
            step_inputs=list(one.inputs[:-count]),
            buffers=self.buffers,
            cache=[list(each.shape) for each in self._room()],
            dtype=self.decoder.cache.dtype.name,
        )

    def _room(self) -> list[Struct]:
        """The arrays of the cache of a step."""
        cache, length = self.decoder.cache, self.sizes.context - (not self.buffers)
        return [self._sized(cache.leaves[i], axis, length) for i, axis in self._axes()]

    def _axes(self) -> list[tuple[int, int]]:
        return sorted(self.decoder.cache.axes.items())

    def _sized(self, leaf: Struct, axis: int, length: int) -> Struct:
        shape = list(leaf.shape)
        shape[len(shape) == STACKED] = self.sizes.batch
        shape[axis] = length
        return Struct(tuple(shape), leaf.dtype)

    def _of_prompt(self, params: PyTree, ids: jax.Array, mask: jax.Array) -> PyTree:
        cache, sizes = self.decoder.cache, self.sizes
        length = sizes.context if self.buffers else 0
        empty = {
            i: jnp.zeros(self._sized(cache.leaves[i], axis, length).shape, cache.leaves[i].dtype)
            for i, axis in self._axes()
        }
        room = sizes.context - sizes.prompt if self.buffers else 0
        given = {
            "mask": jnp.pad(mask, ((0, 0), (0, room))),
            "positions": positions_of(mask, sizes.prompt),
        }
        tree = cache.with_index(empty, 0, sizes.batch)
        logits, after = self.decoder.begins(params, ids, given, tree)
        return logits[:, -1], [self._kept(x, axis) for x, axis in self._arrays(after)]

    def _of_step(
        self, params: PyTree, given: Mapping[str, jax.Array], past: Sequence[jax.Array]
    ) -> PyTree:
        cache = self.decoder.cache
        mask, index = given.get(MASKS), given.get(INDEX, jnp.zeros((), INT32))
        places = given.get(PLACES)
        if mask is not None:
            places = jnp.sum(mask, 1, keepdims=True, dtype=INT32) - 1
        arrays = dict(zip((i for i, _ in self._axes()), past, strict=True))
        tree = cache.with_index(arrays, index, self.sizes.batch)
        between = {"mask": mask, "positions": places}
        logits, after = self.decoder.goes_on(params, given["input_ids"], between, tree)
        return logits[:, -1], [self._kept(x, axis) for x, axis in self._arrays(after)]

    def _arrays(self, tree: PyTree) -> list[tuple[jax.Array, int]]:
        leaves: Sequence[jax.Array] = jax.tree.leaves(tree)
        return [(leaves[i], axis) for i, axis in self._axes()]

    def _kept(self, array: jax.Array, axis: int) -> jax.Array:
        """An array as long as the cache of a step: a buffer as it is, else the newest places."""
        length = self.sizes.context - (not self.buffers)
        found = array.shape[axis]
        if found > length:
            return jax.lax.slice_in_dim(array, found - length, found, axis=axis)
        room = (0, length - found) if self.buffers else (length - found, 0)
        return jnp.pad(array, [room if i == axis else (0, 0) for i in range(array.ndim)])
