"""Solvers of libraries: what they are made of has rules or definitions, and errors are left out."""

from collections.abc import Callable
from pathlib import Path

import diffrax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from tests.ir.conformance.case import Case, expected
from tests.ir.conformance.files import written
from tests.ir.targets.onnx.test_operators import computed

RATES = np.array([[-0.5, 0.2, 0.0], [0.1, -0.7, 0.3], [0.0, 0.4, -0.2]], np.float32)


def solved(solver: diffrax.AbstractSolver, at: diffrax.SaveAt) -> Callable[[Array], Array]:
    term = diffrax.ODETerm(lambda t, y, args: jnp.tanh(RATES @ y) * jnp.cos(t))

    def solve(start: Array) -> Array:
        solution = diffrax.diffeqsolve(
            term, solver, 0.0, 1.0, 0.1, start, saveat=at, max_steps=64
        )  # fmt: skip
        assert isinstance(solution.ys, Array)
        return solution.ys

    return solve


SOLVERS = {
    "Euler": solved(diffrax.Euler(), diffrax.SaveAt(t1=True)),
    "Heun, at times": solved(diffrax.Heun(), diffrax.SaveAt(ts=jnp.linspace(0, 1, 4))),
    "Tsit5, at its start and end": solved(diffrax.Tsit5(), diffrax.SaveAt(t0=True, t1=True)),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_an_equation_is_solved_in_the_file(name: str, tmp_path: Path) -> None:
    case = Case(name, SOLVERS[name], (np.array([1.0, 0.5, -0.3], np.float32),))
    file = written(case, "ONNX", tmp_path / "case.onnx")
    for found, wanted in zip(computed(file, case.args), expected(case), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
