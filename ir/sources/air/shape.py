"""Operators that move elements, and those that give sizes.

Many types come in pairs: ``X`` takes an axis or a shape as an input, ``XD`` as an attribute.
"""

import math
from dataclasses import fields

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.air.reduction import axes_of
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import INT32, MOST_PARTS, Builder, axis_of, few
from fnckpt.ir.sources.composed import Masks, mirrored, reshaped, strided, tiled
from fnckpt.ir.sources.source import Refusal
from fnckpt.ir.targets.air.codes import OF_ENGINE_CODE

Ints = tuple[int, ...]
SHAPE = "the shape of its result"


@imports("Reshape")
def import_reshape(site: Site, x: Node, shape: Node) -> Node:
    """0 keeps a size, -1 is what is left."""
    wanted = list(site.build.sizes(shape, SHAPE))
    if (site.op.integer("axis"), site.op.integer("num_axes")) != (0, -1):
        raise Refusal("it reshapes some axes alone; give the shape of all of them")
    if x.aval.size:
        wanted = [x.aval.shape[i] if is_known(n) and n == 0 else n for i, n in enumerate(wanted)]
    return reshaped(site.build, x, wanted)


@imports("Flatten")
def import_flatten(site: Site, x: Node) -> Node:
    return site.build.reshape(x, (x.aval.shape[0], math.prod(x.aval.shape[1:])))


@imports("FlattenV2")
def import_flatten_v2(site: Site, x: Node) -> Node:
    rank, shape = len(x.aval.shape), x.aval.shape
    first, last = (axis_of(site.op.integer(name), rank) for name in ("axis", "end_axis"))
    flat = math.prod(shape[first : last + 1])
    return site.build.reshape(x, (*shape[:first], flat, *shape[last + 1 :]))


@imports("ExpandDims")
def import_expand_dims(site: Site, x: Node, axis: Node) -> Node:
    at = site.build.size(axis, "its axis")
    return site.build.unsqueeze(x, axis_of(at, len(x.aval.shape) + 1))


@imports("Unsqueeze")
def import_unsqueeze(site: Site, x: Node) -> Node:
    axes = site.op.ints("axes")
    rank = len(x.aval.shape) + len(axes)
    return site.build.unsqueeze(x, *sorted(axis_of(axis, rank) for axis in axes))


@imports("Squeeze")
def import_squeeze(site: Site, x: Node) -> Node:
    axes = axes_of(x, site.op.ints("axis"))
    kept = [n for i, n in enumerate(x.aval.shape) if (i not in axes if axes else n != 1)]
    return site.build.reshape(x, kept)


@imports("TransposeD")
def import_transpose_d(site: Site, x: Node) -> Node:
    return transposed(site.build, x, site.op.ints("perm"))


@imports("Transpose")
def import_transpose(site: Site, x: Node, perm: Node) -> Node:
    return transposed(site.build, x, site.build.sizes(perm, "the order of its axes"))


@imports("Permute")
def import_permute(site: Site, x: Node) -> Node:
    return transposed(site.build, x, site.op.ints("order"))


def transposed(b: Builder, x: Node, perm: Ints) -> Node:
    return b.transpose(x, [axis_of(axis, len(x.aval.shape)) for axis in perm])


@imports("BroadcastToD")
def import_broadcast_d(site: Site, x: Node) -> Node:
    return site.build.broadcast(x, site.op.ints("shape"))


@imports("BroadcastTo")
def import_broadcast(site: Site, x: Node, shape: Node) -> Node:
    return site.build.broadcast(x, site.build.sizes(shape, SHAPE))


@imports("FillD")
def import_fill_d(site: Site, value: Node) -> Node:
    return site.build.broadcast(site.build.reshape(value, ()), site.op.ints("dims"))


@imports("Fill")
def import_fill(site: Site, dims: Node, value: Node) -> Node:
    return site.build.broadcast(site.build.reshape(value, ()), site.build.sizes(dims, SHAPE))


@imports("TileD")
def import_tile_d(site: Site, x: Node) -> Node:
    return tiled(site.build, x, site.op.ints("multiples"))


@imports("Tile")
def import_tile(site: Site, x: Node, multiples: Node) -> Node:
    return tiled(site.build, x, site.build.sizes(multiples, "how often it repeats"))


@imports("ConcatD", "ConcatV2D")
def import_concat_d(site: Site, parts: list[Node]) -> Node:
    return joined(site.build, parts, site.op.integer("concat_dim"))


@imports("Concat", "ConcatV2")
def import_concat(site: Site, parts: list[Node], axis: Node) -> Node:
    return joined(site.build, parts, site.build.size(axis, "its axis"))


def joined(b: Builder, parts: list[Node], axis: int) -> Node:
    return b.concat(parts, axis_of(axis, len(parts[0].aval.shape)))


@imports("Pack")
def import_pack(site: Site, parts: list[Node]) -> Node:
    rank = len(parts[0].aval.shape) + 1
    return site.build.stack(parts, axis_of(site.op.integer("axis"), rank))


@imports("Unpack")
def import_unpack(site: Site, x: Node) -> tuple[Node, ...]:
    axis = axis_of(site.op.integer("axis"), len(x.aval.shape))
    few(x.aval.shape[axis], most=MOST_PARTS)
    return tuple(site.build.at(x, axis, i) for i in range(parts_in(site, x.aval.shape[axis])))


def parts_in(site: Site, size: int) -> int:
    """How many results the operator has: ``size``."""
    if size != len(site.op.outputs):
        raise ValueError(f"{size} parts, and {len(site.op.outputs)} results")
    return size


@imports("SplitD")
def import_split_d(site: Site, x: Node) -> tuple[Node, ...]:
    return split_evenly(site, x, site.op.integer("split_dim"))


@imports("Split")
def import_split(site: Site, axis: Node, x: Node) -> tuple[Node, ...]:
    return split_evenly(site, x, site.build.size(axis, "its axis"))


def split_evenly(site: Site, x: Node, axis: int) -> tuple[Node, ...]:
    size, count = x.aval.shape[axis_of(axis, len(x.aval.shape))], len(site.op.outputs)
    if size % count:
        raise ValueError(f"{x.aval} is split into {count} along axis {axis}")
    return split(site.build, x, axis, (size // count,) * count)


@imports("SplitVD")
def import_split_v_d(site: Site, x: Node) -> tuple[Node, ...]:
    return split(site.build, x, site.op.integer("split_dim"), site.op.ints("size_splits"))


@imports("SplitV")
def import_split_v(site: Site, x: Node, sizes: Node, axis: Node) -> tuple[Node, ...]:
    b = site.build
    return split(b, x, b.size(axis, "its axis"), b.sizes(sizes, "the sizes of its parts"))


def split(b: Builder, x: Node, axis: int, sizes: Ints) -> tuple[Node, ...]:
    axis = axis_of(axis, len(x.aval.shape))
    if -1 in sizes:
        rest = x.aval.shape[axis] - sum(size for size in sizes if size != -1)
        sizes = tuple(rest if size == -1 else size for size in sizes)
    return (x,) if len(sizes) == 1 else b.items("Split", x, axis=axis, sizes=sizes)


# ------------------------------------------------------------------------------------------- parts


@imports("SliceD")
def import_slice_d(site: Site, x: Node) -> Node:
    return part_of(site.build, x, site.op.ints("offsets"), site.op.ints("size"))


@imports("Slice")
def import_slice(site: Site, x: Node, offsets: Node, size: Node) -> Node:
    """Where it begins may depend on data."""
    b, sizes = site.build, site.build.sizes(size, "the size of its result")
    known = b.known(offsets)
    if known is not None:
        return part_of(b, x, tuple(known.reshape(-1).tolist()), sizes)
    if -1 in sizes:
        raise Refusal("its size is the rest after a position that depends on data")
    return b("DynamicSlice", x, offsets, sizes=sizes)


def part_of(b: Builder, x: Node, offsets: Ints, sizes: Ints) -> Node:
    """A size of -1 is all that is left."""
    for axis, (start, size) in enumerate(zip(offsets, sizes, strict=True)):
        end = x.aval.shape[axis] if size == -1 else start + size
        x = b.slice(x, axis, start, end)
    return x


@imports("StridedSliceD")
def import_strided_slice_d(site: Site, x: Node) -> Node:
    return cut_out(site, x, *(site.op.ints(name) for name in ("begin", "end", "strides")))


@imports("StridedSlice")
def import_strided_slice(site: Site, x: Node, begin: Node, end: Node, strides: Node) -> Node:
    return cut_out(site, x, *(site.build.sizes(each, "a part") for each in (begin, end, strides)))


@imports("StridedSliceV2")
def import_strided_slice_v2(
    site: Site, x: Node, begin: Node, end: Node, axes: Node | None, strides: Node | None
) -> Node:
    """The axes may be said, and none are changed but these."""
    b, rank = site.build, len(x.aval.shape)
    first, last = (b.sizes(each, "a part") for each in (begin, end))
    over = range(len(first)) if axes is None else axes_of(x, b.sizes(axes, "its axes"))
    steps = (1,) * len(first) if strides is None else b.sizes(strides, "its steps")
    full = [[0] * rank, list(x.aval.shape), [1] * rank]
    for place, axis in enumerate(over):
        full[0][axis], full[1][axis], full[2][axis] = first[place], last[place], steps[place]
    return cut_out(site, x, *map(tuple, full))


def cut_out(site: Site, x: Node, begin: Ints, end: Ints, strides: Ints) -> Node:
    """With the masks of the operator."""
    masks = Masks(*(site.op.integer(f"{each.name}_mask") for each in fields(Masks)))
    return strided(site.build, x, begin, end, strides, masks)


@imports("PadD")
def import_pad_d(site: Site, x: Node) -> Node:
    rows = site.op.attrs["paddings"]
    return padded(site.build, x, np.asarray(rows, np.int64), site.build.number(0, x))


@imports("Pad")
def import_pad(site: Site, x: Node, paddings: Node) -> Node:
    return padded(site.build, x, site.build.asked(paddings, "its padding"), site.build.number(0, x))


@imports("PadV2")
def import_pad_v2(site: Site, x: Node, paddings: Node, fill: Node) -> Node:
    b = site.build
    return padded(b, x, b.asked(paddings, "its padding"), b.reshape(fill, ()))


def padded(b: Builder, x: Node, rows: np.ndarray, fill: Node) -> Node:
    low, high = columns(rows, x)
    return b.pad(x, low, high, fill)


def columns(rows: np.ndarray, x: Node) -> tuple[Ints, Ints]:
    """What is before and what is behind each axis."""
    low, high = rows.reshape(len(x.aval.shape), 2).T.tolist()
    return tuple(low), tuple(high)


@imports("MirrorPad")
def import_mirror_pad(site: Site, x: Node, paddings: Node) -> Node:
    b = site.build
    mode = {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}[site.op.text("mode")]
    low, high = columns(b.asked(paddings, "its padding"), x)
    return mirrored(b, x, low, high, mode)


@imports("ReverseV2D")
def import_reverse_d(site: Site, x: Node) -> Node:
    return site.build("Reverse", x, axes=axes_of(x, site.op.ints("axis")))


@imports("ReverseV2")
def import_reverse(site: Site, x: Node, axes: Node) -> Node:
    over = site.build.sizes(axes, "the axes that it turns")
    return site.build("Reverse", x, axes=axes_of(x, over))


# ------------------------------------------------------------------------------------------- sizes


def numbered(site: Site, sizes: list[int]) -> Node:
    """Sizes as integers of the type that an attribute says by the engine's number."""
    known = OF_ENGINE_CODE[site.op.integer("dtype")].dtype
    assert known is not None
    return site.build.sizes_node(np.array(sizes, object), known)


@imports("Shape")
def import_shape(site: Site, x: Node) -> Node:
    return numbered(site, list(x.aval.shape))


@imports("Size")
def import_size(site: Site, x: Node) -> Node:
    return site.build.reshape(numbered(site, [x.aval.size]), ())


@imports("Rank")
def import_rank(site: Site, x: Node) -> Node:
    return site.build.constant(len(x.aval.shape), INT32)


@imports("Range")
def import_range(site: Site, start: Node, limit: Node, delta: Node) -> Node:
    b = site.build
    first, last, step = (b.asked(each, "its ends").reshape(()) for each in (start, limit, delta))
    count = max(0, math.ceil((last - first) / step))
    return b.add(b.mul(b.cast(b.counted(count), start.aval.dtype), step.item()), first.item())


@imports("InvertPermutation")
def import_invert_permutation(site: Site, x: Node) -> Node:
    order = np.argsort(site.build.asked(x, "the order that it inverts"))
    return site.build.constant(order, x.aval.dtype)


@imports("SpaceToDepth", "DepthToSpace")
def import_blocks(site: Site, x: Node) -> Node:
    """Blocks of an image as its channels, or back; channels are the last axis of what moves."""
    b, size, last = site.build, site.op.integer("block_size"), site.channels_last
    x = x if last else b.moved(x, 1, 3)
    n, h, w, c = x.aval.shape
    if site.kind == "SpaceToDepth":
        apart = b.reshape(x, (n, h // size, size, w // size, size, c))
        shape = (n, h // size, w // size, size * size * c)
    else:
        apart = b.reshape(x, (n, h, w, size, size, c // (size * size)))
        shape = (n, h * size, w * size, c // (size * size))
    found = b.reshape(b.transpose(apart, (0, 1, 3, 2, 4, 5)), shape)
    return found if last else b.moved(found, 3, 1)
