"""What only makes stacked results of a scan is done once, after the loop; the rest stays in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import CNode, FuncGraph, graphs_of
from fnckpt.ir.lowering import fission
from fnckpt.ir.passes.pipeline import run
from tests.ir.lowering.scans import BATCH, ROWS, TIME, WIDTH, T, W, scanned

Array = jax.Array
Step = Callable[..., tuple[Any, Any]]


def projected(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, T(h @ w["wide"])


def projected_with_row(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, h @ w["x"] + x


def projected_twice(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, (T(h @ w["wide"]) @ w["narrow"], h)


def all_of_rows(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    return T(h @ w["h"] + 1), x @ w["x"]


def of_the_state_before(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    return T(h @ w["h"] + x), jnp.sort(h, -1)


def places(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    """Viterbi's step: the sum is computed again, not stacked."""
    each = h[:, :, None] + w["h"]
    return each.max(1) + x, each.argmax(1)


def a_loop(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, lax.scan(lambda c, r: (c + r, c * r), h[0], h)[1]


def complex_numbers(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, jnp.exp(1j * h)


# The operators that are left in the loop, but for those that only move.
LATE: dict[Step, list[str]] = {
    projected: ["MatMul", "Add", "Tanh"],
    projected_with_row: ["MatMul", "Add", "Tanh"],
    projected_twice: ["MatMul", "Add", "Tanh"],
    all_of_rows: ["MatMul", "Add", "Tanh"],
    of_the_state_before: ["MatMul", "Add", "Tanh"],
    places: ["Add", "ReduceMax", "Add"],
    a_loop: ["MatMul", "Add", "Tanh"],
    complex_numbers: ["MatMul", "Add", "Tanh"],
}


def of_much(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    """What would be stacked for the result is eight times the result."""
    h = T(h + x)
    return h, jnp.sin(h).sum()


def in_a_branch(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    """A batch of branches takes them all."""
    h = T(h @ w["h"] + x)
    return h, lax.cond(h[0, 0] > 0, jnp.sin, lambda h: h @ h.T @ h, h)


def moved(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    h = T(h @ w["h"] + x)
    return h, h.T[:, ::-1].reshape(-1)


def of_the_next_state(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    y = jnp.sin(h @ w["h"])
    return T(y + x), y


def drawn(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
    """A batch of some keys draws other numbers."""
    h = T(h @ w["h"] + x)
    key = jax.random.key(x[0, 0].astype(int), impl="rbg")
    return h, h * jax.random.uniform(key, h.shape)


STAYS = (of_much, in_a_branch, moved, of_the_next_state, drawn)


def loop_of(step: Step, **how: Any) -> FuncGraph:
    graph = trace(W, scanned(step, **how), (ROWS,), name="net", max_unroll=1)
    return run(graph, ["share", "trim", "simplify"])


def inside(graph: FuncGraph) -> list[str]:
    """The operators of the first loop that compute."""
    scans = [node for node in graph.cnodes() if node.op == "Scan"]
    nodes = [node for each in graphs_of(scans[0]) for node in each.cnodes()]
    return [node.op for node in nodes if node.op not in ("Reshape", "Transpose", "BroadcastTo")]


@pytest.mark.parametrize("max_unroll", [1, 64], ids=["a loop", "written out"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("step", [*LATE, *STAYS], ids=lambda step: step.__name__)
def test_the_results_are_those_of_jax(step: Step, reverse: bool, max_unroll: int) -> None:
    net = scanned(step, reverse=reverse)
    graph = trace(W, net, (ROWS,), name="net", max_unroll=max_unroll)
    wanted = [
        jnp.stack((leaf.real, leaf.imag), -1) if jnp.iscomplexobj(leaf) else leaf
        for leaf in jax.tree.leaves(net(W, ROWS))
    ]
    for found, want in zip(evaluate(graph, (ROWS,)), wanted, strict=True):
        np.testing.assert_allclose(found, np.asarray(want), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("step", LATE, ids=lambda step: step.__name__)
def test_what_only_makes_stacked_results_leaves_the_loop(step: Step) -> None:
    assert inside(loop_of(step)) == LATE[step]


@pytest.mark.parametrize("step", STAYS, ids=lambda step: step.__name__)
def test_other_work_stays_in_the_loop(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inside(loop_of(step))
    monkeypatch.setattr(fission, "MOST_LARGER", 0)
    assert found == inside(loop_of(step))


def test_a_map_is_no_loop() -> None:
    def net(w: Any, rows: Any) -> Array:
        return lax.map(lambda x: T(x @ w["x"]), rows)

    graph = trace(W, net, (ROWS,), name="net", max_unroll=1)
    assert [node.op for node in graph.cnodes() if isinstance(node, CNode)] == ["MatMul", "Tanh"]
    np.testing.assert_allclose(evaluate(graph, (ROWS,))[0], net(W, ROWS), rtol=2e-5, atol=2e-6)


def test_rows_of_keys_stay_in_the_loop() -> None:
    def net(w: Any, rows: Any) -> Any:
        keys = jax.random.split(jax.random.key(1), TIME)

        def step(h: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
            h = T(h + row[1] + jax.random.uniform(row[0], h.shape))
            return h, jnp.sin(h) * w["h"][0]

        return lax.scan(step, jnp.zeros((BATCH, WIDTH)), (keys, rows))

    graph = trace(W, net, (ROWS,), name="net", max_unroll=1)
    for found, wanted in zip(evaluate(graph, (ROWS,)), net(W, ROWS), strict=True):
        np.testing.assert_allclose(found, np.asarray(wanted), rtol=2e-5, atol=2e-6)


def test_a_long_map_goes_to_a_format_without_loops(tmp_path: Path) -> None:
    rows = np.linspace(-1, 1, 4000, dtype=np.float32).reshape(2000, 2)
    net = lambda w, rows: lax.map(lambda row: T(row) * row[::-1], rows)  # noqa: E731
    file = fnckpt.export({}, net, rows, "AIR", file_name=tmp_path / "net")
    np.testing.assert_allclose(fnckpt.run(file, rows)[0], net({}, rows), rtol=1e-5)


def test_a_line_of_the_user_is_that_of_what_is_late(tmp_path: Path) -> None:
    def step(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
        return T(h + x), jax.pure_callback(np.sin, jax.typeof(h), h)  # here

    with pytest.raises(fnckpt.UnsupportedError, match="# here"):
        fnckpt.export(W, scanned(step), ROWS, "ONNX", file_name=tmp_path / "net")


def test_a_file_with_any_number_of_steps_gives_what_jax_gives(tmp_path: Path) -> None:
    net = scanned(projected_with_row)
    (time,) = jax.export.symbolic_shape("time")
    sample = jax.ShapeDtypeStruct((time, BATCH, WIDTH), jnp.float32)
    file = fnckpt.export(W, net, sample, "ONNX", file_name=tmp_path / "net")
    for steps in (1, TIME):
        rows = ROWS[:steps]
        for found, wanted in zip(fnckpt.run(file, rows), net(W, rows), strict=True):
            np.testing.assert_allclose(found, np.asarray(wanted), rtol=2e-5, atol=2e-6)


FUNCTIONS = [
    jnp.add,
    jnp.maximum,
    jnp.multiply,
    lambda a, b: jnp.sin(a) - b.mean(-1, keepdims=True),
]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=9),
    carry=st.integers(0, 9),
    rows=st.lists(st.integers(0, 9), max_size=3),
)
def test_any_body_gives_the_same_in_parts(
    steps: list[tuple[int, int, int]], carry: int, rows: list[int]
) -> None:
    def step(w: Any, h: Array, x: Array) -> tuple[Any, Any]:
        values = [h, x, h @ w["h"]]
        for function, one, two in steps:
            values.append(FUNCTIONS[function](values[one % len(values)], values[two % len(values)]))
        return T(values[carry % len(values)]), [values[i % len(values)] for i in rows]

    graph = trace(W, scanned(step), (ROWS,), name="net", max_unroll=1)
    wanted = jax.tree.leaves(scanned(step)(W, ROWS))
    for found, want in zip(evaluate(graph, (ROWS,)), wanted, strict=True):
        np.testing.assert_allclose(found, np.asarray(want), rtol=1e-4, atol=1e-5)
