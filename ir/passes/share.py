"""Common subexpressions: equal nodes become one, and equal weights of all graphs."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fnckpt.ir.graph import (
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    everywhere,
    rebuilt,
    with_outputs,
)

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


def share_weights(graph: FuncGraph) -> FuncGraph:
    """``graph`` with each weight once in the file, whatever graphs inside use it too.

    Each graph is rewritten alone, and what is done to a weight in two of them gives two arrays.
    Equal are those of one name, shape and dtype that hold the same numbers.
    """
    kinds: dict[tuple[str, Aval], list[Parameter]] = {}
    one: dict[int, Node] = {}
    for weight in graph.weights():
        equal = kinds.setdefault((weight.name, weight.aval), [])
        found = next((each for each in equal if _same_numbers(each, weight)), None)
        if found is None:
            equal.append(weight)
        else:
            one[id(weight)] = found
    return with_leaves(graph, one)


def _same_numbers(one: Parameter, other: Parameter) -> bool:
    assert one.value is not None
    assert other.value is not None
    return one.value is other.value or one.value.tobytes() == other.value.tobytes()


def with_leaves(graph: FuncGraph, leaves: Mapping[int, Node]) -> FuncGraph:
    """``graph`` with others in place of some weights, by ``id``, in the graphs inside too."""

    def change(each: FuncGraph) -> FuncGraph:
        new: dict[int, Node] = {}
        for node in each.nodes():
            new[id(node)] = leaves.get(id(node)) or rebuilt(node, new)
        return with_outputs(each, new)

    return everywhere(graph, change) if leaves else graph
