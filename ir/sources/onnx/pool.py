"""Pooling, with all that ONNX allows: dilation, a last window that is cut off, indices."""

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.sources.build import INT64, MOST_PARTS, Builder, few
from fnckpt.ir.sources.onnx.network import Pads, pads_of, reach_of, strides_of
from fnckpt.ir.sources.onnx.registry import Site, imports


@dataclass(frozen=True)
class Windows:
    """Where the windows lie; ``extra`` is padding behind for a last window that is cut off."""

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads
    extra: tuple[int, ...]

    @property
    def whole(self) -> Pads:
        """The padding of both kinds."""
        pairs = zip(self.pads, self.extra, strict=True)
        return tuple((low, high + more) for (low, high), more in pairs)

    @property
    def dense(self) -> bool:
        """Whether no window has gaps."""
        return all(step == 1 for step in self.dilation)


def windows_of(site: Site, x: Node) -> Windows:
    """The windows that the node's attributes say."""
    size = site.integers("kernel_shape")
    strides = strides_of(site, len(size))
    dilation = strides_of(site, len(size), "dilations")
    reach = reach_of(size, dilation)
    pads = pads_of(site, x.aval.shape[2:], reach, strides)
    extra = [0] * len(size)
    if site.flag("ceil_mode"):
        for axis, (low, high) in enumerate(pads):
            length, step = x.aval.shape[2 + axis], strides[axis]
            count = -(-(length + low + high - reach[axis]) // step) + 1
            if (count - 1) * step >= length + low:  # a window may not begin in the padding behind
                count -= 1
            needed = (count - 1) * step + reach[axis] - (length + low + high)
            extra[axis] = max(0, needed)
    return Windows(size, strides, dilation, pads, tuple(extra))


@imports("MaxPool")
def import_max_pool(site: Site, x: Node) -> Node | tuple[Node, ...]:
    b, windows = site.build, windows_of(site, x)
    if site.wants(1):
        return _with_indices(site, x, windows)
    if windows.dense:
        return b("MaxPool", x, window=windows.size, strides=windows.strides, pads=windows.whole)
    least = least_and_greatest(x.aval.dtype)[0]
    return reduce(lambda a, c: b("Maximum", a, c), parts_of(b, x, windows, least))


def parts_of(b: Builder, x: Node, windows: Windows, fill: np.generic) -> list[Node]:
    """For each place of a window what all windows see there."""
    few(*windows.size, most=MOST_PARTS)
    low, high = ([0, 0, *(pair[side] for pair in windows.whole)] for side in (0, 1))
    whole = b.pad(x, low, high, b.constant(fill))
    reach = reach_of(windows.size, windows.dilation)
    found: list[Node] = []
    for place in np.ndindex(*windows.size):
        part = whole
        for axis, (at, step, stride) in enumerate(
            zip(place, windows.dilation, windows.strides, strict=True), 2
        ):
            length = whole.aval.shape[axis] - reach[axis - 2]
            start = at * step
            part = b.slice(part, axis, start, start + length // stride * stride + 1, stride)
        found.append(part)
    return found


def _with_indices(site: Site, x: Node, windows: Windows) -> tuple[Node, ...]:
    """The greatest elements, and where in the whole array they are, the first of equal ones."""
    b, shape = site.build, x.aval.shape
    parts = b.stack(parts_of(b, x, windows, least_and_greatest(x.aval.dtype)[0]), len(shape))
    few(*shape)
    flat = np.arange(math.prod(shape)).reshape(shape)
    if site.integer("storage_order", 0):
        spatial = shape[2:]
        inner = np.arange(math.prod(spatial)).reshape(spatial[::-1]).T
        outer = np.arange(math.prod(shape[:2])).reshape(*shape[:2], *(1,) * len(spatial))
        flat = outer * math.prod(spatial) + inner
    places = b.stack(parts_of(b, b.constant(flat, INT64), windows, np.int64(-1)), len(shape))
    best = b.unsqueeze(b("ArgMax", parts, axis=len(shape), dtype=INT64), len(shape))
    found = [b("GatherElements", each, best, axis=len(shape)) for each in (parts, places)]
    values, indices = (b.reshape(each, each.aval.shape[:-1]) for each in found)
    return (values, indices)


@imports("MaxUnpool")
def import_max_unpool(site: Site, x: Node, indices: Node, shape: Node | None = None) -> Node:
    """Each element at the place that it was found at; 0 elsewhere."""
    b = site.build
    size = site.integers("kernel_shape")
    strides = strides_of(site, len(size))
    flat = site.integers("pads", (0,) * 2 * len(size))
    ends = zip(x.aval.shape[2:], strides, size, flat, flat[len(size) :], strict=False)
    inner = [(n - 1) * step - low - high + window for n, step, window, low, high in ends]
    own = (*x.aval.shape[:2], *inner)
    wanted = own if shape is None else b.sizes(shape, "the shape of its result")
    places = b.reshape(indices, (x.aval.size,))
    if tuple(wanted) != own:
        few(*wanted)
        grid = np.arange(math.prod(wanted)).reshape(wanted)
        corner = grid[tuple(slice(0, n) for n in own)].reshape(-1)
        places = b("Gather", b.constant(corner, INT64), places, axis=0)
    zeros = b.full((math.prod(wanted),), 0, x)
    rows = b.unsqueeze(places, 1)
    found = b("ScatterNd", zeros, rows, b.reshape(x, (x.aval.size,)), reduction="")
    return b.reshape(found, wanted)


@imports("AveragePool")
def import_average_pool(site: Site, x: Node) -> Node:
    b, windows = site.build, windows_of(site, x)
    counted = site.flag("count_include_pad")
    plain = not any(windows.extra) and windows.dense
    if plain or (windows.dense and not counted):
        return b("AvgPool", x, window=windows.size, strides=windows.strides, pads=windows.whole,
                 count_padding=counted)  # fmt: skip
    total = summed(b, x, windows)
    few(*(size + sum(ends) for size, ends in zip(x.aval.shape[2:], windows.pads, strict=True)))
    ones = np.ones(x.aval.shape[2:], x.aval.dtype)
    pads = windows.pads if counted else ((0, 0),) * len(windows.size)
    there = b.constant(np.pad(ones, pads, constant_values=1)[None, None])
    left = zip(windows.whole, pads, strict=True)
    rest = tuple((low - a, high - c) for (low, high), (a, c) in left)
    around = Windows(windows.size, windows.strides, windows.dilation, rest, (0,) * len(rest))
    return b.div(total, summed(b, there, around))


def summed(b: Builder, x: Node, windows: Windows) -> Node:
    """What lies in each window, padding as 0."""
    return reduce(b.add, parts_of(b, x, windows, x.aval.dtype.type(0)))


@imports("LpPool")
def import_lp_pool(site: Site, x: Node) -> Node:
    b, windows, order = site.build, windows_of(site, x), site.integer("p", 2)
    powers = b("Abs", x) if order == 1 else b("Pow", b("Abs", x), b.number(order, x))
    return _root(b, summed(b, powers, windows), order)


def _root(b: Builder, x: Node, order: int) -> Node:
    return x if order == 1 else b("Pow", x, b.number(1 / order, x))


def _over_space(x: Node) -> tuple[int, ...]:
    return tuple(range(2, len(x.aval.shape)))


GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}


@imports(*GLOBAL)
def import_global_pool(site: Site, x: Node) -> Node:
    return site.build(GLOBAL[site.node.op_type], x, axes=_over_space(x), keepdims=True)


@imports("GlobalLpPool")
def import_global_lp_pool(site: Site, x: Node) -> Node:
    b, order = site.build, site.integer("p", 2)
    powers = b("Abs", x) if order == 1 else b("Pow", b("Abs", x), b.number(order, x))
    return _root(b, b.sum(powers, _over_space(x), keepdims=True), order)
