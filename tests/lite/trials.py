"""What is tried in the old runtimes: the conformance cases, and the networks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from tests.ir.conformance.case import Case, assert_close, expected, optimized_graph
from tests.ir.conformance.files import LOWERED, inputs_of
from tests.networks.zoo import ZOO

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A function as a graph, its inputs, and what says whether results are right.

    Attributes:
      name: unique.
      graph: optimized, of no target yet.
      inputs: one array each.
      compare: raises AssertionError where results differ.
    """

    name: str
    graph: Callable[[], FuncGraph]
    inputs: Arrays
    compare: Callable[[Arrays], None]


def trials(every: int, only: str = "") -> list[Trial]:
    """Each ``every``-th case and all networks, of those whose name has ``only`` in it."""
    cases = [case for case in LOWERED[::every] if only in case.name]
    networks = [name for name in ZOO if only in f"network {name}"]
    return [*map(_of_case, cases), *map(_of_network, networks)]


def _of_case(case: Case) -> Trial:
    return Trial(
        name=case.name,
        graph=lambda: optimized_graph(case),
        inputs=inputs_of(case),
        compare=lambda found: compare(case, found),
    )


def compare(case: Case, found: Arrays) -> None:
    """As the evaluator computes, which tests/ir/conformance holds to JAX in each case; else as JAX.

    JAX compiles for most of a second, which thousands of cases have no time for.
    """
    with np.errstate(all="ignore"):
        meant = evaluate(optimized_graph(case), inputs_of(case))
    try:
        assert_close(case, found, meant)
    except AssertionError:
        assert_close(case, found, expected(case))


def _of_network(name: str) -> Trial:
    params, apply_fn, inputs = ZOO[name]()
    graph = optimized(trace(params, apply_fn, inputs, name=name))
    wanted = [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]
    case = Case(f"network {name}", apply_fn, inputs, tolerance=1e-4)
    return Trial(case.name, lambda: graph, inputs, lambda found: assert_close(case, found, wanted))
