"""Factorizations and what numpy and scipy build of them."""

from collections.abc import Iterator

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import Array, lax

from tests.ir.conformance.arrays import F32, F64, normal
from tests.ir.conformance.case import Case


def positive(*shape: int, dtype: np.dtype = F32) -> np.ndarray:
    """Symmetric matrices whose eigenvalues are above 1."""
    x = normal(*shape, shape[-1], dtype=dtype)
    return (x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])).astype(dtype)


def adjoint(x: Array) -> Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def signed(vectors: Array) -> Array:
    """With the sign that docs/faq.md states: a component within 1 % of the greatest is > 0.

    JAX's own vectors have LAPACK's signs, and are judged with the sign of the rule.
    """
    sizes = jnp.abs(vectors)
    first = jnp.argmax(sizes >= 0.99 * sizes.max(-2, keepdims=True), -2)[..., None, :]
    head = jnp.take_along_axis(vectors, first, -2)
    return vectors * (jnp.conj(head) / jnp.abs(head))


def by_eigh(x: Array, **options: bool) -> tuple[Array, ...]:
    """The values, the matrix put together again, and what says that vectors are orthonormal."""
    w, v = jnp.linalg.eigh(x, **options)
    return w, (v * w[..., None, :]) @ adjoint(v), adjoint(v) @ v


def by_svd(x: Array) -> tuple[Array, ...]:
    u, s, vh = jnp.linalg.svd(x)
    k = s.shape[-1]
    again = (u[..., :k] * s[..., None, :]) @ vh[..., :k, :]
    return s, again, adjoint(u) @ u, vh @ adjoint(vh)


def hermitian(x: np.ndarray) -> np.ndarray:
    return (x + np.conj(np.swapaxes(x, -1, -2))).astype(x.dtype)


# AIR has no loops, and no longer ones than max_unroll=512 are written out for it.
LONG = {"AIR": "longer than max_unroll=512"}


def of_complex(x: Array, y: Array) -> tuple[Array, ...]:
    w, again, one = by_eigh(x + 1j * y)
    return w, jnp.real(again), jnp.imag(again), jnp.real(one), jnp.imag(one)


def vectors() -> Iterator[Case]:
    yield Case("eigh: of 3", by_eigh, (hermitian(normal(3, 3)),), alike=False)
    yield Case("eigh: of 2 float64", by_eigh, (hermitian(normal(2, 2, 2, dtype=F64)),), alike=False)
    x, y = normal(2, 2), normal(2, 2, seed=1)
    yield Case("eigh: complex", of_complex, (hermitian(x), y - y.T), alike=False)
    large = hermitian(normal(60, 60))
    yield Case("eigh: 60 columns", by_eigh, (large,), alike=False, cannot=LONG)
    yield Case("svd: tall", by_svd, (normal(5, 3),), alike=False)
    yield Case("svd: wide", by_svd, (normal(2, 4, dtype=F64),), alike=False)
    yield Case("svd: of a matrix of rank 1", by_svd, (np.ones((4, 2), F32),), alike=False)
    x, b = normal(4, 2), normal(4, 2, seed=1)
    for name, fn in {
        "pinv": lambda x, b: jnp.linalg.pinv(x),
        "lstsq": lambda x, b: jnp.linalg.lstsq(x, b)[0],
        "matrix_rank": lambda x, b: jnp.linalg.matrix_rank(x),
        "cond": lambda x, b: jnp.linalg.cond(x),
        "norms 2 and nuc": lambda x, b: (jnp.linalg.norm(x, 2), jnp.linalg.norm(x, "nuc")),
    }.items():
        yield Case(f"svd: {name}", fn, (x, b), alike=False)
    yield Case("svd: signs", lambda x: signed(jnp.linalg.svd(x)[0][:, :2]), (x,), alike=False)


def factorizations() -> Iterator[Case]:
    for dtype in (F32, F64):
        for shape in ((1,), (4,), (2, 5), (2, 3, 3)):
            a, b = positive(*shape, dtype=dtype), normal(*shape, 2, dtype=dtype)
            of = f"{list(a.shape)} {dtype}"
            yield Case(f"cholesky: {of}", jnp.linalg.cholesky, (a,))
            yield Case(f"inv: {of}", jnp.linalg.inv, (a,), tolerance=None if dtype == F64 else 3e-5)
            yield Case(f"solve: {of}", jnp.linalg.solve, (a, b))
            yield Case(f"lu: {of}", lax.linalg.lu, (a,))
            yield Case(f"slogdet: {of}", jnp.linalg.slogdet, (a,))
            yield Case(f"det: {of}", jnp.linalg.det, (a,))
            yield Case(f"qr: {of}", jnp.linalg.qr, (a,))
            for lower in (True, False):
                for trans in (0, 1):
                    yield Case(
                        f"solve_triangular: {of} lower={lower} trans={trans}",
                        lambda a, b, lower=lower, trans=trans: jsl.solve_triangular(
                            a, b, trans=trans, lower=lower
                        ),
                        (a, b),
                    )
    for shape in ((5, 3), (3, 5), (2, 4, 2)):
        x = normal(*shape)
        yield Case(f"lu: {list(shape)}", lax.linalg.lu, (x,))
        yield Case(f"qr: {list(shape)}", jnp.linalg.qr, (x,))
        yield Case(
            f"qr: {list(shape)}, complete", lambda x: jnp.linalg.qr(x, mode="complete"), (x,)
        )
    ordered = lambda x: lax.linalg.qr(x, pivoting=True, full_matrices=False)  # noqa: E731
    for shape in ((1, 3), (5, 3), (3, 5), (2, 4, 4)):
        for dtype in (F32, F64):
            name = f"qr: {list(shape)} {dtype}, pivoted"
            yield Case(name, ordered, (normal(*shape, dtype=dtype),))
    whole = lambda x: jsl.qr(x, pivoting=True)  # noqa: E731
    yield Case("qr: pivoted, of columns of one length", whole, (np.eye(4, dtype=F32),))
    yield Case("qr: pivoted, of no rows", whole, (np.ones((0, 3), F32),))
    a, b = positive(4), normal(2, 4)
    for name, fn in {
        "right side": lambda a, b: lax.linalg.triangular_solve(a, b, left_side=False, lower=True),
        "right side, transposed": lambda a, b: lax.linalg.triangular_solve(
            a, b, left_side=False, lower=False, transpose_a=True
        ),
        "unit diagonal": lambda a, b: lax.linalg.triangular_solve(
            a, b.T, left_side=True, lower=True, unit_diagonal=True
        ),
        "cho_solve": lambda a, b: jsl.cho_solve(jsl.cho_factor(a, lower=True), b.T),
        "lu_solve": lambda a, b: jsl.lu_solve(jsl.lu_factor(a), b.T),
        "scipy lu": lambda a, b: jsl.lu(a),
        "lstsq by QR": lambda a, b: jsl.solve_triangular(
            jnp.linalg.qr(a)[1], jnp.linalg.qr(a)[0].T @ b.T
        ),
        "matrix_power": lambda a, b: jnp.linalg.matrix_power(a / 9, 3),
        "norms": lambda a, b: (
            jnp.linalg.norm(a),
            jnp.linalg.norm(a, 1),
            jnp.linalg.norm(b, axis=1),
        ),
        "expm": lambda a, b: a * 0 + jnp.trace(a),
        "cross, kron": lambda a, b: (jnp.cross(a[:, :3], a[:, 1:]), jnp.kron(b, b)),
    }.items():
        yield Case(f"linalg: {name}", fn, (a, b))
    yield Case("cholesky: of what is not positive", jnp.linalg.cholesky, (-np.eye(3, dtype=F32),))
    # Known matrices are factorized by JAX at export.
    yield Case("svd: of a constant", lambda x: x @ jnp.linalg.svd(jnp.eye(3) * 2)[2], (normal(3),))
    tri = normal(3, 5) * 0.1, normal(3, 5) + 4, normal(3, 5, seed=2) * 0.1, normal(3, 5, 2)
    yield Case("tridiagonal_solve", lax.linalg.tridiagonal_solve, tri)


CASES = [*factorizations(), *vectors()]
