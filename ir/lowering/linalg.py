"""Factorizations of small matrices, written out column by column in JAX.

What has one answer only is here; eigenvectors and singular vectors have a sign of their own in
each library, and are refused.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_factorization


def written_out(
    site: Site, columns: int, function: Callable[..., object], *inputs: Value
) -> tuple[Value, ...]:
    """``function``, whose length grows with ``columns``, within the limit on unrolling."""
    if columns > site.max_unroll:
        raise Refusal(
            f"a matrix of {columns} columns is written out column by column, and that is more "
            f"than max_unroll={site.max_unroll}; raise max_unroll"
        )
    return composed(site, function, *inputs)


def swapped(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


@lowers_factorization("cholesky")
def lower_cholesky(site: Site, x: Node, *, symmetrize_input: bool = False) -> Value:
    """Each column is divided by the root of its pivot and taken from what is right of it.

    Above the diagonal stands what stood there, as JAX leaves it.
    """
    n = x.aval.shape[-1]

    def factor(a: Array) -> Array:
        a = (a + jnp.conj(swapped(a))) / 2 if symmetrize_input else a
        given, columns = a, []
        for j in range(n):
            below = np.arange(n) >= j
            column = a[..., :, j] / jnp.sqrt(jnp.real(a[..., j : j + 1, j]))
            column = jnp.where(below, column, jnp.zeros_like(column))
            columns.append(column)
            a = a - column[..., :, None] * jnp.conj(column[..., None, :])
        lower = jnp.stack(columns, -1) if columns else a
        bad = jnp.isnan(jnp.real(lower)).any((-1, -2), keepdims=True)
        whole = jnp.where(np.tri(n, dtype=bool), lower, given)
        return jnp.where(bad, jnp.full_like(lower, np.nan), whole)

    (result,) = written_out(site, n, factor, x)
    return result


@lowers_factorization("triangular_solve")
def lower_triangular_solve(
    site: Site,
    a: Node,
    b: Node,
    *,
    left_side: bool,
    lower: bool,
    transpose_a: bool,
    conjugate_a: bool,
    unit_diagonal: bool,
) -> Value:
    """Each solved row is taken from those that are left."""
    n = a.aval.shape[-1]

    def solve(a: Array, b: Array) -> Array:
        a = jnp.conj(a) if conjugate_a else a
        flipped = transpose_a == left_side
        a, b = swapped(a) if flipped else a, b if left_side else swapped(b)
        downwards = lower != flipped
        order = range(n) if downwards else reversed(range(n))
        rows: dict[int, Array] = {}
        for i in order:
            row = b[..., i : i + 1, :]
            rows[i] = row if unit_diagonal else row / a[..., i : i + 1, i : i + 1]
            left = (np.arange(n) > i if downwards else np.arange(n) < i)[:, None]
            column = jnp.where(left, a[..., :, i : i + 1], jnp.zeros_like(a[..., :, i : i + 1]))
            b = b - column * rows[i]
        x = jnp.concatenate([rows[i] for i in range(n)], -2) if n else b
        return x if left_side else swapped(x)

    (result,) = written_out(site, n, solve, a, b)
    return result


def exchanged(x: Array, k: int, pivot: Array) -> Array:
    """``x[..., rows, :]`` with row ``k`` and row ``pivot[...]`` in each other's place."""
    rows = np.arange(x.shape[-2], dtype=np.int32)
    at = pivot[..., None]
    source = jnp.where(rows == k, at, jnp.where(rows == at, np.int32(k), rows))
    return jnp.take_along_axis(x, source[..., None], -2, mode="promise_in_bounds")


@lowers_factorization("lu")
def lower_lu(site: Site, x: Node) -> tuple[Value, ...]:
    """Gauss' elimination; the greatest number of a column, the first of equals, is its pivot."""
    m, n = x.aval.shape[-2:]

    def factor(a: Array) -> tuple[Array, Array, Array]:
        batch = a.shape[:-2]
        order = jnp.broadcast_to(np.arange(m, dtype=np.int32)[:, None], (*batch, m, 1))
        pivots = []
        for k in range(min(m, n)):
            column = a[..., :, k]
            sizes = jnp.abs(jnp.real(column))
            if jnp.iscomplexobj(a):  # as LAPACK compares them
                sizes = sizes + jnp.abs(jnp.imag(column))
            sizes = jnp.where(np.arange(m) >= k, sizes, sizes.dtype.type(-1))
            pivot = jnp.argmax(sizes, -1).astype(np.int32)
            pivots.append(pivot)
            a, order = exchanged(a, k, pivot), exchanged(order, k, pivot)
            head = a[..., k : k + 1, k : k + 1]
            below = (np.arange(m) > k)[:, None]
            safe = jnp.where(head == 0, jnp.ones_like(head), head)
            factors = jnp.where(below, a[..., :, k : k + 1] / safe, a.dtype.type(0))
            right = np.arange(n) > k
            row = jnp.where(right, a[..., k : k + 1, :], a.dtype.type(0))
            a = a - factors * row
            a = jnp.where(below & (np.arange(n) == k), factors, a)
        stacked = jnp.stack(pivots, -1) if pivots else jnp.zeros((*batch, 0), np.int32)
        return a, stacked, order[..., 0]

    return written_out(site, min(m, n), factor, x)


@lowers("lu_pivots_to_permutation")
def lower_pivots(site: Site, pivots: Node, *, permutation_size: int) -> Value:
    """The order of rows after all exchanges."""
    count = pivots.aval.shape[-1]

    def ordered(pivots: Array) -> Array:
        rows = np.arange(permutation_size, dtype=np.int32)[:, None]
        order = jnp.broadcast_to(rows, (*pivots.shape[:-1], permutation_size, 1))
        for k in range(count):
            order = exchanged(order, k, pivots[..., k])
        return order[..., 0]

    (result,) = written_out(site, count, ordered, pivots)
    return result


def squares(x: Array) -> Array:
    """The squares of the absolute values."""
    real, imag = jnp.real(x), jnp.imag(x)
    return real * real + imag * imag if jnp.iscomplexobj(x) else x * x


def reflected(a: Array) -> tuple[Array, Array]:
    """Householder's factorization as LAPACK's geqrf packs it: R above, the reflectors below."""
    m, n = a.shape[-2:]
    taus = []
    for k in range(min(m, n)):
        below = np.arange(m) > k
        column = a[..., :, k]
        head = column[..., k]
        rest = jnp.where(below, column, a.dtype.type(0))
        done = jnp.sum(jnp.abs(rest), -1) + jnp.abs(jnp.imag(head)) == 0
        whole = jnp.sqrt(jnp.sum(squares(rest), -1) + squares(head))
        new_head = jnp.where(jnp.real(head) < 0, whole, -whole).astype(a.dtype)
        new_head = jnp.where(done, head, new_head)
        safe = jnp.where(done, jnp.ones_like(head), new_head)
        tau = jnp.where(done, jnp.zeros_like(head), (safe - head) / safe)
        gap = jnp.where(done, jnp.ones_like(head), head - safe)
        v = jnp.where(np.arange(m) == k, a.dtype.type(1), rest / gap[..., None])
        right = jnp.where(np.arange(n) > k, a, a.dtype.type(0))
        product = jnp.sum(jnp.conj(v[..., :, None]) * right, -2, keepdims=True)
        a = a - jnp.conj(tau[..., None, None]) * v[..., :, None] * product
        packed = jnp.where(below, v, jnp.where(np.arange(m) == k, new_head[..., None], column))
        a = jnp.where(np.arange(n) == k, packed[..., :, None], a)
        taus.append(tau)
    return a, jnp.stack(taus, -1) if taus else jnp.zeros((*a.shape[:-2], 0), a.dtype)


def orthogonal(a: Array, taus: Array, columns: int) -> Array:
    """The product of reflectors, as its first ``columns`` columns: LAPACK's orgqr."""
    m = a.shape[-2]
    q = jnp.broadcast_to(np.eye(m, columns, dtype=a.dtype), (*a.shape[:-2], m, columns))
    for k in reversed(range(taus.shape[-1])):
        v = jnp.where(np.arange(m) > k, a[..., :, k], (np.arange(m) == k).astype(a.dtype))
        product = jnp.sum(jnp.conj(v[..., :, None]) * q, -2, keepdims=True)
        q = q - taus[..., k, None, None] * v[..., :, None] * product
    return q


@lowers_factorization("geqrf")
def lower_geqrf(site: Site, x: Node) -> Sequence[Value]:
    return written_out(site, min(x.aval.shape[-2:]), reflected, x)


@lowers_factorization("householder_product")
def lower_householder_product(site: Site, a: Node, taus: Node) -> Value:
    columns = a.aval.shape[-1]
    build = lambda a, taus: orthogonal(a, taus, columns)  # noqa: E731
    (result,) = written_out(site, taus.aval.shape[-1], build, a, taus)
    return result


@lowers_factorization("qr")
def lower_qr(
    site: Site, x: Node, *, full_matrices: bool, pivoting: bool = False
) -> tuple[Value, ...]:
    """Householder's factorization, with LAPACK's signs."""
    if pivoting:
        raise Refusal("qr with pivoting has no rule; use jnp.linalg.qr, which does not pivot")
    m, n = x.aval.shape[-2:]
    size = m if full_matrices else min(m, n)

    def factor(a: Array) -> tuple[Array, Array]:
        packed, taus = reflected(a)
        return orthogonal(packed, taus, size), jnp.triu(packed[..., :size, :])

    return written_out(site, min(m, n), factor, x)


@lowers_factorization("tridiagonal_solve")
def lower_tridiagonal_solve(
    site: Site, lower: Node, diagonal: Node, upper: Node, b: Node, **_: object
) -> Value:
    """Thomas' algorithm: eliminate downwards, substitute upwards."""
    n = diagonal.aval.shape[-1]

    def solve(low: Array, middle: Array, high: Array, b: Array) -> Array:
        heads, rows = [middle[..., :1]], [b[..., 0, :]]
        for i in range(1, n):
            factor = low[..., i : i + 1] / heads[-1]
            heads.append(middle[..., i : i + 1] - factor * high[..., i - 1 : i])
            rows.append(b[..., i, :] - factor * rows[-1])
        solved = [rows[-1] / heads[-1]]
        for i in reversed(range(n - 1)):
            solved.append((rows[i] - high[..., i : i + 1] * solved[-1]) / heads[i])
        return jnp.stack(solved[::-1], -2)

    (result,) = written_out(site, n, solve, lower, diagonal, upper, b)
    return result
