"""The tests for NaN and infinity, which JAX writes as comparisons."""

import math

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites

x = Any_("x")


@rewrites(Op("NotEqual", x, x))
def recognize_nan(root: CNode, x: Node) -> Node | None:
    """x != x is isnan(x)."""
    return apply("IsNan", x, origin=root.origin) if is_float(x) else None


@rewrites(Op("Equal", Op("Abs", x, users=0), Scalar("limit")))
def recognize_infinity(root: CNode, x: Node, limit: float) -> Node | None:
    """|x| == inf is isinf(x)."""
    if limit != math.inf or not is_float(x) or x.aval.shape != root.aval.shape:
        return None
    return apply("IsInf", x, origin=root.origin)


RULES: tuple[Rule, ...] = (recognize_nan, recognize_infinity)
