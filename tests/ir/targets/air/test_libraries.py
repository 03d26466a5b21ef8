"""Functions of libraries in AIR: their loops are written out, or refused where data decides."""

from collections.abc import Callable
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.experimental import sparse

import fnckpt
from fnckpt.ir.targets.air.evaluate import evaluate

X = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.7]], np.float32)
PLACES = np.array([[0, 1], [1, 2], [2, 0]])
TERM = diffrax.ODETerm(lambda t, y, args: jnp.tanh(y) * jnp.cos(t))


def solved(
    solver: diffrax.AbstractSolver, controller: diffrax.AbstractStepSizeController
) -> Callable[[Array], Array]:
    def solve(x: Array) -> Array:
        end = diffrax.SaveAt(t1=True)
        solution = diffrax.diffeqsolve(
            TERM, solver, 0.0, 0.4, 0.1, x, saveat=end, max_steps=16, stepsize_controller=controller
        )
        assert isinstance(solution.ys, Array)
        return solution.ys

    return solve


CONSTANT = diffrax.ConstantStepSize()
ADAPTIVE = diffrax.PIDController(rtol=1e-3, atol=1e-5)


ATTENTION = eqx.nn.MultiheadAttention(1, 3, key=jax.random.key(0))


def matrix(values: Array) -> sparse.BCOO:
    return sparse.BCOO((values, jnp.asarray(PLACES)), shape=(3, 3))


TIMES = jnp.linspace(0.0, 0.4, 5)


def at_times(x: Array) -> Array:
    """The times are an array from outside, as a weight is."""
    steps = diffrax.SaveAt(ts=TIMES)
    solution = diffrax.diffeqsolve(
        TERM, diffrax.Tsit5(), 0.0, 0.4, 0.1, x, saveat=steps, max_steps=16
    )
    assert isinstance(solution.ys, Array)
    return solution.ys


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "Equinox, attention": lambda x: ATTENTION(x, x, x),
    "diffrax, Euler": solved(diffrax.Euler(), CONSTANT),
    "diffrax, Heun": solved(diffrax.Heun(), CONSTANT),
    "diffrax, Tsit5 at times": at_times,
    "BCOO by a vector": lambda x: matrix(x[0]) @ x[1],
    "BCOO and BCOO": lambda x: (matrix(x[0]) + matrix(x[1])).todense(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_a_library_computes_the_same_in_air(name: str, tmp_path: Path) -> None:
    function = FUNCTIONS[name]
    file = fnckpt.export((), lambda _, x: function(x), X, "AIR", file_name=tmp_path / "f")
    (found,) = evaluate(file.path, [X])
    np.testing.assert_allclose(found, function(jnp.asarray(X)), rtol=1e-5, atol=1e-6)


def test_steps_that_depend_on_the_data_are_refused_by_name(tmp_path: Path) -> None:
    function = solved(diffrax.Heun(), ADAPTIVE)
    with pytest.raises(fnckpt.UnsupportedError) as caught:
        fnckpt.export((), lambda _, x: function(x), X, "AIR", file_name=tmp_path / "f")
    text = str(caught.value)
    assert "while: " in text
    assert "test_libraries.py" in text
    assert "a loop whose length depends on the data" in text
    assert "or export to ONNX or MINDIR" in text


def counted(params: dict[str, Array], x: Array) -> Array:
    return jax.lax.fori_loop(0, params["trips"], lambda i, y: y * params["scale"] + i, x)


PARAMS = {"trips": jnp.int32(3), "scale": jnp.float32(0.5)}


def test_steps_that_a_weight_counts_are_written_out(tmp_path: Path) -> None:
    file = fnckpt.export(PARAMS, counted, X, "AIR", file_name=tmp_path / "f")
    (found,) = evaluate(file.path, [X])
    np.testing.assert_allclose(found, counted(PARAMS, jnp.asarray(X)), rtol=1e-6)


def test_steps_that_a_weight_counts_are_refused_where_weights_can_be_replaced(
    tmp_path: Path,
) -> None:
    with pytest.raises(fnckpt.UnsupportedError, match=r"\(or on weights, which keep_params=True"):
        fnckpt.export(PARAMS, counted, X, "AIR", file_name=tmp_path / "f", keep_params=True)
