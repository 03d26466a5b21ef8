"""A graph of symbolic sizes with numbers in their place."""

from collections.abc import Mapping
from dataclasses import replace

from fnckpt.ir.graph import Attr, Aval, CNode, FuncGraph, Node
from fnckpt.ir.sizes import Numbers, all_known, computed, is_symbolic


def is_static(graph: FuncGraph) -> bool:
    """Whether every size of the inputs is a number, and with them every other."""
    return all(all_known(parameter.aval.shape) for parameter in graph.inputs)


def specialized(graph: FuncGraph, sizes: Mapping[str, int]) -> FuncGraph:
    """``graph`` where each symbol is the number that ``sizes`` gives it."""
    numbers = Numbers(sizes)
    return _graph(graph, numbers)


def _graph(graph: FuncGraph, numbers: Numbers) -> FuncGraph:
    inputs = tuple(replace(p, aval=_aval(p.aval, numbers)) for p in graph.inputs)
    new: dict[int, Node] = {id(old): p for old, p in zip(graph.inputs, inputs, strict=True)}
    for node in graph.nodes():
        new.setdefault(id(node), _node(node, new, numbers))
    return replace(graph, inputs=inputs, outputs=tuple(new[id(node)] for node in graph.outputs))


def _node(node: Node, new: Mapping[int, Node], numbers: Numbers) -> Node:
    if not isinstance(node, CNode):
        return node
    return replace(
        node,
        inputs=tuple(new[id(each)] for each in node.inputs),
        attrs={name: _attr(value, numbers) for name, value in node.attrs.items()},
        results=tuple(_aval(aval, numbers) for aval in node.results),
    )


def _aval(aval: Aval, numbers: Numbers) -> Aval:
    return Aval(tuple(computed(size, numbers) for size in aval.shape), aval.dtype)


def _attr(value: Attr, numbers: Numbers) -> Attr:
    if isinstance(value, tuple):
        return tuple(_attr(each, numbers) for each in value)
    if isinstance(value, FuncGraph):
        return _graph(value, numbers)
    return computed(value, numbers) if is_symbolic(value) else value
