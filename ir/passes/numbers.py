"""What is never NaN, whatever the inputs are: there no guard is needed."""

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import moves_elements
from fnckpt.ir.passes.bounds import SAFE, bound, never_negative
from fnckpt.ir.passes.build import VALUES, known
from fnckpt.ir.recursion import bounded

# A number of numbers, infinities among them.
OF_NUMBERS = frozenset(
    {"Abs", "Ceil", "Clip", "Erf", "Exp", "Floor", "Maximum", "Minimum", "Neg", "Relu",
     "Round", "Sigmoid", "Sign", "Tanh"}
)  # fmt: skip
OF_FINITE = frozenset({"Add", "Mul", "Square", "Sub"})


@bounded(otherwise=False)
def is_number(node: Node) -> bool:
    """Whether a value is never NaN, as far as the nodes in front of it tell."""
    if node.aval.dtype.kind in "biu":
        return True
    if isinstance(node, Constant):
        return not bool(np.isnan(node.value).any())
    if not isinstance(node, CNode) or len(node.results) > 1:
        return False
    if _is_unordered(node):
        return True
    if node.op == "Select":
        return _replaces_nan(*node.inputs)
    values = [node.inputs[place] for place in VALUES.get(node.op, range(len(node.inputs)))]
    return _computes_number(node) and all(is_number(each) for each in values)


def _is_unordered(node: CNode) -> bool:
    """Whether it is of a TopK in any order: only a branch without NaN has one."""
    (of, *_) = node.inputs or (node,)
    return isinstance(of, CNode) and of.op == "TopK" and not of.attrs.get("ordered", True)


def _computes_number(node: CNode) -> bool:
    """Whether it is a number where its inputs are."""
    if node.op in OF_NUMBERS or moves_elements(node):
        return True
    if node.op == "Cast":  # some floats of eight bits have NaN for what is too large
        return node.aval.dtype.itemsize > 1
    if node.op in OF_FINITE:
        return all(bound(each) < SAFE for each in node.inputs)
    if node.op == "Sqrt":
        return never_negative(node.inputs[0])
    return node.op == "Div" and _divides(node.inputs[1])


def _divides(divisor: Node) -> bool:
    """Whether it is known, finite and not 0."""
    value = known(divisor)
    return value is not None and bool(np.all(np.isfinite(value) & (value != 0)))


def _replaces_nan(test: Node, first: Node, other: Node) -> bool:
    """Whether a choice takes a number instead of NaN; what equals anything is no NaN."""
    if is_number(first) and is_number(other):
        return True
    if not isinstance(test, CNode):
        return False
    if test.op == "Equal" and any(first is each for each in test.inputs):
        return is_number(other)
    return test.op == "IsNan" and is_number(first)
