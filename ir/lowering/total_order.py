"""Comparisons in the order in which JAX sorts: -0.0 before 0.0, and NaN after infinity."""

import math

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.lowering.registry import Site, lowers


def less_in_total_order(site: Site, x: Node, y: Node) -> Node:
    """Whether ``x`` sorts before ``y``."""
    if x.aval.dtype.kind in "biu":
        return site.apply("Less", x, y)
    one, two = _of_one_sign(x), _of_one_sign(y)
    if one is None or two is None:
        less = _or_zeros(site, site.apply("Less", x, y), x, y)
    else:
        x, y = one, two
        less = site.apply("Less", x, y)
    last = site.apply("LogicalAnd", site.apply("Equal", x, x), site.apply("IsNan", y))
    return site.apply("LogicalOr", less, last)


lowers("lt_to")(less_in_total_order)


def _or_zeros(site: Site, less: Node, x: Node, y: Node) -> Node:
    turned = site.apply("Less", site.apply("Reciprocal", x), site.apply("Reciprocal", y))
    zeros = site.apply("LogicalAnd", _is_zero(site, x), _is_zero(site, y))
    return site.apply("LogicalOr", less, site.apply("LogicalAnd", zeros, turned))


def _is_zero(site: Site, x: Node) -> Node:
    return site.apply("Equal", x, site.constant(0, x))


@lowers("le_to")
def lower_le_to(site: Site, x: Node, y: Node) -> Node:
    """What does not sort after; the order is total."""
    one, two = _of_one_sign(x), _of_one_sign(y)
    if one is None or two is None:
        return site.apply("LogicalNot", less_in_total_order(site, y, x))
    return site.apply("LogicalOr", site.apply("LessEqual", one, two), site.apply("IsNan", two))


@lowers("eq_to")
def lower_eq_to(site: Site, x: Node, y: Node) -> Node:
    """What sorts neither before nor after."""
    before, after = less_in_total_order(site, x, y), less_in_total_order(site, y, x)
    return site.apply("LogicalNot", site.apply("LogicalOr", before, after))


def _of_one_sign(node: Node) -> Node | None:
    """The x of which all zeros became 0.0 and all NaN one NaN, as JAX does before it compares.

    Of such an x zeros of both signs are equal, and NaN has no sign: x itself may be compared.
    """
    inner = _instead_of(node, math.nan)
    x = None if inner is None else _instead_of(inner, 0.0)
    if inner is None or x is None:
        return None
    is_nan, is_zero = _test(node), _test(inner)
    if is_nan is None or is_zero is None or (is_nan.op, is_zero.op) != ("NotEqual", "Equal"):
        return None
    of_x = (*is_nan.inputs, is_zero.inputs[0])
    return x if all(each is x for each in of_x) and _is(is_zero.inputs[1], 0.0) else None


def _instead_of(node: Node, number: float) -> Node | None:
    """The x of ``where(test, number, x)``."""
    if not isinstance(node, CNode) or node.op != "Select" or not _is(node.inputs[1], number):
        return None
    return node.inputs[2]


def _test(choice: Node) -> CNode | None:
    test = choice.inputs[0] if isinstance(choice, CNode) else None
    return test if isinstance(test, CNode) else None


def _is(node: Node, number: float) -> bool:
    """Whether it is this number everywhere."""
    (source,) = node.inputs if isinstance(node, CNode) and node.op == "BroadcastTo" else (node,)
    if not isinstance(source, Constant) or source.value.dtype.kind not in "fV":
        return False
    same = np.isnan(source.value) if math.isnan(number) else source.value == number
    return source.value.size > 0 and bool(np.all(same))
