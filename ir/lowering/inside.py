"""Graphs inside a node while lowering: their inputs, and complex values as two."""

from collections.abc import Sequence

from fnckpt.ir.graph import Aval, CNode, Constant, FuncGraph, Node, Parameter
from fnckpt.ir.lowering.registry import Pair, Value


class Inside:
    """The inputs of a graph inside, made one after the other, and the graph."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parameters: list[Parameter] = []

    def inputs(self, name: str, values: Sequence[Value], *, row: bool = False) -> list[Value]:
        """An input for each value, or for a row of it; two for a complex one."""
        return [self._input(name, value, row) for value in values]

    def captured(self, values: Sequence[Value]) -> tuple[list[Value], list[Node]]:
        """Each value as it is inside, and those that must be given: known ones stand there."""
        given: list[Node] = []

        def entered(part: Node) -> Node:
            if _stays(part):
                return part
            given.append(part)
            return self._parameter("captured", part.aval)

        inside = [
            Pair(entered(v.real), entered(v.imag)) if isinstance(v, Pair) else entered(v)
            for v in values
        ]
        return inside, given

    def graph(self, name: str, results: Sequence[Value]) -> FuncGraph:
        """The graph of ``results``."""
        outputs = flat(results)
        names = tuple(f"output_{number}" for number in range(len(outputs)))
        return FuncGraph(name, tuple(self.parameters), tuple(outputs), names)

    def _input(self, name: str, value: Value, row: bool) -> Value:
        def entered(part: Node) -> Parameter:
            aval = part.aval
            return self._parameter(name, Aval(aval.shape[1:], aval.dtype) if row else aval)

        if isinstance(value, Pair):
            return Pair(entered(value.real), entered(value.imag))
        return entered(value)

    def _parameter(self, name: str, aval: Aval) -> Parameter:
        made = Parameter(f"{self.kind}/{name}_{len(self.parameters)}", aval)
        self.parameters.append(made)
        return made


def _stays(node: Node) -> bool:
    """Whether a value is the same at every place of the file: a constant, or a weight."""
    if isinstance(node, CNode):
        return node.op == "BroadcastTo" and isinstance(node.inputs[0], Constant)
    return isinstance(node, Constant) or node.value is not None


def parts_of(value: Value) -> tuple[Node, ...]:
    return (value.real, value.imag) if isinstance(value, Pair) else (value,)


def flat(values: Sequence[Value]) -> list[Node]:
    """The values as nodes, the parts of complex ones one after the other."""
    return [part for value in values for part in parts_of(value)]


def like(avals: Sequence[Aval], nodes: Sequence[Node]) -> list[Value]:
    """Nodes as values again; ``avals`` say which two are one complex value."""
    rest = iter(nodes)
    return [
        Pair(next(rest), next(rest)) if aval.dtype.kind == "c" else next(rest) for aval in avals
    ]


def like_values(values: Sequence[Value], nodes: Sequence[Node]) -> list[Value]:
    """Nodes as values again, which are complex where those are."""
    rest = iter(nodes)
    return [Pair(next(rest), next(rest)) if isinstance(v, Pair) else next(rest) for v in values]
