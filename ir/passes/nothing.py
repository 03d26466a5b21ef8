"""What has no elements, or is made of such, is known; not every kernel takes it."""

import numpy as np

from fnckpt.ir.attributes import ints
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import OPERATORS, moves_elements
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Op, Rule
from fnckpt.ir.sizes import all_known


def compute_of_nothing(node: CNode) -> Node | None:
    """The result of inputs that are all empty."""
    shapes = [each.aval.shape for each in node.inputs]
    if not all(0 in shape for shape in shapes) or not shapes:
        return None
    if not all(map(all_known, (*shapes, *(aval.shape for aval in node.results)))):
        return _symbolic(node)
    if len(node.results) == 1 and 0 in node.aval.shape:
        return Constant(np.zeros(node.aval.shape, node.aval.dtype))
    empty = [np.zeros(each.aval.shape, each.aval.dtype) for each in node.inputs]
    result = compute(node, empty)
    return Constant(result) if isinstance(result, np.ndarray) else None


def _symbolic(node: CNode) -> Node | None:
    """One number everywhere, in any size; None where elements that are not there are moved."""
    if 0 in node.aval.shape:
        moved = moves_elements(node) or node.op == "Cast"
        return None if moved else empty_as(node)
    if node.op not in REDUCTIONS:
        return None
    axes = ints(node, "axes")
    shape = [0 if axis in axes else 1 for axis in range(len(node.inputs[0].aval.shape))]
    nothing = np.zeros(shape, node.inputs[0].aval.dtype)
    return _spread(node, np.asarray(OPERATORS[node.op].evaluate(nothing, **node.attrs)))


def empty_as(node: CNode) -> Node:
    """What has the shape of ``node``, in which is a 0."""
    return _spread(node, np.zeros((), node.aval.dtype))


def _spread(node: CNode, number: np.ndarray) -> Node:
    return Build(node).broadcast(Constant(number.reshape(())), node.aval.shape)


RULES: tuple[Rule, ...] = tuple(
    Rule(Op(op), compute_of_nothing) for op in OPERATORS if op != "TopK"
)
