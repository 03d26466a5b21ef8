"""The functional graph: what the compiler computes on, in the style of MindIR.

A graph is a set of values that are computed once and never change. A value is a ``Parameter``
(an input, or a weight with its pytree path as name), a ``Constant``, or a ``CNode``: an operator
applied to other values. Nodes know what they use; who uses them is for the reader to count.
Nodes compare by identity: two equal computations are still two nodes until a pass merges them.

A node may hold graphs as attributes: the branches of a ``Cond``, the body of a loop. Such a graph
is closed: what it uses is an input of its own, a constant or a weight. ``everywhere`` takes a
function of a graph into all of them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from fnckpt.ir.border import NO_COMPLEX, Border

Attr: TypeAlias = (
    "bool | int | float | complex | str | np.dtype | FuncGraph | tuple[Attr, ...] | None"
)


@dataclass(frozen=True)
class Aval:
    """What is known of a value before it is computed: ``shape`` and ``dtype``.

    A size may be symbolic (``fnckpt.ir.sizes``); then it computes like an int.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        """Like ``float32[2,3]``."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


def aval_of(value: np.ndarray | np.generic) -> Aval:
    """The shape and dtype of an array."""
    return Aval(tuple(value.shape), value.dtype)


def _not_recorded() -> str:
    return "a line that was not recorded"


@dataclass(frozen=True)
class Origin:
    """Where a node comes from.

    Attributes:
      scope: the path of modules that made it, ``Encoder/LayerNorm_0``; empty when there is none.
      line: called for the user's own source line, ``file:line in function: text``.
      primitive: JAX's name of the operation, ``dot_general``; empty when there is none.
    """

    scope: str = ""
    line: Callable[[], str] = _not_recorded
    primitive: str = ""


NOWHERE = Origin()


@dataclass(frozen=True, eq=False)
class Parameter:
    """A named value from outside: an input, or a weight where ``value`` is given.

    ``path`` is the pytree path that the user knows; it stays while passes reshape the value.
    """

    name: str
    aval: Aval
    value: np.ndarray | None = field(default=None, repr=False)
    path: str = ""


@dataclass(frozen=True, eq=False)
class Constant:
    """A value known when the graph is made."""

    value: np.ndarray

    @cached_property
    def aval(self) -> Aval:
        """The shape and dtype of the value."""
        return aval_of(self.value)


@dataclass(frozen=True, eq=False)
class CNode:
    """The operator ``op`` applied to ``inputs``.

    ``results`` holds one ``Aval`` for each result; an operator with several is read through
    ``TupleGetItem`` nodes. ``attrs`` are hashable and never changed.
    """

    op: str
    inputs: tuple["Node", ...]
    attrs: Mapping[str, Attr]
    results: tuple[Aval, ...]
    origin: Origin = field(default=NOWHERE, repr=False)

    @property
    def aval(self) -> Aval:
        """The shape and dtype of the one result."""
        (aval,) = self.results
        return aval


Node = Parameter | Constant | CNode


@dataclass(frozen=True)
class FuncGraph:
    """A function: ``inputs`` in the caller's order, ``outputs`` computed from them and weights.

    Attributes:
      name: what the function is called.
      inputs: the parameters that a caller gives, unused ones too.
      outputs: the results in order; one node may stand twice, and may be an input.
      output_names: one name for each output.
      left_out: the effects that no output depends on, as ``primitive: line``, which are not here.
      border: which inputs, outputs and weights stand for complex values.
    """

    name: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Node, ...]
    output_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    border: Border = NO_COMPLEX

    def nodes(self) -> list[Node]:
        """Every node that the outputs need, each after what it uses."""
        return list(self._ordered)

    @cached_property  # a pass asks several times, and most passes leave the graph as it is
    def _ordered(self) -> tuple[Node, ...]:
        return tuple(ordered(self.outputs))

    def cnodes(self) -> list[CNode]:
        """The operators, each after what it uses."""
        return [node for node in self._ordered if isinstance(node, CNode)]

    @cached_property
    def ops(self) -> frozenset[str]:
        """What its operators are called."""
        return frozenset(node.op for node in self.cnodes())

    @cached_property
    def _uses(self) -> Mapping[int, int]:
        counts: dict[int, int] = {}
        for used in [n for node in self.cnodes() for n in node.inputs] + list(self.outputs):
            counts[id(used)] = counts.get(id(used), 0) + 1
        return counts

    def use_counts(self) -> dict[int, int]:
        """How often each node, by ``id``, is used by other nodes or is an output."""
        return dict(self._uses)

    def every_graph(self) -> list["FuncGraph"]:
        """This graph, and those inside it."""
        inside = (graph for node in self.nodes() for graph in graphs_of(node))
        return [self, *(each for graph in inside for each in graph.every_graph())]

    def every_node(self) -> list[Node]:
        """The nodes of ``every_graph``; a graph's own each after what it uses."""
        return [node for graph in self.every_graph() for node in graph.nodes()]

    def weights(self) -> list[Parameter]:
        """The parameters with a value that the outputs need, in the graphs inside too."""
        given = {id(node) for node in self.inputs}
        found = {
            id(n): n
            for n in self.every_node()
            if isinstance(n, Parameter) and n.value is not None and id(n) not in given
        }
        return list(found.values())


def inputs_of(node: Node) -> tuple[Node, ...]:
    """What a node is computed from; nothing for a parameter or a constant."""
    return node.inputs if isinstance(node, CNode) else ()


def before_reshapes(node: Node) -> Node:
    """What ``node`` is a reshape of, or a reshape of a reshape: its elements in the same order."""
    while isinstance(node, CNode) and node.op == "Reshape":
        (node,) = node.inputs
    return node


def ordered(roots: Iterable[Node]) -> list[Node]:
    """The nodes below ``roots``, inputs first; without recursion, so that depth has no limit."""
    return list(in_order(roots))


def in_order(roots: Iterable[Node]) -> Iterator[Node]:
    """The same nodes one by one, for who may stop early."""
    done: set[int] = set()
    for root in roots:
        stack: list[tuple[Node, Iterator[Node]]] = [(root, iter(inputs_of(root)))]
        while stack:
            node, rest = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            following = next((n for n in rest if id(n) not in done), None)
            if following is not None:
                stack.append((following, iter(inputs_of(following))))
                continue
            done.add(id(node))
            yield node
            stack.pop()


def graphs_of(node: Node) -> tuple[FuncGraph, ...]:
    """The graphs that a node holds, in the order of its attributes; most hold none."""
    if not isinstance(node, CNode) or node.op not in HOLDS_GRAPHS:
        return ()
    values = (v if isinstance(v, tuple) else (v,) for v in node.attrs.values())
    return tuple(each for value in values for each in value if isinstance(each, FuncGraph))


# The operators with graphs as attributes; asked by name, since most nodes are asked often.
HOLDS_GRAPHS = frozenset({"Cond", "Scan", "While"})

Change = Callable[[FuncGraph], FuncGraph]


def nodes_inside(node: Node) -> list[Node]:
    """The node, and every node of the graphs that it holds."""
    return [node, *(inner for graph in graphs_of(node) for inner in graph.every_node())]


def with_graphs(node: Node, change: Change) -> Node:
    """``node`` with what ``change`` makes of each graph it holds; itself where nothing changed."""
    held = graphs_of(node)
    if not held or not isinstance(node, CNode):
        return node
    new = {id(graph): change(graph) for graph in held}
    if all(new[id(graph)] is graph for graph in held):
        return node

    def changed(value: Attr) -> Attr:
        if isinstance(value, tuple):
            return tuple(map(changed, value))
        return new[id(value)] if isinstance(value, FuncGraph) else value

    return replace(node, attrs={name: changed(value) for name, value in node.attrs.items()})


def everywhere(graph: FuncGraph, change: Change) -> FuncGraph:
    """``change`` of ``graph``, and then of each graph inside what came of it."""
    graph = change(graph)
    nodes, new = graph.nodes(), dict[int, Node]()
    if not any(map(graphs_of, nodes)):
        return graph
    for node in nodes:
        new[id(node)] = with_graphs(rebuilt(node, new), lambda g: everywhere(g, change))
    return with_outputs(graph, new)


def with_outputs(graph: FuncGraph, new: Mapping[int, Node]) -> FuncGraph:
    """``graph`` with what each output became, by ``id``; itself where nothing changed."""
    if all(new[id(node)] is node for node in graph.outputs):
        return graph
    return replace(graph, outputs=tuple(new[id(node)] for node in graph.outputs))


def rebuilt(node: Node, new: Mapping[int, Node]) -> Node:
    """``node`` on top of what its inputs became; itself where nothing changed."""
    if not isinstance(node, CNode):
        return node
    for each in node.inputs:
        if new[id(each)] is not each:
            return replace(node, inputs=tuple(new[id(n)] for n in node.inputs))
    return node


def inlined(graph: FuncGraph, inputs: Iterable[Node]) -> list[Node]:
    """The outputs of ``graph`` computed from ``inputs``; every operator is a new node."""
    new: dict[int, Node] = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for node in graph.nodes():
        if id(node) not in new:
            given = tuple(new[id(n)] for n in inputs_of(node))
            new[id(node)] = replace(node, inputs=given) if isinstance(node, CNode) else node
    return [new[id(node)] for node in graph.outputs]
