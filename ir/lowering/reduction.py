"""Primitives that reduce or scan along axes."""

from functools import partial

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Refusal, Site, lowers
from fnckpt.ir.lowering.shape import slice_

Ints = tuple[int, ...]

REDUCTIONS = {
    "reduce_and": "ReduceAll",
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_or": "ReduceAny",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
}

OF_BOOLS = {"ReduceMax": "ReduceAny", "ReduceMin": "ReduceAll"}

# What combines two halves, for reductions that no operator has.
BITWISE = {"reduce_and": "BitwiseAnd", "reduce_or": "BitwiseOr", "reduce_xor": "BitwiseXor"}

SCANS = {
    "cumlogsumexp": "CumLogSumExp",
    "cummax": "CumMax",
    "cummin": "CumMin",
    "cumprod": "CumProd",
    "cumsum": "CumSum",
}


def lower_reduction(primitive: str, site: Site, x: Node, *, axes: Ints) -> Node:
    if primitive in BITWISE and x.aval.dtype.kind != "b":
        return lower_halving(primitive, site, x, axes=axes)
    op = REDUCTIONS[primitive]
    op = OF_BOOLS.get(op, op) if x.aval.dtype.kind == "b" else op
    return site.apply(op, x, axes=tuple(sorted(axes)), keepdims=False) if axes else x


def lower_halving(primitive: str, site: Site, x: Node, *, axes: Ints) -> Node:
    """Combine the two halves of an axis until one element is left."""
    op = "LogicalXor" if x.aval.dtype.kind == "b" else BITWISE[primitive]
    for axis in axes:
        while x.aval.shape[axis] > 1:
            x = _halved(site, op, x, axis)
        if x.aval.shape[axis] == 0:
            raise Refusal("it reduces an axis without elements; give it at least one")
    return site.reshape(x, site.aval.shape)


def _halved(site: Site, op: str, x: Node, axis: int) -> Node:
    size = x.aval.shape[axis]
    first, second, rest = (
        _along(site, x, axis, *ends)
        for ends in ((0, size // 2), (size // 2, size // 2 * 2), (size // 2 * 2, size))
    )
    half = site.apply(op, first, second)
    return site.apply("Concat", half, rest, axis=axis) if size % 2 else half


def _along(site: Site, x: Node, axis: int, start: int, limit: int) -> Node:
    shape = x.aval.shape
    starts = tuple(start if i == axis else 0 for i in range(len(shape)))
    limits = tuple(limit if i == axis else n for i, n in enumerate(shape))
    return slice_(site, x, starts, limits, (1,) * len(shape))


for _primitive in REDUCTIONS:
    lowers(_primitive)(partial(lower_reduction, _primitive))
lowers("reduce_xor")(partial(lower_halving, "reduce_xor"))


# Equinox's reductions of all that there is, under vmap too: the conditions of its loops.
UNVMAP = {"unvmap_all": "reduce_and", "unvmap_any": "reduce_or", "unvmap_max": "reduce_max"}


def lower_unvmap(primitive: str, site: Site, x: Node) -> Node:
    return lower_reduction(primitive, site, x, axes=tuple(range(len(x.aval.shape))))


for _name, _primitive in UNVMAP.items():
    lowers(_name)(partial(lower_unvmap, _primitive))


def lower_scan(op: str, site: Site, x: Node, *, axis: int, reverse: bool) -> Node:
    return site.apply(op, x, axis=axis, reverse=reverse)


for _primitive, _op in SCANS.items():
    lowers(_primitive)(partial(lower_scan, _op))


def lower_arg(op: str, site: Site, x: Node, *, axes: Ints, index_dtype: np.dtype) -> Node:
    """Several axes are one after they are moved to the end and joined."""
    rest = tuple(i for i in range(len(x.aval.shape)) if i not in axes)
    if len(axes) == 1:
        return site.apply(op, x, axis=axes[0], dtype=site.aval.dtype)
    joined = site.reshape(
        site.transpose(x, (*rest, *axes)), (*site.aval.shape, x.aval.size // max(1, site.aval.size))
    )
    return site.apply(op, joined, axis=len(rest), dtype=site.aval.dtype)


lowers("argmax")(partial(lower_arg, "ArgMax"))
lowers("argmin")(partial(lower_arg, "ArgMin"))
