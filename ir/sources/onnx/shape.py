"""Operators that move elements, and those that tell or take shapes."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.build import INT64, Builder, axis_of, clipped, few
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal


@imports("Constant")
def import_constant(site: Site) -> Node:
    b = site.build
    if site.has("value"):
        return b.constant(site.tensor("value"))
    if site.has("value_float"):
        return b.constant(site.number("value_float"), np.dtype(np.float32))
    if site.has("value_int"):
        return b.constant(site.integer("value_int"), INT64)
    if site.has("value_floats"):
        return b.constant(site.numbers("value_floats"), np.dtype(np.float32))
    if site.has("value_ints"):
        return b.constant(site.integers("value_ints"), INT64)
    raise Refusal("it is a text or a sparse array, which JAX does not have")


@imports("ConstantOfShape")
def import_constant_of_shape(site: Site, shape: Node) -> Node:
    b = site.build
    value = site.tensor("value") if site.has("value") else np.zeros(1, np.float32)
    wanted = b.sizes(shape, "the shape of its result")
    return b.broadcast(b.constant(value.reshape(())), wanted)


@imports("Shape")
def import_shape(site: Site, x: Node) -> Node:
    rank = len(x.aval.shape)
    start = clipped(site.integer("start", 0), rank)
    end = clipped(site.integer("end", rank), rank)
    return site.build.sizes_node(np.array(x.aval.shape, object)[start:end])


@imports("Size")
def import_size(site: Site, x: Node) -> Node:
    return site.build.sizes_node(np.array(math.prod(x.aval.shape), object))


@imports("Reshape", since=5)
def import_reshape(site: Site, x: Node, shape: Node) -> Node:
    b, old = site.build, x.aval.shape
    wanted = list(b.sizes(shape, "the shape of its result"))
    for index, size in enumerate(wanted):
        if is_known(size) and size == 0 and not site.flag("allowzero"):
            wanted[index] = old[index]
    return b.reshape(x, inferred(wanted, x.aval.size))


def inferred(wanted: Sequence[int], size: int) -> list[int]:
    """A shape with what is left in place of -1."""
    open_ = [index for index, each in enumerate(wanted) if is_known(each) and each == -1]
    found = list(wanted)
    if len(open_) == 1:
        rest = math.prod(each for index, each in enumerate(wanted) if index != open_[0])
        found[open_[0]] = size // rest
    return found


@imports("Flatten")
def import_flatten(site: Site, x: Node) -> Node:
    shape = x.aval.shape
    axis = site.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return site.build.reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def axes_of(site: Site, axes: Node | None, since: int, rank: int) -> tuple[int, ...] | None:
    """Axes, which are an attribute before the opset ``since``; None where there are none."""
    if site.opset >= since:
        found = None if axes is None else site.build.sizes(axes, "its axes")
    else:
        found = site.integers("axes") if site.has("axes") else None
    return None if found is None else tuple(sorted(axis_of(axis, rank) for axis in found))


@imports("Squeeze")
def import_squeeze(site: Site, x: Node, axes: Node | None = None) -> Node:
    shape = x.aval.shape
    found = axes_of(site, axes, 13, len(shape))
    if found is None:
        found = tuple(axis for axis, size in enumerate(shape) if is_known(size) and size == 1)
    kept = [size for axis, size in enumerate(shape) if axis not in found]
    return site.build.reshape(x, kept)


@imports("Unsqueeze")
def import_unsqueeze(site: Site, x: Node, axes: Node | None = None) -> Node:
    count = len(site.integers("axes")) if site.opset < 13 else 0
    if axes is not None:
        count = axes.aval.size
    found = axes_of(site, axes, 13, len(x.aval.shape) + count)
    return site.build.unsqueeze(x, *(found or ()))


@imports("Transpose")
def import_transpose(site: Site, x: Node) -> Node:
    perm = site.integers("perm", tuple(reversed(range(len(x.aval.shape)))))
    if sorted(perm) != list(range(len(x.aval.shape))):
        raise ValueError(f"perm is {perm} of {x.aval}")
    return site.build.transpose(x, perm)


@imports("Concat")
def import_concat(site: Site, *inputs: Node) -> Node:
    return site.build.concat(inputs, axis_of(site.integer("axis"), len(inputs[0].aval.shape)))


@imports("Split")
def import_split(site: Site, x: Node, parts: Node | None = None) -> tuple[Node, ...]:
    b = site.build
    axis = axis_of(site.integer("axis", 0), len(x.aval.shape))
    whole, count = x.aval.shape[axis], len(site.node.output)
    if parts is not None:
        sizes = b.sizes(parts, "the sizes of its results")
    elif site.has("split"):
        sizes = site.integers("split")
    else:
        each = -(-whole // site.integer("num_outputs", count))
        sizes = (*(each,) * (count - 1), whole - each * (count - 1))
    if sum(sizes) != whole or len(sizes) != count:
        raise ValueError(f"{x.aval} is split into {sizes} along axis {axis}")
    return (x,) if count == 1 else b.items("Split", x, axis=axis, sizes=sizes)


@imports("Slice", since=10)
def import_slice(
    site: Site,
    x: Node,
    starts: Node,
    ends: Node,
    axes: Node | None = None,
    steps: Node | None = None,
) -> Node:
    b, rank = site.build, len(x.aval.shape)
    of_data = dynamic(site, x, starts, ends, axes, steps)
    if of_data is not None:
        return of_data
    first, last = b.sizes(starts, "where it starts"), b.sizes(ends, "where it ends")
    over = range(len(first)) if axes is None else b.sizes(axes, "its axes")
    by = [1] * len(first) if steps is None else b.sizes(steps, "its steps")
    return sliced(site, x, first, last, [axis_of(axis, rank) for axis in over], by)


@imports("Slice", since=1)
def import_old_slice(site: Site, x: Node) -> Node:
    starts, ends = site.integers("starts"), site.integers("ends")
    axes = site.integers("axes", range(len(starts)))
    over = [axis_of(axis, len(x.aval.shape)) for axis in axes]
    return sliced(site, x, starts, ends, over, [1] * len(starts))


def sliced(
    site: Site,
    x: Node,
    starts: Sequence[int],
    ends: Sequence[int],
    axes: Sequence[int],
    steps: Sequence[int],
) -> Node:
    """A part of ``x``; backwards where a step is negative."""
    shape = x.aval.shape
    begin, limit, stride, turned = [0] * len(shape), list(shape), [1] * len(shape), list[int]()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = shape[axis]
        if step > 0:
            first, last = clipped(start, size), clipped(end, size)
        else:
            first, last, step = _backwards(start, end, step, size)
            turned.append(axis)
        if is_known(last) and is_known(first):
            last = max(first, last)
        begin[axis], limit[axis], stride[axis] = first, last, step
    if (begin, limit, stride) != ([0] * len(shape), list(shape), [1] * len(shape)):
        ends_ = {"start": tuple(begin), "limit": tuple(limit), "strides": tuple(stride)}
        x = site.build("Slice", x, **ends_)
    return site.build("Reverse", x, axes=tuple(sorted(turned))) if turned else x


def _backwards(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """The same places forwards: where they begin, before what they end, and the step."""
    if not is_known(size):
        if (start == -1 or start >= np.iinfo(np.int32).max) and end < -(1 << 31) and step == -1:
            return 0, size, 1
        raise Refusal("it goes backwards through a symbolic size")
    places = range(*slice(start, end, step).indices(size))
    few(len(places))
    return (places[-1], places[0] + 1, -step) if len(places) else (0, 0, 1)


def dynamic(
    site: Site, x: Node, starts: Node, ends: Node, axes: Node | None, steps: Node | None
) -> Node | None:
    """A slice of known size from a computed place: ``ends`` is ``starts`` and a constant."""
    b = site.build
    if b.is_closed(starts) or b.known(starts) is not None:
        return None
    length = difference(site, ends, starts)
    if length is None or (steps is not None and set(b.sizes(steps, "its steps")) != {1}):
        return None
    rank = len(x.aval.shape)
    over = tuple(range(len(length))) if axes is None else b.sizes(axes, "its axes")
    over = tuple(axis_of(axis, rank) for axis in over)
    size, begin = list(x.aval.shape), uncast(starts)
    parts: list[Node] = [b.constant(np.zeros(1), begin.aval.dtype)] * rank
    for place, axis in enumerate(over):
        size[axis] = length[place]
        parts[axis] = b.slice(begin, 0, place, place + 1)
    whole = begin if over == tuple(range(rank)) else b.concat(parts, 0)
    if not site.ours:
        sizes_ = b.sizes_node(np.array(x.aval.shape, object), whole.aval.dtype)
        negative = b("Less", whole, b.number(0, whole))
        whole = b.where(negative, b.add(whole, sizes_), whole)
    return b("DynamicSlice", x, whole, sizes=tuple(size))


def difference(site: Site, ends: Node, starts: Node) -> tuple[int, ...] | None:
    """``ends - starts`` where that is plain to see."""
    if not isinstance(ends, CNode) or ends.op != "Add" or ends.aval.shape != starts.aval.shape:
        return None
    for own, other in (ends.inputs, ends.inputs[::-1]):
        known = site.build.known(other) if own is starts else None
        if known is not None:
            whole = np.broadcast_to(known, starts.aval.shape).reshape(-1)
            return tuple(int(each) if is_known(each) else each for each in whole.tolist())
    return None


def uncast(x: Node) -> Node:
    """Integers before they were widened."""
    if isinstance(x, CNode) and x.op == "Cast" and x.inputs[0].aval.dtype.kind in "iu":
        return x.inputs[0]
    return x


@imports("Expand")
def import_expand(site: Site, x: Node, shape: Node) -> Node:
    wanted = site.build.sizes(shape, "the shape of its result")
    old = x.aval.shape
    rank = max(len(wanted), len(old))
    pairs = zip((1,) * (rank - len(old)) + old, (1,) * (rank - len(wanted)) + wanted, strict=True)
    common = [new if is_known(size) and size == 1 else size for size, new in pairs]
    return site.build.broadcast(x, common)


@imports("Tile", since=6)
def import_tile(site: Site, x: Node, repeats: Node) -> Node:
    b, shape = site.build, x.aval.shape
    times = b.sizes(repeats, "how often it repeats")
    if all(is_known(each) and each == 1 for each in times):
        return x
    apart = [each for size in shape for each in (1, size)]
    grown = [each for pair in zip(times, shape, strict=True) for each in pair]
    whole = [n * size for n, size in zip(times, shape, strict=True)]
    return b.reshape(b.broadcast(b.reshape(x, apart), grown), whole)


@imports("Range")
def import_range(site: Site, start: Node, limit: Node, delta: Node) -> Node:
    b, dtype = site.build, start.aval.dtype
    what = "the number of its elements"
    first, last, step = (b.asked(each, what).reshape(()) for each in (start, limit, delta))
    if first.dtype == object or last.dtype == object:
        if step.item() != 1:
            raise Refusal("it counts to a symbolic size in steps that are not 1")
        count = b("Range", size=last.item() - first.item(), dtype=dtype)
        return b("Add", count, start) if first.dtype == object or first.item() else count
    count = max(math.ceil((last.item() - first.item()) / step.item()), 0)
    few(count)
    return b.constant(first + np.arange(count).astype(dtype) * step, dtype)


@imports("EyeLike")
def import_eye_like(site: Site, x: Node) -> Node:
    dtype = site.around.dtype(site.integer("dtype")) if site.has("dtype") else x.aval.dtype
    rows, columns = x.aval.shape
    few(rows, columns)
    return site.build.constant(np.eye(rows, columns, site.integer("k", 0)).astype(dtype))


@imports("Trilu")
def import_trilu(site: Site, x: Node, k: Node | None = None) -> Node:
    b = site.build
    rows, columns = x.aval.shape[-2:]
    shift = 0 if k is None else b.size(k, "its diagonal")
    row = b.unsqueeze(b.counted(rows), 1)
    column = b.counted(columns)
    op = "GreaterEqual" if site.flag("upper", True) else "LessEqual"
    return b.where(b(op, column, b.add(row, shift)), x, b.number(0, x))


@imports("OneHot")
def import_one_hot(site: Site, indices: Node, depth: Node, values: Node) -> Node:
    b = site.build
    count = b.size(depth, "the number of its classes")
    axis = axis_of(site.integer("axis", -1), len(indices.aval.shape) + 1)
    whole = b.cast(indices, INT64)
    if indices.aval.dtype.kind != "u":
        whole = b.where(b.compare("Less", whole, 0), b.add(whole, count), whole)
    classes = b.reshape(b.counted(count), (count, *(1,) * (len(indices.aval.shape) - axis)))
    off, on = (b.at(values, 0, place) for place in (0, 1))
    chosen = b("Equal", b.unsqueeze(whole, axis), classes)
    return b.where(chosen, on, off)


@imports("DepthToSpace")
def import_depth_to_space(site: Site, x: Node) -> Node:
    b, block = site.build, site.integer("blocksize")
    n, c, h, w = x.aval.shape
    if site.text("mode", "DCR") == "DCR":
        apart = b.reshape(x, (n, block, block, c // block**2, h, w))
        turned = b.transpose(apart, (0, 3, 4, 1, 5, 2))
    else:
        apart = b.reshape(x, (n, c // block**2, block, block, h, w))
        turned = b.transpose(apart, (0, 1, 4, 2, 5, 3))
    return b.reshape(turned, (n, c // block**2, h * block, w * block))


@imports("SpaceToDepth")
def import_space_to_depth(site: Site, x: Node) -> Node | None:
    b, block = site.build, site.integer("blocksize")
    if site.text("mode", "DCR") != "DCR":
        return None
    n, c, h, w = x.aval.shape
    apart = b.reshape(x, (n, c, h // block, block, w // block, block))
    turned = b.transpose(apart, (0, 3, 5, 1, 2, 4))
    return b.reshape(turned, (n, c * block**2, h // block, w // block))


@imports("ReverseSequence")
def import_reverse_sequence(site: Site, x: Node, lengths: Node) -> Node:
    time, batch = site.integer("time_axis", 0), site.integer("batch_axis", 1)
    return reversed_sequences(site.build, x, lengths, time=time, batch=batch)


def reversed_sequences(b: Builder, x: Node, lengths: Node, *, time: int, batch: int) -> Node:
    """Place ``t`` of a sequence of length ``n`` is from ``n - 1 - t``, beyond it from ``t``."""
    rank, size = len(x.aval.shape), x.aval.shape[time]
    order = [batch, time, *(axis for axis in range(rank) if axis not in (batch, time))]
    first = b.transpose(x, order)
    places = b.counted(size)
    n = b.unsqueeze(b.cast(lengths, INT64), 1)
    at = b.where(b("Less", places, n), b.sub(b.sub(n, 1), places), places)
    index = b.broadcast(b.reshape(at, (*at.aval.shape, *(1,) * (rank - 2))), first.aval.shape)
    moved = b("GatherElements", first, index, axis=1)
    return b.transpose(moved, np.argsort(order).tolist())


MODES: dict[str, Literal["reflect", "edge", "wrap"]] = {
    "reflect": "reflect", "edge": "edge", "wrap": "wrap",
}  # fmt: skip


@imports("Pad", since=11)
def import_pad(
    site: Site, x: Node, pads: Node, value: Node | None = None, axes: Node | None = None
) -> Node:
    b, rank = site.build, len(x.aval.shape)
    both = b.sizes(pads, "its padding")
    over = range(rank) if axes is None else b.sizes(axes, "its axes")
    return padded(site, x, both, [axis_of(axis, rank) for axis in over], value)


@imports("Pad", since=2)
def import_old_pad(site: Site, x: Node) -> Node:
    value = site.build.number(site.number("value", 0.0), x)
    return padded(site, x, site.integers("pads"), range(len(x.aval.shape)), value)


def padded(
    site: Site, x: Node, both: Sequence[int], axes: Sequence[int], value: Node | None
) -> Node:
    b, rank = site.build, len(x.aval.shape)
    low, high = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        low[axis], high[axis] = both[place], both[len(axes) + place]
    mode = site.text("mode", "constant")
    if mode == "constant":
        fill = b.number(0, x) if value is None else b.cast(b.reshape(value, ()), x.aval.dtype)
        return b.pad(x, low, high, fill)
    for axis in range(rank):
        if low[axis] or high[axis]:
            size = x.aval.shape[axis]
            few(size + abs(low[axis]) + abs(high[axis]))
            at = np.pad(np.arange(size), (max(0, low[axis]), max(0, high[axis])), MODES[mode])
            at = at[max(0, -low[axis]) : len(at) - max(0, -high[axis])]
            x = b("Gather", x, b.constant(at, INT64), axis=axis)
    return x


@imports("CenterCropPad")
def import_center_crop_pad(site: Site, x: Node, shape: Node) -> Node:
    b, rank = site.build, len(x.aval.shape)
    wanted = b.sizes(shape, "the shape of its result")
    axes = [axis_of(axis, rank) for axis in site.integers("axes", range(rank))]
    for axis, size in zip(axes, wanted, strict=True):
        old = x.aval.shape[axis]
        if old >= size:
            first = (old - size) // 2
            x = b.slice(x, axis, first, first + size)
        else:
            low, high = [0] * rank, [0] * rank
            low[axis] = (size - old) // 2
            high[axis] = size - old - low[axis]
            x = b.pad(x, low, high, b.number(0, x))
    return x
