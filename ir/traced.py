"""A graph as a function of JAX's arrays: what ``evaluate`` computes, to be compiled and derived.

Both run the functions of the table of operators. What depends on no input and no weight is
computed by NumPy while JAX traces.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy
import numpy as np

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import (
    Attr,
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    inputs_of,
)
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.operators.control import results_of
from fnckpt.ir.operators.table import Evaluate

Value = np.ndarray | jax.Array
Values = Value | tuple[Value, ...]


LOOPS = frozenset({"Scan", "While"})


def kept_loop(compute: Evaluate, attrs: Mapping[str, object]) -> Evaluate:
    """A loop as a function of its inputs, by whose name the lowering knows it."""

    def kept_loop(*inputs: Value) -> Any:
        return compute(*inputs, **attrs)

    return kept_loop


def canonical(dtype: np.dtype) -> np.dtype:
    """The dtype that JAX has for ``dtype``: 32 bits instead of 64 where these are not enabled."""
    return jax.dtypes.canonicalize_dtype(dtype)


def narrowed(value: np.ndarray) -> np.ndarray:
    """``value`` in the dtype that JAX has; an integer that does not fit is the nearest that does.

    >>> narrowed(np.array([7, 2**40])).tolist()
    [7, 2147483647]
    """
    dtype = canonical(value.dtype)
    if dtype == value.dtype:
        return value
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        value = np.clip(value, info.min, info.max)
    with np.errstate(over="ignore"):
        return value.astype(dtype)


class TracedFunction:
    """A graph, whose sizes are those of its inputs, as a function of arrays.

    Args:
      graph: what to compute.
      weights: arrays instead of the values of weights, by their names.
      keep_loops: its loops stay loops when it is exported again, however short they are.
    """

    traced = True

    def __init__(
        self, graph: FuncGraph, weights: Mapping[str, Value], *, keep_loops: bool = False
    ) -> None:
        self.graph, self.weights, self.keep_loops = graph, weights, keep_loops
        self.results = results_of(graph)
        given = set(map(id, graph.inputs))
        self._nodes = [node for node in graph.nodes() if id(node) not in given]

    def __call__(self, *inputs: Value) -> tuple[Value, ...]:
        found: dict[int, Values] = dict(zip(map(id, self.graph.inputs), inputs, strict=True))
        for node in self._nodes:
            found[id(node)] = self._value(node, [found[id(n)] for n in inputs_of(node)])
        return tuple(_one(found[id(node)]) for node in self.graph.outputs)

    def _value(self, node: Node, inputs: Sequence[Values]) -> Values:
        if isinstance(node, Constant):
            return narrowed(node.value)
        if isinstance(node, Parameter):
            return self._weight(node)
        if node.op == "TupleGetItem":
            (results,), index = inputs, integer(node, "index")
            assert isinstance(results, tuple)
            return results[index]
        attrs = {name: self._attr(value) for name, value in node.attrs.items()}
        with jax.named_scope(node.origin.scope or node.op), np.errstate(all="ignore"):
            compute = OPERATORS[node.op].evaluate
            if self.keep_loops and node.op in LOOPS:
                compute = jax.jit(kept_loop(compute, attrs))
                attrs = {}
            result = compute(*inputs, **attrs)
        results = list(result) if isinstance(result, tuple) else [result]
        arrays = [_checked(node, *each) for each in zip(results, node.results, strict=True)]
        return tuple(arrays) if len(arrays) > 1 else arrays[0]

    def _weight(self, node: Parameter) -> Value:
        if node.name in self.weights:
            return jax.numpy.asarray(self.weights[node.name])
        if node.value is None:
            raise ValueError(f"{node.name}: an input that the graph does not list")
        return narrowed(np.asarray(node.value))

    def _attr(self, value: Attr) -> object:
        if isinstance(value, tuple):
            return tuple(map(self._attr, value))
        if isinstance(value, FuncGraph):
            return TracedFunction(value, self.weights, keep_loops=self.keep_loops)
        return canonical(value) if isinstance(value, np.dtype) else value


def _checked(node: CNode, value: Value, declared: Aval) -> Value:
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    dtype = canonical(declared.dtype)
    if isinstance(array, np.ndarray) and array.dtype == declared.dtype:
        array = narrowed(array)
    if array.shape != declared.shape or array.dtype != dtype:
        found = f"{array.dtype}{array.shape}"
        raise ValueError(f"{node.op}: computed {found}, declared {declared}")
    return array


def _one(value: Values) -> Value:
    assert not isinstance(value, tuple)
    return value
