"""What is known of values without running the graph: which may hold NaN, infinities or -0.0."""

from collections.abc import Callable, Iterable, Sequence, Set

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS

# Results of these are taken for as finite as what is added, from the third input on: a network
# whose products overflow has no meaning left, and the exact forms of what follows would cost every
# network for its sake.
PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "BatchNorm", "LayerNorm"})
NEVER_SPECIAL = frozenset({"Erf", "Erfc", "IsFinite", "IsInf", "IsNan", "Sigmoid", "Tanh"})
# Infinities alone make no NaN here, where a sum or a product of them does.
CHOOSING = frozenset(
    {
        "Abs", "Cast", "Ceil", "CumMax", "CumMin", "Floor", "MaxPool", "Maximum", "Minimum", "Neg",
        "ReduceMax", "ReduceMin", "Relu", "Round", "Select", "Sign", "TopK", "TupleGetItem",
    }
)  # fmt: skip

NEVER_NEGATIVE = frozenset({"Abs", "Cosh", "Exp", "Sigmoid", "Softmax", "Softplus", "Square"})
KEEPS_ZERO = frozenset({"Cast", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Sqrt"})
ONE_IS_ENOUGH = frozenset({"Add", "Maximum"})  # -0.0 comes out only where both inputs are -0.0


PART = 1 << 20  # elements that are looked at together


def may_be_special(nodes: Iterable[Node]) -> set[int]:
    """The ids of those values, of ``nodes`` in the order of use, that may hold NaN or infinity."""
    found: set[int] = set()
    for node in nodes:
        if _is_whole(node):
            continue
        if isinstance(node, Constant | Parameter):
            special = node.value is None or _any(node.value, lambda x: ~np.isfinite(x))
        else:
            special = node.op not in NEVER_SPECIAL and _any_of(found, _shown(node))
        if special:
            found.add(id(node))
    return found


def may_be_nan(nodes: Iterable[Node], special: Set[int]) -> set[int]:
    """The ids of those values that may hold NaN, where ``special`` are as of ``may_be_special``."""
    found: set[int] = set()
    for node in nodes:
        if id(node) not in special:
            continue
        if isinstance(node, Constant | Parameter):
            nan = node.value is None or _any(node.value, np.isnan)
        else:
            few = node.op in CHOOSING or _moves(node)
            nan = _any_of(found if few else special, node.inputs)
        if nan:
            found.add(id(node))
    return found


def _shown(node: CNode) -> Sequence[Node]:
    """The inputs whose NaN and infinities the result has."""
    return node.inputs[2:] if node.op in PRODUCTS else node.inputs


def _any_of(values: Set[int], nodes: Iterable[Node]) -> bool:
    return any(id(node) in values for node in nodes)


def _moves(node: CNode) -> bool:
    return node.op in OPERATORS and OPERATORS[node.op].moves


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
    return any(inputs) if node.op in KEEPS_ZERO or _moves(node) else True


def _has_negative_zero(value: np.ndarray) -> bool:
    return _any(value, lambda x: (x == 0) & np.signbit(x.astype(np.float64)))


def _any(value: np.ndarray, test: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether the test holds somewhere; by parts, as weights may be half of the memory."""
    flat = value.ravel(order="K")
    parts = (flat[at : at + PART] for at in range(0, flat.size, PART))
    return any(bool(test(part).any()) for part in parts)


def _is_whole(node: Node) -> bool:
    """Whether integers or booleans come out; of TopK, whose values come first."""
    aval = node.results[0] if isinstance(node, CNode) else node.aval
    return aval.dtype.kind in "biu"
