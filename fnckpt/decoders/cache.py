"""The cache of a decoder: which of its arrays are keys and values, and along which axis they grow.

In a file each is ``[batch, heads, past, size]``, as ONNX Runtime GenAI has them. A function may
have its axes in another order, and a buffer of one length with an index instead of a growing array,
as Flax has it: then the buffer is made as long as the past and the new tokens together.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

PyTree = object
Layer = tuple[jax.Array, jax.Array]

KINDS = {"key": re.compile(r"key|^k$|_k$|^k_"), "value": re.compile(r"value|^v$|_v$|^v_")}
# From the axis of the past in a function's array to [batch, heads, past, size], by rank.
ORDERS = {(4, 2): (0, 1, 2, 3), (4, 1): (0, 2, 1, 3), (4, 3): (0, 1, 3, 2), (3, 1): (0, 1, 2)}
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
      axis: of the past in the function's array.
      order: the axes of the function's array as batch, heads, past and size.
    """

    leaf: int
    name: str
    axis: int
    order: tuple[int, ...]


@dataclass(frozen=True)
class Cache:
    """How arrays of a file stand for the cache of a function, and back.

    Attributes:
      structure: of the pytree.
      layers: the slots of the key and of the value, a pair a layer, in order.
      indices: the numbers of the leaves that say how long the past is.
      heads, size: of the first layer's keys.
      dtype: of the keys and values.
      count: how many leaves there are.
    """

    structure: Structure
    layers: tuple[tuple[Slot, Slot], ...]
    indices: tuple[int, ...]
    heads: int
    size: int
    dtype: np.dtype
    count: int

    def tree(self, layers: Sequence[Layer], new: int) -> PyTree:
        """The function's cache of ``layers``, with room for ``new`` tokens in a buffer."""
        leaves: list[PyTree] = [None] * self.count
        for slots, arrays in zip(self.layers, layers, strict=True):
            for slot, array in zip(slots, arrays, strict=True):
                leaves[slot.leaf] = self._own(slot, array, new)
        past = layers[0][0].shape[2]
        for index in self.indices:
            leaves[index] = jnp.asarray(past, jnp.int32)
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
        array = leaves[slot.leaf].transpose(slot.order)
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
    """Whether a leaf says how long the past is."""
    return leaf.shape == () and np.issubdtype(leaf.dtype, np.integer)


def understood(
    tree: PyTree, before: Sequence[jax.ShapeDtypeStruct], after: PyTree, new: int
) -> Cache:
    """The cache of a function that made ``after`` of ``before`` with ``new`` tokens.

    Args:
      tree: the cache, whose leaves are ``before``.
      before: shapes and dtypes.
      after: what came back.
      new: how many tokens there were.

    Raises:
      CacheError: naming every leaf that does not fit.
    """
    names, structure = names_of(tree), jax.tree.structure(tree)
    if jax.tree.structure(after) != structure:
        raise CacheError(f"the cache comes back with another structure: {_lost(names, after)}")
    indices = tuple(i for i, leaf in enumerate(before) if is_index(leaf))
    leaves = jax.tree.leaves(after)
    problems, slots = list[str](), dict[str, Slot]()
    for i, (name, old, now) in enumerate(zip(names, before, leaves, strict=True)):
        if i in indices:
            continue
        axis = _buffer_axis(old, now) if indices else _growing_axis(old, now, new)
        order = ORDERS.get((len(old.shape), axis)) if axis is not None else None
        if axis is None or order is None or old.dtype != now.dtype:
            shape = f"{old.dtype}[{','.join(map(str, old.shape))}]"
            found = f"{now.dtype}[{','.join(map(str, now.shape))}]"
            problems.append(f"{name} is {shape} and comes back as {found} after {new} new tokens")
        else:
            slots[name] = Slot(i, name, axis, order)
    if problems:
        raise CacheError("; ".join(problems) + f"; {GROWS}")
    layers = _pairs(slots)
    key = layers[0][0]
    shape = [before[key.leaf].shape[i] for i in key.order]
    heads = shape[1] if len(shape) == 4 else 1
    return Cache(
        structure, layers, indices, heads, shape[-1], np.dtype(before[key.leaf].dtype), len(before)
    )


def _growing_axis(old: jax.ShapeDtypeStruct, now: jax.ShapeDtypeStruct, new: int) -> int | None:
    if len(old.shape) != len(now.shape):
        return None
    pairs = enumerate(zip(old.shape, now.shape, strict=True))
    changed = [(i, b - a) for i, (a, b) in pairs if a != b]
    return changed[0][0] if [n for _, n in changed] == [new] and changed[0][0] > 0 else None


def _buffer_axis(old: jax.ShapeDtypeStruct, now: jax.ShapeDtypeStruct) -> int | None:
    """Flax has ``[batch, length, heads, size]``."""
    return 1 if old.shape == now.shape and len(old.shape) == 4 else None


def _lost(names: Sequence[str], after: PyTree) -> str:
    found = names_of(after)
    missing = [name for name in names if name not in found]
    more = [name for name in found if name not in names]
    parts = [f"without {', '.join(missing)}"] if missing else []
    return " and ".join([*parts, *([f"with {', '.join(more)}"] if more else [])]) or "other nodes"


def _pairs(slots: dict[str, Slot]) -> tuple[tuple[Slot, Slot], ...]:
    """Keys and values, layer by layer."""
    found: dict[tuple[object, ...], dict[str, Slot]] = {}
    for name, slot in slots.items():
        kind, rest = _kind(name)
        found.setdefault(rest, {})[kind] = slot
    lone = [slot.name for pair in found.values() if len(pair) != 2 for slot in pair.values()]
    if lone or not found:
        raise CacheError(
            f"the cache has no pairs of a key and a value: {', '.join(lone) or 'it is empty'}; "
            "call them key and value, k and v, or give pairs (key, value), one for each layer"
        )
    return tuple((pair["key"], pair["value"]) for _, pair in sorted(found.items()))


def _kind(name: str) -> tuple[str, tuple[object, ...]]:
    """Whether a path is a key's or a value's, and what is the same in both."""
    parts = name.split(".")
    for i, part in enumerate(parts):
        for kind, pattern in KINDS.items():
            if pattern.search(part.lower()):
                return kind, tuple(map(_sortable, [*parts[:i], *parts[i + 1 :]]))
    last = {"0": "key", "1": "value"}.get(parts[-1])
    return last or "key", tuple(map(_sortable, parts[:-1] if last else parts))


def _sortable(part: str) -> tuple[tuple[str, int], ...]:
    """``layer_10`` behind ``layer_9``."""
    return tuple((text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", part))
