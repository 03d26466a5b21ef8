"""Eigenvalues and Schur's form of general matrices, Householder's forms, and what needs them."""

from collections.abc import Iterator

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import Array, lax

from tests.ir.conformance.arrays import F64, normal
from tests.ir.conformance.case import Case

# AIR has no loops whose length depends on the data.
OF_DATA = {"AIR": "how many steps it takes depends on the data"}


def adjoint(x: Array) -> Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def parts(*values: Array) -> list[Array]:
    """Real and imaginary parts."""
    return [part for x in values for part in (jnp.real(x), jnp.imag(x))]


def in_any_order(w: Array) -> list[Array]:
    return [jnp.sort(x, -1) for x in (jnp.real(w), jnp.imag(w), jnp.abs(w))]


def by_eig(x: Array) -> list[Array]:
    """The values, what is left of the equations of both vectors, and whether these have length 1.

    The sign of the rule makes the greatest component of each real and positive.
    """
    w, left, right = lax.linalg.eig(x)
    rests = [
        x @ right - right * w[..., None, :],
        adjoint(x) @ left - left * jnp.conj(w)[..., None, :],
    ]
    lengths = [jnp.sum(jnp.abs(v) ** 2, -2) for v in (left, right)]
    return [*in_any_order(w), *parts(*rests), *lengths]


def by_schur(x: Array) -> list[Array]:
    t, q = lax.linalg.schur(x)
    again, one = q @ t @ adjoint(q), adjoint(q) @ q
    below = jnp.tril(t, -1 if jnp.iscomplexobj(x) else -2)
    return parts(again, one, below)


def of_complex(fn):
    return lambda x, y: fn(x + 1j * y)


def special() -> Iterator[np.ndarray]:
    yield np.roll(np.eye(4), 1, 0)
    yield np.diag([2.0, 2, 3, -1]) + np.eye(4, k=1)
    yield np.zeros((4, 4))
    yield np.kron(np.eye(2), np.array([[0.0, 1], [-1, 0]]))


def general() -> Iterator[Case]:
    x, y = normal(4, 4), normal(4, 4, seed=1)
    cannot = OF_DATA
    yield Case("eig: complex", of_complex(by_eig), (x, y), alike=False, cannot=cannot)
    batch = normal(2, 4, 4, dtype=F64)
    yield Case("eig: a batch, float64", by_eig, (batch,), alike=False, cannot=cannot)
    yield Case("schur: a batch, float64", by_schur, (batch,), alike=False, cannot=cannot)
    yield Case("schur: complex", of_complex(by_schur), (x, y), alike=False, cannot=cannot)
    values = lambda x: in_any_order(jnp.linalg.eigvals(x))  # noqa: E731
    yield Case(
        "eigvals: a permutation, a value twice, zeros, rotations",
        values, (np.stack([*special()]),), 1e-7, alike=False, cannot=cannot,
    )  # fmt: skip
    yield Case("eigvals: of 1", values, (-np.ones((1, 1)),), alike=False, cannot=cannot)
    positive = (x @ x.T + np.eye(4)).astype(x.dtype)
    yield Case(
        "eig: sqrtm", lambda x: jnp.real(jsl.sqrtm(x)), (positive,), alike=False, cannot=cannot
    )
    p = np.array([1.0, -6, 11, -6], F64)
    yield Case(
        "eig: roots", lambda p: in_any_order(jnp.roots(p, strip_zeros=False)), (p,), alike=False,
        cannot=cannot,
    )  # fmt: skip


def householder() -> Iterator[Case]:
    x, y = normal(2, 4, 4), normal(2, 4, 4, seed=1)
    z = lambda x, y: x + 1j * y  # noqa: E731
    hessenberg, tridiagonal = lax.linalg.hessenberg, lax.linalg.tridiagonal
    yield Case("hessenberg: of 4", hessenberg, (x,), alike=False)
    yield Case("hessenberg: complex", lambda x, y: parts(*hessenberg(z(x, y))), (x, y), alike=False)
    for lower in (True, False):
        half = "lower" if lower else "upper"
        yield Case(
            f"tridiagonal: {half}", lambda x, lower=lower: tridiagonal(x, lower=lower), (x,),
            alike=False,
        )  # fmt: skip
        yield Case(
            f"tridiagonal: complex, {half}",
            lambda x, y, lower=lower: parts(*tridiagonal(z(x, y), lower=lower)), (x, y),
            alike=False,
        )  # fmt: skip
    a, c = normal(4, 3), normal(4, 2, seed=1)
    for transposed in (False, True):
        yield Case(
            f"ormqr: transposed {transposed}",
            lambda a, c, transposed=transposed: multiplied(a, c, transposed),
            (a, c), alike=False,
        )  # fmt: skip
    factor = np.linalg.cholesky(x[0] @ x[0].T + np.eye(4)).T.astype(x.dtype)
    yield Case("cholesky_update", lax.linalg.cholesky_update, (factor, y[0, 0]), alike=False)
    yield Case(
        "symmetric_product",
        lambda a, c: lax.linalg.symmetric_product(a, c, alpha=2.0, beta=0.5),
        (a, normal(4, 4)),
    )
    band = [np.array(row) for row in ([0.0, 2, 3, 1], [0.0, 1, 0, 2], [1.0, 4, 1, 0])]
    yield Case(
        "tridiagonal_solve: a pivot of zero", lax.linalg.tridiagonal_solve,
        (*band, normal(4, 2, dtype=F64)), alike=False,
    )  # fmt: skip
    yield Case("expm", jsl.expm, (x,), 3e-5, alike=False)
    t = np.linspace(-1, 1, 7).astype(x.dtype)
    fit = lambda t, y: jnp.polyfit(t, y, 2)  # noqa: E731
    yield Case("svd: polyfit", fit, (t, t**2 - t), alike=False)


def multiplied(a: Array, c: Array, transposed: bool) -> Array:
    """Q, or its transpose, times ``c``."""
    packed, taus = jnp.linalg.qr(a, mode="raw")
    return lax.linalg.ormqr(packed.mT, taus, c, transpose=transposed)


CASES = [*general(), *householder()]
