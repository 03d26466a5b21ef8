"""Operators that make one element of many, or find some."""

import math

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import INT32, Builder, axis_of
from fnckpt.ir.sources.source import Refusal

REDUCTIONS = ("ReduceAll", "ReduceAny", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
              "ReduceSum")  # fmt: skip
ARGS = {"ArgMaxV2": "ArgMax", "ArgMin": "ArgMin"}
ARGS_D = {"ArgMaxD": "ArgMax", "ArgMinD": "ArgMin"}
CUMULATIVE = {"Cumsum": "CumSum", "Cumprod": "CumProd", "CumulativeLogsumexp": "CumLogSumExp"}


def axes_of(x: Node, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Axes from the front, in order."""
    return tuple(sorted({axis_of(axis, len(x.aval.shape)) for axis in axes}))


@imports(*(f"{name}D" for name in REDUCTIONS))
def import_reduction_d(site: Site, x: Node) -> Node:
    return reduced(site, x, site.op.ints("axes"))


@imports(*REDUCTIONS)
def import_reduction(site: Site, x: Node, axes: Node) -> Node:
    return reduced(site, x, site.build.sizes(axes, "the axes that it reduces"))


def reduced(site: Site, x: Node, axes: tuple[int, ...]) -> Node:
    keep = site.op.flag("keep_dims")
    return site.build(site.kind.removesuffix("D"), x, axes=axes_of(x, axes), keepdims=keep)


@imports(*ARGS_D)
def import_arg_d(site: Site, x: Node) -> Node:
    return found_at(site, ARGS_D[site.kind], x, site.op.integer("dimension"))


@imports(*ARGS)
def import_arg(site: Site, x: Node, dimension: Node) -> Node:
    axis = site.build.size(dimension, "the axis that it looks through")
    return found_at(site, ARGS[site.kind], x, axis)


def found_at(site: Site, op: str, x: Node, axis: int) -> Node:
    dtype = site.op.dtype("dtype")
    return site.build(op, x, axis=axis_of(axis, len(x.aval.shape)), dtype=dtype)


@imports("ArgMaxWithValue", "ArgMinWithValue")
def import_arg_with_value(site: Site, x: Node) -> tuple[Node, ...]:
    b, axis = site.build, axis_of(site.op.integer("dimension"), len(x.aval.shape))
    keep, most = site.op.flag("keep_dims"), site.kind[3:6]
    index = b(f"Arg{most}", x, axis=axis, dtype=INT32)
    value = b(f"Reduce{most}", x, axes=(axis,), keepdims=keep)
    return (b.unsqueeze(index, axis) if keep else index), value


@imports(*(f"{name}D" for name in CUMULATIVE))
def import_cumulative_d(site: Site, x: Node) -> Node:
    return cumulative(site, x, site.op.integer("axis"))


@imports("Cumsum", "Cumprod")
def import_cumulative(site: Site, x: Node, axis: Node) -> Node:
    return cumulative(site, x, site.build.size(axis, "its axis"))


def cumulative(site: Site, x: Node, axis: int) -> Node:
    """With ``exclusive`` each place has what lies before it alone."""
    b, reverse = site.build, site.op.flag("reverse")
    op = CUMULATIVE[site.kind.removesuffix("D")]
    axis = axis_of(axis, len(x.aval.shape))
    if site.op.flag("exclusive"):
        size = x.aval.shape[axis]
        start = {"CumSum": 0.0, "CumProd": 1.0, "CumLogSumExp": -math.inf}[op]
        shape = (*x.aval.shape[:axis], 1, *x.aval.shape[axis + 1 :])
        first = b.full(shape, start, x)
        rest = b.slice(x, axis, *((1, size) if reverse else (0, size - 1)))
        x = b.concat([rest, first] if reverse else [first, rest], axis)
    return b(op, x, axis=axis, reverse=reverse)


@imports("TopK")
def import_top_k(site: Site, x: Node, k: Node) -> tuple[Node, ...]:
    return site.build.items("TopK", x, k=site.build.size(k, "how many it finds"))


@imports("TopKD")
def import_top_k_d(site: Site, x: Node, _: Node) -> tuple[Node, ...]:
    last = axis_of(site.op.integer("dim"), len(x.aval.shape)) == len(x.aval.shape) - 1
    if not last or not site.op.flag("largest"):
        raise Refusal(
            "it finds the least element, or works along another axis than the last; transpose or "
            "negate the input"
        )
    return site.build.items("TopK", x, k=site.op.integer("k"))


@imports("ReduceStd")
def import_std(site: Site, x: Node) -> tuple[Node, ...]:
    b, op = site.build, site.op
    axes = axes_of(x, op.ints("dim") or tuple(range(len(x.aval.shape))))
    mean = b("ReduceMean", x, axes=axes, keepdims=True)
    count = math.prod(x.aval.shape[axis] for axis in axes) - int(op.flag("unbiased"))
    total = b.sum(b("Square", b.sub(x, mean)), axes, op.flag("keepdim"))
    return b("Sqrt", b.div(total, count)), b.reshape(mean, total.aval.shape)


@imports("EuclideanNorm")
def import_euclidean_norm(site: Site, x: Node, axes: Node) -> Node:
    over = axes_of(x, site.build.sizes(axes, "the axes that it reduces"))
    return norm(site.build, x, over, site.op.flag("keep_dims"))


def norm(b: Builder, x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    """The root of the sum of squares."""
    return b("Sqrt", b.sum(b("Square", x), axes, keepdims))


@imports("L2Normalize")
def import_l2_normalize(site: Site, x: Node) -> Node:
    """By the norm, or by ``eps`` where that is greater."""
    b, axes = site.build, axes_of(x, site.op.ints("axis") or tuple(range(len(x.aval.shape))))
    least = float(np.float32(site.op.number("eps")))
    total = b.maximum(b.sum(b("Square", x), axes, keepdims=True), least)
    return b.mul(x, b("Rsqrt", total))


@imports("UnsortedSegmentSumD")
def import_segment_sum_d(site: Site, x: Node, segments: Node) -> Node:
    return segment_sum(site.build, x, segments, site.op.integer("num_segments"))


@imports("UnsortedSegmentSum")
def import_segment_sum(site: Site, x: Node, segments: Node, count: Node) -> Node:
    return segment_sum(site.build, x, segments, site.build.size(count, "how many segments it has"))


def segment_sum(b: Builder, x: Node, segments: Node, count: int) -> Node:
    """Rows that belong together are added; a negative segment is no one's."""
    rank = len(segments.aval.shape)
    start = b.full((count + 1, *x.aval.shape[rank:]), 0, x)
    index = b.where(b.compare("Less", segments, 0), b.number(count, segments), segments)
    found = b("ScatterNd", start, b.unsqueeze(index, rank), x, reduction="add")
    return b.slice(found, 0, 0, count)
