"""Eigenvectors of Hermitian matrices and singular vectors, by Jacobi's rotations, in JAX.

The columns stand as two halves, and column ``i`` of one is turned against column ``i`` of the
other, all pairs at once. Then they move on as the players of a round-robin tournament do, so
``size - 1`` rounds are a sweep, after which each pair has met once and all stand where they began
(Brent, Luk: The solution of singular-value and symmetric eigenvalue problems on multiprocessor
arrays). A round is the body of one loop.

A vector is defined up to its sign, or its phase. Here the first of its components whose absolute
value is within 1 % of the greatest is real and positive.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers_factorization
from fnckpt.ir.sizes import all_known

LARGEST = 128


class Turn(NamedTuple):
    """What makes two columns orthogonal: ``c x - s y``, ``s x + c y``, after ``y = phase y``."""

    c: Array
    s: Array
    phase: Array


def adjoint(x: Array) -> Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def turn(first: Array, second: Array, product: Array) -> Turn:
    """The rotation by at most 45 degrees, of the squared norms and the product of the columns."""
    size = jnp.abs(product)
    alone = size == 0
    size = jnp.where(alone, jnp.ones_like(size), size)
    phase = jnp.where(alone, jnp.ones_like(product), jnp.conj(product) / size)
    tau = (second - first) / (2 * size)
    tangent = 1 / (jnp.abs(tau) + jnp.sqrt(1 + tau * tau))
    tangent = jnp.where(tau < 0, -tangent, tangent)
    tangent = jnp.where(alone, jnp.zeros_like(size), tangent)
    c = 1 / jnp.sqrt(1 + tangent * tangent)
    return Turn(c, tangent * c, phase)


def turned(x: Array, by: Turn) -> Array:
    """The columns of ``x`` turned, and moved on to their next opponents."""
    half = x.shape[-1] // 2
    c, s, phase = (part[..., None, :].astype(x.dtype) for part in by)
    left, right = x[..., :half], x[..., half:] * phase
    left, right = c * left - s * right, s * left + c * right
    if half == 1:
        return jnp.concatenate([left, right], -1)
    return jnp.concatenate(
        [left[..., :1], right[..., :1], left[..., 1:-1], right[..., 1:], left[..., -1:]], -1
    )


def sweeps(n: int, dtype: np.dtype) -> int:
    """How many sweeps are enough, from trials with matrices of all kinds."""
    if n < 2:
        return 0
    digits = 2 if dtype in (np.float64, np.complex128) else 0
    return (1 if n == 2 else 7 if n <= 8 else 9 if n <= 32 else 12) + digits


def even(n: int) -> int:
    """The number of columns that can be paired; one that is added stays as it is, the last."""
    return n + n % 2


def padded(x: Array, rows: int, columns: int) -> Array:
    pads = [(0, 0)] * (x.ndim - 2) + [(0, rows), (0, columns)]
    return jnp.pad(x, pads) if rows or columns else x


def diagonal(x: Array) -> Array:
    return jnp.sum(jnp.where(np.eye(x.shape[-1], dtype=bool), x, jnp.zeros_like(x)), -1)


def scale_of(a: Array) -> Array:
    """The greatest absolute value, by which a matrix is divided lest squares overflow."""
    greatest = jnp.max(jnp.abs(a), (-1, -2), keepdims=True)
    return jnp.where(greatest == 0, jnp.ones_like(greatest), greatest)


def definite(vectors: Array) -> Array:
    """The number of absolute value 1 for each column, whose product has the sign of the rule."""
    sizes = jnp.abs(vectors)
    great = sizes >= np.asarray(0.99, sizes.dtype) * jnp.max(sizes, -2, keepdims=True)
    first = jnp.argmax(great, -2, keepdims=True).astype(np.int32)
    chosen = np.arange(vectors.shape[-2], dtype=np.int32)[:, None] == first
    head = jnp.sum(jnp.where(chosen, vectors, jnp.zeros_like(vectors)), -2, keepdims=True)
    return jnp.conj(head) / jnp.abs(head)


def ordered(values: Array, vectors: Array, *, descending: bool) -> tuple[Array, Array]:
    order = jnp.argsort(-values if descending else values, -1).astype(np.int32)
    values = jnp.take_along_axis(values, order, -1, mode="promise_in_bounds")
    columns = order[..., None, :]
    return values, jnp.take_along_axis(vectors, columns, -1, mode="promise_in_bounds")


def eigenvectors(a: Array) -> tuple[Array, Array]:
    """The eigenvalues of Hermitian matrices in ascending order, and the vectors as columns."""
    n = a.shape[-1]
    if n == 0:
        return jnp.real(jnp.zeros(a.shape[:-1], a.dtype)), a
    size, half = even(n), even(n) // 2
    scale = scale_of(a)
    given = a / scale
    a = padded(given, size - n, size - n)
    unit = jnp.broadcast_to(np.eye(size, dtype=a.dtype), a.shape)

    def round_of(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        a, vectors = state
        first = jnp.real(diagonal(a[..., :half, :half]))
        second = jnp.real(diagonal(a[..., half:, half:]))
        by = turn(first, second, diagonal(a[..., :half, half:]))
        a = turned(adjoint(turned(a, by)), by)  # it is its own adjoint
        return a, turned(vectors, by)

    rounds = sweeps(n, a.dtype) * (size - 1)
    _, unit = lax.fori_loop(0, rounds, round_of, (a, unit)) if rounds else (a, unit)
    vectors = polished(unit[..., :n, :n])
    values = jnp.sum(jnp.real(jnp.conj(vectors) * (given @ vectors)), -2)
    values, vectors = ordered(values, vectors, descending=False)
    return values * scale[..., 0], vectors * definite(vectors)


def polished(vectors: Array) -> Array:
    """Unitary again after the rounding of many rotations: a step of Newton and Schulz."""
    n = vectors.shape[-1]
    excess = adjoint(vectors) @ vectors - np.eye(n, dtype=vectors.dtype)
    return vectors - vectors @ (excess / 2)


def orthogonalized(a: Array) -> tuple[Array, Array]:
    """``a @ v`` whose columns are orthogonal, and the unitary ``v`` (Hestenes)."""
    m, n = a.shape[-2:]
    size, half = even(n), even(n) // 2
    unit = jnp.broadcast_to(np.eye(n, size, dtype=a.dtype), (*a.shape[:-2], n, size))
    both = jnp.concatenate([padded(a, 0, size - n), unit], -2)

    def round_of(_: Array, both: Array) -> Array:
        left, right = both[..., :m, :half], both[..., :m, half:]
        product = jnp.sum(jnp.conj(left) * right, -2)
        return turned(both, turn(squares(left), squares(right), product))

    rounds = sweeps(n, a.dtype) * (size - 1)
    both = lax.fori_loop(0, rounds, round_of, both) if rounds else both
    vectors = polished(both[..., m:, :n])
    return a @ vectors, vectors


def squares(x: Array) -> Array:
    """The squared norms of the columns."""
    return jnp.sum(jnp.real(jnp.conj(x) * x), -2)


def reflected(w: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
    """``w`` with Householder's reflection of column ``k``, its vector, and R's phase there."""
    m, n = w.shape[-2:]
    rows = np.arange(m, dtype=np.int32)
    here = np.arange(n, dtype=np.int32) == k
    column = jnp.sum(jnp.where(here, w, jnp.zeros_like(w)), -1)
    rest = jnp.where(rows > k, column, jnp.zeros_like(column))
    head = jnp.sum(jnp.where(rows == k, column, jnp.zeros_like(column)), -1, keepdims=True)
    size = jnp.abs(head)
    whole = jnp.sqrt(squares(rest[..., None]) + size * size)
    phase = jnp.where(size == 0, jnp.ones_like(head), head / jnp.where(size == 0, 1, size))
    gap = size + whole
    v = rest / jnp.where(gap == 0, jnp.ones_like(gap), gap) + jnp.where(rows == k, phase, 0 * rest)
    return mirrored(w, v), (v, -phase[..., 0])


def mirrored(x: Array, v: Array) -> Array:
    """The columns of ``x`` mirrored at the plane to which ``v`` is normal."""
    v = v[..., None]
    weights = jnp.sum(jnp.conj(v) * x, -2) * (2 / squares(v))
    return x - v * weights[..., None, :]


def unitary(w: Array, size: int) -> Array:
    """Unit vectors along the columns of ``w``, which are orthogonal and may be zero.

    ``size`` vectors, orthogonal in any case: Q of a factorization whose R is diagonal.
    """
    m, n = w.shape[-2:]
    _, (normals, phases) = lax.scan(reflected, w, jnp.arange(n, dtype=np.int32))
    q = jnp.broadcast_to(np.eye(m, size, dtype=w.dtype), (*w.shape[:-2], m, size))
    q, _ = lax.scan(lambda q, v: (mirrored(q, v), None), q, normals, reverse=True)
    phases = jnp.moveaxis(phases, 0, -1)[..., None, :]
    return jnp.concatenate([q[..., :n] * phases, q[..., n:]], -1) if size > n else q * phases


class Singular(NamedTuple):
    """``a == left * values @ adjoint(right)``, the values in descending order."""

    values: Array
    left: Array
    right: Array


def singular_values(a: Array) -> Array:
    """Those of matrices, in descending order."""
    a = a if a.shape[-2] >= a.shape[-1] else adjoint(a)
    if a.shape[-1] == 0:
        return jnp.real(jnp.zeros((*a.shape[:-2], 0), a.dtype))
    scale = scale_of(a)
    w, _ = orthogonalized(a / scale)
    return -jnp.sort(-jnp.sqrt(squares(w)), -1) * scale[..., 0]


def of_tall(a: Array, size: int) -> Singular:
    """The decomposition of matrices with at least as many rows as columns, ``size`` on the left."""
    n = a.shape[-1]
    scale = scale_of(a)
    w, right = orthogonalized(a / scale)
    values, both = ordered(jnp.sqrt(squares(w)), jnp.concatenate([w, right], -2), descending=True)
    w, right = both[..., :-n, :], both[..., -n:, :]
    return Singular(values * scale[..., 0], unitary(w, size), right)


def singular(a: Array, *, full: bool) -> Singular:
    """Singular values and vectors, those on the left with the sign of the rule."""
    m, n = a.shape[-2:]
    count = min(m, n)
    size = max(m, n) if full else count
    if count == 0:
        empty = [np.eye(k, k if full else 0, dtype=a.dtype) for k in (m, n)]
        left, right = (jnp.broadcast_to(x, (*a.shape[:-2], *x.shape)) for x in empty)
        return Singular(singular_values(a), left, right)
    if m >= n:
        values, left, right = of_tall(a, size)
    else:
        values, right, left = of_tall(adjoint(a), size)
    sign = definite(left[..., :count])
    return Singular(values, with_signs(left, sign), with_signs(right, sign))


def with_signs(vectors: Array, sign: Array) -> Array:
    """The vectors of the singular values times ``sign``, and what completes them by the rule."""
    count = sign.shape[-1]
    if vectors.shape[-1] == count:
        return vectors * sign
    rest = vectors[..., count:]
    return jnp.concatenate([vectors[..., :count] * sign, rest * definite(rest)], -1)


def require_small(n: int, *shape: int) -> None:
    if not all_known(shape):
        raise Refusal(
            "its algorithm is written out for one size of the matrix, and here that is symbolic; "
            "give sample_input with known sizes of the last two axes"
        )
    if n > LARGEST:
        raise Refusal(
            f"it is written for matrices of up to {LARGEST} columns, and this one has {n}; "
            "compute it outside apply_fn and give the result as an input"
        )


@lowers_factorization("eigh")
def lower_eigh(
    site: Site,
    x: Node,
    *,
    lower: bool,
    sort_eigenvalues: bool = True,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: object = None,
) -> tuple[Value, ...]:
    """The vectors and the values, in ascending order whether asked to sort or not."""
    del sort_eigenvalues, algorithm
    n = x.aval.shape[-1]
    require_small(n, *x.aval.shape[-2:])
    start, end = subset_by_index or (0, n)

    def solve(a: Array) -> tuple[Array, Array]:
        below = jnp.tril(a) if lower else adjoint(jnp.triu(a))
        strict = jnp.where(np.tri(n, k=-1, dtype=bool), below, jnp.zeros_like(a))
        values, vectors = eigenvectors(below + adjoint(strict))
        return vectors[..., start:end], values[..., start:end]

    return composed(site, solve, x, keep_loops=True)


@lowers_factorization("svd")
def lower_svd(
    site: Site,
    x: Node,
    *,
    full_matrices: bool,
    compute_uv: bool,
    subset_by_index: tuple[int, int] | None = None,
    algorithm: object = None,
) -> tuple[Value, ...]:
    del algorithm
    count = min(x.aval.shape[-2:]) if all_known(x.aval.shape[-2:]) else 0
    require_small(count, *x.aval.shape[-2:])
    start, end = subset_by_index or (0, None)

    def solve(a: Array) -> tuple[Array, ...]:
        if not compute_uv:
            return (singular_values(a)[..., start:end],)
        values, left, right = singular(a, full=full_matrices)
        return values[..., start:end], left[..., start:end], adjoint(right)[..., start:end, :]

    return composed(site, solve, x, keep_loops=True)
