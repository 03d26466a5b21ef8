"""The functional graph: what the compiler computes on, in the style of MindIR.

A graph is a set of values that are computed once and never change. A value is a ``Parameter``
(an input, or a weight with its pytree path as name), a ``Constant``, or a ``CNode``: an operator
applied to other values. Nodes know what they use; who uses them is for the reader to count.
Nodes compare by identity: two equal computations are still two nodes until a pass merges them.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

Attr = None | bool | int | float | complex | str | np.dtype | tuple["Attr", ...]


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
    """

    name: str
    inputs: tuple[Parameter, ...]
    outputs: tuple[Node, ...]
    output_names: tuple[str, ...]

    def nodes(self) -> list[Node]:
        """Every node that the outputs need, each after what it uses."""
        return ordered(self.outputs)

    def cnodes(self) -> list[CNode]:
        """The operators, each after what it uses."""
        return [node for node in self.nodes() if isinstance(node, CNode)]

    def weights(self) -> list[Parameter]:
        """The parameters with a value that the outputs need."""
        given = {id(node) for node in self.inputs}
        return [n for n in self.nodes() if isinstance(n, Parameter) and id(n) not in given]


def inputs_of(node: Node) -> tuple[Node, ...]:
    """What a node is computed from; nothing for a parameter or a constant."""
    return node.inputs if isinstance(node, CNode) else ()


def ordered(roots: Iterable[Node]) -> list[Node]:
    """The nodes below ``roots``, inputs first; without recursion, so that depth has no limit."""
    order: list[Node] = []
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
            order.append(node)
            stack.pop()
    return order


def use_counts(graph: FuncGraph) -> dict[int, int]:
    """How often each node, by ``id``, is used by other nodes or is an output."""
    counts: dict[int, int] = {}
    for used in [n for node in graph.nodes() for n in inputs_of(node)] + list(graph.outputs):
        counts[id(used)] = counts.get(id(used), 0) + 1
    return counts
