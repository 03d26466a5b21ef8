"""Loops and branches hold what they need alone: no dead carries, no work that never changes.

Each network gives what is wanted first; the rest is there so that JAX leaves it in.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import CNode, FuncGraph, graphs_of
from fnckpt.ir.passes.hoist import hoist
from fnckpt.ir.passes.pipeline import optimized, run
from fnckpt.ir.passes.trim import trim
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized, preferred
from fnckpt.ir.verify import verify

Net = Callable[..., Any]

X = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
ROWS = np.random.default_rng(1).standard_normal((12, 4)).astype(np.float32)
W = {"w": (np.random.default_rng(2).standard_normal((4, 4)) * 0.1).astype(np.float32)}


def dead_carry(w: Any, x: Any, rows: Any) -> Any:
    """Of three carries the second feeds itself alone."""
    step = lambda c, r: ((c[0] + r, jnp.sin(c[1]), c[2] * 0.5 + c[0]), None)  # noqa: E731
    (one, two, last), _ = lax.scan(step, (x[0], x[1], x[2]), rows)
    return last, one, two


def dead_pair(w: Any, x: Any, rows: Any) -> Any:
    """Two carries feed each other, and no result."""
    step = lambda c, r: ((c[0] + r, jnp.sin(c[2]), jnp.cos(c[1])), None)  # noqa: E731
    return lax.scan(step, (x[0], x[1], x[2]), rows)[0]


def dead_stack(w: Any, x: Any, rows: Any) -> Any:
    """One of two stacks has no user, and with it go its row of the input and its work."""
    step = lambda c, r: (c + r[0], (c, jnp.tanh(r[1])))  # noqa: E731
    return lax.scan(step, x[0], (rows, rows + 1))[1]


def dead_in_while(w: Any, x: Any, rows: Any) -> Any:
    """The condition keeps one carry, a result another; the third goes."""
    go = lambda c: c[0] < rows.sum() * 0 + 5  # noqa: E731
    step = lambda c: (c[0] + 1.0, jnp.sin(c[1]), jnp.tanh(c[2] @ x))  # noqa: E731
    return lax.while_loop(go, step, (x[0, 0], x[1], x[2]))[1:]


def dead_branches(w: Any, x: Any, rows: Any) -> Any:
    """The second of two results has no user, nor then has ``rows``."""
    yes = lambda a, r: (jnp.sin(a), jnp.exp(r))  # noqa: E731
    no = lambda a, r: (a * 2, jnp.cos(r))  # noqa: E731
    return lax.cond(x.sum() > 0, yes, no, x, rows)


def dead_deep(w: Any, x: Any, rows: Any) -> Any:
    """A carry of the outer loop goes into a dead carry of the inner one alone."""

    def outer(c: Any, r: Any) -> Any:
        inner = lambda d, q: ((d[0] + q, jnp.sin(d[1] * c[1])), None)  # noqa: E731
        (first, _), _ = lax.scan(inner, (c[0] + r, c[1]), rows)
        return (first, jnp.cos(c[1])), None

    return lax.scan(outer, (x[0], x[1]), rows[:5] * 0.1)[0]


def as_it_is(a: Any) -> Any:
    """``a``, which JAX does not see: it drops carries that are plainly the same by itself."""
    return a.reshape(2, 2).reshape(4)


def unchanged(w: Any, x: Any, rows: Any) -> Any:
    """The second carry is what it was before the loop."""
    step = lambda c, r: ((jnp.tanh(c[0] + r) * c[1], as_it_is(c[1])), None)  # noqa: E731
    (a, b), _ = lax.scan(step, (x[0], x[1]), rows)
    return a + b


def unchanged_in_while(w: Any, x: Any, rows: Any) -> Any:
    """As ``fori_loop`` carries its bound: read by the condition, given on as it is."""
    stop = (x[0, 0] * 0 + 7).astype(jnp.int32)
    return lax.fori_loop(0, stop, lambda i, c: jnp.tanh(c + i) + rows[:4], x)


def unchanged_through_cond(w: Any, x: Any, rows: Any) -> Any:
    """Both branches give the second carry as it came."""

    def step(c: Any, r: Any) -> Any:
        yes, no = lambda a, b: (a + r, as_it_is(b)), lambda a, b: (a - b, as_it_is(b))
        return lax.cond(r.sum() > 0, yes, no, *c), None

    return lax.scan(step, (x[0], x[1]), rows)[0]


# The results and inputs that are left of the outermost branch or loop.
TRIMMED: dict[Net, tuple[int, int]] = {
    dead_carry: (2, 3),
    dead_pair: (1, 2),
    dead_stack: (2, 2),
    dead_in_while: (2, 3),
    dead_branches: (1, 2),
    dead_deep: (1, 3),
    unchanged: (1, 3),
    unchanged_in_while: (2, 4),
    unchanged_through_cond: (1, 3),
}


def traced(net: Net) -> FuncGraph:
    graph = trace(W, net, (X, ROWS), name="net", max_unroll=1)
    return replace(graph, outputs=graph.outputs[:1], output_names=graph.output_names[:1])


def holder(graph: FuncGraph) -> CNode:
    (found,) = (node for node in graph.cnodes() if graphs_of(node))
    return found


def near(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("net", TRIMMED, ids=lambda net: net.__name__)
def test_what_nobody_needs_leaves_the_loop(net: Net) -> None:
    before = run(traced(net), ["simplify"])
    after = trim(trim(before))
    verify(after)
    left, had = holder(after), holder(before)
    assert (len(left.results), len(left.inputs)) == TRIMMED[net]
    assert (len(left.results), len(left.inputs)) != (len(had.results), len(had.inputs))
    assert [*after.inputs] == [*before.inputs]
    np.testing.assert_array_equal(evaluate(after, (X, ROWS))[0], evaluate(before, (X, ROWS))[0])


@pytest.mark.parametrize("net", TRIMMED, ids=lambda net: net.__name__)
def test_a_trimmed_loop_stays_as_it_is(net: Net) -> None:
    graph = trim(trim(run(traced(net), ["simplify"])))
    assert trim(graph) is graph


def test_a_loop_that_changes_nothing_is_its_input() -> None:
    net = lambda w, x, rows: lax.while_loop(lambda c: c.sum() < -1e9, lambda c: c, x)  # noqa: E731
    assert trim(traced(net)).cnodes() == []


def work_in_scan(w: Any, x: Any, rows: Any) -> Any:
    return lax.scan(lambda c, r: (jnp.tanh(c + r @ jnp.exp(x @ x)), None), x[0], rows)[0]


def work_in_while(w: Any, x: Any, rows: Any) -> Any:
    """In the condition too."""
    go = lambda c: c[0] < jnp.exp(x).sum() + 3  # noqa: E731
    step = lambda c: (c[0] + 10.0, jnp.tanh(c[1] @ jnp.exp(x @ x)))  # noqa: E731
    return lax.while_loop(go, step, (x[0, 0], x[1]))[1]


def work_two_deep(w: Any, x: Any, rows: Any) -> Any:
    inner = lambda c: lax.scan(  # noqa: E731
        lambda d, q: (jnp.tanh(d + q @ jnp.exp(x @ x)), None), c, rows
    )[0]
    return lax.scan(lambda c, r: (inner(c) * 0.1 + r, None), x[0], rows[:5])[0]


def work_at_the_end(w: Any, x: Any, rows: Any) -> Any:
    """What is carried and stacked is the same in each trip."""
    step = lambda c, r: (jnp.exp(x @ x), (jnp.exp(x).sum(), c[0] + r))  # noqa: E731
    carry, (same, stack) = lax.scan(step, x, rows)
    return carry.sum() + same.sum() + stack


def branch_that_never_changes(w: Any, x: Any, rows: Any) -> Any:
    """A whole branch leaves the loop; its own work stays inside it."""
    same = lambda: lax.cond(x[0, 0] > 0, lambda: jnp.exp(x @ x), lambda: x * 2)  # noqa: E731
    return lax.scan(lambda c, r: (jnp.tanh(c + r @ same()), None), x[0], rows)[0]


# What is inside before and not after.
HOISTED = {
    work_in_scan: "Exp",
    work_in_while: "Exp",
    work_two_deep: "Exp",
    work_at_the_end: "Exp",
    branch_that_never_changes: "Cond",
}


def inside(graph: FuncGraph) -> list[str]:
    """The operators of the graphs inside the loops."""
    loops = [node for node in graph.cnodes() if node.op in ("Scan", "While")]
    graphs = [each for loop in loops for held in graphs_of(loop) for each in held.every_graph()]
    return [node.op for each in graphs for node in each.cnodes()]


@pytest.mark.parametrize("net", HOISTED, ids=lambda net: net.__name__)
def test_work_that_is_always_the_same_leaves_the_loop(net: Net) -> None:
    before = traced(net)
    after = hoist(before)
    verify(after)
    assert HOISTED[net] in inside(before)
    assert HOISTED[net] not in inside(after)
    assert hoist(after) is after
    np.testing.assert_array_equal(evaluate(after, (X, ROWS))[0], evaluate(before, (X, ROWS))[0])


def test_work_stays_in_the_branch_of_a_loop() -> None:
    def step(c: Any, r: Any, x: Any) -> Any:
        return lax.cond(r.sum() > 0, lambda: jnp.tanh(c + jnp.exp(x)[0]), lambda: c)

    net = lambda w, x, rows: lax.scan(lambda c, r: (step(c, r, x), None), x[0], rows)[0]  # noqa: E731
    assert "Exp" in inside(hoist(traced(net)))


@pytest.mark.parametrize("net", [*TRIMMED, *HOISTED], ids=lambda net: net.__name__)
def test_the_whole_pipeline_gives_what_jax_gives(net: Net, tmp_path: Path) -> None:
    wanted = jax.tree.leaves(jax.jit(net)(W, X, ROWS))[0]
    graph = optimized(traced(net), debug=True)
    near(evaluate(graph, (X, ROWS))[0], wanted)
    goal, path = target("ONNX"), tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.writelines(goal.encode(legalized(preferred(graph, goal), goal)).parts)
    assert goal.check(path) == []
    near(fnckpt.run(path, [X, ROWS])[0], wanted)


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_exports_have_the_passes_and_those_without_optimization_do_not(
    file_format: str, tmp_path: Path
) -> None:
    def both(w: Any, x: Any, rows: Any) -> Any:
        step = lambda a, b, r: (jnp.tanh(a + r @ jnp.exp(x @ w["w"])) * b, as_it_is(b))  # noqa: E731
        return lax.scan(lambda c, r: (step(*c, r), None), (x[0], x[1]), rows)[0][0]

    wanted = {"trim_simplified", "hoist"}
    for optimize in (True, False):
        file = fnckpt.export(
            W, both, (X, ROWS), file_format,
            file_name=tmp_path / f"{optimize}", optimize=optimize, max_unroll=1,
        )  # fmt: skip
        assert wanted & set(file.passes) == (wanted if optimize else set())
        near(fnckpt.run(file, [X, ROWS])[0], both(W, X, ROWS))


def test_the_passes_go_into_graphs_inside_by_name() -> None:
    graph = traced(work_two_deep)
    assert "Exp" not in inside(run(graph, ["hoist"]))
