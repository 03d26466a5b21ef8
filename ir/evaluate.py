"""The reference evaluator: a graph computed by numpy, to judge passes and lowering by."""

from collections.abc import Mapping, Sequence

import numpy as np

from fnckpt.ir.graph import (
    Attr,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    aval_of,
    graphs_of,
    inputs_of,
)
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.operators.control import results_of
from fnckpt.ir.sizes import bound
from fnckpt.ir.specialize import is_static, specialized

Value = np.ndarray | tuple[np.ndarray, ...]


def evaluate(graph: FuncGraph, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs of ``graph`` for ``inputs``, in order, each as its node's shape and dtype says.

    Symbolic sizes are those that the inputs have.

    Raises:
      ValueError: an input is not of the shape and dtype that the graph was made for.
    """
    if not is_static(graph):
        shapes = [parameter.aval.shape for parameter in graph.inputs]
        graph = specialized(graph, bound(shapes, [np.shape(value) for value in inputs]))
    for parameter, value in zip(graph.inputs, inputs, strict=True):
        if aval_of(np.asarray(value)) != parameter.aval:
            raise ValueError(
                f"{parameter.name}: expected {parameter.aval}, found {aval_of(np.asarray(value))}"
            )
    return GraphFunction(graph)(*map(np.asarray, inputs))


class GraphFunction:
    """A graph, whose sizes are all known, as a function of arrays; a loop calls it many times."""

    traced = False

    def __init__(self, graph: FuncGraph) -> None:
        self.graph = graph
        self.results = results_of(graph)
        given = set(map(id, graph.inputs))
        self._nodes = [node for node in graph.nodes() if id(node) not in given]
        self._attrs = {
            id(node): {name: _callable(value) for name, value in node.attrs.items()}
            for node in self._nodes
            if isinstance(node, CNode) and graphs_of(node)
        }

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        values: dict[int, Value] = dict(zip(map(id, self.graph.inputs), inputs, strict=True))
        for node in self._nodes:
            given = [values[id(n)] for n in inputs_of(node)]
            values[id(node)] = compute(node, given, self._attrs.get(id(node)))
        return tuple(_array(values[id(node)]) for node in self.graph.outputs)


def compute(
    node: Node, inputs: Sequence[Value], attrs: Mapping[str, object] | None = None
) -> Value:
    """The value of one node; ``attrs`` are its own, with the graphs among them as functions."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Parameter):
        if node.value is None:
            raise ValueError(f"{node.name}: an input that the graph does not list")
        return np.asarray(node.value)
    if node.op == "TupleGetItem":
        return inputs[0][int(str(node.attrs["index"]))]
    with np.errstate(all="ignore"):  # NaN and infinity are values here, not something to warn of
        result = OPERATORS[node.op].evaluate(*inputs, **(attrs or node.attrs))
    results = tuple(map(np.asarray, result if isinstance(result, tuple) else (result,)))
    for array, aval in zip(results, node.results, strict=True):
        if aval_of(array) != aval:
            raise ValueError(f"{node.op}: computed {aval_of(array)}, declared {aval}")
    return results if len(results) > 1 else results[0]


def _callable(value: Attr) -> object:
    if isinstance(value, tuple):
        return tuple(map(_callable, value))
    return GraphFunction(value) if isinstance(value, FuncGraph) else value


def _array(value: Value) -> np.ndarray:
    assert isinstance(value, np.ndarray)
    return value
