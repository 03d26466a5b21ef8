"""Numbers get as many axes as what they are combined with, where its last axis has one element.

ONNX Runtime 1.32 takes 13 ns an element for ``1 - x`` of an x of shape ``[4, 64, 64, 1]`` if the
1 has no axes, and 0.2 if it has four.
"""

from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.arithmetic import ELEMENTWISE
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.large import is_large
from fnckpt.ir.passes.rewrite import Op, Rule

FEW = 64  # elements; a reshape of what is computed pays where the result is large


def _with_axes(root: CNode) -> Node | None:
    """f(x, c) is f(x, reshape(c)), for a c of one element."""
    rank = len(root.aval.shape)
    if rank == 0 or root.aval.shape[-1] != 1 or not is_large(root, FEW):
        return None
    build = Build(root)
    inputs = [
        build.reshape(each, (1,) * rank) if _lacks_axes(each, root) else each
        for each in root.inputs
    ]
    if all(new is old for new, old in zip(inputs, root.inputs, strict=True)):
        return None
    return build(root.op, *inputs, **root.attrs)


def _lacks_axes(node: Node, root: CNode) -> bool:
    few = node.aval.size == 1 and len(node.aval.shape) < len(root.aval.shape)
    return few and (isinstance(node, Constant) or is_large(root))


RULES = tuple(Rule(Op(op), _with_axes) for op in ELEMENTWISE)
