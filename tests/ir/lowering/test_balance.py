"""Eigenvalues of matrices whose numbers differ by orders of magnitude are as exact as LAPACK's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg
from jax import lax

import fnckpt
from fnckpt.ir.lowering.balance import balanced

SIZE = 6
RANDOM = np.random.default_rng(3)
NORMAL = RANDOM.standard_normal((2, SIZE, SIZE))
SCALES = 10.0 ** RANDOM.permutation(np.linspace(-4, 4, SIZE))
STEPS = 10.0 ** np.linspace(-4, 4, SIZE)
VALUES = np.diag(np.arange(1.0, SIZE + 1))
ORDER = RANDOM.permutation(SIZE)


def kinds(dtype: str) -> dict[str, np.ndarray]:
    x = NORMAL[0] + (1j * NORMAL[1] if np.dtype(dtype).kind == "c" else 0)
    nearly = np.triu(x, 1) + VALUES + 1e-6 * np.tril(x, -1)
    # A matrix of two blocks, one of which is an eigenvalue, in a random order.
    apart = np.triu(x, -1) + VALUES
    apart[1, 0] = apart[SIZE - 1, SIZE - 2] = 0
    return {
        "graded": SCALES[:, None] * x / SCALES,
        "nearly triangular": STEPS[:, None] * nearly / STEPS,
        "lower triangular": np.tril(x * STEPS[:, None], -1) + VALUES,
        "eigenvalues apart": (SCALES[:, None] * apart / SCALES)[ORDER][:, ORDER],
        "zero": np.zeros((SIZE, SIZE)),
    }


def exported(dtype: str, path: Path, vectors: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """The matrices, and their eigenvalues and vectors in ONNX Runtime."""
    a = np.stack([*kinds(dtype).values()]).astype(dtype)
    function = lax.linalg.eig if vectors else jnp.linalg.eigvals
    with jax.enable_x64(True):
        file = fnckpt.export((), lambda _, x: function(x), a, "ONNX", file_name=path)
        return a.astype(np.complex128), [np.asarray(x) for x in fnckpt.run(file, a)]


def nearest(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The number of the value that is nearest to each one wanted, relative to that."""
    gaps = np.abs(values[:, None] - wanted) / np.where(wanted == 0, 1, np.abs(wanted))
    return np.argmin(gaps, 0)


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_small_eigenvalues_beside_great_numbers_are_exact(dtype: str, tmp_path: Path) -> None:
    a, (values,) = exported(dtype, tmp_path / "eig", vectors=False)
    limit = 100 * float(np.finfo(dtype).eps)
    for each, w in zip(a, values, strict=True):
        wanted = exact_eigenvalues(each)
        assert greatest_error(w, wanted) <= max(
            limit, greatest_error(np.linalg.eigvals(each), wanted)
        )


def exact_eigenvalues(matrix: np.ndarray) -> np.ndarray:
    """In 60 digits: LAPACK's own are off by up to 230 roundings here, more or less by processor."""
    with mpmath.workdps(60):
        found = mpmath.eig(mpmath.matrix(matrix.tolist()), left=False, right=False)
    return np.array([complex(value) for value in found])


def greatest_error(values: np.ndarray, wanted: np.ndarray) -> float:
    """Relative to each eigenvalue, or to 1 of one that is 0."""
    gaps = np.abs(values[nearest(values, wanted)] - wanted)
    return float(np.max(gaps / np.where(wanted == 0, 1, np.abs(wanted))))


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_their_vectors_are_exact_too(dtype: str, tmp_path: Path) -> None:
    a, (values, left, right) = exported(dtype, tmp_path / "eig", vectors=True)
    limit = 100 * float(np.finfo(dtype).eps)
    for each, w, *both in zip(a[:-1], values, left, right, strict=False):
        wanted, *wanted_both = scipy.linalg.eig(each, left=True, right=True)
        order = nearest(w, wanted)
        np.testing.assert_allclose(w[order], wanted, rtol=limit)
        for v, wanted_v in zip(both, wanted_both, strict=True):
            np.testing.assert_allclose(np.abs(v[:, order]), np.abs(wanted_v), atol=limit)


def test_a_balanced_matrix_is_the_same_in_another_order_and_basis() -> None:
    a = np.stack([*kinds("float32").values()]).astype(np.float32)
    matrix, basis, _, places = map(np.asarray, jax.jit(balanced)(a))
    orders = np.argsort(places, -1)
    for each, b, d, order in zip(a, matrix, basis, orders, strict=True):
        d = d.astype(np.float64)
        np.testing.assert_array_equal((each / d[:, None] * d)[order][:, order], b)
    number = [*kinds("float32")].index("lower triangular")
    np.testing.assert_array_equal(np.tril(matrix[number], -1), 0)
