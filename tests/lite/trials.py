"""What is tried in the old runtimes: the conformance cases, and the networks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from fnckpt.exporting import trace
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from tests.conformance.case import Case, assert_close, expected, optimized_graph
from tests.conformance.files import LOWERED, inputs_of
from tests.networks.zoo import ZOO

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Trial:
    """A function as a graph, its inputs, and what says whether results are JAX's.

    Attributes:
      name: unique.
      graph: optimized, of no target yet.
      inputs: one array each.
      compare: raises AssertionError where the results differ from JAX's.
    """

    name: str
    graph: Callable[[], FuncGraph]
    inputs: Arrays
    compare: Callable[[Arrays], None]


def trials(every: int) -> list[Trial]:
    """Each ``every``-th case, and all networks."""
    return [*map(_of_case, LOWERED[::every]), *_of_networks()]


def _of_case(case: Case) -> Trial:
    return Trial(
        name=case.name,
        graph=lambda: optimized_graph(case),
        inputs=inputs_of(case),
        compare=lambda found: assert_close(case, found, expected(case)),
    )


def _of_networks() -> Iterator[Trial]:
    for name, make in ZOO.items():
        params, apply_fn, inputs = make()
        graph = optimized(trace(params, apply_fn, inputs, name=name))
        wanted = [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]
        case = Case(f"network {name}", apply_fn, inputs, tolerance=1e-4)
        yield Trial(
            name=case.name,
            graph=lambda graph=graph: graph,
            inputs=inputs,
            compare=lambda found, case=case, wanted=wanted: assert_close(case, found, wanted),
        )
