"""What a decoder is: a pure function of ids, mask or positions, and a cache, that gives logits."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.decoders.cache import (
    BUFFER_AXES,
    STACKED,
    Cache,
    CacheError,
    Layer,
    Structure,
    is_index,
    names_of,
    understood,
)
from fnckpt.exporting.tracing import is_array

PyTree = object
Struct = jax.ShapeDtypeStruct
Apply = Callable[..., PyTree]
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
      one_by_one: whether it takes one token a call, as Flax's attention with ``decode=True``.
      prefill: the function of a whole prompt, where that is another; it takes an empty cache.
    """

    params: PyTree
    apply_fn: Apply
    between: tuple[str, ...]
    cache: Cache
    vocabulary: int
    one_by_one: bool = False
    prefill: Apply | None = None

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
        old, new = past[0][0].shape[2], ids.shape[1]

        def go_on() -> tuple[jax.Array, list[Layer]]:
            logits, after = self.goes_on(params, ids, given, self.cache.tree(past, new))
            return logits, self.cache.arrays(after)

        def begin() -> tuple[jax.Array, list[Layer]]:
            """``past`` is empty when this runs, but the shapes of both branches are one."""
            seen = given if mask is None else given | {"mask": mask[:, old:]}
            empty = self.cache.tree(self.cache.empty(ids.shape[0]), new)
            logits, after = self.begins(params, ids, seen, empty)
            first = [(k[:, :, :new], v[:, :, :new]) for k, v in self.cache.arrays(after)]
            return logits, jax.tree.map(lambda a, b: jnp.concatenate([a, b], 2), list(past), first)

        if self.prefill is None:
            return go_on()
        if isinstance(old, int):
            return go_on() if old else begin()
        return jax.lax.cond(jnp.asarray(old) == 0, begin, go_on)

    def goes_on(
        self,
        params: PyTree,
        ids: jax.Array,
        given: Mapping[str, jax.Array | None],
        cache: PyTree,
    ) -> tuple[jax.Array, PyTree]:
        """Logits and cache of the user's function, which takes a cache of its own form.

        ``given`` has the mask and the positions.
        """

        def apply(ids: jax.Array, given: Mapping[str, PyTree], cache: PyTree):
            between = (given[name] for name in self.between)
            return parted(self.apply_fn(params, ids, *between, cache))

        if not self.one_by_one:
            return apply(ids, given, cache)

        def step(cache: PyTree, token: tuple[jax.Array, jax.Array]) -> tuple[PyTree, jax.Array]:
            each, place = (x[:, None] for x in token)
            logits, after = apply(each, {**given, "positions": place}, cache)
            return after, logits.reshape(logits.shape[0], logits.shape[-1])

        positions = given["positions"]
        tokens = (ids.T, (ids if positions is None else positions).T)
        if ids.shape[1] == 1:
            after, logits = step(cache, (tokens[0][0], tokens[1][0]))
            return logits[:, None], after
        after, logits = jax.lax.scan(step, cache, tokens)
        return logits.swapaxes(0, 1), after

    def begins(
        self,
        params: PyTree,
        ids: jax.Array,
        given: Mapping[str, jax.Array | None],
        cache: PyTree,
    ) -> tuple[jax.Array, PyTree]:
        """Of a whole prompt and an empty cache."""
        if self.prefill is None:
            return self.goes_on(params, ids, given, cache)
        between = (given[name] for name in self.between)
        return parted(self.prefill(params, ids, *between, cache))


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


def decoder(
    params: PyTree, apply_fn: Apply, cache: PyTree, prefill: Apply | None = None
) -> Decoder:
    """The decoder ``apply_fn``, whose cache is like ``cache``.

    Args:
      params: the weights.
      apply_fn: the function.
      cache: arrays or shapes of one that holds some tokens, or none.
      prefill: another function for the prompt, with the same arguments but perhaps the cache.

    Raises:
      TypeError: a function of other arguments or with another result.
      ValueError: a cache that changes otherwise than by growing.
    """
    between = between_of(apply_fn)
    leaves = list(map(_shape_of, jax.tree.leaves(cache)))
    if all(map(is_index, leaves)):
        raise CacheError(f"cache has no arrays: {', '.join(names_of(cache)) or 'it is empty'}")
    trial = _Trial(params, apply_fn, between, jax.tree.structure(cache))
    after, vocabulary, new, problems = _outcome(trial, leaves)
    found = understood(cache, leaves, after, new, _buffer_axis(trial, leaves, new))
    if new == 1 and not found.indices:
        raise CacheError(
            f"apply_fn takes one token a call, and its cache grows: {problems[0]}; let it take "
            "several tokens, or give it a buffer of one length with an index beside it"
        )
    first = None if prefill is None else _prefill(prefill, between, params, found)
    return Decoder(params, apply_fn, between, found, vocabulary, new == 1, first)


def _shape_of(leaf: jax.Array | np.ndarray | Struct | int) -> Struct:
    """Of an array, a shape or a number."""
    return Struct(np.shape(leaf), np.result_type(leaf) if isinstance(leaf, int) else leaf.dtype)


def arrays_in(params: PyTree) -> tuple[list[PyTree], Callable[[Sequence[PyTree]], PyTree]]:
    """The arrays of a pytree, and what makes the pytree of others; numbers are settings."""
    leaves, structure = jax.tree.flatten(params)

    def whole(arrays: Sequence[PyTree]) -> PyTree:
        rest = iter(arrays)
        return structure.unflatten([next(rest) if is_array(x) else x for x in leaves])

    return [leaf for leaf in leaves if is_array(leaf)], whole


def _names(apply_fn: Apply) -> list[str]:
    """Of the arguments that must be given by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(apply_fn).parameters.values()
    return [p.name for p in found if p.kind in kinds and p.default is inspect.Parameter.empty]


def kinds_of(names: Sequence[str]) -> tuple[str, ...]:
    """``"mask"`` or ``"positions"`` for each argument between ids and cache."""
    return tuple("positions" if "pos" in name.lower() else "mask" for name in names)


def between_of(apply_fn: Apply) -> tuple[str, ...]:
    """What a function takes between ids and cache.

    Raises:
      TypeError: a function of other arguments.
    """
    names = _names(apply_fn)
    if not 3 <= len(names) <= 5:
        raise TypeError(f"apply_fn takes {', '.join(names) or 'nothing'}; it must be {ORDER}")
    between = kinds_of(names[2:-1])
    if len(set(between)) < len(between):
        raise TypeError(
            f"apply_fn takes {' and '.join(names[2:-1])}, of which one must be called positions "
            f"and the other mask; it must be {ORDER}"
        )
    return between


def _prefill(prefill: Apply, between: tuple[str, ...], params: PyTree, cache: Cache) -> Apply:
    """A function of the prompt that takes a cache.

    Raises:
      TypeError: it takes other arguments than the function of a step.
      CacheError: it gives another cache.
    """
    names = _names(prefill)
    alone = len(names) == len(between) + 2
    rest = names[2:] if alone else names[2:-1]
    if len(names) - len(between) not in (2, 3) or kinds_of(rest) != between:
        wanted = ", ".join(("params", "ids", *between))
        raise TypeError(
            f"the function of the prompt takes {', '.join(names) or 'nothing'}; it must take "
            f"{wanted}, as that of a step, and then the cache or nothing"
        )

    def apply(params: PyTree, ids: jax.Array, *given: PyTree) -> PyTree:
        return prefill(params, ids, *(given[:-1] if alone else given))

    arrays, whole = arrays_in(params)
    integers = Struct((1, NEW), np.dtype(np.int32))

    def tried(arrays: Sequence[PyTree], ids: jax.Array) -> PyTree:
        empty = cache.tree(cache.empty(1), NEW)
        return parted(apply(whole(arrays), ids, *(ids for _ in between), empty))[1]

    after = jax.eval_shape(tried, arrays, integers)
    if jax.tree.structure(after) != cache.structure:
        raise CacheError(
            f"the function of the prompt gives a cache with {', '.join(names_of(after))}, that of "
            f"a step takes {', '.join(names_of(cache.structure.unflatten(cache.leaves)))}"
        )
    return apply


@dataclass(frozen=True)
class _Trial:
    """What a function makes of a cache and some tokens, as shapes."""

    params: PyTree
    apply_fn: Apply
    between: Sequence[str]
    structure: Structure

    def __call__(self, leaves: Sequence[Struct], total: int, new: int) -> PyTree:
        """The result with a cache of ``leaves``, whose mask has ``total`` places."""
        arrays, whole = arrays_in(self.params)
        batch = _layer_of(_first(leaves))[0]
        shapes = {"mask": (batch, total), "positions": (batch, new)}
        rest = [Struct(shapes[name], np.dtype(np.int32)) for name in self.between]
        ids = Struct((batch, new), np.dtype(np.int32))

        def apply(given: Sequence[PyTree], *inputs: PyTree) -> PyTree:
            return self.apply_fn(whole(given), *inputs)

        return jax.eval_shape(apply, arrays, ids, *rest, self.structure.unflatten(leaves))


def _first(leaves: Sequence[Struct]) -> Struct:
    return next(leaf for leaf in leaves if not is_index(leaf))


def _layer_of(array: Struct) -> tuple[int, ...]:
    """The shape of a layer in an array that may have all layers."""
    return array.shape[len(array.shape) == STACKED :]


def _outcome(trial: _Trial, leaves: Sequence[Struct]) -> tuple[PyTree, int, int, list[str]]:
    """The cache after some tokens, the last size of the logits, how many tokens, what failed.

    How long the past is, which a mask must know, is one of the sizes of the cache.
    """
    array, problems = _first(leaves), list[str]()
    buffer = any(map(is_index, leaves))
    lengths = _layer_of(array)[1:3] if buffer else _layer_of(array)[1:]
    for new in (NEW, 1):
        for length in dict.fromkeys(lengths):
            try:
                result = trial(leaves, length if buffer else length + new, new)
            except (TypeError, ValueError) as error:
                problems.append(f"with a past of {length} tokens: {str(error).splitlines()[0]}")
                continue
            logits, after = parted(result)
            grown = jax.tree.leaves(after)
            same = len(grown) == len(leaves)
            if buffer or not same or _past(array, grown[leaves.index(array)]) in (None, length):
                return after, logits.shape[-1], new, problems
    raise CacheError(
        f"apply_fn does not take the cache with {NEW} new tokens:\n  "
        + "\n  ".join(problems[: len(problems) // 2])
    )


def _past(old: Struct, now: Struct) -> int | None:
    """How long the past is in an array that has grown."""
    pairs = zip(old.shape, now.shape, strict=False)
    return next((a for a, b in pairs if a != b), None)


def _buffer_axis(trial: _Trial, leaves: Sequence[Struct], new: int) -> int:
    """The axis of a buffer's length in a layer's array: the one that may have another size."""
    if not any(map(is_index, leaves)):
        return BUFFER_AXES[0]
    shape = _layer_of(_first(leaves))
    found = [axis for axis in BUFFER_AXES if len(shape) > axis and _takes(trial, leaves, axis, new)]
    return next((axis for axis in found if shape[axis] > 1), BUFFER_AXES[0])


def _takes(trial: _Trial, leaves: Sequence[Struct], axis: int, new: int) -> bool:
    """Whether a function keeps buffers that are shorter, or longer, along an axis."""
    length = _layer_of(_first(leaves))[axis]
    other = length - 1 if length > new else length + 1
    changed = list(leaves)
    for i, leaf in enumerate(leaves):
        if not is_index(leaf):
            sizes = list(leaf.shape)
            sizes[axis + (len(sizes) == STACKED)] = other
            changed[i] = Struct(tuple(sizes), leaf.dtype)
    try:
        after = parted(trial(changed, other, new))[1]
    except (TypeError, ValueError):
        return False
    return [leaf.shape for leaf in jax.tree.leaves(after)] == [leaf.shape for leaf in changed]
