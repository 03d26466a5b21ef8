"""What few inputs need stands in a branch that runs only for those.

A reading of the whole input, cheaper than what it saves, tells whether some element is odd. Then
one branch computes what is right for all inputs, else the other one what is right for the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fnckpt.ir.graph import CNode, FuncGraph, Node, Parameter, rebuilt, with_graphs, with_outputs
from fnckpt.ir.passes.build import INT32, Build
from fnckpt.ir.passes.large import is_large
from fnckpt.ir.passes.rewrite import Op, Rule, rewrite

LEAST = 1025  # elements; a branch takes ONNX Runtime two microseconds


@dataclass(frozen=True)
class Parts:
    """``plain`` of ``x`` is right unless ``odd``."""

    x: Node
    odd: Node
    plain: Node


Kind = Callable[[CNode], Parts | None]


def rules(kind: Kind, patterns: Sequence[Op]) -> tuple[Rule, ...]:
    """Those that put what matches ``patterns`` in branches, where ``kind`` gives its parts."""

    def in_branches(root: CNode, **_: object) -> CNode | None:
        found, build = kind(root), Build(root)
        if found is None or not is_large(found.x, LEAST):
            return None
        second, *results = chosen(found.odd, found.plain, root)
        branches = tuple(_function(each, found.x) for each in results)
        return build("Cond", build.cast(second, INT32), found.x, branches=branches)

    return tuple(Rule(each, in_branches) for each in patterns)


def chosen(odd: Node, plain: Node, guarded: Node) -> tuple[Node, Node, Node]:
    """What chooses the second of two, and the two; of ``not b`` that is ``b`` alone."""
    if isinstance(odd, CNode) and odd.op == "LogicalNot":
        return odd.inputs[0], guarded, plain
    return odd, plain, guarded


def _function(result: Node, x: Node) -> FuncGraph:
    """``result`` as a function of ``x`` alone."""
    given = Parameter("x", x.aval)
    new: dict[int, Node] = {id(x): given}

    def on_given(node: Node) -> Node:
        if id(node) not in new:
            for each in node.inputs if isinstance(node, CNode) else ():
                on_given(each)
            new[id(node)] = rebuilt(node, new)
        return new[id(node)]

    return FuncGraph("rare", (given,), (on_given(result),), ("result",))


def with_branches(graph: FuncGraph, steps: Sequence[Sequence[Rule]]) -> FuncGraph:
    """``graph`` by the rules of each step, one after the other, the graphs inside too."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        new[id(node)] = with_graphs(rebuilt(node, new), lambda each: with_branches(each, steps))
    graph = with_outputs(graph, new)
    for rules_of_step in steps:
        graph = rewrite(graph, rules_of_step)
    return graph
