"""What a graph costs to run: floating-point operations, counted from shapes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fnckpt.ir.graph import CNode, FuncGraph, graphs_of
from fnckpt.ir.operators import OPERATORS


def flops_of(node: CNode) -> int:
    """The operations of one node: a multiplication and an addition are two, a move is none.

    What reads its whole input, as reductions do, counts the elements read.
    """
    if graphs_of(node):
        return _of_graphs(node)
    if node.op in ("MatMul", "Gemm"):
        inner = node.inputs[0].aval.shape[-2 if node.attrs["transpose_a"] else -1]
        return 2 * node.aval.size * inner
    if node.op == "Attention":  # a product of all queries and keys, one of these with the values
        q, k = node.inputs[:2]
        return 2 * k.aval.shape[1] * (q.aval.size + node.aval.size)
    if node.op == "Conv":
        return 2 * node.aval.size * math.prod(node.inputs[1].aval.shape[1:])
    if node.op == "ConvTranspose":
        return 2 * node.inputs[0].aval.size * math.prod(node.inputs[1].aval.shape[1:])
    if node.op not in OPERATORS or OPERATORS[node.op].moves or node.op == "Cast":
        return 0
    if node.op in ("MaxPool", "AvgPool"):
        window = node.attrs["window"]
        assert isinstance(window, tuple)
        return node.aval.size * math.prod(int(str(size)) for size in window)
    read = node.inputs[0].aval.size if len(node.inputs) == 1 else 0
    return max(read, *(aval.size for aval in node.results))


@dataclass(frozen=True)
class Heavy:
    """A node that takes much of the work: its operator, its module's path, its operations."""

    op: str
    scope: str
    flops: int


def flops(graph: FuncGraph) -> int:
    """The operations of all nodes."""
    return sum(map(flops_of, graph.cnodes()))


def _of_graphs(node: CNode) -> int:
    """Of the branch that takes most, of all rows of a scan, of one trip of a while loop."""
    each = [flops(graph) for graph in graphs_of(node)]
    if node.op == "Cond":
        return max(each)
    length = node.attrs.get("length", 1)
    assert isinstance(length, int)
    return sum(each) * length


def heaviest(graph: FuncGraph, count: int = 10) -> Sequence[Heavy]:
    """The nodes with the most operations, most first."""
    nodes = sorted(graph.cnodes(), key=flops_of, reverse=True)[:count]
    return [Heavy(node.op, node.origin.scope, flops_of(node)) for node in nodes]
