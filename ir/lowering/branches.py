"""Branches: the one that is taken where that is known, else all of them as graphs.

A target that has no branches gets all of them computed, and a choice between the results.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fnckpt.ir.graph import FuncGraph, Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.inside import Inside, like_values
from fnckpt.ir.lowering.known import known_value
from fnckpt.ir.lowering.parts import each_part
from fnckpt.ir.lowering.registry import Site, Value, lowers_call
from fnckpt.ir.operators import apply, items


@lowers_call("cond")
def lower_cond(
    site: Site, index: Node, *args: Value, branches: Sequence[object], **_: object
) -> Sequence[Value]:
    """The branch that is taken, where that is known; else all of them, as graphs.

    One that raises an error is not there, since a file raises none.
    """
    which = known_value(index)
    if which is not None:
        return site.call(branches[min(max(int(which), 0), len(branches) - 1)], args)
    raising = [branch for branch in branches if compat.only_raises(branch)]
    if len(raising) == len(branches) - 1:
        for branch in raising:
            site.call(branch, args)  # which notes what is left out
        branches = [branch for branch in branches if branch not in raising]
    if len(branches) == 1:
        return site.call(branches[0], args)
    if not site.loops:
        return _selected(site, index, [site.call(branch, args) for branch in branches])
    calls = [lambda *given, branch=branch: site.call(branch, given) for branch in branches]
    return chosen(site, index, args, calls)


def chosen(
    site: Site,
    index: Node,
    args: Sequence[Value],
    branches: Sequence[Callable[..., Sequence[Value]]],
) -> Sequence[Value]:
    """What the branch number ``index`` makes of ``args``, as one operator."""
    captured: Sequence[Node] = ()
    graphs: list[FuncGraph] = []
    results: Sequence[Value] = ()
    for number, branch in enumerate(branches):
        inside = Inside("cond")
        same, captured = inside.captured(args)
        results = branch(*same)
        graphs.append(inside.graph(f"branch_{number}", results))
    if not results:
        return ()
    chosen = site.cast(index, np.dtype(np.int32))
    node = apply("Cond", chosen, *captured, origin=site.origin, branches=tuple(graphs))
    return like_values(results, items(node))


def _selected(site: Site, index: Node, results: Sequence[Sequence[Value]]) -> Sequence[Value]:
    """All branches computed, and the results of one of them selected."""
    chosen = list(results[-1])
    for number in reversed(range(len(results) - 1)):
        here = site.apply("LessEqual", index, site.constant(number, index))

        def select(x: Node, y: Node, here: Node = here) -> Node:
            spread = site.apply("BroadcastTo", here, shape=x.aval.shape) if x.aval.shape else here
            return site.apply("Select", spread, x, y)

        pairs = zip(results[number], chosen, strict=True)
        chosen = [each_part(select, mine, other) for mine, other in pairs]
    return chosen
