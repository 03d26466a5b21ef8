"""What MindSpore 2.10 gets wrong of weights in loops and branches: there they are copied.

A weight that a loop inside a function begins with ("does not have a valid ptr"), or that a function
inside a loop gives as it is ("Invalid parameter"), ends the call; a constant does not.
"""

from dataclasses import replace

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import HOLDS_GRAPHS, CNode, FuncGraph, Node, Parameter, with_graphs
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.control import KNOWN_INSIDE
from fnckpt.ir.passes.rewrite import Op, Rule


def copy_weights(root: CNode) -> Node | None:
    """A node with graphs whose first carries and whose graphs' results are no weights."""
    first = integer(root, "captured") if root.op == "While" else len(root.inputs)
    inputs = (*root.inputs[:first], *map(_copied, root.inputs[first:]))
    changed = with_graphs(root, _with_copies)
    assert isinstance(changed, CNode)
    if changed is root and all(a is b for a, b in zip(inputs, root.inputs, strict=True)):
        return None
    return replace(changed, inputs=inputs)


def _with_copies(inside: FuncGraph) -> FuncGraph:
    outputs = tuple(map(_copied, inside.outputs))
    same = all(a is b for a, b in zip(outputs, inside.outputs, strict=True))
    return inside if same else replace(inside, outputs=outputs)


def _copied(node: Node) -> Node:
    if not isinstance(node, Parameter) or node.value is None:
        return node
    return apply("Reshape", node, shape=node.aval.shape)


RULES: tuple[Rule, ...] = (
    *KNOWN_INSIDE,
    *(Rule(Op(op), copy_weights) for op in sorted(HOLDS_GRAPHS)),
)
