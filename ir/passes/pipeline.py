"""The passes in order, by name."""

from collections.abc import Callable, Sequence
from functools import partial, reduce

from fnckpt.ir.graph import FuncGraph, everywhere
from fnckpt.ir.passes import (
    activations,
    arithmetic,
    branches,
    fast_math,
    fuse,
    in_front,
    interleave,
    layout,
    norms,
    padding,
    powers,
    reductions,
    reshape,
    signs,
    special_values,
    symbolic,
    weights,
)
from fnckpt.ir.passes.at_once import at_once
from fnckpt.ir.passes.channels import channels_first
from fnckpt.ir.passes.hoist import hoist
from fnckpt.ir.passes.one_shape import one_shape
from fnckpt.ir.passes.parts import join_parts
from fnckpt.ir.passes.reshaped_once import reshaped_once
from fnckpt.ir.passes.rewrite import Rule, rewrite
from fnckpt.ir.passes.share import share
from fnckpt.ir.passes.softmaxes import softmaxes
from fnckpt.ir.passes.trim import trim
from fnckpt.ir.verify import verify

Pass = Callable[[FuncGraph], FuncGraph]

MOST_ROUNDS = 16


def _rules(*rules: Rule) -> Pass:
    return partial(rewrite, rules=rules)


def _in_turn(*steps: Pass) -> Pass:
    return lambda graph: reduce(lambda done, step: step(done), steps, graph)


def _until_settled(*steps: Pass) -> Pass:
    """The steps in turn, again and again, until nothing changes."""

    def settled(graph: FuncGraph) -> FuncGraph:
        for _ in range(MOST_ROUNDS):
            after = _in_turn(*steps)(graph)
            if after is graph:
                break
            graph = after
        return graph

    return settled


PASSES: dict[str, Pass] = {
    "share": share,
    "trim": trim,
    # One form: constants folded, weights reshaped at export, reductions with all their axes.
    "simplify": _rules(
        *reshape.RULES,
        *reshape.IN_OWN_DTYPE,
        *reshape.FOLD,
        *interleave.RULES,
        *padding.MERGE,
        *symbolic.RULES,
        *arithmetic.RULES,
        *branches.RULES,
        *powers.RULES,
        *arithmetic.KEEP,
        *arithmetic.LATER,
        *arithmetic.SHRINK,
    ),
    "share_simplified": share,
    "trim_simplified": trim,
    "join_parts": join_parts,
    "fuse": _rules(
        *reshape.RULES,
        *fuse.RULES,
        *activations.RULES,
        *reductions.RULES,
        *norms.RULES,
        *arithmetic.LATER,
    ),
    "softmaxes": softmaxes,
    "relu": _rules(fuse.fuse_relu),
    "channels": channels_first,
    "layout": _in_turn(
        _rules(
            *reshape.RULES,
            *reshape.FOLD,
            *layout.RULES,
            *padding.RULES,
            *fuse.RULES,
            arithmetic.cancel_factor,
        ),
        _rules(*reshape.RULES, *symbolic.MOVE),  # against the way of the transposes before
    ),
    "weights": _in_turn(
        _rules(
            *reshape.RULES,
            *fuse.RULES,
            *norms.INTO,
            *weights.RULES,
            *in_front.RULES,
            *padding.RULES,
        ),
        _rules(*weights.SPREAD),
    ),
    "hoist": _in_turn(hoist, trim),
    "at_once": _in_turn(at_once, trim),
    "finish": _in_turn(
        _rules(reshape.stack_unreshaped),
        reshaped_once,
        _rules(
            *reshape.RULES,
            *arithmetic.DROP,
            arithmetic.drop_product,
            arithmetic.multiply_by_power,
            *arithmetic.EARLIER,
            *special_values.RULES,
            *signs.RULES,
        ),
        _until_settled(
            share,  # a reshape that two rules made has one user then
            _rules(*reshape.RULES, *arithmetic.DROP, *arithmetic.EARLIER),
        ),
        one_shape,
    ),
    "share_finished": share,
}


# Those that fast_math=True adds, each after the one it is called with.
FAST_PASSES: dict[str, tuple[str, Pass]] = {
    "fast_reads": ("share", _rules(*fast_math.RULES)),
    "fast_weights": ("weights", _rules(*weights.FAST, *in_front.FAST)),
}

TARGET_PASS = "fuse_for_target"  # the larger operators of a target, after all of these
CHANGES_WEIGHTS = ("weights", "fast_weights")  # the passes that do arithmetic on weights


def _in_order() -> tuple[str, ...]:
    """All names, in the order that the passes run in."""
    after = {place: name for name, (place, _) in FAST_PASSES.items()}
    names = [n for name in PASSES for n in (name, after.get(name)) if n is not None]
    return (*names, TARGET_PASS)


def chosen(
    optimize: bool | Sequence[str], *, keep_params: bool = False, fast_math: bool = False
) -> tuple[str, ...]:
    """The names of the passes to run, the one of the target among them.

    Args:
      optimize: all, none, or these alone, in the order of the pipeline.
      keep_params: leave out what does arithmetic on weights.
      fast_math: of all, also those of ``FAST_PASSES``.

    Raises:
      ValueError: a name that no pass has.

    >>> chosen(["share", "simplify"])
    ('share', 'simplify')
    """
    every = _in_order()
    by_default = tuple(name for name in every if fast_math or name not in FAST_PASSES)
    wanted = (by_default if optimize else ()) if isinstance(optimize, bool) else tuple(optimize)
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
    every = PASSES | {name: step for name, (_, step) in FAST_PASSES.items()}
    for name in names:
        graph = everywhere(graph, every[name])
        if debug:
            verify(graph)
    return graph
