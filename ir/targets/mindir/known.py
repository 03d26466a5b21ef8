"""What is known of values without running the graph: which may hold NaN, infinities or -0.0."""

from collections.abc import Iterable

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS

# Results of these are taken for finite: a network whose products overflow has no meaning left,
# and the exact forms of what follows would cost every network for its sake.
PRODUCTS = frozenset({"MatMul", "Conv", "ConvTranspose", "BatchNorm", "LayerNorm"})
NEVER_SPECIAL = PRODUCTS | {"Erf", "Erfc", "IsFinite", "IsInf", "IsNan", "Sigmoid", "Tanh"}

NEVER_NEGATIVE = frozenset({"Abs", "Cosh", "Exp", "Sigmoid", "Softmax", "Softplus", "Square"})
KEEPS_ZERO = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Sqrt"})
ONE_IS_ENOUGH = frozenset({"Add", "Maximum"})  # -0.0 comes out only where both inputs are -0.0


def may_be_special(nodes: Iterable[Node]) -> set[int]:
    """The ids of those values, of ``nodes`` in the order of use, that may hold NaN or infinity."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, Constant | Parameter):
            known = node.value is not None and bool(np.all(np.isfinite(node.value)))
            special = not known and not _is_whole(node)
        elif node.op in NEVER_SPECIAL or _is_whole(node):
            special = False
        else:
            special = any(id(value) in found for value in node.inputs)
        if special:
            found.add(id(node))
    return found


def may_be_negative_zero(nodes: Iterable[Node]) -> set[int]:
    """The ids of those values, of ``nodes`` in the order of use, that may hold -0.0."""
    found: set[int] = set()
    for node in nodes:
        if isinstance(node, Constant | Parameter):
            negative = node.value is None or _has_negative_zero(node.value)
        else:
            negative = _gives_negative_zero(node, [id(value) in found for value in node.inputs])
        if negative and not _is_whole(node):
            found.add(id(node))
    return found


def _gives_negative_zero(node: CNode, inputs: list[bool]) -> bool:
    if node.op in NEVER_NEGATIVE:
        return False
    if node.op in ONE_IS_ENOUGH:
        return all(inputs)
    keeps = node.op in KEEPS_ZERO or (node.op in OPERATORS and OPERATORS[node.op].moves)
    if keeps or node.op == "Cast":
        return any(inputs)
    return True


def _has_negative_zero(value: np.ndarray) -> bool:
    return bool(np.any((value == 0) & np.signbit(value.astype(np.float64))))


def _is_whole(node: Node) -> bool:
    """Whether integers or booleans come out; of TopK, whose values come first."""
    aval = node.results[0] if isinstance(node, CNode) else node.aval
    return aval.dtype.kind in "biu"
