"""What a scan does with each row alone is done with all of them at once, before it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph, graphs_of
from fnckpt.ir.passes.at_once import at_once
from fnckpt.ir.passes.hoist import hoist
from fnckpt.ir.passes.pipeline import run
from fnckpt.ir.passes.trim import trim
from fnckpt.ir.verify import verify
from tests.ir.lowering.scans import ROWS, T, W, scanned

Net = Callable[..., Any]


def simple(w: Any, h: Any, x: Any) -> Any:
    h = T(x @ w["x"] + w["b"] + h @ w["h"])
    return h, h


def after_a_relu(w: Any, h: Any, x: Any) -> Any:
    h = T(jnp.maximum(x, 0) @ w["x"] + h)
    return h, h


def of_a_squared_row(w: Any, h: Any, x: Any) -> Any:
    """No product, and no larger than the row."""
    h = T(jnp.exp(x * x) + h)
    return h, h


# The products and exponentials that are left inside.
MOVED: dict[Net, int] = {simple: 1, after_a_relu: 0, of_a_squared_row: 0}


def larger_than_rows(w: Any, h: Any, x: Any) -> Any:
    """Ten times the row, without a product."""
    h = T(h + (x[..., None] * w["wide"]).sum(-1))
    return h, h


def of_the_state(w: Any, h: Any, x: Any) -> Any:
    h = T(h @ w["h"])
    return h, h


def row_times_row(w: Any, h: Any, x: Any) -> Any:
    """Its weight is not the same in each trip."""
    h = T(h + x @ (x.T @ x))
    return h, h


LEFT = (larger_than_rows, of_the_state, row_times_row)


def graph_of(step: Net, **how: Any) -> FuncGraph:
    net = scanned(step, **how)
    graph = trace(W, net, (ROWS,), name="net", max_unroll=1)
    return trim(hoist(run(graph, ["share", "trim", "simplify"])))


def inside(graph: FuncGraph) -> list[str]:
    graphs = [each for node in graph.cnodes() for each in graphs_of(node)]
    return [node.op for each in graphs for node in each.cnodes()]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("step", MOVED, ids=lambda step: step.__name__)
def test_work_on_rows_alone_leaves_the_loop(step: Net, reverse: bool) -> None:
    before = graph_of(step, reverse=reverse)
    after = trim(at_once(before))
    verify(after)
    left = [op for op in inside(after) if op in ("MatMul", "Exp", "Relu")]
    assert len(left) == MOVED[step]
    assert len(inside(after)) < len(inside(before))
    wanted = jax.tree.leaves(scanned(step, reverse=reverse)(W, ROWS))
    for found, want in zip(evaluate(after, (ROWS,)), wanted, strict=True):
        np.testing.assert_allclose(found, np.asarray(want), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("step", LEFT, ids=lambda step: step.__name__)
def test_other_work_stays_in_the_loop(step: Net) -> None:
    before = graph_of(step)
    assert sorted(inside(trim(at_once(before)))) == sorted(inside(before))


@pytest.mark.parametrize("step", MOVED, ids=lambda step: step.__name__)
def test_what_was_moved_stays_there(step: Net) -> None:
    graph = trim(at_once(graph_of(step)))
    assert inside(trim(at_once(graph))) == inside(graph)
