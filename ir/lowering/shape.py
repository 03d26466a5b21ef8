"""Primitives that move elements."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Site, lowers
from fnckpt.ir.operators import constant
from fnckpt.ir.sizes import is_known

Ints = tuple[int, ...]


@lowers("reshape")
def lower_reshape(site: Site, x: Node, *, new_sizes: Ints, dimensions: Ints | None) -> Node:
    moved = x if dimensions is None else site.transpose(x, dimensions)
    return site.reshape(moved, site.aval.shape)


@lowers("squeeze")
def lower_squeeze(site: Site, x: Node, *, dimensions: Ints) -> Node:
    return site.reshape(x, site.aval.shape)


@lowers("expand_dims")
def lower_expand_dims(site: Site, x: Node, *, dimensions: Ints) -> Node:
    return site.reshape(x, site.aval.shape)


@lowers("transpose")
def lower_transpose(site: Site, x: Node, *, permutation: Ints) -> Node:
    return site.transpose(x, permutation)


@lowers("broadcast_in_dim")
def lower_broadcast_in_dim(site: Site, x: Node, *, shape: Ints, broadcast_dimensions: Ints) -> Node:
    return broadcast_in_dim(site, x, site.aval.shape, broadcast_dimensions)


def broadcast_in_dim(site: Site, x: Node, shape: Ints, axes: Ints) -> Node:
    """``x`` repeated to ``shape``, its axis ``i`` at ``axes[i]``."""
    sizes = dict(zip(axes, x.aval.shape, strict=True))
    aligned = site.reshape(x, tuple(sizes.get(axis, 1) for axis in range(len(shape))))
    return (
        aligned if aligned.aval.shape == shape else site.apply("BroadcastTo", aligned, shape=shape)
    )


@lowers("concatenate")
def lower_concatenate(site: Site, *xs: Node, dimension: int) -> Node:
    return xs[0] if len(xs) == 1 else site.apply("Concat", *xs, axis=dimension)


@lowers("stack")
def lower_stack(site: Site, *xs: Node, axis: int) -> Node:
    """The arrays along a new axis."""
    shape = xs[0].aval.shape
    rows = [site.reshape(x, (*shape[:axis], 1, *shape[axis:])) for x in xs]
    return rows[0] if len(rows) == 1 else site.apply("Concat", *rows, axis=axis)


@lowers("unstack")
def lower_unstack(site: Site, x: Node, *, axis: int) -> Sequence[Node]:
    """The slices of one axis, without it."""
    shape, ones = x.aval.shape, (1,) * len(x.aval.shape)
    rows = []
    for i in range(shape[axis]):
        start = tuple(i if n == axis else 0 for n in range(len(shape)))
        limit = tuple(i + 1 if n == axis else size for n, size in enumerate(shape))
        rows.append(site.reshape(slice_(site, x, start, limit, ones), site.results[i].shape))
    return rows


@lowers("tile")
def lower_tile(site: Site, x: Node, *, reps: Ints) -> Node:
    """Each axis repeated: broadcast along a new axis before it, and joined."""
    shape = x.aval.shape
    column = site.reshape(x, [n for size in shape for n in (1, size)])
    wide = tuple(n for size, count in zip(shape, reps, strict=True) for n in (int(count), size))
    spread = column if column.aval.shape == wide else site.apply("BroadcastTo", column, shape=wide)
    return site.reshape(spread, site.aval.shape)


@lowers("slice")
def lower_slice(
    site: Site, x: Node, *, start_indices: Ints, limit_indices: Ints, strides: Ints | None
) -> Node:
    return slice_(site, x, start_indices, limit_indices, strides or (1,) * len(start_indices))


def slice_(site: Site, x: Node, start: Ints, limit: Ints, strides: Ints) -> Node:
    """Every ``strides``-th element from ``start`` to before ``limit``."""
    whole = all(s == 0 and t == 1 for s, t in zip(start, strides, strict=True))
    if whole and tuple(limit) == x.aval.shape:
        return x
    return site.apply("Slice", x, start=tuple(start), limit=tuple(limit), strides=tuple(strides))


@lowers("split")
def lower_split(site: Site, x: Node, *, sizes: Ints, axis: int) -> Sequence[Node]:
    parts, at = [], 0
    for size in map(int, sizes):
        start = tuple(at if i == axis else 0 for i in range(len(x.aval.shape)))
        limit = tuple(at + size if i == axis else n for i, n in enumerate(x.aval.shape))
        parts.append(slice_(site, x, start, limit, (1,) * len(start)))
        at += size
    return parts


@lowers("rev")
def lower_rev(site: Site, x: Node, *, dimensions: Ints) -> Node:
    return site.apply("Reverse", x, axes=tuple(dimensions)) if dimensions else x


@lowers("pad")
def lower_pad(
    site: Site, x: Node, fill: Node, *, padding_config: Sequence[tuple[int, int, int]]
) -> Node:
    spread = dilate(site, x, fill, tuple(inner for _, _, inner in padding_config))
    return pad(site, spread, fill, [(low, high) for low, high, _ in padding_config])


def pad(site: Site, x: Node, fill: Node, pads: Sequence[tuple[int, int]]) -> Node:
    """``fill`` added at the ends of each axis; a negative number cuts there."""
    start = tuple(max(0, -low) for low, _ in pads)
    limit = tuple(n - max(0, -high) for n, (_, high) in zip(x.aval.shape, pads, strict=True))
    if all(a <= b for a, b in zip(start, limit, strict=True)):
        low, high = (tuple(max(0, ends[i]) for ends in pads) for i in (0, 1))
        cut = slice_(site, x, start, limit, (1,) * len(pads))
        return site.apply("Pad", cut, fill, low=low, high=high) if any((*low, *high)) else cut
    # More is cut than there is: pad first, then cut.
    low, high = (tuple(max(0, ends[i]) for ends in pads) for i in (0, 1))
    grown = site.apply("Pad", x, fill, low=low, high=high)
    limit = tuple(n - max(0, -h) for n, (_, h) in zip(grown.aval.shape, pads, strict=True))
    return slice_(site, grown, start, limit, (1,) * len(pads))


def dilate(site: Site, x: Node, fill: Node, inner: Ints) -> Node:
    """``inner[i]`` times ``fill`` between the elements along axis ``i``."""
    for axis, gap in enumerate(inner):
        shape = x.aval.shape
        if gap and shape[axis] > 1:
            column = site.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
            none = (0,) * (len(shape) + 1)
            after = tuple(gap if i == axis + 1 else 0 for i in range(len(shape) + 1))
            spaced = site.apply("Pad", column, fill, low=none, high=after)
            size = shape[axis] * (gap + 1)
            flat = site.reshape(spaced, (*shape[:axis], size, *shape[axis + 1 :]))
            limit = (*shape[:axis], size - gap, *shape[axis + 1 :])
            x = slice_(site, flat, (0,) * len(shape), limit, (1,) * len(shape))
    return x


@lowers("iota")
def lower_iota(site: Site, *, dtype: np.dtype, shape: Ints, dimension: int) -> Node:
    """The numbers along one axis, repeated along the others only where that is needed."""
    sizes = tuple(n if i == dimension else 1 for i, n in enumerate(shape))
    numbers = site.reshape(counting(site, shape[dimension], site.aval.dtype), sizes)
    return numbers if sizes == tuple(shape) else site.apply("BroadcastTo", numbers, shape=shape)


def counting(site: Site, size: int, dtype: np.dtype) -> Node:
    """0, 1, 2, ... to before ``size``."""
    if is_known(size):
        return constant(np.arange(size), dtype)
    return site.apply("Range", size=size, dtype=np.dtype(dtype))


@lowers("dim_as_value")
def lower_dim_as_value(site: Site, *, dim: int) -> Node:
    return site.reshape(site.sizes((dim,), site.aval.dtype), ())
