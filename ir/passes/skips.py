"""A sum and the norm behind it as one operator, which ONNX Runtime has beyond the standard.

The sum is used again in the next block of a transformer, so that this looks at two nodes at once:
a pass of its own, not a rule.
"""

from collections.abc import Mapping

from fnckpt.ir.attributes import integer, number
from fnckpt.ir.graph import CNode, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import apply, item
from fnckpt.ir.passes.build import FLOAT32, known

RANKS = (2, 3)  # that the runtime takes


def skip_norms(graph: FuncGraph) -> FuncGraph:
    """rms_norm(a + b, w) and a + b are skip_rms_norm(a, b, w)."""
    norms = _norms(graph)
    if not norms:
        return graph
    new: dict[int, Node] = {}
    joined: dict[int, CNode] = {}  # by the norm
    for node in graph.nodes():
        if id(node) in joined:
            new[id(node)] = item(joined[id(node)], 0)
        elif id(node) in norms and isinstance(node, CNode):
            norm, (first, other) = norms[id(node)], _addends(node, new)
            joined[id(norm)] = apply(
                "SkipRmsNorm",
                first,
                other,
                norm.inputs[1],
                origin=norm.origin,
                epsilon=number(norm, "epsilon"),
            )
            new[id(node)] = item(joined[id(norm)], 1)
        else:
            new[id(node)] = rebuilt(node, new)
    return with_outputs(graph, new)


def _addends(total: CNode, new: Mapping[int, Node]) -> tuple[Node, Node]:
    """What is added: a Gemm is a product and what is added to it."""
    inputs = [new[id(each)] for each in total.inputs]
    if total.op == "Add":
        return inputs[0], inputs[1]
    return apply("MatMul", *inputs[:2], origin=total.origin, **total.attrs), inputs[2]


def _norms(graph: FuncGraph) -> Mapping[int, CNode]:
    """Of each sum, by its id, the norm behind it."""
    found: dict[int, CNode] = {}
    for node in graph.cnodes():
        total = node.inputs[0] if node.op == "RmsNorm" else None
        if isinstance(total, CNode) and total.op in ("Add", "Gemm") and _fits(node, total):
            found.setdefault(id(total), node)
    return found


def _fits(norm: CNode, total: CNode) -> bool:
    rank = len(norm.aval.shape)
    addends = total.inputs[2:] if total.op == "Gemm" else total.inputs
    whole = bool(addends) and all(each.aval == total.aval for each in addends)
    last = integer(norm, "axis") == rank - 1
    return whole and last and rank in RANKS and _is_plain(norm)


def _is_plain(norm: CNode) -> bool:
    return norm.aval.dtype == FLOAT32 and known(norm.inputs[1]) is not None
