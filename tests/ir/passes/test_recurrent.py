"""Scans that are an LSTM or a GRU become one operator in ONNX, however a library writes the cell.

Cells are small; ``x`` is ``[time, batch, features]``, and the loop is kept by ``max_unroll=1``.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.recurrent import recurrent
from fnckpt.ir.targets import target
from fnckpt.ir.traced import TracedFunction
from fnckpt.ir.verify import verify

TIME, FEATURES, UNITS = 5, 3, 4
Net = tuple[Any, Callable[..., Any], np.ndarray]
S, T = jax.nn.sigmoid, jnp.tanh


def rows(batch: int) -> np.ndarray:
    shape = (TIME, batch, FEATURES)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def filled(params: Any) -> Any:
    """Weights that are all different, biases too."""
    rng = np.random.default_rng(1)

    def one(x: Any) -> Any:
        numbers = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.asarray(rng.standard_normal(x.shape) * 0.4, jnp.float32) if numbers else x

    return jax.tree.map(one, params)


def linen(cell: Any, batch: int, **how: Any) -> Net:
    net, x = nn.RNN(cell(UNITS), time_major=True, **how), rows(batch)
    return filled(net.init(jax.random.key(0), x)), net.apply, x


def of_nnx(cell: Any, batch: int) -> Net:
    made = nnx.RNN(cell(FEATURES, UNITS, rngs=nnx.Rngs(0)), time_major=True)
    graph, state = nnx.split(made)
    return filled(state), lambda params, x: nnx.merge(graph, params)(x), rows(batch)


def haiku(core: Any, batch: int) -> Net:
    def net(x: Any) -> Any:
        made = core(UNITS)
        return hk.dynamic_unroll(made, x, made.initial_state(batch))[0]

    both, x = hk.without_apply_rng(hk.transform(net)), rows(batch)
    return filled(both.init(jax.random.key(0), x)), both.apply, x


def equinox(cell: Any, batch: int) -> Net:
    """One sequence alone, or under ``vmap``."""
    params, static = eqx.partition(cell(FEATURES, UNITS, key=jax.random.key(0)), eqx.is_array)

    def one(params: Any, x: Any) -> Any:
        made, zeros = eqx.combine(params, static), jnp.zeros(UNITS)
        carry = (zeros, zeros) if cell is eqx.nn.LSTMCell else zeros

        def step(carry: Any, row: Any) -> Any:
            carry = made(row, carry)
            return carry, carry[0] if cell is eqx.nn.LSTMCell else carry

        return lax.scan(step, carry, x)[1]

    if batch == 1:
        return filled(params), one, rows(1)[:, 0]
    many = jax.vmap(one, in_axes=(None, 1), out_axes=1)
    return filled(params), many, rows(batch)


def written(cell: Callable[..., Any], states: int, batch: int, **how: Any) -> Net:
    """A cell of the weights ``x`` ``[3, 16]``, ``h`` ``[4, 16]`` and ``b``; it gives its states."""

    def net(params: Any, x: Any) -> Any:
        carry = tuple(jnp.ones((batch, UNITS)) * 0.1 * i for i in range(states))

        def step(carry: Any, row: Any) -> Any:
            carry = cell(params, row, *carry)
            return carry, carry[0]

        return lax.scan(step, carry, x, **how)

    shapes = {"x": (FEATURES, 4 * UNITS), "h": (UNITS, 4 * UNITS), "b": (4 * UNITS,)}
    return filled({n: np.zeros(shape) for n, shape in shapes.items()}), net, rows(batch)


def lstm(w: Any, x: Any, h: Any, c: Any) -> Any:
    i, f, g, o = jnp.split(x @ w["x"] + h @ w["h"] + w["b"], 4, -1)
    c = S(f) * c + S(i) * T(g)
    return S(o) * T(c), c


def gru(w: Any, x: Any, h: Any) -> Any:
    """The bias of the state inside the reset, the update of the new state."""
    r, z, n, _ = jnp.split(x @ w["x"], 4, -1)
    of_r, of_z, of_n, _ = jnp.split(h @ w["h"] + w["b"], 4, -1)
    z = S(z + of_z)
    return (z * T(n + S(r + of_r) * of_n) + (1 - z) * h,)


CELLS: dict[str, tuple[str, Callable[[], Net]]] = {
    "Linen, OptimizedLSTMCell": ("Lstm", lambda: linen(nn.OptimizedLSTMCell, 2)),
    "Linen, LSTMCell": ("Lstm", lambda: linen(nn.LSTMCell, 1)),
    "Linen, LSTMCell, reversed": ("Lstm", lambda: linen(nn.LSTMCell, 2, reverse=True)),
    "Linen, GRUCell": ("Gru", lambda: linen(nn.GRUCell, 1)),
    "Linen, MGUCell": ("Gru", lambda: linen(nn.MGUCell, 1)),
    "NNX, OptimizedLSTMCell": ("Lstm", lambda: of_nnx(nnx.OptimizedLSTMCell, 2)),
    "NNX, GRUCell": ("Gru", lambda: of_nnx(nnx.GRUCell, 1)),
    "Haiku, LSTM": ("Lstm", lambda: haiku(hk.LSTM, 2)),
    "Haiku, GRU": ("Gru", lambda: haiku(hk.GRU, 1)),
    "Equinox, LSTMCell": ("Lstm", lambda: equinox(eqx.nn.LSTMCell, 1)),
    "Equinox, LSTMCell under vmap": ("Lstm", lambda: equinox(eqx.nn.LSTMCell, 4)),
    "Equinox, GRUCell": ("Gru", lambda: equinox(eqx.nn.GRUCell, 1)),
    "by hand, from the end": ("Lstm", lambda: written(lstm, 2, 2, reverse=True)),
    "by hand, one sequence": ("Lstm", lambda: written(lstm, 2, 1)),
    "by hand, GRU": ("Gru", lambda: written(gru, 1, 1)),
    "by hand, GRU of a batch": ("Gru", lambda: written(gru, 1, 3)),
}


def graph_of(net: Net) -> FuncGraph:
    params, apply, x = net
    return optimized(trace(params, apply, (x,), name="net", max_unroll=1))


def near(found: Any, wanted: Any) -> None:
    for one, two in zip(found, jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, np.asarray(two), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_of_a_library_is_one_operator(name: str, tmp_path: Path) -> None:
    op, made = CELLS[name]
    params, apply, x = net = made()
    graph = recurrent(graph_of(net))
    verify(graph)
    assert [node.op for node in graph.cnodes() if node.op in ("Scan", "Lstm", "Gru")] == [op]
    wanted = apply(params, x)
    near(evaluate(graph, (x,)), wanted)
    file = fnckpt.export(params, apply, x, "ONNX", file_name=tmp_path / "net", max_unroll=1)
    assert [n.op for n in target("ONNX").summarize(file.path).nodes].count(op.upper()) == 1
    near(fnckpt.run(file, x), wanted)


@pytest.mark.parametrize(("cell", "states"), [(lstm, 2), (gru, 1)])
def test_jax_computes_the_operator_that_came_of_a_cell(cell: Any, states: int) -> None:
    params, apply, x = net = written(cell, states, 1, reverse=True)
    graph = recurrent(graph_of(net))
    near(jax.jit(TracedFunction(graph, {}))(jnp.asarray(x)), apply(params, x))


def changed(old: str) -> Callable[..., Any]:
    """An LSTM with one thing in it that an LSTM does not have."""

    def cell(w: Any, x: Any, h: Any, c: Any) -> Any:
        before = T(x) if old == "row" else x
        i, f, g, o = jnp.split(before @ w["x"] + h @ w["h"] + w["b"], 4, -1)
        f = f + c if old == "peephole" else f * 2 if old == "scaled" else f
        new = S(f) * (h if old == "cell" else c) + S(i) * (g if old == "linear" else T(g))
        new = jnp.clip(new, -1, 1) if old == "clipped" else new
        out = S(o) * T(c if old == "late" else new)
        return (out.T if old == "turned" else out), new

    return cell


def simple(w: Any, x: Any, h: Any) -> Any:
    return (T(x @ w["x"][:, :UNITS] + h @ w["h"][:, :UNITS]),)


def gru_of_row(w: Any, x: Any, h: Any) -> Any:
    """The reset multiplies what comes of the row."""
    r, z, n, _ = jnp.split(x @ w["x"], 4, -1)
    of_r, of_z, of_n, _ = jnp.split(h @ w["h"], 4, -1)
    z = S(z + of_z)
    return (z * T(of_n + S(r + of_r) * n) + (1 - z) * h,)


def gru_of_two(w: Any, x: Any, h: Any) -> Any:
    """What is kept of the state is another gate than what is taken of the new."""
    r, z, n, other = jnp.split(x @ w["x"] + h @ w["h"], 4, -1)
    return (S(z) * T(n * S(r)) + (1 - S(other)) * h,)


LEFT: dict[str, Callable[[], Net]] = {
    **{
        old: lambda old=old: written(changed(old), 2, 2)
        for old in ("peephole", "scaled", "cell", "linear", "clipped", "late")
    },
    "turned": lambda: written(changed("turned"), 2, UNITS),
    "simple": lambda: written(simple, 1, 1),
    "GRU of the row": lambda: written(gru_of_row, 1, 1),
    "GRU of two gates": lambda: written(gru_of_two, 1, 1),
    "GRU of a large batch, slower as one": lambda: written(gru, 1, 260),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_such_cell_stays_a_scan(name: str) -> None:
    graph = graph_of(LEFT[name]())
    assert recurrent(graph) is graph


def test_a_stack_of_cells_keeps_the_scan() -> None:
    params, _, x = written(lstm, 2, 2)
    zeros = jnp.zeros((2, UNITS))

    def net(params: Any, x: Any) -> Any:
        def step(carry: Any, row: Any) -> Any:
            carry = lstm(params, row, *carry)
            return carry, carry

        return lax.scan(step, (zeros, zeros), x)[1]

    graph = graph_of((params, net, x))
    assert recurrent(graph) is graph


@pytest.mark.parametrize("cell", [nn.OptimizedLSTMCell, nn.GRUCell])
def test_a_short_loop_of_a_cell_is_one_operator_in_onnx_and_written_out_elsewhere(
    cell: Any, tmp_path: Path
) -> None:
    params, apply, x = linen(cell, 2)
    ops: dict[str, list[str]] = {}
    for file_format in ("ONNX", "MINDIR"):
        file = fnckpt.export(params, apply, x, file_format, file_name=tmp_path / "net")
        ops[file_format] = [n.op for n in target(file_format).summarize(file.path).nodes]
    assert not {"Scan", "Loop"} & set(ops["ONNX"])
    assert {"LSTM", "GRU"} & set(ops["ONNX"])
    assert ops["MINDIR"].count("MatMul") >= TIME


def test_the_products_of_a_short_loop_are_stored_as_integers(tmp_path: Path) -> None:
    made = nnx.RNN(nnx.OptimizedLSTMCell(32, 32, rngs=nnx.Rngs(0)))
    graph, params = nnx.split(made)
    net, x = lambda params, x: nnx.merge(graph, params)(x), np.ones((2, TIME, 32), np.float32)
    file = fnckpt.export(params, net, x, "ONNX", file_name=tmp_path / "net", quantize="int8")
    assert not {"LSTM", "Scan"} & {n.op for n in target("ONNX").summarize(file.path).nodes}
    np.testing.assert_allclose(fnckpt.run(file, x)[0], net(params, x), atol=0.05)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("cell", "states"), [(lstm, 2), (gru, 1)])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_nan_goes_on_to_all_later_steps_and_infinity_does_not(
    cell: Any, states: int, odd: float, reverse: bool, tmp_path: Path
) -> None:
    params, apply, x = written(cell, states, 2, reverse=reverse)
    file = fnckpt.export(params, apply, x, "ONNX", file_name=tmp_path / "net")
    x[2, 1, 0] = odd
    near(fnckpt.run(file, x), apply(params, x))


@pytest.mark.parametrize("state", [0, 1])
def test_nan_in_a_state_that_is_given_reaches_its_sequence_alone(
    state: int, tmp_path: Path
) -> None:
    params, _, x = written(lstm, 2, 2)

    def net(params: Any, x: Any, h: Any, c: Any) -> Any:
        step = lambda carry, row: (new := lstm(params, row, *carry), new[0])  # noqa: E731
        return lax.scan(step, (h, c), x)[1]

    states = [np.full((2, UNITS), 0.1, np.float32) for _ in range(2)]
    inputs = (x, *states)
    file = fnckpt.export(params, net, inputs, "ONNX", file_name=tmp_path / "net")
    states[state][1, 2] = np.nan
    (found,) = fnckpt.run(file, inputs)
    assert np.isnan(found[:, 1]).all()
    near([found[:, 0]], net(params, *inputs)[:, 0])


def test_one_weight_of_all_gates_keeps_its_name() -> None:
    graph = recurrent(graph_of(of_nnx(nnx.OptimizedLSTMCell, 2)))
    assert sorted(weight.path or weight.name for weight in graph.weights()) == [
        "cell.dense_h.bias.value", "cell.dense_h.kernel.value", "cell.dense_i.kernel.value",
    ]  # fmt: skip


def test_a_batch_of_any_size_and_steps_of_any_number_are_one_operator(tmp_path: Path) -> None:
    params, apply, _ = linen(nn.OptimizedLSTMCell, 2)
    time, batch = jax.export.symbolic_shape("time, batch")
    sample = jax.ShapeDtypeStruct((time, batch, FEATURES), jnp.float32)
    file = fnckpt.export(params, apply, sample, "ONNX", file_name=tmp_path / "net")
    assert "LSTM" in [n.op for n in target("ONNX").summarize(file.path).nodes]
    for shape in ((1, 3), (9, 1)):
        x = np.random.default_rng(2).standard_normal((*shape, FEATURES)).astype(np.float32)
        near(fnckpt.run(file, x), apply(params, x))
