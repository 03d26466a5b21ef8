"""Reading and writing at computed places: dynamic slices, and gather in general form."""

from collections.abc import Sequence

import numpy as np
from jax.lax import GatherDimensionNumbers, GatherScatterMode

from fnckpt.ir.graph import Aval, CNode, Constant, Node
from fnckpt.ir.lowering.known import known_sizes
from fnckpt.ir.lowering.ranges import is_between
from fnckpt.ir.lowering.registry import Site, lowers
from fnckpt.ir.lowering.shape import broadcast_in_dim, counting, slice_
from fnckpt.ir.operators import constant
from fnckpt.ir.sizes import InconclusiveDimensionOperation, all_known

Ints = tuple[int, ...]
INT32 = np.dtype(np.int32)


@lowers("dynamic_slice")
def lower_dynamic_slice(site: Site, x: Node, *starts: Node, slice_sizes: Ints) -> Node:
    if not starts:
        return x
    return site.apply("DynamicSlice", x, clamped(site, x, starts, slice_sizes), sizes=slice_sizes)


@lowers("dynamic_update_slice")
def lower_dynamic_update_slice(site: Site, x: Node, update: Node, *starts: Node) -> Node:
    if not starts:
        return update
    return site.apply("DynamicUpdateSlice", x, update, clamped(site, x, starts, update.aval.shape))


def clamped(site: Site, x: Node, starts: Sequence[Node], sizes: Ints) -> Node:
    """The starts as one int32 vector, moved so that the whole slice lies inside, as JAX does."""
    vector = elements_of(starts)
    if vector is None:
        vectors = [site.reshape(as_index(site, start), (1,)) for start in starts]
        vector = vectors[0] if len(vectors) == 1 else site.apply("Concat", *vectors, axis=0)
    last = [n - size for n, size in zip(x.aval.shape, sizes, strict=True)]
    return clamp(site, vector, last)


def elements_of(starts: Sequence[Node]) -> Node | None:
    """The vector of int32 whose elements ``starts`` are, all of them and in order."""
    sources: list[Node] = []
    for place, start in enumerate(starts):
        part = start.inputs[0] if isinstance(start, CNode) and start.op == "Reshape" else start
        if not isinstance(part, CNode) or part.op != "Slice":
            return None
        if part.attrs["start"] != (place,) or part.attrs["limit"] != (place + 1,):
            return None
        sources.append(part.inputs[0])
    (*others, vector) = sources
    whole = vector.aval == Aval((len(starts),), INT32)
    return vector if whole and all(each is vector for each in others) else None


def as_index(site: Site, x: Node) -> Node:
    """An index as int32; what int32 cannot hold lies outside every array, and stays outside."""
    most = np.iinfo(INT32).max
    if x.aval.dtype.itemsize >= 4 and x.aval.dtype != INT32 and not is_between(x, (most,)):
        x = site.apply("Minimum", x, site.constant(most, x))
        if x.aval.dtype.kind == "i":
            x = site.apply("Maximum", x, site.constant(-most, x))
    return site.cast(x, INT32)


def clamp(site: Site, x: Node, last: Sequence[int]) -> Node:
    """``x`` between 0 and ``last``."""
    if are_inside(x, last):
        return x
    low = site.apply("Maximum", x, site.constant(0, x))
    return site.apply("Minimum", low, site.sizes(last))


def are_inside(x: Node, last: Sequence[int]) -> bool:
    """Whether ``x`` is known to be in 0 to ``last``; its one row may be symbolic sizes."""
    if is_between(x, last):
        return True
    row = known_sizes(x)
    if row is None or len(row) != len(last):
        return False
    try:
        return all(0 <= at <= most for at, most in zip(row, last, strict=True))
    except InconclusiveDimensionOperation:
        return False


@lowers("gather")
def lower_gather(
    site: Site,
    x: Node,
    indices: Node,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Ints,
    mode: GatherScatterMode,
    fill_value: float | None,
) -> Node:
    """Clamped reads; where ``mode`` fills, what lay outside is replaced afterwards."""
    d = dimension_numbers
    indices = as_index(site, indices)
    if mode != GatherScatterMode.FILL_OR_DROP:
        x = _at_known_places(site, x, indices, d, slice_sizes)
        indices, d = _without_whole(site, x, indices, d, slice_sizes)
    last = [x.aval.shape[i] - slice_sizes[i] for i in d.start_index_map]
    inside = clamp(site, indices, last)
    result = _direct(site, x, inside, d, slice_sizes)
    if result is None:
        result = _general(site, x, inside, d, slice_sizes)
    if mode != GatherScatterMode.FILL_OR_DROP or are_inside(indices, last):
        return result
    valid = inside_of(site, indices, last)
    if isinstance(valid, Constant) and valid.value.all():
        return result
    batch = tuple(i for i in range(len(site.aval.shape)) if i not in d.offset_dims)
    sizes = {axis: site.aval.shape[axis] for axis in batch}
    shape = tuple(sizes.get(axis, 1) for axis in range(len(site.aval.shape)))
    fill = constant(_fill(site.aval.dtype, fill_value))
    return site.apply("Select", site.reshape(valid, shape), result, fill)


def _at_known_places(
    site: Site, x: Node, indices: Node, d: GatherDimensionNumbers, sizes: Ints
) -> Node:
    """``x`` cut to what is read of the axes where all read at one place that is known."""
    if len(d.start_index_map) < 2:
        return x
    for n, axis in enumerate(d.start_index_map):
        column, size = _column(site, indices, n), sizes[axis]
        if not isinstance(column, Constant) or np.unique(column.value).size != 1:
            continue
        if not all_known((size, x.aval.shape[axis])):
            continue
        start = int(np.clip(column.value.flat[0], 0, x.aval.shape[axis] - size))
        ends = [(0, each) for each in x.aval.shape]
        ends[axis] = (start, start + size)
        low, high = zip(*ends, strict=True)
        x = slice_(site, x, low, high, (1,) * len(low))
    return x


def _without_whole(
    site: Site, x: Node, indices: Node, d: GatherDimensionNumbers, sizes: Ints
) -> tuple[Node, GatherDimensionNumbers]:
    """Without the columns of axes that are taken whole: a clamped start of these is always 0."""
    columns = [n for n, i in enumerate(d.start_index_map) if sizes[i] != x.aval.shape[i]]
    if not columns or len(columns) == len(d.start_index_map):
        return indices, d
    parts = [_column(site, indices, n) for n in columns]
    last = len(indices.aval.shape) - 1
    kept = parts[0] if len(parts) == 1 else site.apply("Concat", *parts, axis=last)
    return kept, d._replace(start_index_map=tuple(d.start_index_map[n] for n in columns))


def _column(site: Site, indices: Node, at: int) -> Node:
    """One place along the last axis of ``indices``, which often are joined from such."""
    rows, width = indices.aval.shape[:-1], indices.aval.shape[-1]
    if isinstance(indices, CNode) and indices.op == "Concat" and len(indices.inputs) == width:
        apart = [n for n in indices.inputs if n.aval.shape == (*rows, 1)]
        if len(apart) == width:
            return apart[at]
    start, limit = (0,) * len(rows), rows
    return slice_(site, indices, (*start, at), (*limit, at + 1), (1,) * (len(rows) + 1))


def _fill(dtype: np.dtype, value: float | None) -> np.ndarray:
    """What JAX reads outside: NaN, the least signed or greatest unsigned integer, or True."""
    if value is not None:
        return np.asarray(value, dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.asarray(info.min if dtype.kind == "i" else info.max, dtype)
    return np.asarray(True if dtype.kind == "b" else np.nan, dtype)


def inside_of(site: Site, indices: Node, last: Sequence[int]) -> Node:
    """Which rows of ``indices`` lie inside, as bools without the last axis."""
    if not last:
        return constant(np.ones(indices.aval.shape[:-1], bool))
    least = site.apply("GreaterEqual", indices, site.constant(0, indices))
    most = site.apply("LessEqual", indices, site.sizes(last))
    both = site.apply("LogicalAnd", least, most)
    rows, width = both.aval.shape[:-1], both.aval.shape[-1]
    if width == 1:
        return site.reshape(both, rows)
    return site.apply("ReduceAll", both, axes=(len(rows),), keepdims=False)


def _direct(
    site: Site, x: Node, indices: Node, d: GatherDimensionNumbers, sizes: Ints
) -> Node | None:
    """One Gather along an axis, or one slice, where that is all that is asked for."""
    rank, rows = len(sizes), indices.aval.shape[:-1]
    if not d.operand_batching_dims and not rows and indices.aval.shape[-1]:
        return _one_slice(site, x, indices, d, sizes)
    if len(d.start_index_map) != 1:
        return None
    (axis,) = d.start_index_map
    if d.operand_batching_dims:
        others = tuple(i for i in range(rank) if i != axis)
        same = d.operand_batching_dims == others == d.start_indices_batching_dims
        if same and not d.offset_dims and len(rows) == rank:
            places = site.reshape(indices, rows)
            return site.apply("GatherElements", x, places, axis=axis)
        return None
    if sizes != tuple(1 if i == axis else n for i, n in enumerate(x.aval.shape)):
        return None
    taken = site.apply("Gather", x, site.reshape(indices, rows), axis=axis)
    kept = [i for i in range(rank) if i not in d.collapsed_slice_dims]
    return _arranged(site, taken, axis, rows, d.offset_dims, sizes, kept)


def _arranged(
    site: Site, taken: Node, axis: int, rows: Ints, offsets: Ints, sizes: Ints, kept: list[int]
) -> Node:
    """A Gather's ``[before, rows, after]`` as JAX's order of rows and slice axes."""
    before = [i for i in kept if i < axis]
    after = [i for i in kept if i > axis]
    # What JAX drops of the other axes has one element, as the whole axis has.
    taken = site.reshape(taken, [*(sizes[i] for i in before), *rows, *(sizes[i] for i in after)])
    places = [i for i in range(len(site.aval.shape)) if i not in offsets]
    first, last = len(before), len(before) + len(rows)
    source = dict(zip(places, range(first, last), strict=True))
    of_axis = {i: n for n, i in enumerate(before)} | {i: last + n for n, i in enumerate(after)}
    for place, i in zip(offsets, kept, strict=True):
        source[place] = of_axis.get(i, -1)
    perm = [source[i] for i in range(len(source)) if source[i] >= 0]
    return site.reshape(site.transpose(taken, perm), site.aval.shape)


def _one_slice(site: Site, x: Node, indices: Node, d: GatherDimensionNumbers, sizes: Ints) -> Node:
    """A gather of a single slice is a slice, a dynamic one where its start is not known."""
    row = dict(zip(d.start_index_map, range(len(d.start_index_map)), strict=True))
    starts = known_sizes(indices)
    if starts is not None:
        begin = tuple(starts[row[i]] if i in row else 0 for i in range(len(sizes)))
        end = tuple(at + size for at, size in zip(begin, sizes, strict=True))
        return site.reshape(slice_(site, x, begin, end, (1,) * len(sizes)), site.aval.shape)
    parts = [
        site.apply("Slice", indices, start=(row[i],), limit=(row[i] + 1,), strides=(1,))
        if i in row
        else constant(np.zeros(1, INT32))
        for i in range(len(sizes))
    ]
    starts = parts[0] if len(parts) == 1 else site.apply("Concat", *parts, axis=0)
    cut = site.apply("DynamicSlice", x, starts, sizes=tuple(sizes))
    return site.reshape(cut, site.aval.shape)


def _general(site: Site, x: Node, indices: Node, d: GatherDimensionNumbers, sizes: Ints) -> Node:
    """GatherNd over every axis that is not taken whole, with the windows' offsets added."""
    rank, rows = len(sizes), indices.aval.shape[:-1]
    if not rank:
        return site.apply("BroadcastTo", x, shape=rows) if rows else x
    partial_axes = [i for i in range(rank) if sizes[i] != x.aval.shape[i]]
    hidden = {*d.collapsed_slice_dims, *d.operand_batching_dims}
    # The first axis where there is no other: a row of indices names something at least.
    indexed = sorted({*d.start_index_map, *hidden, *partial_axes}) or [0]
    rest = [i for i in range(rank) if i not in indexed]
    windows = [i for i in indexed if i not in hidden]
    places = full_indices(
        site, indices, indexed, d.start_index_map, d.operand_batching_dims,
        d.start_indices_batching_dims, windows, [sizes[i] for i in windows],
    )  # fmt: skip
    read = site.apply("GatherNd", site.transpose(x, (*indexed, *rest)), places)
    # read is [rows, windows, rest]; JAX wants the slice axes in x's order at offset_dims.
    order = {i: len(rows) + n for n, i in enumerate((*windows, *rest))}
    source = dict(zip(d.offset_dims, (order[i] for i in sorted(order)), strict=True))
    free = iter(range(len(rows)))
    perm = [source[i] if i in source else next(free) for i in range(len(site.aval.shape))]
    return site.transpose(read, perm)


def full_indices(
    site: Site,
    indices: Node,
    indexed: Sequence[int],
    start_map: Sequence[int],
    batching: Sequence[int],
    indices_batching: Sequence[int],
    windows: Sequence[int],
    window_sizes: Sequence[int],
) -> Node:
    """``[rows, windows, len(indexed)]``: where each element of each window is, on each axis."""
    rows = indices.aval.shape[:-1]
    shape = (*rows, *window_sizes)
    if not windows and not batching and list(indexed) == list(start_map):
        return indices
    columns: list[Node] = []
    for axis in indexed:
        column: Node = constant(np.zeros((1,) * len(shape), INT32))
        if axis in start_map:
            at = start_map.index(axis)
            start = (0,) * len(rows)
            part = site.apply(
                "Slice", indices, start=(*start, at), limit=(*rows, at + 1),
                strides=(1,) * (len(rows) + 1),
            )  # fmt: skip
            column = site.reshape(part, (*rows, *(1 for _ in window_sizes)))
        if axis in batching:
            column = _counting(site, indices_batching[batching.index(axis)], shape)
        if axis in windows:
            offsets = _counting(site, len(rows) + windows.index(axis), shape)
            column = site.apply("Add", column, offsets)
        columns.append(broadcast_in_dim(site, column, shape, tuple(range(len(shape)))))
    stacked = [site.reshape(column, (*shape, 1)) for column in columns]
    if not stacked:
        return constant(np.zeros((*shape, 0), INT32))
    return stacked[0] if len(stacked) == 1 else site.apply("Concat", *stacked, axis=len(shape))


def _counting(site: Site, axis: int, shape: Ints) -> Node:
    sizes = tuple(n if i == axis else 1 for i, n in enumerate(shape))
    return site.reshape(counting(site, shape[axis], INT32), sizes)
