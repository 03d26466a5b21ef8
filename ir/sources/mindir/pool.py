"""Pools."""

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64, few
from fnckpt.ir.sources.mindir.network import mode_of, pads_of, spatial
from fnckpt.ir.sources.mindir.registry import Site, Value, imports
from fnckpt.ir.sources.source import Refusal


@imports("MaxPool", "MaxPool3D", "AvgPool", "AvgPool3D")
def import_pool(site: Site, x: Node, *_: Value) -> Node:
    rank = len(x.aval.shape) - 2
    window = spatial(site.get("kernel_size"), rank)
    strides = spatial(site.get("strides"), rank)
    mode = mode_of(site.get("pad_mode", "VALID"))
    pads = pads_of(site, mode, x.aval.shape[2:], window, strides, (1,) * rank)
    if bool(site.attributes.get("ceil_mode", False)):
        raise Refusal("its last window is cut off (ceil_mode); pad the input")
    if site.op.startswith("Max"):
        return site.build("MaxPool", x, window=window, strides=strides, pads=pads)
    counted = bool(site.attributes.get("count_include_pad", False))
    return site.build(
        "AvgPool", x, window=window, strides=strides, pads=pads, count_padding=counted
    )


def windows(size: int, goal: int) -> list[tuple[int, int]]:
    """Where each of ``goal`` windows over ``size`` elements begins and ends."""
    few(size, goal)
    return [(at * size // goal, -(-(at + 1) * size // goal)) for at in range(goal)]


def goals(site: Site, value: Value, x: Node, rank: int) -> list[tuple[int, int]]:
    """The axes of space and their new sizes; None, or a number below 0, keeps one."""
    numbers = value if isinstance(value, tuple) else (value,)
    numbers = (numbers * rank if len(numbers) == 1 else numbers)[-rank:]
    first = len(x.aval.shape) - rank
    return [
        (first + i, int(goal))
        for i, goal in enumerate(numbers)
        if goal is not None and int(goal) >= 0
    ]


@imports("AdaptiveAvgPool2D", "AdaptiveAvgPool3D")
def import_adaptive_mean(site: Site, x: Node, *_: Value) -> Node:
    """Means as products with matrices: a row holds the part of its elements."""
    b, rank = site.build, len(x.aval.shape)
    for axis, goal in goals(site, site.attributes["output_size"], x, int(site.op[-2])):
        size = x.aval.shape[axis]
        matrix = np.zeros((size, goal), x.aval.dtype)
        for at, (first, last) in enumerate(windows(size, goal)):
            matrix[first:last, at] = 1 / (last - first)
        x = b.moved(b.matmul(b.moved(x, axis, rank - 1), b.constant(matrix)), rank - 1, axis)
    return x


@imports("AdaptiveMaxPool2D")
def import_adaptive_max(site: Site, x: Node, *given: Value) -> tuple[Node, None]:
    """The greatest of elements gathered window by window; where they were is not imported."""
    b = site.build
    wanted = given[0] if given else site.attributes["output_size"]
    for axis, goal in goals(site, wanted, x, 2):
        ends = windows(x.aval.shape[axis], goal)
        most = max(last - first for first, last in ends)
        places = [[min(first + i, last - 1) for i in range(most)] for first, last in ends]
        parts = b("Gather", x, b.constant(places, INT64), axis=axis)
        x = b("ReduceMax", parts, axes=(axis + 1,), keepdims=False)
    return x, None
