"""Branches and loops that need a symbolic size which nothing given to them has.

A function of a MindIR file reads sizes off its own inputs. If these lack one, it is given an input
of the outer graph that has it.
"""

from collections.abc import Iterator
from dataclasses import replace

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import (
    Attr,
    CNode,
    FuncGraph,
    Node,
    Parameter,
    graphs_of,
    rebuilt,
    with_graphs,
    with_outputs,
)
from fnckpt.ir.sizes import is_symbolic, places_of, symbols


def with_sizes(graph: FuncGraph) -> FuncGraph:
    """``graph`` with what its branches and loops read sizes off; those inside these come next."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        new[id(node)] = _given(result, graph) if isinstance(result, CNode) else result
    return with_outputs(graph, new)


def _given(node: CNode, outer: FuncGraph) -> CNode:
    """A branch or a loop, given the first input of ``outer`` that has each size which it lacks."""
    lacking = {name for inside in graphs_of(node) for name in _symbols_of(inside) - _has(inside)}
    sources: list[Parameter] = []
    for source in outer.inputs:
        found = set(places_of([source.aval.shape])) & lacking
        if found:
            sources.append(source)
            lacking -= found
    return _capturing(node, sources) if sources else node


def _has(graph: FuncGraph) -> set[str]:
    return set(places_of([each.aval.shape for each in graph.inputs]))


def _symbols_of(graph: FuncGraph) -> set[str]:
    """All symbols in the shapes and the attributes of its nodes, and of those inside them."""
    nodes = graph.nodes()
    own = {name for node in nodes for size in _sizes_of(node) for name in symbols(size)}
    return own.union(*(_symbols_of(inside) for node in nodes for inside in graphs_of(node)))


def _sizes_of(node: Node) -> Iterator[int]:
    avals = node.results if isinstance(node, CNode) else (node.aval,)
    yield from (size for aval in avals for size in aval.shape)
    for value in node.attrs.values() if isinstance(node, CNode) else ():
        yield from _sizes_in(value)


def _sizes_in(value: Attr) -> Iterator[int]:
    if isinstance(value, tuple):
        for each in value:
            yield from _sizes_in(each)
    elif is_symbolic(value):
        yield value


def _capturing(node: CNode, sources: list[Parameter]) -> CNode:
    """``node`` whose graphs take ``sources`` before what they took."""

    def change(inside: FuncGraph) -> FuncGraph:
        own = tuple(Parameter(each.name, each.aval) for each in sources)
        return replace(inside, inputs=(*own, *inside.inputs))

    lead = 1 if node.op == "Cond" else 0  # the index, which the branches do not take
    changed = with_graphs(node, change)
    assert isinstance(changed, CNode)
    attrs = dict(changed.attrs)
    if node.op != "Cond":
        attrs["captured"] = integer(node, "captured") + len(sources)
    return replace(
        changed, inputs=(*node.inputs[:lead], *sources, *node.inputs[lead:]), attrs=attrs
    )
