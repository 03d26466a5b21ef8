"""An order in two branches, with and without NaN, is the one that is right for both."""

from fnckpt.ir.attributes import graphs
from fnckpt.ir.graph import CNode, Node, Parameter, inlined
from fnckpt.ir.passes.control import boolean_of
from fnckpt.ir.passes.rewrite import rewrites
from fnckpt.ir.sources.alike import matched
from fnckpt.ir.targets.onnx.rare_nan import parts


@rewrites("Cond")
def join_branches(root: CNode) -> Node | None:
    """cond(x has NaN, order(x), order(key of x)) is order(key of x), as our writer made it."""
    index, *operands = root.inputs
    branches = graphs(root, "branches")
    if len(branches) != 2 or len(operands) != 1 or len(root.results) != 1:
        return None
    x = Parameter("x", operands[0].aval)
    plain, guarded = (_uncast(inlined(branch, [x])[0]) for branch in branches)
    found, odd = parts(guarded) if isinstance(guarded, CNode) else None, boolean_of(index)
    if found is None or odd is None or matched(found.plain, plain, exact=True) is None:
        return None
    bound = matched(found.odd, odd, exact=True)
    if bound is None or bound.get(id(x)) is not operands[0]:
        return None
    return inlined(branches[1], operands)[0]


def _uncast(places: Node) -> Node:
    """The operator that found them; a file has int64."""
    while isinstance(places, CNode) and places.op == "Cast":
        (places,) = places.inputs
    return places
