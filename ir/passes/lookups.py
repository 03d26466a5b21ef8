"""Bounds that operators of a runtime take on themselves: what indexing with JAX's rules leaves.

``jnp.take`` counts negative indices from the end, and gives NaN for what is still outside. A target
whose Gather counts from the end too needs neither the addition nor two comparisons.
"""

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import INT32
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites

i, x = Any_("i"), Any_("x")

_INSIDE = (
    Op("GreaterEqual", i, Scalar("low"), users=0),
    Op("LessEqual", i, Scalar("high"), users=0),
)


@rewrites(Op("LogicalAnd", *_INSIDE))
def compare_with_clipped(root: CNode, i: Node, low: float, high: float) -> Node | None:
    """i >= a and i <= b is clip(i, a, b) == i, for integers a <= b."""
    if i.aval.dtype != INT32 or i.aval.shape != root.aval.shape or low > high:
        return None
    clipped = apply("Clip", i, origin=root.origin, low=int(low), high=int(high))
    return apply("Equal", clipped, i, origin=root.origin)


_FROM_END = Op(
    "Select",
    Op("Less", i, Scalar(value=0.0), users=0),
    Op("Add", i, Scalar("size"), users=0),
    i,
    users=0,
)
_CLIPPED = Op("Clip", _FROM_END, attrs={"low": "low", "high": "high"}, users=0)


def _from_end(root: CNode, i: Node, size: float, low: int, high: int) -> Node | None:
    """Indices from ``-size`` to ``size - 1``, if those that were clipped go from 0."""
    if i.aval.dtype != INT32 or (low, high) != (0, size - 1):
        return None
    return apply("Clip", i, origin=root.origin, low=-int(size), high=high)


@rewrites(Op("Gather", x, _CLIPPED, attrs={"axis": "axis"}))
def gather_from_end(
    root: CNode, x: Node, i: Node, size: float, low: int, high: int, axis: int
) -> Node | None:
    """x[clip(i + n if i < 0 else i, 0, n - 1)] is x[clip(i, -n, n - 1)], n the size of x."""
    indices = _from_end(root, i, size, low, high)
    if indices is None or x.aval.shape[axis] != size:
        return None
    return apply("Gather", x, indices, origin=root.origin, axis=axis)


@rewrites(Op("GatherElements", x, Op("Reshape", _CLIPPED, name="moved"), attrs={"axis": "axis"}))
def gather_elements_from_end(
    root: CNode, x: Node, i: Node, size: float, low: int, high: int, axis: int, moved: CNode
) -> Node | None:
    """The same of single elements, as a loss picks those of its labels."""
    indices = _from_end(root, i, size, low, high)
    if indices is None or x.aval.shape[axis] != size:
        return None
    places = apply("Reshape", indices, origin=root.origin, shape=moved.aval.shape)
    return apply("GatherElements", x, places, origin=root.origin, axis=axis)


@rewrites(Op("Equal", _CLIPPED, Any_("wrapped")))
def equal_from_end(
    root: CNode, wrapped: Node, i: Node, size: float, low: int, high: int
) -> Node | None:
    """The same where it is compared with what was clipped."""
    clipped = next(n for n in root.inputs if isinstance(n, CNode) and n.op == "Clip")
    assert isinstance(clipped, CNode)
    indices = _from_end(root, i, size, low, high)
    if indices is None or clipped.inputs[0] is not wrapped:
        return None
    return apply("Equal", indices, i, origin=root.origin)


@rewrites(Op("Select", Op("NotEqual", x, Any_("y"), users=0), Any_("a"), Any_("b")))
def choose_where_equal(root: CNode, x: Node, y: Node, a: Node, b: Node) -> Node:
    """a where x != y, else b, is b where x == y, else a; NaN equals nothing."""
    return apply("Select", apply("Equal", x, y, origin=root.origin), b, a, origin=root.origin)


@rewrites(Op("Select", Op("LogicalNot", x, users=0), Any_("a"), Any_("b")))
def choose_otherwise(root: CNode, x: Node, a: Node, b: Node) -> Node:
    """a where not c, else b, is b where c, else a."""
    return apply("Select", x, b, a, origin=root.origin)


FUSE: tuple[Rule, ...] = (
    compare_with_clipped,
    gather_from_end,
    gather_elements_from_end,
    equal_from_end,
    choose_where_equal,
    choose_otherwise,
)
