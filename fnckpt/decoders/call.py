"""What a decoder is: a pure function of ids, mask or positions, and a cache, that gives logits."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.decoders.cache import Cache, CacheError, Layer, is_index, names_of, understood
from fnckpt.exporting.tracing import is_array

PyTree = object
Struct = jax.ShapeDtypeStruct
ORDER = "apply_fn(params, ids, mask or positions, cache) -> (logits, cache)"
NEW = 3  # tokens in the trial that shows how the cache grows


@dataclass(frozen=True, eq=False)
class Decoder:
    """A function in one form, whatever its own.

    Attributes:
      params: the weights.
      apply_fn: the user's function.
      between: what it takes between ids and cache, in order: ``"mask"``, ``"positions"``.
      cache: of the function.
      vocabulary: the last size of the logits.
    """

    params: PyTree
    apply_fn: Callable[..., PyTree]
    between: tuple[str, ...]
    cache: Cache
    vocabulary: int

    def __call__(
        self,
        params: PyTree,
        ids: jax.Array,
        mask: jax.Array | None,
        positions: jax.Array | None,
        past: Sequence[Layer],
    ) -> tuple[jax.Array, list[Layer]]:
        """Logits ``[batch, sequence, vocabulary]`` and the layers with the new tokens.

        Args:
          params: the weights.
          ids: ``int32[batch, sequence]``.
          mask: ``int32[batch, past + sequence]``, 0 where a token is padding.
          positions: ``int32[batch, sequence]``; made of the mask where that is all there is.
          past: ``[batch, heads, past, size]`` of keys and values.
        """
        if positions is None and "positions" in self.between:
            assert mask is not None
            positions = positions_of(mask, ids.shape[1])
        given = {"mask": mask, "positions": positions}
        cache = self.cache.tree(past, ids.shape[1])
        result = self.apply_fn(params, ids, *(given[name] for name in self.between), cache)
        logits, after = parted(result)
        return logits, self.cache.arrays(after)


def positions_of(mask: jax.Array, sequence: int) -> jax.Array:
    """The position of each new token among those that are not padding."""
    count = jnp.cumsum(mask, 1, dtype=jnp.int32) - 1
    return jnp.maximum(count, 0)[:, mask.shape[1] - sequence :]


def parted(result: PyTree) -> tuple[jax.Array, PyTree]:
    """Logits and cache of what a function returned.

    Raises:
      TypeError: it is no pair and no dict with ``logits``.
    """
    if isinstance(result, Mapping) and "logits" in result and len(result) == 2:
        (other,) = (key for key in result if key != "logits")
        return result["logits"], result[other]
    if isinstance(result, tuple | list) and len(result) == 2:
        return result[0], result[1]
    raise TypeError(
        f"apply_fn must return (logits, cache) or {{'logits': ..., 'cache': ...}}, got "
        f"{type(result).__name__}"
    )


def decoder(params: PyTree, apply_fn: Callable[..., PyTree], cache: PyTree) -> Decoder:
    """The decoder ``apply_fn``, whose cache is like ``cache``.

    Args:
      params: the weights.
      apply_fn: the function.
      cache: arrays or shapes of one that holds some tokens, or none.

    Raises:
      TypeError: a function of other arguments or with another result.
      ValueError: a cache that changes otherwise than by growing.
    """
    between = _between(apply_fn)
    leaves = [Struct(np.shape(x), np.result_type(x)) for x in jax.tree.leaves(cache)]
    after, vocabulary = _trial(params, apply_fn, between, cache, leaves)
    found = understood(cache, leaves, after, NEW)
    return Decoder(params, apply_fn, between, found, vocabulary)


def arrays_in(params: PyTree) -> tuple[list[PyTree], Callable[[Sequence[PyTree]], PyTree]]:
    """The arrays of a pytree, and what makes the pytree of others; numbers are settings."""
    leaves, structure = jax.tree.flatten(params)

    def whole(arrays: Sequence[PyTree]) -> PyTree:
        rest = iter(arrays)
        return structure.unflatten([next(rest) if is_array(x) else x for x in leaves])

    return [leaf for leaf in leaves if is_array(leaf)], whole


def _between(apply_fn: Callable[..., PyTree]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(apply_fn).parameters.values()
    names = [p.name for p in found if p.kind in kinds and p.default is inspect.Parameter.empty]
    if not 3 <= len(names) <= 5:
        raise TypeError(f"apply_fn takes {', '.join(names) or 'nothing'}; it must be {ORDER}")
    between = tuple("positions" if "pos" in name.lower() else "mask" for name in names[2:-1])
    if len(set(between)) < len(between):
        raise TypeError(
            f"apply_fn takes {' and '.join(names[2:-1])}, of which one must be called positions "
            f"and the other mask; it must be {ORDER}"
        )
    return between


def _trial(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    between: Sequence[str],
    cache: PyTree,
    leaves: Sequence[Struct],
) -> tuple[PyTree, int]:
    """The cache after some tokens, as shapes, and the last size of the logits.

    How long the past is, which a mask must know, is one of the sizes of the cache.
    """
    arrays = [leaf for leaf in leaves if not is_index(leaf)]
    if not arrays:
        raise CacheError(f"cache has no arrays: {', '.join(names_of(cache)) or 'it is empty'}")
    shapes = jax.tree.unflatten(jax.tree.structure(cache), leaves)
    arrays_of_params, whole = arrays_in(params)

    def apply(given: Sequence[PyTree], *inputs: PyTree) -> PyTree:
        return apply_fn(whole(given), *inputs)

    buffer = len(arrays) < len(leaves)
    lengths = [arrays[0].shape[1]] if buffer else arrays[0].shape[1:]
    batch, problems = arrays[0].shape[0], list[str]()
    for length in dict.fromkeys(lengths):
        total = length if buffer else length + NEW
        given = {"mask": (batch, total), "positions": (batch, NEW)}
        rest = [Struct(given[name], np.dtype(np.int32)) for name in between]
        ids = Struct((batch, NEW), np.dtype(np.int32))
        try:
            result = jax.eval_shape(apply, arrays_of_params, ids, *rest, shapes)
        except (TypeError, ValueError) as error:
            problems.append(f"with a past of {length} tokens: {str(error).splitlines()[0]}")
            continue
        logits, after = parted(result)
        grown = jax.tree.leaves(after)[leaves.index(arrays[0])]
        if buffer or _past(arrays[0], grown) in (None, length):
            return after, logits.shape[-1]
    raise CacheError(
        f"apply_fn does not take the cache with {NEW} new tokens:\n  " + "\n  ".join(problems)
    )


def _past(old: Struct, now: Struct) -> int | None:
    """How long the past is in an array that has grown."""
    pairs = zip(old.shape, now.shape, strict=False)
    return next((a for a, b in pairs if a != b), None)
