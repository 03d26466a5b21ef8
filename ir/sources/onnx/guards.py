"""An LSTM or a GRU without what our writer puts behind it for NaN, and for sequences without steps.

ONNX Runtime's make numbers of NaN, so that a file adds NaN where a sequence had one; the last state
of a sequence without steps is 0 there, so that a file chooses the first one. The scan that is read
in their place does both itself.
"""

from collections.abc import Iterator

import numpy as np

from fnckpt.ir.attributes import graph as graph_of
from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, before_reshapes, everywhere
from fnckpt.ir.operators import apply
from fnckpt.ir.passes import along, softplus, vectors
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrite, rewrites, scalar_of
from fnckpt.ir.sources.onnx.rare import join_branches, places_from_the_front
from fnckpt.ir.sources.onnx.softmax import join_softmax
from fnckpt.ir.targets.onnx.emit_cast import BELOW_INTEGERS

MOST_ADDED = 8  # guards: of the input, and of each state


value, guard, guarded = Any_("value"), Any_("guard"), Any_("guarded")
condition, first = Any_("condition"), Any_("first")
CELLS = ("LSTM", "GRU")
KEEP_NAN = frozenset({"Add", "BroadcastTo", "MatMul", "Reshape", "Slice"})


def _between(root: CNode, guarded: Node, low: float, high: float) -> Node | None:
    return guarded if (low, high) == (-1, 1) else None


_CLIP = Op("Clip", guarded, attrs={"low": "low", "high": "high"}, users=0)
_ZERO = Rule(Op("Mul", Op("ReduceSum", _CLIP, users=0), Scalar(value=0.0)), _between)


@rewrites(Op("Add", value, guard))
def drop_guard(root: CNode, value: Node, guard: Node) -> Node | None:
    """y + 0 is y, and so is y + NaN where y is NaN as well."""
    scan = _scan_of(value)
    if scan is None or value.aval != root.aval:
        return None
    found = _guarded(guard)
    reached = set(map(id, _sources(scan)))
    return value if found and reached.issuperset(map(id, found)) else None


@rewrites(Op("Select", condition, first, value))
def drop_choice(root: CNode, condition: Node, first: Node, value: Node) -> Node | None:
    """The last state of a sequence without steps is the first one."""
    item, none = before_reshapes(value), before_reshapes(condition)
    scan = _scan_of(item)
    if scan is None or value.aval != root.aval or not isinstance(item, CNode):
        return None
    if not isinstance(none, CNode) or none.op != "Equal" or scalar_of(none.inputs[1]) != 0:
        return None
    place = integer(item, "index")
    if place >= integer(scan, "carried") or not _says_length(scan, before_reshapes(none.inputs[0])):
        return None
    start = scan.inputs[integer(scan, "captured") + place]
    return value if _is_same(start, first) else None


@rewrites(
    Op(
        "Cast",
        Op("Select", Op("Greater", value, Scalar("least")), value, Scalar(value=0.0)),
        attrs={"dtype": "dtype"},
    )
)
def drop_zero_for_nan(root: CNode, value: Node, least: float, dtype: np.dtype) -> Node | None:
    """NaN becomes the integer 0 without it; our writer leaves out what else a cast does."""
    if dtype.kind not in "iu" or np.float32(least) != np.float32(BELOW_INTEGERS):
        return None
    return apply("Cast", value, origin=root.origin, dtype=dtype)


def _is_same(one: Node, two: Node) -> bool:
    """Whether two arrays are the same, with other axes of size 1 perhaps."""
    one, two = before_reshapes(one), before_reshapes(two)
    if isinstance(one, Constant) and isinstance(two, Constant):
        return np.array_equal(one.value.ravel(), two.value.ravel(), equal_nan=True)
    return one is two


def _says_length(scan: CNode, counts: Node) -> bool:
    """Whether a row of the scan compares steps with ``counts``."""
    rows = scan.inputs[integer(scan, "captured") + integer(scan, "carried") :]
    masks = (
        row for row in map(before_reshapes, rows) if isinstance(row, CNode) and row.op == "Less"
    )
    return any(before_reshapes(mask.inputs[1]) is counts for mask in masks)


def _scan_of(node: Node) -> CNode | None:
    """The scan that an LSTM or a GRU became, where ``node`` is one of its results."""
    node = before_reshapes(node)
    if not isinstance(node, CNode) or node.op != "TupleGetItem":
        return None
    (scan,) = node.inputs
    if not isinstance(scan, CNode) or scan.op != "Scan":
        return None
    return scan if graph_of(scan, "body").name in CELLS else None


def _guarded(node: Node) -> list[Node] | None:
    """The arrays of which ``node`` says where they have NaN, else 0; None where it is no guard."""
    found: list[Node] = []
    stack = [node]
    while stack and len(found) < MOST_ADDED:
        each = before_reshapes(stack.pop())
        zero = _ZERO(each, {}) if isinstance(each, CNode) and each.op == "Mul" else None
        if zero is not None:
            found.append(zero)
        elif isinstance(each, CNode) and each.op in ("Add", "CumSum", "ReduceSum"):
            stack += each.inputs
        elif isinstance(each, CNode) and each.op == "Select" and scalar_of(each.inputs[2]) == 0:
            stack.append(each.inputs[1])
        else:
            return None
    return None if stack else found


def _sources(scan: CNode) -> Iterator[Node]:
    """What a scan goes over, and begins with; and what that is made of, where NaN stays NaN."""
    stack, seen = list(scan.inputs), set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, CNode) and node.op in KEEP_NAN:
            stack += node.inputs


def unguarded(graph: FuncGraph) -> FuncGraph:
    """``graph``, which our writer wrote, without them; what it has in parts is one operator."""
    rules = (
        drop_guard,
        drop_choice,
        drop_zero_for_nan,
        join_branches,
        places_from_the_front,
        join_softmax,
        *along.JOIN,
        *softplus.JOIN,
        *vectors.JOIN,
    )
    return everywhere(graph, lambda each: rewrite(each, rules))
