"""What is in two branches, for few inputs and for all others, is the one that is right for both."""

from collections.abc import Iterable

import numpy as np

from fnckpt.ir.attributes import graphs
from fnckpt.ir.graph import CNode, Node, Parameter, inlined
from fnckpt.ir.lowering.ranges import range_of
from fnckpt.ir.passes.control import boolean_of
from fnckpt.ir.passes.rewrite import Any_, Op, Scalar, rewrites
from fnckpt.ir.sources.alike import matched
from fnckpt.ir.targets.onnx import rare_large, rare_orders
from fnckpt.ir.targets.onnx.rare import chosen


@rewrites("Cond")
def join_branches(root: CNode) -> Node | None:
    """cond(x is odd, plain(x), right(x)) is right(x), as our writer made it."""
    index, *operands = root.inputs
    branches, test = graphs(root, "branches"), boolean_of(index)
    if len(branches) != 2 or len(operands) != 1 or len(root.results) != 1 or test is None:
        return None
    x = Parameter("x", operands[0].aval)
    results = [_uncast(inlined(branch, [x])[0]) for branch in branches]
    for branch, guarded in zip(branches, results, strict=True):
        wanted = _written(guarded)
        bound = wanted and matched(wanted[0], test, exact=True)
        if wanted and bound and bound.get(id(x)) is operands[0] and _are_alike(wanted[1:], results):
            return inlined(branch, operands)[0]
    return None


places = Any_("places")


@rewrites(Op("Select", Op("Less", places, Scalar(value=0.0), users=0), Any_("wrapped"), places))
def places_from_the_front(root: CNode, places: Node, wrapped: Node) -> Node | None:
    """Places that are known, since their branches are joined, are not counted from the end."""
    return places if places.aval == root.aval and np.all(range_of(places).low >= 0) else None


def _written(guarded: Node) -> tuple[Node, Node, Node] | None:
    """What our writer makes of it: the boolean that chooses, and the two results."""
    if not isinstance(guarded, CNode):
        return None
    found = rare_orders.parts(guarded) or rare_large.parts(guarded)
    return found and chosen(found.odd, found.plain, guarded)


def _are_alike(wanted: Iterable[Node], found: Iterable[Node]) -> bool:
    pairs = zip(wanted, found, strict=True)
    return all(a is b or matched(a, b, exact=True) is not None for a, b in pairs)


def _uncast(places: Node) -> Node:
    """The operator that found them; a file has int64."""
    while isinstance(places, CNode) and places.op == "Cast":
        (places,) = places.inputs
    return places
