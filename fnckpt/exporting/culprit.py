"""Which node is to blame where a file computes another result than JAX."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from fnckpt.exporting.verify import (
    Subject,
    Trial,
    Verified,
    computed_by_runtime,
    error_of,
)
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import CNode, FuncGraph
from fnckpt.ir.lowering.compat import bind
from fnckpt.ir.lowering.source import user_line


def culprit(subject: Subject, trial: Trial, outcome: Verified) -> str:
    """The first node whose value differs, or the pass after which the result does."""
    wrong = [
        (stage, graph)
        for stage, graph in subject.graphs
        if not _agrees(evaluate(graph, trial.feeds), trial.wanted, outcome.tolerance)
    ]
    if not wrong:
        return _in_the_runtime(subject, trial, outcome)
    stage, graph = wrong[0]
    if graph is subject.graphs[0][1]:
        return _in_the_lowering(subject, trial, outcome)
    before = next(g for (_, g), (_, after) in _pairs(subject) if after is graph)
    known = {id(node) for node in before.nodes()}
    made = next((node for node in graph.cnodes() if id(node) not in known), None)
    at = "" if made is None else f"; the first node that it made is {_place(made)}"
    return f"the result differs after {stage}{at}"


def _pairs(subject: Subject) -> Iterator[tuple[tuple[str, FuncGraph], tuple[str, FuncGraph]]]:
    return zip(subject.graphs, subject.graphs[1:], strict=False)


def _agrees(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float) -> bool:
    return all(error_of(a, b) <= tolerance for a, b in zip(found, wanted, strict=True))


def _place(node: CNode) -> str:
    scope = f"{node.origin.scope}/" if node.origin.scope else ""
    return f"{scope}{node.op}: {node.origin.line()}"


def _in_the_runtime(subject: Subject, trial: Trial, outcome: Verified) -> str:
    """Every value of the graph as an output of one file, against our evaluator."""
    nodes = [node for node in subject.graph.cnodes() if len(node.results) == 1]
    names = tuple(f"value_{i}" for i in range(len(nodes)))
    probe = replace(subject.graph, outputs=tuple(nodes), output_names=names)
    found = computed_by_runtime(subject, probe, trial.feeds)
    wanted = evaluate(probe, trial.feeds)
    for node, a, b in zip(nodes, found, wanted, strict=True):
        if not error_of(a, b) <= outcome.tolerance:
            return f"the first node that differs, by {error_of(a, b):.2g}, is {_place(node)}"
    return (
        f"no node differs when each value is an output: {outcome.runtime} computes them "
        "differently together"
    )


def _in_the_lowering(subject: Subject, trial: Trial, outcome: Verified) -> str:
    """Every value of the jaxpr as an output, JAX against the graph that is lowered from it."""
    closed = trial.traced.closed
    found = [(e, v) for e in closed.jaxpr.eqns for v in e.outvars if _is_comparable(v)]
    given = [*trial.arrays, *trial.leaves]
    everything = jax.make_jaxpr(_values_of(closed, [var for _, var in found]))(*given)
    names = [f"value_{i}" for i in range(len(found))]
    jaxpr = replace(trial.traced, closed=everything, output_names=names)
    graph = jaxpr.lowered("probe", subject.call.closed)
    values = evaluate(graph, trial.feeds)
    results = jax.jit(jaxpr_as_fun(everything))(*given)
    for (eqn, _), value, result in zip(found, values, results, strict=True):
        error = error_of(value, np.asarray(result))
        if not error <= outcome.tolerance:
            return f"the first equation that is lowered wrongly, by {error:.2g}, is {_at(eqn)}"
    return "the graph as it was lowered computes another result"


def _values_of(closed: ClosedJaxpr, wanted: Sequence[Var]) -> Callable[..., list[jax.Array]]:
    """A function of the jaxpr's arguments that gives what its variables ``wanted`` are."""

    def values(*arguments: jax.Array) -> list[jax.Array]:
        known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        known |= zip(closed.jaxpr.invars, arguments, strict=True)
        for eqn in closed.jaxpr.eqns:
            inputs = [a.val if isinstance(a, Literal) else known[a] for a in eqn.invars]
            known |= zip(eqn.outvars, bind(eqn, inputs), strict=True)
        return [known[var] for var in wanted]

    return values


def _is_comparable(var: Var) -> bool:
    """Whether a value is used and can be an output: real numbers."""
    aval = var.aval
    if str(var) == "_" or not isinstance(aval, jax.core.ShapedArray):
        return False
    extended = jax.numpy.issubdtype(aval.dtype, jax.dtypes.extended)
    return not extended and np.dtype(aval.dtype).kind != "c"


def _at(eqn: JaxprEqn) -> str:
    return f"{eqn.primitive.name}: {user_line((eqn,))}"
