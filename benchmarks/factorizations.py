"""Eigenvalues, singular values and their like in files: error, bytes, seconds of export.

Claims: export takes seconds, and a file has kilobytes whatever the size of the matrix, since the
algorithm is a loop; errors are of the order of the dtype's rounding times the size. Prints a row
for each function, dtype, size and format. The error is the greatest of three: of the values beside
NumPy's, of the matrix put together again, both relative to the greatest singular value, and of
the product of the vectors with themselves, which should be one.

Run: pip install -e '.[run]'; python -m benchmarks.factorizations [--sizes 2 8 --only eigh]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import fnckpt

SIZES = (2, 8, 32, 128)
DTYPES = ("float32", "float64")
FORMATS = ("ONNX", "MINDIR")

Results = Sequence[np.ndarray]


def adjoint(x: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(x, -1, -2))


def from_one(q: np.ndarray) -> float:
    """How far the columns are from orthonormal."""
    return float(np.abs(adjoint(q) @ q - np.eye(q.shape[-1])).max())


def of_eigh(a: np.ndarray, found: Results) -> float:
    values, vectors = (x.astype(np.float64) for x in found)
    scale = np.linalg.norm(a, 2)
    wrong = np.abs(values - np.linalg.eigvalsh(a)).max() / scale
    again = np.abs((vectors * values) @ adjoint(vectors) - a).max() / scale
    return max(wrong, again, from_one(vectors))


def of_svd(a: np.ndarray, found: Results) -> float:
    u, s, vh = (x.astype(np.float64) for x in found)
    scale = np.linalg.norm(a, 2)
    wrong = np.abs(s - np.linalg.svd(a)[1]).max() / scale
    again = np.abs((u * s) @ vh - a).max() / scale
    return max(wrong, again, from_one(u), from_one(adjoint(vh)))


def of_schur(a: np.ndarray, found: Results) -> float:
    t, q = (x.astype(np.float64) for x in found)
    again = np.abs(q @ t @ adjoint(q) - a).max() / np.linalg.norm(a, 2)
    return max(again, from_one(q))


def of_eig(a: np.ndarray, found: Results) -> float:
    values, vectors = (x.astype(np.complex128) for x in found)
    scale = np.linalg.norm(a, 2)
    gaps = np.abs(values[:, None] - np.linalg.eigvals(a))
    wrong = max(gaps.min(0).max(), gaps.min(1).max()) / scale
    rest = np.abs(a @ vectors - vectors * values).max() / scale
    return max(wrong, rest, np.abs(np.linalg.norm(vectors, axis=0) - 1).max())


def of_cholesky(a: np.ndarray, found: Results) -> float:
    lower = found[0].astype(np.float64)
    return np.abs(lower @ lower.T - a).max() / np.linalg.norm(a, 2)


def of_triangular(a: np.ndarray, found: Results) -> float:
    rest = np.tril(a) @ found[0].astype(np.float64) - a[:, :4]
    return np.abs(rest).max() / np.linalg.norm(a, 2)


def of_inverse(a: np.ndarray, found: Results) -> float:
    return np.abs(a @ found[0] - np.eye(len(a))).max() / np.linalg.cond(a)


def positive(x: np.ndarray) -> np.ndarray:
    return x @ x.T / len(x) + np.eye(len(x))


def symmetric(x: np.ndarray) -> np.ndarray:
    return (x + x.T) / 2


Judge = Callable[[np.ndarray, Results], float]
FUNCTIONS: dict[
    str, tuple[Callable[[Array], object], Callable[[np.ndarray], np.ndarray], Judge]
] = {
    "eigh": (jnp.linalg.eigh, symmetric, of_eigh),
    "svd": (jnp.linalg.svd, np.asarray, of_svd),
    "schur": (jax.scipy.linalg.schur, np.asarray, of_schur),
    "eig": (jnp.linalg.eig, np.asarray, of_eig),
    "cholesky": (jnp.linalg.cholesky, positive, of_cholesky),
    "solve_triangular": (
        lambda x: jax.scipy.linalg.solve_triangular(x, x[:, :4], lower=True),
        positive,
        of_triangular,
    ),
    "inv": (jnp.linalg.inv, positive, of_inverse),
}


def bits(dtype: str) -> AbstractContextManager[object]:
    return jax.enable_x64(True) if dtype == "float64" else nullcontext()


def rows(name: str, dtype: str, size: int) -> Iterator[str]:
    """A line of the table for each format."""
    function, prepared, error = FUNCTIONS[name]
    x = prepared(np.random.default_rng(size).normal(size=(size, size))).astype(dtype)
    for file_format in FORMATS:
        with tempfile.TemporaryDirectory() as directory, bits(dtype):
            start = time.perf_counter()
            result = fnckpt.export(
                (), lambda _, x: function(x), x, file_format, file_name=Path(directory, "f")
            )
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            found = fnckpt.run(result.path, [x])
            ran = time.perf_counter() - start
        worst = error(x.astype(np.float64), found)
        yield (
            f"| {name} | {dtype} | {size} | {file_format} | {worst:.1e} | "
            f"{result.bytes / 1000:.0f} | {seconds:.1f} | {ran:.1f} |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--dtypes", nargs="*", default=DTYPES, choices=DTYPES)
    parser.add_argument("--only", nargs="*", default=list(FUNCTIONS), choices=list(FUNCTIONS))
    options = parser.parse_args()
    print("| function | type | size | format | error | kB | export, s | compile and run, s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.only:
        for dtype in options.dtypes:
            for size in options.sizes:
                print(*rows(name, dtype, size), sep="\n", flush=True)


if __name__ == "__main__":
    main()
