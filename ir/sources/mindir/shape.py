"""Primitives that move elements, and those that read or write at places."""

import math
from dataclasses import fields

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.build import INT64, axis_of, few
from fnckpt.ir.sources.composed import Masks, mirrored, reshaped, strided, tiled
from fnckpt.ir.sources.mindir.elementwise import tensor
from fnckpt.ir.sources.mindir.registry import Site, Value, imports, whole
from fnckpt.ir.sources.mindir.values import OF_ID
from fnckpt.ir.sources.source import Refusal


def sizes(site: Site, value: Value, what: str) -> tuple[int, ...]:
    """Integers, of which some may be symbolic."""
    if isinstance(value, Node):
        return site.build.sizes(value, what)
    if isinstance(value, tuple):
        return tuple(
            site.build.size(each, what) if isinstance(each, Node) else int(each) for each in value
        )
    return tuple(int(each) for each in np.asarray(value).reshape(-1).tolist())


@imports("Reshape")
def import_reshape(site: Site, x: Value, *_: Value) -> Node:
    node = tensor(site.build, x)
    return reshaped(site.build, node, sizes(site, site.get("shape"), "the shape of its result"))


@imports("Flatten")
def import_flatten(site: Site, x: Node) -> Node:
    return site.build.reshape(x, (x.aval.shape[0], math.prod(x.aval.shape[1:])))


@imports("ExpandDims")
def import_expand_dims(site: Site, x: Value, axis: Value) -> Node:
    node = tensor(site.build, x)
    return site.build.unsqueeze(node, axis_of(int(axis), len(node.aval.shape) + 1))


@imports("Squeeze")
def import_squeeze(site: Site, x: Node, *rest: Value) -> Node:
    given = rest[0] if rest else site.attributes.get("axis", ())
    shape = x.aval.shape
    axes = {axis_of(axis, len(shape)) for axis in whole(given)}
    kept = [n for i, n in enumerate(shape) if (i not in axes if axes else n != 1)]
    return site.build.reshape(x, kept)


@imports("Transpose")
def import_transpose(site: Site, x: Node, *_: Value) -> Node:
    rank = len(x.aval.shape)
    return site.build.transpose(x, [axis_of(axis, rank) for axis in site.ints("perm")])


@imports("BroadcastTo")
def import_broadcast(site: Site, x: Node, *_: Value) -> Node:
    wanted = sizes(site, site.get("shape"), "the shape of its result")
    shape = (1,) * (len(wanted) - len(x.aval.shape)) + x.aval.shape
    pairs = zip(wanted, shape, strict=True)
    return site.build.broadcast(x, [old if is_known(n) and n == -1 else n for n, old in pairs])


@imports("Tile")
def import_tile(site: Site, x: Node, *_: Value) -> Node:
    return tiled(site.build, x, sizes(site, site.get("multiples"), "how often it repeats"))


@imports("Concat")
def import_concat(site: Site, parts: tuple[Value, ...], *_: Value) -> Node:
    nodes = [tensor(site.build, each) for each in parts]
    (axis,) = whole(site.get("axis", 0))
    return site.build.concat(nodes, axis_of(axis, len(nodes[0].aval.shape)))


@imports("Stack")
def import_stack(site: Site, parts: tuple[Value, ...], *_: Value) -> Node:
    nodes = [tensor(site.build, each) for each in parts]
    axis = int(site.attributes.get("axis", 0))
    return site.build.stack(nodes, axis_of(axis, len(nodes[0].aval.shape) + 1))


@imports("Split")
def import_split(site: Site, x: Node, *_: Value) -> tuple[Node, ...]:
    axis = axis_of(int(site.get("axis", 0)), len(x.aval.shape))
    count = int(site.get("output_num", 1))
    part = x.aval.shape[axis] // count
    if part * count != x.aval.shape[axis]:
        raise ValueError(f"{x.aval} is split into {count} along axis {axis}")
    if count == 1:
        return (x,)
    return site.build.items("Split", x, axis=axis, sizes=(part,) * count)


@imports("StridedSlice")
def import_strided_slice(site: Site, x: Value, *_: Value) -> Node:
    begin, end = (sizes(site, site.get(each), f"where it {each}s") for each in ("begin", "end"))
    steps = sizes(site, site.get("strides"), "its steps")
    masks = Masks(*(int(site.get(f"{each.name}_mask", 0)) for each in fields(Masks)))
    return strided(site.build, tensor(site.build, x), begin, end, steps, masks)


@imports("PadV3")
def import_pad_v3(site: Site, x: Node, pads: Value, fill: Value = None) -> Node:
    """Pairs from the last axis on."""
    b, rank = site.build, len(x.aval.shape)
    both = sizes(site, pads, "its padding")
    low, high = [0] * rank, [0] * rank
    for place in range(len(both) // 2):
        low[rank - 1 - place], high[rank - 1 - place] = both[2 * place], both[2 * place + 1]
    mode = str(site.attributes.get("mode", "constant"))
    value = b.number(0, x) if fill is None else b.cast(tensor(b, fill, x), x.aval.dtype)
    return padded(site, x, low, high, mode, b.reshape(value, ()))


@imports("Pad")
def import_pad(site: Site, x: Node) -> Node:
    low, high = zip(*site.attributes["paddings"], strict=True)
    return padded(site, x, list(low), list(high), "constant", site.build.number(0, x))


@imports("MirrorPad")
def import_mirror_pad(site: Site, x: Node, pads: Value) -> Node:
    both = np.asarray(sizes(site, pads, "its padding")).reshape(-1, 2)
    mode = {"REFLECT": "reflect", "SYMMETRIC": "symmetric"}[str(site.attributes["mode"]).upper()]
    return padded(site, x, both[:, 0].tolist(), both[:, 1].tolist(), mode, site.build.number(0, x))


def padded(site: Site, x: Node, low: list[int], high: list[int], mode: str, fill: Node) -> Node:
    """``x`` with a number, or with its own elements, around it."""
    b = site.build
    if mode == "constant":
        return b.pad(x, low, high, fill)
    return mirrored(b, x, low, high, "wrap" if mode == "circular" else mode)


@imports("ReverseV2")
def import_reverse(site: Site, x: Node, *_: Value) -> Node:
    axes = {axis_of(axis, len(x.aval.shape)) for axis in site.ints("axis")}
    return site.build("Reverse", x, axes=tuple(sorted(axes)))


@imports("Gather")
def import_gather(site: Site, x: Node, indices: Value, *_: Value) -> Node:
    (axis,) = whole(site.get("axis", 0))
    if int(site.get("batch_dims", 0)):
        raise Refusal("it gathers with batch_dims; gather with GatherD")
    at = tensor(site.build, indices)
    return site.build("Gather", x, at, axis=axis_of(axis, len(x.aval.shape)))


@imports("GatherD")
def import_gather_d(site: Site, x: Node, axis: Value, indices: Node) -> Node:
    (along,) = whole(axis)
    return site.build("GatherElements", x, indices, axis=axis_of(along, len(x.aval.shape)))


@imports("EmbeddingLookup")
def import_embedding_lookup(site: Site, table: Node, indices: Value, offset: Value) -> Node:
    """Rows by their places counted from ``offset``; those of a place that is none are 0."""
    b = site.build
    at = b.cast(tensor(b, indices), INT64)
    at = b.sub(at, int(offset)) if isinstance(offset, int) else b.sub(at, b.cast(offset, INT64))
    count = table.aval.shape[0]
    there = b("LogicalAnd", b.compare("GreaterEqual", at, 0), b.compare("Less", at, count))
    rows = b("Gather", table, b("Clip", at, low=0, high=count - 1), axis=0)
    return b.where(b.unsqueeze(there, len(at.aval.shape)), rows, b.number(0, rows))


@imports("OneHot")
def import_one_hot(
    site: Site, indices: Node, depth: Value, on: Value, off: Value, axis: Value = None
) -> Node:
    """``on`` at each place along a new axis, ``off`` elsewhere."""
    b, rank = site.build, len(indices.aval.shape)
    (given,) = whole(site.attributes.get("axis", -1) if axis is None else axis)
    (size,) = sizes(site, depth, "its depth")
    along = axis_of(given, rank + 1)
    places = b.cast(b.unsqueeze(indices, along), INT64)
    numbers = b.reshape(b.counted(size), [size if i == along else 1 for i in range(rank + 1)])
    one, zero = (b.reshape(tensor(b, each), ()) for each in (on, off))
    return b.where(b("Equal", places, numbers), one, zero)


WRITES = {
    "TensorScatterUpdate": "", "TensorScatterAdd": "add", "TensorScatterMul": "mul",
    "TensorScatterMax": "max", "TensorScatterMin": "min",
}  # fmt: skip


@imports(*WRITES)
def import_scatter(site: Site, x: Node, indices: Node, updates: Node) -> Node:
    return site.build("ScatterNd", x, indices, updates, reduction=WRITES[site.op])


@imports("FillV2")
def import_fill(site: Site, shape: Value, value: Value) -> Node:
    wanted = sizes(site, shape, "the shape of its result")
    return site.build.broadcast(site.build.reshape(tensor(site.build, value), ()), wanted)


@imports("Shape", "TensorShape")
def import_shape(site: Site, x: Node) -> Value:
    return tuple(
        size if is_known(size) else site.build.sizes_node(np.array(size, object))
        for size in x.aval.shape
    )


@imports("TupleToTensor")
def import_tuple_to_tensor(site: Site, values: tuple[Value, ...], *_: Value) -> Node:
    goal = site.get("dtype")
    dtype = goal if isinstance(goal, np.dtype) else OF_ID[int(goal)]
    found = np.array(sizes(site, values, "its elements"), object)
    return site.build.sizes_node(found, dtype)


@imports("Range")
def import_range(site: Site, start: Value, limit: Value, delta: Value, *_: Value) -> Node:
    first, last, step = (sizes(site, each, "its ends")[0] for each in (start, limit, delta))
    if step == 1 and is_known(first) and first == 0:
        return site.build.counted(last)
    few((last - first) // step)
    return site.build.constant(np.arange(first, last, step), INT64)
