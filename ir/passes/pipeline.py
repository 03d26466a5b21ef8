"""The passes in order, by name."""

from collections.abc import Callable, Sequence
from functools import partial

from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes import arithmetic, fuse, layout, reshape
from fnckpt.ir.passes.rewrite import Rule, rewrite
from fnckpt.ir.passes.share import share
from fnckpt.ir.verify import verify

Pass = Callable[[FuncGraph], FuncGraph]


def _rules(*rules: Rule) -> Pass:
    return partial(rewrite, rules=rules)


PASSES: dict[str, Pass] = {
    "share": share,
    # One form: constants folded, weights reshaped at export, reductions with all their axes.
    "simplify": _rules(
        *reshape.RULES, *reshape.FOLD, *arithmetic.RULES, *arithmetic.KEEP, *arithmetic.LATER
    ),
    "share_simplified": share,
    "fuse": _rules(*reshape.RULES, *fuse.RULES),
    "relu": _rules(fuse.fuse_relu),
    "layout": _rules(
        *reshape.RULES, *reshape.FOLD, *layout.RULES, *fuse.RULES, arithmetic.cancel_factor
    ),
    "finish": _rules(*reshape.RULES, arithmetic.drop_dimensions, *arithmetic.EARLIER),
    "share_finished": share,
}


def optimized(graph: FuncGraph, *, debug: bool = False) -> FuncGraph:
    """``graph`` after all passes: equal values within rounding, fewer and better operators.

    Args:
      graph: as it was lowered.
      debug: verify the graph before and after each pass.
    """
    return run(graph, tuple(PASSES), debug=debug)


def run(graph: FuncGraph, names: Sequence[str], *, debug: bool = False) -> FuncGraph:
    """``graph`` after the passes called ``names``."""
    if debug:
        verify(graph)
    for name in names:
        graph = PASSES[name](graph)
        if debug:
            verify(graph)
    return graph
