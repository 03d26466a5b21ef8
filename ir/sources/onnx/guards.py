"""An LSTM or a GRU without what our writer puts behind it for NaN.

ONNX Runtime's make numbers of NaN, so that a file adds NaN where a sequence had one. The scan that
is read in their place has NaN itself.
"""

from collections.abc import Iterator

from fnckpt.ir.attributes import graph as graph_of
from fnckpt.ir.graph import CNode, FuncGraph, Node, everywhere
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrite, rewrites

MOST_ADDED = 8  # guards: of the input, and of each state

value, guard, guarded = Any_("value"), Any_("guard"), Any_("guarded")
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


def _scan_of(node: Node) -> CNode | None:
    """The scan that an LSTM or a GRU became, where ``node`` is one of its results."""
    node = _unmoved(node)
    if not isinstance(node, CNode) or node.op != "TupleGetItem":
        return None
    (scan,) = node.inputs
    if not isinstance(scan, CNode) or scan.op != "Scan":
        return None
    return scan if graph_of(scan, "body").name in CELLS else None


def _unmoved(node: Node) -> Node:
    while isinstance(node, CNode) and node.op == "Reshape":
        (node,) = node.inputs
    return node


def _guarded(node: Node) -> list[Node] | None:
    """The arrays of which ``node`` says where they have NaN, else 0; None where it is no guard."""
    found: list[Node] = []
    stack = [node]
    while stack and len(found) < MOST_ADDED:
        each = _unmoved(stack.pop())
        zero = _ZERO(each, {}) if isinstance(each, CNode) and each.op == "Mul" else None
        if zero is not None:
            found.append(zero)
        elif isinstance(each, CNode) and each.op in ("Add", "CumSum"):
            stack += each.inputs
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
    """``graph``, which our writer wrote, without them."""
    return everywhere(graph, lambda each: rewrite(each, (drop_guard,)))
