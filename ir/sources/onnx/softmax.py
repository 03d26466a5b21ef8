"""A softmax of few elements that our writer wrote in parts becomes one operator again."""

from functools import lru_cache

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import Aval, CNode, Node, Parameter
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.along import MOST_PARTS, SOFTMAXES, softmax_by_parts
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import rewrites
from fnckpt.ir.sources.alike import matched

MOST_HELD = 64  # templates


@rewrites("Concat")
def join_softmax(root: CNode) -> Node | None:
    """The parts, joined along the first axis of a matrix, are softmax(x) along it."""
    count = len(root.inputs)
    if not 1 < count <= MOST_PARTS or integer(root, "axis") != 0:
        return None
    if len(root.aval.shape) != 2 or root.aval.shape[0] != count or root.aval.dtype.kind != "f":
        return None
    for op in SOFTMAXES:
        leaf, template = _template(op, root.aval)
        bound = matched(template, root, exact=True)
        if bound is not None:
            return apply(op, bound[id(leaf)], origin=root.origin, axis=0)
    return None


@lru_cache(MOST_HELD)
def _template(op: str, aval: Aval) -> tuple[Parameter, Node]:
    x = Parameter("x", aval)
    return x, softmax_by_parts(Build(apply(op, x, axis=0)), x, op)
