"""Forms that Householder's reflections lead to, packed as LAPACK packs them, in JAX.

Each reflection is ``I - tau v adjoint(v)``, where ``v`` is 1 at its head; what follows the head
is stored where the reflection made zeros. So signs are LAPACK's, and need no rule.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.francis import at, column, numbers, off_diagonal, picked
from fnckpt.ir.lowering.jacobi import adjoint, diagonal, require_small, squares
from fnckpt.ir.lowering.registry import Site, Value, lowers, lowers_factorization


class Reflector(NamedTuple):
    """``I - tau v adjoint(v)``, whose adjoint makes ``value`` of what was at the head of ``v``."""

    v: Array
    tau: Array
    value: Array


def reflector(x: Array, head: Array) -> Reflector:
    """What makes zeros of ``x`` after ``head``; before it ``x`` is 0."""
    here = at(head, x.shape[-1])
    first = picked(x, head)
    rest = jnp.where(here, jnp.zeros_like(x), x)
    done = jnp.sum(jnp.abs(rest), -1) + jnp.abs(jnp.imag(first)) == 0
    whole = jnp.sqrt(squares(x[..., None])[..., 0])
    value = jnp.where(jnp.real(first) < 0, whole, -whole).astype(x.dtype)
    value = jnp.where(done, first, value)
    safe = jnp.where(done, jnp.ones_like(first), value)
    tau = jnp.where(done, jnp.zeros_like(first), (safe - first) / safe)
    gap = jnp.where(done, jnp.ones_like(first), first - safe)
    v = jnp.where(here, jnp.ones_like(x), rest / gap[..., None])
    return Reflector(v, tau, value)


def hessenberg_of(a: Array) -> tuple[Array, Array]:
    """Hessenberg's form with the reflections below it, and their factors."""
    n = a.shape[-1]
    count = max(n - 1, 0)
    if count == 0:
        return a, a[..., 0, :0]

    def step(state: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], Array]:
        h, packed = state
        rows = numbers(n)
        place = jnp.broadcast_to(k, a.shape[:-2])
        x = column(h, place)
        v, tau, value = reflector(jnp.where(rows > k, x, jnp.zeros_like(x)), place + 1)
        row, weight = jnp.conj(v)[..., None, :], tau[..., None, None]
        h = h - (h @ v[..., None]) @ (row * weight)
        h = h - v[..., None] @ (jnp.conj(weight) * (row @ h))
        below = jnp.where(rows > k + 1, v, jnp.where(rows == k + 1, value[..., None], v * 0))
        packed = jnp.where((rows[:, None] > k) & (rows == k), below[..., :, None], packed)
        return (h, packed), tau

    (h, packed), taus = lax.scan(step, (a, a), jnp.arange(count, dtype=np.int32))
    upper = np.tri(n, k=-1, dtype=bool)
    return jnp.where(upper, packed, h), jnp.moveaxis(taus, 0, -1)


def flipped(x: Array, *axes: int) -> Array:
    return jnp.flip(x, axes)


def tridiagonal_of(a: Array) -> tuple[Array, Array, Array, Array]:
    """The packed lower half, the diagonal, what is below it, and the factors."""
    n = a.shape[-1]
    below = jnp.where(np.tri(n, k=-1, dtype=bool), a, jnp.zeros_like(a))
    real = jnp.where(np.eye(n, dtype=bool), jnp.real(a).astype(a.dtype), jnp.zeros_like(a))
    packed, taus = hessenberg_of(below + real + adjoint(below))
    main = jnp.real(diagonal(packed))
    under = jnp.real(off_diagonal(packed, below=True))[..., : n - 1]
    packed = jnp.where(np.eye(n, dtype=bool), main[..., None, :].astype(a.dtype), packed)
    return jnp.where(np.tri(n, dtype=bool), packed, a), main, under, taus


@lowers_factorization("hessenberg")
def lower_hessenberg(site: Site, x: Node) -> tuple[Value, ...]:
    require_small(x.aval.shape[-1], *x.aval.shape[-2:])
    return composed(site, hessenberg_of, x, keep_loops=True)


@lowers_factorization("tridiagonal")
def lower_tridiagonal(site: Site, x: Node, *, lower: bool) -> tuple[Value, ...]:
    """From the first column on, or, in the upper half, from the last one, as if mirrored."""
    require_small(x.aval.shape[-1], *x.aval.shape[-2:])

    def upper(a: Array) -> tuple[Array, ...]:
        packed, *rest = tridiagonal_of(flipped(a, -1, -2))
        return flipped(packed, -1, -2), *(flipped(each, -1) for each in rest)

    return composed(site, tridiagonal_of if lower else upper, x, keep_loops=True)


@lowers_factorization("ormqr")
def lower_ormqr(
    site: Site, a: Node, taus: Node, c: Node, *, left: bool, transpose: bool
) -> tuple[Value, ...]:
    """``c`` times Q, or its adjoint, from one side; Q is the product of reflections."""
    n = taus.aval.shape[-1]
    require_small(n, n, *a.aval.shape[-2:])

    def multiply(a: Array, taus: Array, c: Array) -> Array:
        taus = jnp.conj(taus) if transpose else taus
        vectors = jnp.tril(a[..., :n], -1) + np.eye(a.shape[-2], n, dtype=a.dtype)
        each = (jnp.moveaxis(vectors, -1, 0), jnp.moveaxis(taus, -1, 0))

        def step(c: Array, by: tuple[Array, Array]) -> tuple[Array, None]:
            v, weight = by[0][..., None], by[1][..., None, None]
            row = adjoint(v)
            change = v @ (weight * (row @ c)) if left else (c @ v) @ (weight * row)
            return c - change, None

        return lax.scan(step, c, each, reverse=left != transpose)[0]

    return composed(site, multiply, a, taus, c, keep_loops=True)


@lowers_factorization("cholesky_update")
def lower_cholesky_update(site: Site, r: Node, w: Node) -> tuple[Value, ...]:
    """R of ``adjoint(R) R + w adjoint(w)``: each row is turned against what is left of ``w``."""
    n = w.aval.shape[-1]
    require_small(n, n)

    def step(z: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        row, k = given
        head, other = picked(row, k), picked(z, k)
        size = jnp.maximum(jnp.abs(head), jnp.abs(other))
        size = jnp.where(size == 0, jnp.ones_like(size), size)
        x, y = head / size, other / size
        long = jnp.sqrt(x * x + y * y)
        turns = other != 0
        long = jnp.where(turns, long, jnp.ones_like(long))
        c = jnp.where(turns, x / long, jnp.ones_like(x))
        s = jnp.where(turns, y / long, jnp.zeros_like(y))
        return c * z - s * row, c * row + s * z

    def update(r: Array, w: Array) -> Array:
        return lax.scan(step, w, (r, jnp.arange(n, dtype=np.int32)))[1]

    return composed(site, update, r, w, keep_loops=True)


@lowers("symmetric_product")
def lower_symmetric_product(
    site: Site, a: Node, c: Node, *, alpha: float, beta: float
) -> tuple[Value, ...]:
    """``alpha a transpose(a) + beta c``."""

    def product(a: Array, c: Array) -> Array:
        factor, of_c = np.asarray(alpha, a.dtype), np.asarray(beta, a.dtype)
        return (a @ jnp.swapaxes(a, -1, -2)) * factor + c * of_c

    return composed(site, product, a, c)
