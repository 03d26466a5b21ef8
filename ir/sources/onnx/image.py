"""Images at other sizes and other places: Resize, Upsample, GridSample, Col2Im."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import all_known
from fnckpt.ir.sources.build import FLOAT32, INT32, INT64, Builder, axis_of, few
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal

Array = np.ndarray


@dataclass(frozen=True)
class Resizing:
    """How one axis is resized: its old and new size, the factor as the file says it."""

    old: int
    new: int
    scale: float
    start: float
    end: float


@imports("Resize", since=11)
def import_resize(
    site: Site,
    x: Node,
    roi: Node | None = None,
    scales: Node | None = None,
    sizes: Node | None = None,
) -> Node:
    b, rank = site.build, len(x.aval.shape)
    axes = [axis_of(axis, rank) for axis in site.integers("axes", range(rank))]
    old = [x.aval.shape[axis] for axis in axes]
    if not all_known(old):
        raise Refusal("it resizes an axis of symbolic size; give a number for it")
    factors = floats(site, scales, "its scales")
    if factors:
        new = [math.floor(size * factor) for size, factor in zip(old, factors, strict=True)]
    elif sizes is not None:
        wanted = b.sizes(sizes, "its sizes")
        new, factors = aspect(site.text("keep_aspect_ratio_policy", "stretch"), old, wanted)
    else:
        raise Refusal("it has neither scales nor sizes; the file is not valid")
    crop = site.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    ends = floats(site, roi if crop else None, "its region") or [0.0] * len(axes) + [1.0] * len(
        axes
    )
    each = [
        Resizing(*row)
        for row in zip(old, new, factors, ends[: len(axes)], ends[len(axes) :], strict=True)
    ]
    return resized(site, x, dict(zip(axes, each, strict=True)))


def floats(site: Site, node: Node | None, what: str) -> list[float]:
    """The numbers of an optional vector; none where it is not there."""
    if node is None or node.aval.size == 0:
        return []
    return [float(each) for each in site.build.asked(node, what).reshape(-1).tolist()]


def aspect(policy: str, old: Sequence[int], wanted: Sequence[int]) -> tuple[list[int], list[float]]:
    """The new sizes and factors under a policy of the aspect ratio."""
    factors = [new / size for new, size in zip(wanted, old, strict=True)]
    if policy == "stretch":
        return list(wanted), factors
    factor = min(factors) if policy == "not_larger" else max(factors)
    return [math.floor(size * factor + 0.5) for size in old], [factor] * len(old)


@imports("Resize", since=10)
def import_resize_10(site: Site, x: Node, scales: Node) -> Node:
    return upsampled(site, x, floats(site, scales, "its scales"))


@imports("Upsample", since=9)
def import_upsample(site: Site, x: Node, scales: Node) -> Node:
    return upsampled(site, x, floats(site, scales, "its scales"))


@imports("Upsample", since=7)
def import_upsample_7(site: Site, x: Node) -> Node:
    return upsampled(site, x, site.numbers("scales"))


def upsampled(site: Site, x: Node, factors: Sequence[float]) -> Node:
    """As Resize was before it had modes of coordinates: asymmetric ones."""
    pairs = list(zip(x.aval.shape, factors, strict=True))
    each = [Resizing(old, math.floor(old * f), f, 0.0, 1.0) for old, f in pairs]
    return resized(site, x, dict(enumerate(each)))


def resized(site: Site, x: Node, axes: dict[int, Resizing]) -> Node:
    """``x`` resized axis by axis: by its nearest elements, or by a matrix of weights."""
    b, own = site.build, x.aval.dtype
    mode = site.text("mode", "nearest")
    outside: Node | None = None
    x = x if mode == "nearest" or own.kind not in "iu" else b.cast(x, FLOAT32)
    crop = site.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
    rank = len(x.aval.shape)
    for axis, how in axes.items():
        if how.old == how.new and how.scale == 1 and not crop:
            continue
        places = coordinates(site, how)
        if mode == "nearest":
            x = b("Gather", x, b.constant(nearest(site, places, how.old), INT64), axis=axis)
        else:
            matrix = weights(site, mode, places, how).astype(x.aval.dtype)
            x = b.moved(b.matmul(b.moved(x, axis, rank - 1), b.constant(matrix.T)), rank - 1, axis)
        if crop:
            beyond = (places < 0) | (places > how.old - 1)
            line = b.constant(beyond.reshape(-1, *(1,) * (rank - axis - 1)))
            outside = line if outside is None else b("LogicalOr", outside, line)
    if outside is not None:
        x = b.where(outside, b.number(site.number("extrapolation_value", 0.0), x), x)
    if own.kind in "iu" and mode != "nearest":
        info = np.iinfo(own)
        x = b("Clip", b("Round", x), low=float(info.min), high=float(info.max))
    return b.cast(x, own)


def coordinates(site: Site, how: Resizing) -> Array:
    """Where each new element lies in the old axis."""
    few(how.old, how.new)
    default = "half_pixel" if site.node.op_type == "Resize" and site.opset >= 11 else "asymmetric"
    mode = site.text("coordinate_transformation_mode", default)
    at, old, new, scale = np.arange(how.new, dtype=np.float64), how.old, how.new, how.scale
    if mode == "asymmetric":
        return at / scale
    if mode == "align_corners":
        return at * (old - 1) / (old * scale - 1) if new > 1 else at * 0
    if mode == "pytorch_half_pixel" and new == 1:
        return at * 0 - 0.5
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (at + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return old / 2 * (1 - new / (scale * old)) + (at + 0.5) / scale - 0.5
    if mode == "tf_crop_and_resize":
        if new == 1:
            return at + (how.end - how.start) * (old - 1) / 2
        return how.start * (old - 1) + at * (how.end - how.start) * (old - 1) / (new - 1)
    raise Refusal(f"there is no rule for its coordinates {mode}")


def nearest(site: Site, places: Array, size: int) -> Array:
    """The element nearest to each place."""
    default = (
        "round_prefer_floor" if site.node.op_type == "Resize" and site.opset >= 11 else "floor"
    )
    how = site.text("nearest_mode", default)
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[how]
    return np.clip(rounded, 0, size - 1).astype(np.int64)


def weights(site: Site, mode: str, places: Array, how: Resizing) -> Array:
    """``[new, old]``: how much each old element counts for a new one; edges are repeated."""
    narrow = min(how.scale, 1.0) if site.flag("antialias") else 1.0
    reach = 1 if mode == "linear" else 2
    first = math.floor(-reach / narrow) + 1
    few(how.new, 2 - 2 * first)
    taps = np.arange(first, 2 - first)
    below = np.floor(places)
    offsets = (taps[None, :] - (places - below)[:, None]) * narrow
    kernel = triangle if mode == "linear" else cubic
    part = kernel(offsets, site.number("cubic_coeff_a", -0.75))
    index = below[:, None].astype(np.int64) + taps[None, :]
    if site.flag("exclude_outside"):
        part = np.where((index >= 0) & (index < how.old), part, 0)
    if site.flag("exclude_outside") or narrow != 1:
        part = part / part.sum(1, keepdims=True)
    found = np.zeros((how.new, how.old))
    rows = np.broadcast_to(np.arange(how.new)[:, None], index.shape)
    np.add.at(found, (rows, np.clip(index, 0, how.old - 1)), part)
    return found


def triangle(x: Array, _: float) -> Array:
    """1 at 0, 0 from 1 on."""
    return np.maximum(1 - np.abs(x), 0)


def cubic(x: Array, a: float) -> Array:
    """The kernel of Keys, 0 from 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


# ------------------------------------------------------------------------------------- GridSample


@imports("GridSample")
def import_grid_sample(site: Site, x: Node, grid: Node) -> Node:
    b = site.build
    sizes = x.aval.shape[2:]
    rank = len(sizes)
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(site.text("mode", "linear"), "")
    mode = mode or site.text("mode", "linear")
    corners = site.flag("align_corners")
    taps = [
        taps_of(site, mode, placed(b, b.at(grid, rank + 1, rank - 1 - axis), size, corners), size)
        for axis, size in enumerate(sizes)
    ]
    n, shape = x.aval.shape[0], grid.aval.shape[:-1]
    last = b.moved(x, 1, rank + 1)
    own = b.broadcast(b.reshape(b.counted(n), (n, *(1,) * rank)), shape)
    total: Node | None = None
    for choice in itertools.product(*taps):
        index = b.stack([own, *(place for place, _ in choice)], rank + 1)
        part = b("GatherNd", last, index)
        for _, weight in choice:
            part = b.mul(part, b.cast(b.unsqueeze(weight, rank + 1), x.aval.dtype))
        total = part if total is None else b.add(total, part)
    assert total is not None
    return b.moved(total, rank + 1, 1)


def placed(b: Builder, at: Node, size: int, corners: bool) -> Node:
    """-1 to 1 as a place of the axis: its corners are the centres, or the edges, of the ends."""
    grown = b.add(at, 1)
    if corners:
        return b.mul(grown, (size - 1) / 2)
    return b.div(b.sub(b.mul(grown, size), 1), 2)


def taps_of(site: Site, mode: str, at: Node, size: int) -> list[tuple[Node, Node]]:
    """The elements that a place is computed from, each with its weight."""
    b = site.build
    padding, corners = site.text("padding_mode", "zeros"), site.flag("align_corners")
    ends = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
    if padding == "border":
        at = at if mode == "cubic" else b("Clip", at, low=0.0, high=size - 1.0)
    elif padding == "reflection" and mode != "cubic":
        at = reflected(b, at, *ends)
    if mode == "nearest":
        whole = b("Round", at)
        return [inside(site, whole, b.number(1, at), size)]
    below = b("Floor", at)
    rest = b.sub(at, below)
    offsets = (0, 1) if mode == "linear" else (-1, 0, 1, 2)
    found: list[tuple[Node, Node]] = []
    for offset in offsets:
        distance = b("Abs", b.sub(rest, offset))
        weight = (
            b.sub(b.number(1, at), distance) if mode == "linear" else kernel(b, distance, offset)
        )
        found.append(inside(site, b.add(below, offset), weight, size))
    return found


def kernel(b: Builder, x: Node, offset: int) -> Node:
    """The cubic kernel at distances of which it is known whether they are below 1."""
    a = -0.75
    if offset in (0, 1):
        inner = b.sub(b.mul(x, a + 2), a + 3)
        return b.add(b.mul(b.mul(inner, x), x), 1)
    return b.sub(b.mul(b.add(b.mul(b.sub(b.mul(x, a), 5 * a), x), 8 * a), x), 4 * a)


def inside(site: Site, at: Node, weight: Node, size: int) -> tuple[Node, Node]:
    """A place inside the axis, and the weight: 0 outside where the padding is 0."""
    b = site.build
    padding, corners = site.text("padding_mode", "zeros"), site.flag("align_corners")
    if padding == "reflection":
        at = reflected(b, at, *((0.0, size - 1.0) if corners else (-0.5, size - 0.5)))
    if padding == "zeros":
        there = b(
            "LogicalAnd", b.compare("GreaterEqual", at, 0), b.compare("LessEqual", at, size - 1)
        )
        weight = b.where(there, b.broadcast(weight, at.aval.shape), b.number(0, weight))
    whole = b.cast(b("Clip", at, low=0.0, high=size - 1.0), INT32)
    return b.cast(whole, INT64), b.broadcast(weight, at.aval.shape)


def reflected(b: Builder, at: Node, low: float, high: float) -> Node:
    """A place brought between two ends by turning round at them."""
    span = high - low
    if span == 0:
        return b.full(at.aval.shape, 0, at)
    distance = b("Abs", b.sub(at, low))
    turns = b("Floor", b.div(distance, span))
    rest = b.sub(distance, b.mul(turns, span))
    odd = b.compare("Equal", b("Rem", turns, b.number(2, turns)), 1)
    return b.add(b.where(odd, b.sub(b.number(span, rest), rest), rest), low)


# ------------------------------------------------------------------------------------------ Col2Im


@imports("Col2Im")
def import_col2im(site: Site, x: Node, image: Node, block: Node) -> Node:
    """Each column painted where it was seen; what lies on each other is summed."""
    b = site.build
    sizes, window = b.sizes(image, "the image's shape"), b.sizes(block, "the block's shape")
    rank = len(sizes)
    dilation, strides = (site.integers(each, (1,) * rank) for each in ("dilations", "strides"))
    pads = site.integers("pads", (0,) * 2 * rank)
    grown = [size + pads[i] + pads[rank + i] for i, size in enumerate(sizes)]
    counts = [(g - (w - 1) * d - 1) // s + 1
              for g, w, d, s in zip(grown, window, dilation, strides, strict=True)]  # fmt: skip
    few(*window, *counts)
    n, blocks = x.aval.shape[:2]
    channels = blocks // math.prod(window)
    grids = [np.arange(w)[:, None] * d + np.arange(c)[None, :] * s
             for w, d, c, s in zip(window, dilation, counts, strides, strict=True)]  # fmt: skip
    axes: list[Array] = []
    for axis, grid in enumerate(grids):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = grid.shape
        axes.append(np.broadcast_to(grid.reshape(shape), (*window, *counts)).reshape(-1))
    flat = np.zeros(axes[0].shape, np.int64)
    for places, size in zip(axes, grown, strict=True):
        flat = flat * size + places
    columns = b.transpose(b.reshape(x, (n * channels, flat.size)), (1, 0))
    zeros = b.full((math.prod(grown), n * channels), 0, x)
    painted = b("ScatterNd", zeros, b.constant(flat[:, None], INT64), columns, reduction="add")
    whole = b.reshape(b.transpose(painted, (1, 0)), (n, channels, *grown))
    for axis, size in enumerate(sizes):
        whole = b.slice(whole, 2 + axis, pads[axis], pads[axis] + size)
    return whole
