"""What has no elements, or is made of such, is known; not every kernel takes it."""

import numpy as np

from fnckpt.ir.attributes import ints
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Op, Rule
from fnckpt.ir.sizes import all_known


def empty_result(node: CNode) -> Node | None:
    """A result without elements, whatever it is made of: a constant, or 0 in a symbolic shape."""
    if len(node.results) > 1 or 0 not in node.aval.shape:
        return None
    if all_known(node.aval.shape):
        return Constant(np.zeros(node.aval.shape, node.aval.dtype))
    if _is_shaped(node):
        return None
    zero = Constant(np.zeros((), node.aval.dtype))
    return Build(node)("BroadcastTo", zero, shape=node.aval.shape)


def _is_shaped(node: Node) -> bool:
    """Whether this is a constant that is given a shape, or a dtype that the format has for one."""
    while isinstance(node, CNode) and node.op in ("BroadcastTo", "Cast", "Reshape"):
        (node,) = node.inputs
    return isinstance(node, Constant)


def repeat_no_times(node: CNode) -> Node | None:
    """What is repeated no times is a constant of another shape: runtimes take the 0 for a 1."""
    if 0 not in node.aval.shape or all_known(node.aval.shape):
        return None
    nothing = Constant(np.zeros(0, node.aval.dtype))
    return Build(node)("Reshape", nothing, shape=node.aval.shape)


def compute_of_nothing(node: CNode) -> Node | None:
    """The result of inputs that are all empty."""
    shapes = [each.aval.shape for each in node.inputs]
    if not all(0 in shape for shape in shapes) or not shapes:
        return None
    if not all(map(all_known, (*shapes, *(aval.shape for aval in node.results)))):
        return _symbolic(node)
    empty = [np.zeros(each.aval.shape, each.aval.dtype) for each in node.inputs]
    result = compute(node, empty)
    return Constant(result) if isinstance(result, np.ndarray) else None


def _symbolic(node: CNode) -> Node | None:
    """One number everywhere, in any size."""
    if node.op not in REDUCTIONS:
        return None
    axes = ints(node, "axes")
    shape = [0 if axis in axes else 1 for axis in range(len(node.inputs[0].aval.shape))]
    nothing = np.zeros(shape, node.inputs[0].aval.dtype)
    number = np.asarray(OPERATORS[node.op].evaluate(nothing, **node.attrs))
    return Build(node).broadcast(Constant(number.reshape(())), node.aval.shape)


EMPTY: tuple[Rule, ...] = tuple(Rule(Op(op), empty_result) for op in OPERATORS)
RULES: tuple[Rule, ...] = (
    *EMPTY,
    *(Rule(Op(op), compute_of_nothing) for op in OPERATORS if op != "TopK"),
    Rule(Op("BroadcastTo"), repeat_no_times),
)
