"""Factorizations of matrices that have one answer only, in JAX."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_factorization

Carry = TypeVar("Carry")

MOST_COLUMNS = 16  # that are written out; longer files would run about as fast as loops


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


def in_steps(
    site: Site, columns: int, function: Callable[..., object], *inputs: Value
) -> tuple[Value, ...]:
    """``function(*inputs, looped)``: many columns are a loop, where the format has loops."""
    looped = site.loops and columns > MOST_COLUMNS
    run = lambda *given: function(*given, looped)  # noqa: E731
    if looped:
        return composed(site, run, *inputs, keep_loops=True)
    return written_out(site, columns, run, *inputs)


def stepped(
    step: Callable[..., tuple[Carry, Array]],
    carry: Carry,
    count: int,
    looped: bool,
    *,
    axis: int = -1,
    reverse: bool = False,
) -> tuple[Carry, Array | None]:
    """``step(carry, k)`` for each ``k`` below ``count``, and its rows along ``axis``, if any.

    Each row has 1 element along ``axis``. ``reverse`` begins with the last ``k``; row ``k`` stands
    at its place all the same.
    """
    if looped:
        numbers = np.arange(count, dtype=np.int32)
        carry, rows = lax.scan(step, carry, numbers, reverse=reverse)
        return carry, jnp.moveaxis(rows.squeeze(axis), 0, axis)
    found: dict[int, Array] = {}
    for k in reversed(range(count)) if reverse else range(count):
        carry, found[k] = step(carry, k)
    return carry, jnp.concatenate([found[k] for k in range(count)], axis) if found else None


def swapped(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def taken(x: Array, k: int | Array, axis: int = -1) -> Array:
    """Number ``k`` along an axis, which stays; a loop need not look whether it is there."""
    if isinstance(k, int):
        return lax.slice_in_dim(x, k, k + 1, axis=axis)
    axis += x.ndim
    others = tuple(i for i in range(x.ndim) if i != axis)
    numbers = lax.GatherDimensionNumbers(others, (axis,), (axis,))
    sizes = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    return lax.gather(x, k[None, None], numbers, sizes, mode="promise_in_bounds")


@lowers_factorization("cholesky")
def lower_cholesky(site: Site, x: Node, *, symmetrize_input: bool = False) -> Value:
    """Each column is divided by the root of its pivot and taken from what is right of it.

    Above the diagonal stands what stood there, as JAX leaves it.
    """
    n = x.aval.shape[-1]

    def step(a: Array, k: int | Array) -> tuple[Array, Array]:
        column = taken(a, k)
        column = column / jnp.sqrt(jnp.real(taken(column, k, -2)))
        column = jnp.where(np.arange(n)[:, None] >= k, column, a.dtype.type(0))
        return a - column * jnp.conj(swapped(column)), column

    def factor(a: Array, looped: bool) -> Array:
        a = (a + jnp.conj(swapped(a))) / 2 if symmetrize_input else a
        _, columns = stepped(step, a, n, looped)
        lower = a if columns is None else columns
        bad = jnp.isnan(jnp.real(lower)).any((-1, -2), keepdims=True)
        whole = jnp.where(np.tri(n, dtype=bool), lower, a)
        return jnp.where(bad, jnp.full_like(lower, np.nan), whole)

    (result,) = in_steps(site, n, factor, x)
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
    flipped = transpose_a == left_side
    downwards = lower != flipped

    def solve(a: Array, b: Array, looped: bool) -> Array:
        a = jnp.conj(a) if conjugate_a else a
        a, b = swapped(a) if flipped else a, b if left_side else swapped(b)

        def step(b: Array, k: int | Array) -> tuple[Array, Array]:
            row, column = taken(b, k, -2), taken(a, k)
            row = row if unit_diagonal else row / taken(column, k, -2)
            rows = np.arange(n)[:, None]
            left = rows > k if downwards else rows < k
            column = jnp.where(left, column, a.dtype.type(0))
            return b - column * row, row if left_side else swapped(row)

        axis = -2 if left_side else -1
        _, x = stepped(step, b, n, looped, axis=axis, reverse=not downwards)
        return x if x is not None else b if left_side else swapped(b)

    (result,) = in_steps(site, n, solve, a, b)
    return result


def exchanged(x: Array, k: int | Array, pivot: Array) -> Array:
    """``x[..., rows, :]`` with row ``k`` and row ``pivot[...]`` in each other's place."""
    rows = np.arange(x.shape[-2], dtype=np.int32)
    at = pivot[..., None]
    source = jnp.where(rows == k, at, jnp.where(rows == at, jnp.int32(k), rows))
    return jnp.take_along_axis(x, source[..., None], -2, mode="promise_in_bounds")


@lowers_factorization("lu")
def lower_lu(site: Site, x: Node) -> tuple[Value, ...]:
    """Gauss' elimination; the greatest number of a column, the first of equals, is its pivot."""
    m, n = x.aval.shape[-2:]

    def step(carry: tuple[Array, Array], k: int | Array) -> tuple[tuple[Array, Array], Array]:
        a, order = carry
        column = taken(a, k)[..., 0]
        sizes = jnp.abs(jnp.real(column))
        if jnp.iscomplexobj(a):  # as LAPACK compares them
            sizes = sizes + jnp.abs(jnp.imag(column))
        sizes = jnp.where(np.arange(m) >= k, sizes, sizes.dtype.type(-1))
        pivot = jnp.argmax(sizes, -1).astype(np.int32)
        a, order = exchanged(a, k, pivot), exchanged(order, k, pivot)
        column = taken(a, k)
        head = taken(column, k, -2)
        below = (np.arange(m) > k)[:, None]
        safe = jnp.where(head == 0, jnp.ones_like(head), head)
        factors = jnp.where(below, column / safe, a.dtype.type(0))
        right = np.arange(n) > k
        row = jnp.where(right, taken(a, k, -2), a.dtype.type(0))
        a = a - factors * row
        return (jnp.where(below & (np.arange(n) == k), factors, a), order), pivot[..., None]

    def factor(a: Array, looped: bool) -> tuple[Array, Array, Array]:
        batch = a.shape[:-2]
        order = jnp.broadcast_to(np.arange(m, dtype=np.int32)[:, None], (*batch, m, 1))
        (a, order), pivots = stepped(step, (a, order), min(m, n), looped)
        return a, jnp.zeros((*batch, 0), np.int32) if pivots is None else pivots, order[..., 0]

    return in_steps(site, min(m, n), factor, x)


@lowers("lu_pivots_to_permutation")
def lower_pivots(site: Site, pivots: Node, *, permutation_size: int) -> Value:
    """The order of rows after all exchanges."""
    count = pivots.aval.shape[-1]

    def ordered(pivots: Array, looped: bool) -> Array:
        def step(order: Array, k: int | Array) -> tuple[Array, Array]:
            pivot = taken(pivots, k)
            return exchanged(order, k, pivot[..., 0]), pivot

        rows = np.arange(permutation_size, dtype=np.int32)[:, None]
        order = jnp.broadcast_to(rows, (*pivots.shape[:-1], permutation_size, 1))
        return stepped(step, order, count, looped)[0][..., 0]

    (result,) = in_steps(site, count, ordered, pivots)
    return result


def squares(x: Array) -> Array:
    """The squares of the absolute values."""
    real, imag = jnp.real(x), jnp.imag(x)
    return real * real + imag * imag if jnp.iscomplexobj(x) else x * x


def reflection(a: Array, k: int | Array) -> tuple[Array, Array]:
    """``a`` after the reflection that makes zeros below its diagonal in column ``k``, and tau."""
    m, n = a.shape[-2:]
    below = np.arange(m) > k
    column = taken(a, k)[..., 0]
    head = taken(column, k)[..., 0]
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
    return jnp.where(np.arange(n) == k, packed[..., :, None], a), tau[..., None]


def reflected(a: Array, looped: bool) -> tuple[Array, Array]:
    """Householder's factorization as LAPACK's geqrf packs it: R above, the reflectors below."""
    a, taus = stepped(reflection, a, min(a.shape[-2:]), looped)
    return a, jnp.zeros((*a.shape[:-2], 0), a.dtype) if taus is None else taus


def reflected_in_order(a: Array, looped: bool) -> tuple[Array, Array, Array]:
    """The same of the columns in the order of LAPACK's geqp3, which is the last result.

    Each time the column of which most is left goes first, the first one of equals.
    """
    m, n = a.shape[-2:]

    def step(carry: tuple[Array, Array], k: int | Array) -> tuple[tuple[Array, Array], Array]:
        a, order = carry
        left = jnp.where((np.arange(m) >= k)[:, None], a, a.dtype.type(0))
        sizes = jnp.sum(squares(left), -2)
        sizes = jnp.where(np.arange(n) >= k, sizes, sizes.dtype.type(-1))
        pivot = jnp.argmax(sizes, -1).astype(np.int32)
        order = exchanged(order, k, pivot)
        a, tau = reflection(swapped(exchanged(swapped(a), k, pivot)), k)
        return (a, order), tau

    batch = a.shape[:-2]
    numbers = np.arange(n, dtype=np.int32) if min(m, n) else np.zeros(n, np.int32)  # as JAX
    order = jnp.broadcast_to(numbers[:, None], (*batch, n, 1))
    (a, order), taus = stepped(step, (a, order), min(m, n), looped)
    return a, jnp.zeros((*batch, 0), a.dtype) if taus is None else taus, order[..., 0]


def orthogonal(a: Array, taus: Array, columns: int, looped: bool) -> Array:
    """The product of reflectors, as its first ``columns`` columns: LAPACK's orgqr."""
    m, count = a.shape[-2], taus.shape[-1]

    def step(q: Array, k: int | Array) -> tuple[Array, Array]:
        v = jnp.where(np.arange(m) > k, taken(a, k)[..., 0], (np.arange(m) == k).astype(a.dtype))
        product = jnp.sum(jnp.conj(v[..., :, None]) * q, -2, keepdims=True)
        tau = taken(taus, k)
        return q - tau[..., None] * v[..., :, None] * product, tau

    q = jnp.broadcast_to(np.eye(m, columns, dtype=a.dtype), (*a.shape[:-2], m, columns))
    return stepped(step, q, count, looped, reverse=True)[0]


@lowers_factorization("geqrf")
def lower_geqrf(site: Site, x: Node) -> Sequence[Value]:
    return in_steps(site, min(x.aval.shape[-2:]), reflected, x)


@lowers_factorization("householder_product")
def lower_householder_product(site: Site, a: Node, taus: Node) -> Value:
    columns = a.aval.shape[-1]
    build = lambda a, taus, looped: orthogonal(a, taus, columns, looped)  # noqa: E731
    (result,) = in_steps(site, taus.aval.shape[-1], build, a, taus)
    return result


@lowers_factorization("qr")
def lower_qr(
    site: Site, x: Node, *, full_matrices: bool, pivoting: bool = False
) -> tuple[Value, ...]:
    """Householder's factorization, with LAPACK's signs and order of columns."""
    m, n = x.aval.shape[-2:]
    size = m if full_matrices else min(m, n)

    def factor(a: Array, looped: bool) -> tuple[Array, ...]:
        factored = reflected_in_order(a, looped) if pivoting else reflected(a, looped)
        packed, taus, *order = factored
        return orthogonal(packed, taus, size, looped), jnp.triu(packed[..., :size, :]), *order

    return in_steps(site, min(m, n), factor, x)


class Row(NamedTuple):
    """A row of a band: its diagonal, the number after it, the one after that, its right side."""

    main: Array
    next: Array
    last: Array
    right: Array


def eliminated(above: Row, given: tuple[Array, ...]) -> tuple[Row, Row]:
    """What is left of two rows, and the one of them with the greater head, which goes first."""
    head, main, high, right = given
    swaps = jnp.abs(head) > jnp.abs(above.main)
    wide = swaps[..., None]
    first = Row(
        jnp.where(swaps, head, above.main),
        jnp.where(swaps, main, above.next),
        jnp.where(swaps, high, above.last),
        jnp.where(wide, right, above.right),
    )
    second = Row(
        jnp.where(swaps, above.main, head),
        jnp.where(swaps, above.next, main),
        jnp.where(swaps, above.last, high),
        jnp.where(wide, above.right, right),
    )
    factor = second.main / first.main
    rest = Row(
        second.next - factor * first.next,
        second.last - factor * first.last,
        jnp.zeros_like(factor),
        second.right - factor[..., None] * first.right,
    )
    return rest, first


def substituted(after: tuple[Array, Array], row: Row) -> tuple[tuple[Array, Array], Array]:
    """A row's solution, from those of the two after it."""
    rest = row.right - row.next[..., None] * after[0] - row.last[..., None] * after[1]
    x = rest / row.main[..., None]
    return (x, after[0]), x


def solved(low: Array, main: Array, high: Array, b: Array) -> Array:
    """The solution for a matrix of three diagonals; NaN where it is singular."""
    low, main, high = (jnp.moveaxis(x, -1, 0) for x in (low, main, high))
    b = jnp.moveaxis(b, -2, 0)
    start = Row(main[0], high[0], jnp.zeros_like(main[0]), b[0])
    end, rows = lax.scan(eliminated, start, (low[1:], main[1:], high[1:], b[1:]))
    last = end.right / end.main[..., None]
    _, x = lax.scan(substituted, (last, jnp.zeros_like(last)), rows, reverse=True)
    whole = jnp.moveaxis(jnp.concatenate([x, last[None]]), 0, -2)
    singular = jnp.any(rows.main == 0, 0) | (end.main == 0)
    return jnp.where(singular[..., None, None], jnp.full_like(whole, np.nan), whole)


@lowers_factorization("tridiagonal_solve")
def lower_tridiagonal_solve(
    site: Site,
    lower: Node,
    diagonal: Node,
    upper: Node,
    b: Node,
    *,
    perturb_singular: bool = False,
) -> tuple[Value, ...]:
    if perturb_singular:
        raise Refusal(
            "tridiagonal_solve with perturb_singular=True has no rule; leave it out, which gives "
            "NaN for singular matrices"
        )
    return composed(site, solved, lower, diagonal, upper, b)
