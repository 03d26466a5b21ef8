"""Factorizations and what numpy and scipy build of them."""

from collections.abc import Iterator

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import F32, F64, normal
from tests.ir.conformance.case import Case


def positive(*shape: int, dtype: np.dtype = F32) -> np.ndarray:
    """Symmetric matrices whose eigenvalues are above 1."""
    x = normal(*shape, shape[-1], dtype=dtype)
    return (x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])).astype(dtype)


NO_VECTORS = {"graph": "defined up to their sign"}


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
    for name, fn in {
        "svd": jnp.linalg.svd,
        "eigh": jnp.linalg.eigh,
        "pinv": jnp.linalg.pinv,
    }.items():
        yield Case(f"linalg: {name} is refused", fn, (a,), cannot=NO_VECTORS)
    # Known matrices are factorized by JAX at export.
    yield Case("svd: of a constant", lambda x: x @ jnp.linalg.svd(jnp.eye(3) * 2)[2], (normal(3),))
    tri = normal(3, 5) * 0.1, normal(3, 5) + 4, normal(3, 5, seed=2) * 0.1, normal(3, 5, 2)
    yield Case("tridiagonal_solve", lax.linalg.tridiagonal_solve, tri)


CASES = [*factorizations()]
