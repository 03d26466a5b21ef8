"""Common subexpressions: equal nodes become one."""

from dataclasses import replace

import numpy as np

from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, Parameter, rebuilt

MOST_COMPARED = 1 << 12  # bytes of a constant that are looked at to find an equal one


def share(graph: FuncGraph) -> FuncGraph:
    """``graph`` with each value computed once; inputs stay as they are.

    Equal are nodes of one operator with the same inputs and attributes, small constants of equal
    bytes, and weights that view the same memory in the same way.
    """
    inputs = {id(node) for node in graph.inputs}
    first: dict[object, Node] = {}
    new: dict[int, Node] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        key = None if id(node) in inputs else _key(result)
        new[id(node)] = result if key is None else first.setdefault(key, result)
    if all(new[id(node)] is node for node in graph.nodes()):
        return graph
    return replace(graph, outputs=tuple(new[id(node)] for node in graph.outputs))


def _key(node: Node) -> object:
    if isinstance(node, CNode):
        attrs = tuple(sorted(node.attrs.items()))
        return (node.op, tuple(id(n) for n in node.inputs), attrs)
    if isinstance(node, Constant):
        small = node.value.nbytes <= MOST_COMPARED
        return (node.aval, np.ascontiguousarray(node.value).tobytes()) if small else None
    assert isinstance(node, Parameter)
    assert node.value is not None
    place = node.value.__array_interface__["data"][0]
    return (node.name, node.aval, place, node.value.strides)
