"""The cache of a decoder: which of its arrays are keys and values, and along which axis they grow.

In a file each is ``[batch, heads, past, size]``, as ONNX Runtime GenAI has them. A function may
have its axes in another order, all layers in one array, and a buffer of one length with an index
instead of a growing array, as Flax has it: then the buffer is made as long as the past and the new
tokens together.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

PyTree = object
Layer = tuple[jax.Array, jax.Array]

KINDS = {"key": re.compile(r"key|^k$|_k$|^k_"), "value": re.compile(r"value|^v$|_v$|^v_")}
# From the axis of the past in a layer's array to [batch, heads, past, size], by rank.
ORDERS = {(4, 2): (0, 1, 2, 3), (4, 1): (0, 2, 1, 3), (4, 3): (0, 1, 3, 2), (3, 1): (0, 1, 2)}
STACKED = 5  # the rank of an array with all layers, [layers, batch, ...]
BUFFER_AXES = (1, 2)  # of the length of a buffer, Flax's first
GROWS = (
    "a cache grows by the number of new tokens along one axis that is not the batch's, or is a "
    "buffer with an index beside it, as Flax's cached_key and cache_index"
)


class Structure(Protocol):
    """JAX's ``PyTreeDef``, whose own name is no type."""

    def unflatten(self, leaves: Iterable[PyTree]) -> PyTree: ...


class CacheError(ValueError):
    """A cache is not one that a decoder can be exported with."""


@dataclass(frozen=True)
class Slot:
    """A key or a value of a layer.

    Attributes:
      leaf: its number among the leaves of the cache.
      name: its path.
      axis: of the past in the layer's array.
      order: the axes of the layer's array as batch, heads, past and size.
      row: of the layer in an array that has all layers.
    """

    leaf: int
    name: str
    axis: int
    order: tuple[int, ...]
    row: int | None = None


@dataclass(frozen=True)
class Cache:
    """How arrays of a file stand for the cache of a function, and back.

    Attributes:
      structure: of the pytree.
      leaves: shapes and dtypes of the function's own.
      layers: the slots of the key and of the value, a pair a layer, in order.
      indices: the numbers of the leaves that say how long the past is.
      heads, size: of each layer's keys and values.
      dtype: of the keys and values.
    """

    structure: Structure
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    layers: tuple[tuple[Slot, Slot], ...]
    indices: tuple[int, ...]
    heads: int
    size: int
    dtype: np.dtype

    @property
    def axes(self) -> dict[int, int]:
        """The axis of the past of each leaf with keys or values, the layers' axis counted."""
        slots = (slot for pair in self.layers for slot in pair)
        return {slot.leaf: slot.axis + (slot.row is not None) for slot in slots}

    def tree(self, layers: Sequence[Layer], new: int) -> PyTree:
        """The function's cache of ``layers``, with room for ``new`` tokens in a buffer."""
        rows: dict[int, dict[int | None, jax.Array]] = {}
        for slots, arrays in zip(self.layers, layers, strict=True):
            for slot, array in zip(slots, arrays, strict=True):
                rows.setdefault(slot.leaf, {})[slot.row] = self._own(slot, array, new)
        past, batch = layers[0][0].shape[2], layers[0][0].shape[0]
        own = {
            leaf: given[None] if None in given else jnp.stack([given[i] for i in range(len(given))])
            for leaf, given in rows.items()
        }
        return self.with_index(own, past, batch)

    def with_index(
        self, arrays: Mapping[int, jax.Array], past: int | jax.Array, batch: int
    ) -> PyTree:
        """The function's cache of its own arrays, by the numbers of leaves."""
        leaves: list[PyTree] = [arrays.get(i) for i in range(len(self.leaves))]
        for index in self.indices:
            own = self.leaves[index]
            leaves[index] = jnp.broadcast_to(
                jnp.asarray(past, own.dtype), (batch,) if own.shape else ()
            )
        return self.structure.unflatten(leaves)

    def _own(self, slot: Slot, array: jax.Array, new: int) -> jax.Array:
        if len(slot.order) == 3:
            array = array[:, 0]
        own = array.transpose(np.argsort(slot.order))
        if not self.indices:
            return own
        shape = (*own.shape[: slot.axis], new, *own.shape[slot.axis + 1 :])
        return jnp.concatenate([own, jnp.zeros(shape, own.dtype)], slot.axis)

    def arrays(self, tree: PyTree) -> list[Layer]:
        """The arrays of a file, of a cache that the function gave."""
        leaves = jax.tree.leaves(tree)
        return [
            (self._given(leaves, key), self._given(leaves, value)) for key, value in self.layers
        ]

    @staticmethod
    def _given(leaves: Sequence[jax.Array], slot: Slot) -> jax.Array:
        whole = leaves[slot.leaf]
        array = (whole if slot.row is None else whole[slot.row]).transpose(slot.order)
        return array[:, None] if len(slot.order) == 3 else array

    def empty(self, batch: int, past: int = 0) -> list[Layer]:
        """Arrays of zeros, as a file takes them."""
        each = jnp.zeros((batch, self.heads, past, self.size), self.dtype)
        return [(each, each) for _ in self.layers]


def names_of(tree: PyTree) -> list[str]:
    """The path of each leaf."""
    return [
        keystr(path, simple=True, separator=".") or "cache"
        for path, _ in tree_flatten_with_path(tree)[0]
    ]


def is_index(leaf: jax.ShapeDtypeStruct) -> bool:
    """Whether a leaf says how long the past is, once or for each row of the batch."""
    return len(leaf.shape) < 2 and np.issubdtype(leaf.dtype, np.integer)


def understood(
    tree: PyTree,
    before: Sequence[jax.ShapeDtypeStruct],
    after: PyTree,
    new: int,
    buffer_axis: int = BUFFER_AXES[0],
) -> Cache:
    """The cache of a function that made ``after`` of ``before`` with ``new`` tokens.

    Args:
      tree: the cache, whose leaves are ``before``.
      before: shapes and dtypes.
      after: what came back.
      new: how many tokens there were.
      buffer_axis: of the length, in a layer's array that is a buffer.

    Raises:
      CacheError: naming every leaf that does not fit.
    """
    names, structure = names_of(tree), jax.tree.structure(tree)
    if jax.tree.structure(after) != structure:
        raise CacheError(f"the cache comes back with another structure: {_lost(names, after)}")
    indices = tuple(i for i, leaf in enumerate(before) if is_index(leaf))
    leaves = jax.tree.leaves(after)
    problems, slots = list[str](), dict[str, tuple[Slot, ...]]()
    for i, (name, old, now) in enumerate(zip(names, before, leaves, strict=True)):
        if i in indices:
            continue
        axis = (_kept(old, now) and buffer_axis) if indices else _growing_axis(old, now, new)
        found = _slots(i, name, old, axis) if axis and old.dtype == now.dtype else ()
        if not found:
            shape = f"{old.dtype}[{','.join(map(str, old.shape))}]"
            came = f"{now.dtype}[{','.join(map(str, now.shape))}]"
            problems.append(f"{name} is {shape} and comes back as {came} after {new} new tokens")
        else:
            slots[name] = found
    if problems:
        raise CacheError("; ".join(problems) + f"; {GROWS}")
    layers = _pairs(slots)
    heads, size, dtype = _alike(layers, before)
    return Cache(structure, tuple(before), layers, indices, heads, size, dtype)


def _slots(leaf: int, name: str, array: jax.ShapeDtypeStruct, axis: int) -> tuple[Slot, ...]:
    """One, or one for each layer of an array that has them all."""
    stacked = len(array.shape) == STACKED
    order = ORDERS.get((len(array.shape) - stacked, axis))
    if order is None:
        return ()
    rows = range(array.shape[0]) if stacked else (None,)
    return tuple(Slot(leaf, name, axis, order, row) for row in rows)


def _alike(
    layers: Sequence[tuple[Slot, Slot]], before: Sequence[jax.ShapeDtypeStruct]
) -> tuple[int, int, np.dtype]:
    """Heads, size and dtype, which are the same in each layer's keys and values."""
    found = dict[tuple[int, int, np.dtype], str]()
    for slot in (slot for pair in layers for slot in pair):
        own = before[slot.leaf]
        shape = [own.shape[i + (slot.row is not None)] for i in slot.order]
        heads = shape[1] if len(shape) == 4 else 1
        found.setdefault((heads, shape[-1], np.dtype(own.dtype)), slot.name)
    if len(found) > 1:
        each = ", ".join(f"{name} has {h} x {s} {d}" for (h, s, d), name in found.items())
        raise CacheError(
            f"heads, size and dtype differ among the keys and values: {each}; ONNX Runtime GenAI "
            "takes a cache where they are the same in all layers"
        )
    return next(iter(found))


def _growing_axis(old: jax.ShapeDtypeStruct, now: jax.ShapeDtypeStruct, new: int) -> int | None:
    """Of a layer's array, without the axis of the layers; never 0, which is the batch's."""
    if len(old.shape) != len(now.shape):
        return None
    pairs = enumerate(zip(old.shape, now.shape, strict=True))
    changed = [(i, b - a) for i, (a, b) in pairs if a != b]
    return changed[0][0] - (len(old.shape) == STACKED) if [n for _, n in changed] == [new] else None


def _kept(old: jax.ShapeDtypeStruct, now: jax.ShapeDtypeStruct) -> bool:
    return old.shape == now.shape and len(old.shape) in (4, STACKED)


def _lost(names: Sequence[str], after: PyTree) -> str:
    found = names_of(after)
    missing = [name for name in names if name not in found]
    more = [name for name in found if name not in names]
    parts = [f"without {', '.join(missing)}"] if missing else []
    return " and ".join([*parts, *([f"with {', '.join(more)}"] if more else [])]) or "other nodes"


def _pairs(slots: Mapping[str, Sequence[Slot]]) -> tuple[tuple[Slot, Slot], ...]:
    """Keys and values, layer by layer."""
    found: dict[tuple[object, ...], dict[str, Sequence[Slot]]] = {}
    for name, each in slots.items():
        kind, rest = _kind(name)
        found.setdefault(rest, {})[kind] = each
    lone = [
        each[0].name
        for pair in found.values()
        if len(set(map(len, pair.values()))) != 1 or len(pair) != 2
        for each in pair.values()
    ]
    if lone or not found:
        raise CacheError(
            f"the cache has no pairs of a key and a value: {', '.join(lone) or 'it is empty'}; "
            "call them key and value, k and v, or give pairs (key, value), one for each layer"
        )
    ordered = [pair for _, pair in sorted(found.items())]
    return tuple(
        layer for pair in ordered for layer in zip(pair["key"], pair["value"], strict=True)
    )


def _kind(name: str) -> tuple[str, tuple[object, ...]]:
    """Whether a path is a key's or a value's, and what is the same in both.

    The last part that says it counts: ``key_value_attention.cached_value`` is a value.
    """
    parts = name.split(".")
    for i in reversed(range(len(parts))):
        for kind, pattern in KINDS.items():
            if pattern.search(parts[i].lower()):
                return kind, tuple(map(_sortable, [*parts[:i], *parts[i + 1 :]]))
    last = {"0": "key", "1": "value"}.get(parts[-1])
    return last or "key", tuple(map(_sortable, parts[:-1] if last else parts))


def _sortable(part: str) -> tuple[tuple[str, int], ...]:
    """``layer_10`` behind ``layer_9``."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", part))
