"""Reductions over windows: pooling, channels first."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Site, lowers
from fnckpt.ir.lowering.shape import dilate, pad, slice_
from fnckpt.ir.operators import constant
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.sizes import all_known

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]


@lowers("reduce_window_max")
def lower_window_max(
    site: Site,
    x: Node,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Node:
    least = constant(least_and_greatest(x.aval.dtype)[0])
    x = dilate(site, x, least, tuple(step - 1 for step in base_dilation))
    plain = all(s == 1 for s in window_dilation) and all(min(p) >= 0 for p in padding)
    if plain and x.aval.dtype.kind not in "biu":
        return pooled(site, "MaxPool", x, window_dimensions, window_strides, padding)
    padded = pad(site, x, least, padding)
    op = "LogicalOr" if x.aval.dtype.kind == "b" else "Maximum"
    return combined(site, op, padded, window_dimensions, window_strides, window_dilation)


@lowers("reduce_window_min")
def lower_window_min(
    site: Site,
    x: Node,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Node:
    greatest = constant(least_and_greatest(x.aval.dtype)[1])
    x = dilate(site, x, greatest, tuple(step - 1 for step in base_dilation))
    plain = all(s == 1 for s in window_dilation) and all(min(p) >= 0 for p in padding)
    if plain and x.aval.dtype.kind not in "biu":
        turned = site.apply("Neg", x)
        window = (window_dimensions, window_strides, padding)
        return site.apply("Neg", pooled(site, "MaxPool", turned, *window))
    padded = pad(site, x, greatest, padding)
    op = "LogicalAnd" if x.aval.dtype.kind == "b" else "Minimum"
    return combined(site, op, padded, window_dimensions, window_strides, window_dilation)


@lowers("reduce_window_sum")
def lower_window_sum(
    site: Site,
    x: Node,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Node:
    """The mean of each window times its area; integers add up slices, which is exact."""
    x = dilate(site, x, site.constant(0, x), tuple(step - 1 for step in base_dilation))
    plain = all(s == 1 for s in window_dilation) and all(min(p) >= 0 for p in padding)
    if plain and x.aval.dtype.kind not in "iu":
        window = (window_dimensions, window_strides, padding)
        mean = pooled(site, "AvgPool", x, *window, count_padding=True)
        area = math.prod(window_dimensions)
        return site.apply("Mul", mean, site.constant(area, mean)) if area > 1 else mean
    padded = pad(site, x, site.constant(0, x), padding)
    return combined(site, "Add", padded, window_dimensions, window_strides, window_dilation)


def pooled(
    site: Site, op: str, x: Node, window: Ints, strides: Ints, padding: Pads, **attrs: bool
) -> Node:
    """``x`` pooled over the axes whose window is not one element.

    Those axes go last; what is left before them becomes batch and channels. An image of which only
    one axis has windows stays an image.
    """
    if all_known(site.aval.shape) and not site.aval.size:  # a window larger than its input
        return constant(np.zeros(site.aval.shape, site.aval.dtype))
    rank = len(window)
    inside = [
        window[i] == 1 and strides[i] == 1 and tuple(padding[i]) == (0, 0) for i in range(rank)
    ]
    spatial = tuple(i for i in range(rank) if not inside[i])
    if not spatial:
        return x
    if rank == 4 and (spatial == (3,) or (spatial == (2,) and x.aval.shape[:2] == (1, 1))):
        spatial = (2, 3)
    others = tuple(i for i in range(rank) if i not in spatial)
    moved = site.transpose(x, (*others, *spatial))
    kept = moved.aval.shape[: len(others)]
    channels_first = (
        (1,) * (2 - len(kept)) + kept if len(kept) <= 2 else (math.prod(kept[:-1]), kept[-1])
    )
    result = site.apply(
        op,
        site.reshape(moved, (*channels_first, *moved.aval.shape[len(others) :])),
        window=tuple(window[i] for i in spatial),
        strides=tuple(strides[i] for i in spatial),
        pads=tuple((int(padding[i][0]), int(padding[i][1])) for i in spatial),
        **attrs,
    )
    shaped = site.reshape(result, (*kept, *result.aval.shape[2:]))
    order = (*others, *spatial)
    return site.transpose(shaped, tuple(order.index(i) for i in range(rank)))


def combined(site: Site, op: str, x: Node, window: Ints, strides: Ints, dilation: Ints) -> Node:
    """``op`` over the elements of each window, one strided slice of ``x`` for each."""
    if all_known(site.aval.shape) and not site.aval.size:  # a window larger than its input
        return constant(np.zeros(site.aval.shape, site.aval.dtype))
    result: Node | None = None
    for place in product(*map(range, window)):
        start = tuple(at * step for at, step in zip(place, dilation, strict=True))
        count = site.aval.shape
        limit = tuple(s + (n - 1) * t + 1 for s, n, t in zip(start, count, strides, strict=True))
        part = slice_(site, x, start, limit, strides)
        result = part if result is None else site.apply(op, result, part)
    assert result is not None
    return result
