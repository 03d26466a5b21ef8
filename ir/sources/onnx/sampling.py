"""Operators that read images between their elements: DeformConv and RoiAlign."""

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64, Builder, few
from fnckpt.ir.sources.onnx.registry import DATA, Site, imports
from fnckpt.ir.sources.source import Refusal

Tap = tuple[Node, Node]
"""The index of an element, and its weight."""


def neighbours(b: Builder, at: Node, size: int) -> list[Tap]:
    """The two elements around a place; one that is outside has the weight 0."""
    below = b("Floor", at)
    rest = b.sub(at, below)
    taps: list[Tap] = []
    for place, weight in ((below, b.sub(b.number(1, at), rest)), (b.add(below, 1), rest)):
        inside = b("LogicalAnd", b.compare("GreaterEqual", place, 0),
                   b.compare("LessEqual", place, size - 1))  # fmt: skip
        index = b.cast(b("Clip", place, low=0.0, high=size - 1.0), INT64)
        taps.append((index, b.where(inside, weight, 0)))
    return taps


def read(b: Builder, x: Node, rows: Sequence[Tap], columns: Sequence[Tap]) -> list[Node]:
    """Weighted elements of the last two axes of ``x``, for each pair of a row and a column.

    Places have the axes of ``x`` but the last three, then any; the third last is repeated.
    """
    rank, (height, width) = len(x.aval.shape), x.aval.shape[-2:]
    flat = b.reshape(x, (*x.aval.shape[:-2], height * width))
    found: list[Node] = []
    for (row, above), (column, left) in product(rows, columns):
        index = b.add(b.mul(row, width), column)
        lead, places = index.aval.shape[: rank - 3], index.aval.shape[rank - 3 :]
        whole = (*flat.aval.shape[:-1], prod(places))
        index = b.broadcast(b.reshape(index, (*lead, 1, prod(places))), whole)
        elements = b("GatherElements", flat, index, axis=rank - 2)
        weight = b.reshape(b.mul(above, left), (*lead, 1, prod(places)))
        part = b.mul(elements, b.cast(weight, x.aval.dtype))
        found.append(b.reshape(part, (*flat.aval.shape[:-1], *places)))
    return found


def added(b: Builder, parts: Sequence[Node]) -> Node:
    """The sum of several."""
    total = parts[0]
    for part in parts[1:]:
        total = b.add(total, part)
    return total


@imports("DeformConv", since=19)
def import_deform_conv(
    site: Site, x: Node, w: Node, offset: Node, bias: Node | None = None, mask: Node | None = None
) -> Node:
    """Columns of moved elements times the kernel."""
    b = site.build
    if len(x.aval.shape) != 4:
        raise Refusal("its images do not have two axes of space")
    batch, channels = x.aval.shape[:2]
    window, out = w.aval.shape[2:], offset.aval.shape[2:]
    groups, parts = site.integer("group", 1), site.integer("offset_group", 1)
    moves = b.reshape(offset, (batch, parts, *window, 2, *out))
    image = b.reshape(x, (batch, parts, channels // parts, *x.aval.shape[2:]))
    taps = [neighbours(b, _place(site, b.at(moves, 4, axis), window, out, axis), size)
            for axis, size in enumerate(x.aval.shape[2:])]  # fmt: skip
    columns = added(b, read(b, image, *taps))  # [batch, parts, channels / parts, *window, *out]
    if mask is not None:
        columns = b.mul(columns, b.reshape(mask, (batch, parts, 1, *window, *out)))
    own, count = channels // groups * prod(window), w.aval.shape[0]
    columns = b.reshape(columns, (batch, groups, own, prod(out)))
    found = b.matmul(b.reshape(w, (1, groups, count // groups, own)), columns)
    found = b.reshape(found, (batch, count, *out))
    return found if bias is None else b.add(found, b.reshape(bias, (count, 1, 1)))


def _place(site: Site, move: Node, window: Sequence[int], out: Sequence[int], axis: int) -> Node:
    """Where each element of a window is read along an axis of space."""
    stride = site.integers("strides", (1, 1))[axis]
    step, before = site.integers("dilations", (1, 1))[axis], site.integers("pads", (0,) * 4)[axis]
    taps, places = np.arange(window[axis]) * step, np.arange(out[axis]) * stride - before
    shapes = [[size if i == axis else 1 for i in range(2)] for size in (window[axis], out[axis])]
    grid = taps.reshape(*shapes[0], 1, 1) + places.reshape(1, 1, *shapes[1])
    return site.build.add(move, site.build.constant(grid, move.aval.dtype))


@imports("RoiAlign", since=10)
def import_roi_align(site: Site, x: Node, regions: Node, batch: Node) -> Node:
    """Means, or greatest parts, of elements read on a grid in each cell of each region."""
    b = site.build
    samples = site.integer("sampling_ratio", 0)
    if samples <= 0:
        raise Refusal(f"how many elements it reads follows from its regions; {DATA}")
    default = "half_pixel" if site.opset >= 16 else "output_half_pixel"
    half = site.text("coordinate_transformation_mode", default) == "half_pixel"
    goal = (site.integer("output_height", 1), site.integer("output_width", 1))
    few(*goal, samples, samples)
    scaled = b.mul(regions, site.number("spatial_scale", 1.0))
    scaled = b.sub(scaled, 0.5) if half else scaled
    taps: list[list[Tap]] = []
    for axis in range(2):
        start, end = (b.slice(scaled, 1, at, at + 1) for at in (1 - axis, 3 - axis))
        length = b.sub(end, start)
        length = length if half else b.maximum(length, 1)
        steps = (np.arange(goal[axis] * samples) + 0.5) / (goal[axis] * samples)
        at = b.add(start, b.mul(length, b.constant(steps[None], x.aval.dtype)))
        taps.append(_in_region(b, at, x.aval.shape[2 + axis], axis))
    images = b("Gather", x, b.cast(batch, INT64), axis=0)
    parts = read(b, images, *taps)
    cells = (*images.aval.shape[:2], goal[0], samples, goal[1], samples)
    if site.text("mode", "avg") == "avg":
        return b("ReduceMean", b.reshape(added(b, parts), cells), axes=(3, 5), keepdims=False)
    most = parts[0]
    for part in parts[1:]:
        most = b.maximum(most, part)
    return b("ReduceMax", b.reshape(most, cells), axes=(3, 5), keepdims=False)


def _in_region(b: Builder, at: Node, size: int, axis: int) -> list[Tap]:
    """The elements around places; up to one place outside counts as the edge, farther as 0."""
    far = b("LogicalOr", b.compare("Less", at, -1.0), b.compare("Greater", at, float(size)))
    taps = neighbours(b, b("Clip", at, low=0.0, high=size - 1.0), size)
    return [
        (b.unsqueeze(index, 2 - axis), b.unsqueeze(b.where(far, b.number(0, w), w), 2 - axis))
        for index, w in taps
    ]
