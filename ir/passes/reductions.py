"""Reductions that are one operator: logsumexp, and sums of magnitudes and of squares."""

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from fnckpt.ir.attributes import ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, Build, through
from fnckpt.ir.passes.fuse import is_wide_enough, reduced, sums
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites
from fnckpt.ir.sizes import all_known

Ints = tuple[int, ...]

x = Any_("x")

_GREATEST = reduced("ReduceMax", x, "a", users=2)
_SHIFT = Op(
    "Select", Op("IsFinite", _GREATEST), _GREATEST, Scalar(value=0.0), users=2, name="shift"
)

_CLIPPED = Op(
    "Minimum", Op("Maximum", _GREATEST, Scalar("low")), Scalar("high"), users=2, name="shift"
)


def fuse_log_sum_exp(
    root: CNode,
    x: Node,
    shift: Node,
    a: Ints,
    b: Ints,
    keep_a: bool,
    keep_b: bool,
    wide: np.dtype | None = None,
) -> Node | None:
    """m + log(|sum(exp(x - m))|) is logsumexp(x), with m = max(x), or 0 if that is not finite."""
    if a != b or not (keep_a and keep_b) or not is_float(x) or not is_wide_enough(x, a, wide):
        return None
    if any(x.aval.shape[i] == 0 for i in a):
        return None
    return apply("ReduceLogSumExp", x, origin=root.origin, axes=a, keepdims=True)


LOG_SUMS = tuple(
    Rule(Op("Add", Op("Log", Op("Abs", total)), Any_("shift")), fuse_log_sum_exp)
    for total in sums(Op("Exp", Op("Sub", x, _SHIFT)), "b")
)


def fuse_log_sum_exp_clipped(
    root: CNode, x: Node, low: float, high: float, **found: Any
) -> Node | None:
    """The same with m = max(x), brought to the nearest finite number, as ONNX files have it."""
    most = float(ml_dtypes.finfo(root.aval.dtype).max) if is_float(root) else math.nan
    return fuse_log_sum_exp(root, x, **found) if (low, high) == (-most, most) else None


LOG_SUMS_CLIPPED = tuple(
    Rule(Op("Add", Op("Log", total), Any_("shift")), fuse_log_sum_exp_clipped)
    for total in sums(Op("Exp", Op("Sub", x, _CLIPPED)), "b")
)


@rewrites("ReduceLogSumExp")
def compose_log_sum_exp(root: CNode) -> Node:
    """m + log(sum(exp(x - m))), with m = max(x), or 0 where that is not finite."""
    (x,), build = root.inputs, Build(root)
    if x.aval.dtype.itemsize == 2:
        return through(root, FLOAT32)
    along = {"axes": ints(root, "axes"), "keepdims": True}
    greatest = build("ReduceMax", x, **along)
    shift = build.where(build("IsFinite", greatest), greatest, build.number(0, x))
    total = build("ReduceSum", build("Exp", build("Sub", x, shift)), **along)
    return build.reshape(build("Add", build("Log", total), shift), root.aval.shape)


LEAST_OF_MEAN = 4096  # elements, below which a mean is as fast


def _of_all(of: str) -> Callable[..., Node | None]:
    """A rule for the sum or the mean of all elements of what ``of`` reduces in one walk."""

    def reduce_at_once(root: CNode, x: Node) -> Node | None:
        axes, build = ints(root, "axes"), Build(root)
        if x.aval.dtype not in (FLOAT32, FLOAT64) or len(axes) != len(x.aval.shape) or not axes:
            return None
        if root.op == "ReduceMean" and not (all_known(x.aval.shape) and _is_large(x)):
            return None
        total = build(of, x, **root.attrs)
        if root.op == "ReduceSum":
            return total
        return build("Mul", total, build.number(1 / math.prod(x.aval.shape), x))

    return reduce_at_once


def _is_large(x: Node) -> bool:
    return math.prod(x.aval.shape) >= LEAST_OF_MEAN


# Along some of the axes ONNX Runtime is no faster with them (docs/benchmarks.md).
AT_ONCE = tuple(
    Rule(Op(reduction, each), _of_all(of))
    for each, of in (
        (Op("Abs", x), "ReduceL1"),
        (Op("Square", x), "ReduceSumSquare"),
        (Op("Mul", x, x), "ReduceSumSquare"),
    )
    for reduction in ("ReduceSum", "ReduceMean")
)

RULES: tuple[Rule, ...] = (*LOG_SUMS, *LOG_SUMS_CLIPPED)
COMPOSE: tuple[Rule, ...] = (compose_log_sum_exp,)
