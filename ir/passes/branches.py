"""What chooses a branch, said by the boolean that it was made of."""

import numpy as np

from fnckpt.ir.attributes import graphs
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import BOOL, INT32
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites

x = Any_("x")


@rewrites(Op("Greater", Op("Cast", x, users=0), Scalar(value=0.0)))
def boolean_above_zero(root: CNode, x: Node) -> Node | None:
    """int(b) > 0 is b."""
    return x if x.aval.dtype == BOOL and x.aval.shape == root.aval.shape else None


@rewrites("Cond")
def choose_between_two(root: CNode) -> Node | None:
    """cond(int(i > 0), ...) of two branches is cond(i, ...): the nearest branch is taken."""
    index, *operands = root.inputs
    if len(graphs(root, "branches")) != 2 or not isinstance(index, CNode) or index.op != "Cast":
        return None
    (test,) = index.inputs
    if not isinstance(test, CNode) or test.op != "Greater":
        return None
    number, zero = test.inputs
    known = zero.value if isinstance(zero, Constant) else np.ones(1)
    if known.any() or number.aval.dtype != INT32:
        return None
    return apply("Cond", number, *operands, origin=root.origin, **root.attrs)


RULES: tuple[Rule, ...] = (boolean_above_zero, choose_between_two)
