"""A softmax and its logarithm, of one value: they share their parts, so that no rule sees either.

``softmax(x)`` becomes ``exp(log_softmax(x))``, two operators in place of the nine or more that the
parts are with the guard of their greatest element. Entropies and divergences have both.
"""

from collections.abc import Collection, Mapping

from fnckpt.ir.attributes import ints
from fnckpt.ir.graph import CNode, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float


def softmaxes(graph: FuncGraph) -> FuncGraph:
    """``graph`` with one operator where it has both of one value."""
    logs, quotients = dict[int, CNode](), dict[int, CNode]()
    for node in graph.cnodes():
        if node.op == "Sub" and (log := _op(node.inputs[1], "Log")):
            total = _total(node.inputs[0], log.inputs[0])
            logs |= {} if total is None else {id(node): total}
        elif node.op == "Div" and (powers := _op(node.inputs[0], "Exp")):
            total = _total(powers.inputs[0], node.inputs[1])
            quotients |= {} if total is None else {id(node): total}
    both = set(map(id, logs.values())) & set(map(id, quotients.values()))
    kept = {key: total for key, total in (logs | quotients).items() if id(total) in both}
    return _replaced(graph, kept, logs.keys()) if kept else graph


def _replaced(graph: FuncGraph, totals: Mapping[int, CNode], logs: Collection[int]) -> FuncGraph:
    """``graph`` with others in place of what is made with ``totals``, by ``id``."""
    new, made = dict[int, Node](), dict[int, CNode]()
    for node in graph.nodes():
        total = totals.get(id(node))
        if total is None or not isinstance(node, CNode):
            new[id(node)] = rebuilt(node, new)
            continue
        x, (axis,) = _softmax_of(total), ints(total, "axes")
        log = made.get(id(total)) or apply("LogSoftmax", new[id(x)], origin=node.origin, axis=axis)
        made[id(total)] = log
        new[id(node)] = log if id(node) in logs else apply("Exp", log, origin=node.origin)
    return with_outputs(graph, new)


def _softmax_of(total: CNode) -> Node:
    """The x of a sum of ``exp(x - max(x))``."""
    (powers,) = total.inputs
    assert isinstance(powers, CNode)
    (shifted,) = powers.inputs
    assert isinstance(shifted, CNode)
    return shifted.inputs[0]


def _total(shifted: Node, total: Node) -> CNode | None:
    """``total``, if it is the sum of ``exp(shifted)``, and that is x less its greatest element."""
    found, less = _op(total, "ReduceSum"), _op(shifted, "Sub")
    powers = found and _op(found.inputs[0], "Exp")
    greatest = less and _op(less.inputs[1], "ReduceMax")
    if not (found and less and powers and greatest) or powers.inputs[0] is not less:
        return None
    axes, kept = ints(found, "axes"), found.attrs["keepdims"] and greatest.attrs["keepdims"]
    alike = kept and len(axes) == 1 and axes == ints(greatest, "axes")
    return found if alike and greatest.inputs[0] is less.inputs[0] and is_float(less) else None


def _op(node: Node, op: str) -> CNode | None:
    return node if isinstance(node, CNode) and node.op == op else None
