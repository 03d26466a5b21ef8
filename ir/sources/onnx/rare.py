"""What is in two branches, for few inputs and for all others, is the one that is right for both."""

from fnckpt.ir.attributes import graphs
from fnckpt.ir.graph import CNode, Node, Parameter, inlined
from fnckpt.ir.passes.control import boolean_of
from fnckpt.ir.passes.rewrite import rewrites
from fnckpt.ir.sources.alike import matched
from fnckpt.ir.targets.onnx import rare_large, rare_orders
from fnckpt.ir.targets.onnx.rare import Parts


@rewrites("Cond")
def join_branches(root: CNode) -> Node | None:
    """cond(x is odd, plain(x), right(x)) is right(x), as our writer made it."""
    index, *operands = root.inputs
    branches = graphs(root, "branches")
    if len(branches) != 2 or len(operands) != 1 or len(root.results) != 1:
        return None
    x = Parameter("x", operands[0].aval)
    plain, guarded = (_uncast(inlined(branch, [x])[0]) for branch in branches)
    found, odd = _parts(guarded), boolean_of(index)
    if found is None or odd is None or matched(found.plain, plain, exact=True) is None:
        return None
    bound = matched(found.odd, odd, exact=True)
    if bound is None or bound.get(id(x)) is not operands[0]:
        return None
    return inlined(branches[1], operands)[0]


def _parts(guarded: Node) -> Parts | None:
    if not isinstance(guarded, CNode):
        return None
    return rare_orders.parts(guarded) or rare_large.parts(guarded)


def _uncast(places: Node) -> Node:
    """The operator that found them; a file has int64."""
    while isinstance(places, CNode) and places.op == "Cast":
        (places,) = places.inputs
    return places
