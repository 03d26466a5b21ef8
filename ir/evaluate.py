"""The reference evaluator: a graph computed by numpy, to judge passes and lowering by."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.graph import (
    Constant,
    FuncGraph,
    Node,
    Parameter,
    aval_of,
    inputs_of,
)
from fnckpt.ir.operators import OPERATORS
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
    values: dict[int, Value] = {}
    for parameter, value in zip(graph.inputs, inputs, strict=True):
        if aval_of(np.asarray(value)) != parameter.aval:
            raise ValueError(
                f"{parameter.name}: expected {parameter.aval}, found {aval_of(np.asarray(value))}"
            )
        values[id(parameter)] = np.asarray(value)
    for node in graph.nodes():
        if id(node) not in values:
            values[id(node)] = compute(node, [values[id(n)] for n in inputs_of(node)])
    return tuple(_array(values[id(node)]) for node in graph.outputs)


def compute(node: Node, inputs: Sequence[Value]) -> Value:
    """The value of one node for its inputs' values."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Parameter):
        if node.value is None:
            raise ValueError(f"{node.name}: an input that the graph does not list")
        return np.asarray(node.value)
    if node.op == "TupleGetItem":
        return inputs[0][int(str(node.attrs["index"]))]
    with np.errstate(all="ignore"):  # NaN and infinity are values here, not something to warn of
        result = OPERATORS[node.op].evaluate(*inputs, **node.attrs)
    several = isinstance(result, tuple)
    results = tuple(map(np.asarray, result if several else (result,)))
    for array, aval in zip(results, node.results, strict=True):
        if aval_of(array) != aval:
            raise ValueError(f"{node.op}: computed {aval_of(array)}, declared {aval}")
    return results if several else results[0]


def _array(value: Value) -> np.ndarray:
    assert isinstance(value, np.ndarray)
    return value
