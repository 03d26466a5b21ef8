"""What is reshaped for others already is not reshaped once more behind an operator.

It looks at all users of a value, so that it is a pass of its own, not a rule.
"""

from dataclasses import dataclass, replace

from fnckpt.ir.attributes import Ints
from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import is_elementwise
from fnckpt.ir.passes.axes import before
from fnckpt.ir.passes.build import known
from fnckpt.ir.passes.reshape import reshaped, value_of, with_value
from fnckpt.ir.passes.rewrite import Uses, scalar_of
from fnckpt.ir.passes.share import share
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import all_known


@dataclass(frozen=True)
class Reshaped:
    """What is reshaped in a graph: which values to which shapes, and what each node became."""

    there: frozenset[tuple[int, Ints]]
    uses: Uses
    new: dict[int, Node]

    @bounded(otherwise=None)
    def source(self, node: Node, shape: Ints, root: CNode) -> Node | None:
        """What is used with values of ``shape``, in that of ``root``; None if it is not there."""
        goal = root.aval.shape
        if known(node) is not None:
            once = isinstance(node, Constant) or self.uses[id(node)] == 1  # else twice in the file
            return _known(node, shape, goal) if once else None
        if node.aval.shape != shape:
            return None
        if (id(node), goal) in self.there:
            return reshaped(self.new[id(node)], goal, root)
        return self.computed(node, root)

    def computed(self, node: Node, root: CNode) -> Node | None:
        """The same of an operator element by element that has no other user."""
        if not isinstance(node, CNode) or not is_elementwise(node) or self.uses[id(node)] > 1:
            return None
        inputs = [self.source(each, node.aval.shape, root) for each in node.inputs]
        found = tuple(each for each in inputs if each is not None)
        if len(found) < len(inputs) or all(known(each) is not None for each in found):
            return None
        return replace(node, inputs=found, results=(replace(node.aval, shape=root.aval.shape),))


def _known(node: Node, shape: Ints, goal: Ints) -> Node | None:
    """A constant or a weight that is used with values of ``shape``, for the same as ``goal``."""
    if isinstance(node, Constant) and scalar_of(node) is not None:
        return Constant(node.value.reshape(-1)[:1].reshape(()))
    after = before(node.aval.shape, goal, shape)
    return None if after is None else with_value(node, value_of(node).reshape(after))


def reshaped_once(graph: FuncGraph) -> FuncGraph:
    """reshape(f(x, c)) is f(reshape(x), c'), where others use reshape(x) too."""
    moved = [n for n in graph.cnodes() if n.op == "Reshape" and all_known(n.aval.shape)]
    there = frozenset((id(n.inputs[0]), n.aval.shape) for n in moved)
    roots = {id(n): n for n in moved}
    made = Reshaped(there, graph.use_counts(), {})
    for node in graph.nodes():
        root = roots.get(id(node))
        found = None if root is None else made.computed(root.inputs[0], root)
        made.new[id(node)] = rebuilt(node, made.new) if found is None else found
    after = with_outputs(graph, made.new)
    return graph if after is graph else share(after)
