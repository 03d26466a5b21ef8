"""What a loop computes anew in each trip, and always the same, computed once before it."""

from collections.abc import Mapping
from dataclasses import replace

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import (
    CNode,
    FuncGraph,
    Node,
    Parameter,
    graphs_of,
    inputs_of,
    rebuilt,
    with_graphs,
    with_outputs,
)
from fnckpt.ir.passes.build import BOOL
from fnckpt.ir.passes.control import LOOPS


def hoist(graph: FuncGraph) -> FuncGraph:
    """``graph`` with the work of loops that depends on no carry and no row done before them.

    The innermost loop first, so that work goes out of all loops that it does not depend on. It
    stays inside a branch, which may not be taken. Of a loop of no trips it is done in vain.
    """
    new: dict[int, Node] = {}
    for node in graph.nodes():
        result = with_graphs(rebuilt(node, new), hoist)
        if isinstance(result, CNode) and result.op in LOOPS:
            result = _hoisted(result)
        new[id(node)] = result
    return with_outputs(graph, new)


def _hoisted(loop: CNode) -> CNode:
    captured = integer(loop, "captured")
    before: dict[int, Node] = {}  # of each node that moves, by the id of the one inside
    for inside in graphs_of(loop):
        before |= _moved(inside, loop.inputs[:captured])
    if not before:
        return loop
    avals = [node.aval for node in before.values()]

    def change(inside: FuncGraph) -> FuncGraph:
        names = (f"before_{captured + number}" for number in range(len(avals)))
        given = tuple(map(Parameter, names, avals))
        inputs = (*inside.inputs[:captured], *given, *inside.inputs[captured:])
        outputs = _with(inside, dict(zip(before, given, strict=True)))
        return replace(inside, inputs=inputs, outputs=outputs)

    changed = with_graphs(loop, change)
    assert isinstance(changed, CNode)
    inputs = (*loop.inputs[:captured], *before.values(), *loop.inputs[captured:])
    attrs = {**changed.attrs, "captured": captured + len(before)}
    return replace(changed, inputs=inputs, attrs=attrs)


def _moved(inside: FuncGraph, captured: tuple[Node, ...]) -> dict[int, Node]:
    """The nodes that come in from outside, by ``id``, as they are there."""
    given = {id(each) for each in inside.inputs}
    outside: dict[int, Node] = dict(zip(map(id, inside.inputs), captured, strict=False))
    stack: list[Node] = list(inside.outputs)
    for node in inside.nodes():
        inputs = inputs_of(node)
        if not isinstance(node, CNode):
            if id(node) not in given:
                outside[id(node)] = node
        elif all(id(each) in outside for each in inputs):
            new = tuple(outside[id(each)] for each in inputs)
            outside[id(node)] = replace(node, inputs=new)
        else:
            stack += inputs
    found: dict[int, Node] = {}
    while stack:
        node = stack.pop()
        if not isinstance(node, CNode) or id(node) not in outside or id(node) in found:
            continue
        if _stays(node):
            stack += node.inputs
        else:
            found[id(node)] = outside[id(node)]
    return found


def _stays(node: CNode) -> bool:
    """Whether a node is better done in each trip: a repetition; a boolean as a number to choose."""
    return node.op == "BroadcastTo" or (node.op == "Cast" and node.inputs[0].aval.dtype == BOOL)


def _with(inside: FuncGraph, given: Mapping[int, Node]) -> tuple[Node, ...]:
    """The outputs of ``inside`` with inputs in place of what moved."""
    new: dict[int, Node] = {}
    for node in inside.nodes():
        new[id(node)] = given.get(id(node)) or rebuilt(node, new)
    return tuple(new[id(node)] for node in inside.outputs)
