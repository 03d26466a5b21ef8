"""The passes in order, by name."""

from collections.abc import Callable, Sequence
from functools import partial

from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes import activations, arithmetic, fuse, layout, norms, reshape, weights
from fnckpt.ir.passes.parts import join_parts
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
        *reshape.RULES,
        *reshape.FOLD,
        *arithmetic.RULES,
        *arithmetic.KEEP,
        *arithmetic.LATER,
        *arithmetic.SHRINK,
    ),
    "share_simplified": share,
    "join_parts": join_parts,
    "fuse": _rules(
        *reshape.RULES, *fuse.RULES, *activations.RULES, *norms.RULES, *arithmetic.LATER
    ),
    "relu": _rules(fuse.fuse_relu),
    "layout": _rules(
        *reshape.RULES, *reshape.FOLD, *layout.RULES, *fuse.RULES, arithmetic.cancel_factor
    ),
    "weights": _rules(*reshape.RULES, *fuse.RULES, *weights.RULES),
    "finish": _rules(*reshape.RULES, arithmetic.drop_dimensions, *arithmetic.EARLIER),
    "share_finished": share,
}


TARGET_PASS = "fuse_for_target"  # the larger operators of a target, after all of these
CHANGES_WEIGHTS = ("weights",)  # the passes that do arithmetic on weights


def chosen(optimize: bool | Sequence[str], *, keep_params: bool = False) -> tuple[str, ...]:
    """The names of the passes to run, the one of the target among them.

    Args:
      optimize: all, none, or these alone, in the order of the pipeline.
      keep_params: leave out what does arithmetic on weights.

    Raises:
      ValueError: a name that no pass has.

    >>> chosen(["share", "simplify"])
    ('share', 'simplify')
    """
    every = (*PASSES, TARGET_PASS)
    wanted = (every if optimize else ()) if isinstance(optimize, bool) else tuple(optimize)
    unknown = [name for name in wanted if name not in every]
    if unknown:
        raise ValueError(
            f"optimize: no pass is called {', '.join(unknown)}; the passes are: {', '.join(every)}"
        )
    kept = [name for name in wanted if not (keep_params and name in CHANGES_WEIGHTS)]
    return tuple(sorted(kept, key=every.index))


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
