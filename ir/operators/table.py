"""The table of operators: what each means, in one place.

An entry is a function of arrays, the meaning, with a rule for the shapes and dtypes of its results.
The reference evaluator calls the first with NumPy's arrays and ``TracedFunction`` with JAX's; the
verifier and every pass that makes a node call the second.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import NOWHERE, Attr, Aval, CNode, Constant, Node, Origin

Evaluate = Callable[..., np.ndarray | tuple[np.ndarray, ...]]
Infer = Callable[..., Aval | tuple[Aval, ...]]


@dataclass(frozen=True)
class Operator:
    """One row: ``evaluate(*arrays, **attrs)`` and ``infer(*avals, **attrs)``.

    ``commutative``: the first two inputs may change places. ``moves`` says that the operator only
    moves elements and computes nothing, so that any dtype is fine and folding it is free.
    """

    name: str
    evaluate: Evaluate
    infer: Infer
    commutative: bool = False
    moves: bool = False
    elementwise: bool = False


OPERATORS: dict[str, Operator] = {}


def operator(
    name: str,
    infer: Infer,
    *,
    commutative: bool = False,
    moves: bool = False,
    elementwise: bool = False,
) -> Callable[[Evaluate], Evaluate]:
    """Register the decorated function as the meaning of the operator ``name``."""

    def register(evaluate: Evaluate) -> Evaluate:
        if name in OPERATORS:
            raise ValueError(f"the operator {name} is already defined")
        OPERATORS[name] = Operator(name, evaluate, infer, commutative, moves, elementwise)
        return evaluate

    return register


def infer(op: str, inputs: tuple[Node, ...], attrs: dict[str, Attr]) -> tuple[Aval, ...]:
    """The avals of the results; ``ValueError`` where the operator cannot take these inputs."""
    if op == "TupleGetItem":
        (source,), index = inputs, attrs["index"]
        assert isinstance(source, CNode)
        assert isinstance(index, int)
        return (source.results[index],)
    result = OPERATORS[op].infer(*(node.aval for node in inputs), **attrs)
    return result if isinstance(result, tuple) else (result,)


def apply(op: str, *inputs: Node, origin: Origin = NOWHERE, **attrs: Attr) -> CNode:
    """A node that applies ``op``, its result's shape and dtype inferred.

    >>> import numpy as np
    >>> apply("Add", constant(np.zeros((2, 1))), constant(np.zeros(3))).aval.shape
    (2, 3)
    """
    return CNode(op, inputs, attrs, infer(op, inputs, attrs), origin)


def is_elementwise(node: CNode) -> bool:
    """Whether each element of the result is computed from the elements at its place."""
    return node.op in OPERATORS and OPERATORS[node.op].elementwise


def moves_elements(node: CNode) -> bool:
    """Whether the operator only moves elements, and computes nothing."""
    return node.op in OPERATORS and OPERATORS[node.op].moves


def item(node: CNode, index: int) -> CNode:
    """The result number ``index`` of an operator with several results."""
    return apply("TupleGetItem", node, origin=node.origin, index=index)


def items(node: CNode) -> tuple[CNode, ...]:
    """All results of an operator, each a node."""
    count = len(node.results)
    return (node,) if count == 1 else tuple(item(node, index) for index in range(count))


def constant(value: np.ndarray | np.generic | float, dtype: np.dtype | None = None) -> Constant:
    """A constant node; ``dtype`` converts."""
    return Constant(np.asarray(value, dtype))
