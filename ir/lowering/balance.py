"""Balancing: an order, and a basis of powers of two, that keep eigenvalues from rounding, in JAX.

Of a matrix whose numbers differ by orders of magnitude, the small eigenvalues are lost in the
rounding of its greatest numbers. First what is an eigenvalue already goes to the ends of the
diagonal. Then each row is made about as long as its column by a power of two, which rounds
nothing (Parlett, Reinsch: Balancing a matrix for calculation of eigenvalues and
eigenvectors). LAPACK's geev does so too.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.lowering.jacobi import scale_of

MOST_SWEEPS = 20  # of which the last changes nothing; two or three are usual
WORTH = 0.95  # of the lengths of a row and its column: a change that leaves more is not made


class Balanced(NamedTuple):
    """``1 / basis * a[order][:, order] * basis``, where ``places`` undoes ``order``.

    ``basis`` and ``inverse`` are powers of two whose greatest is 1.
    """

    matrix: Array
    basis: Array
    inverse: Array
    places: Array


class Apart(NamedTuple):
    """Trips so far, which rows are in the middle, which leave it now, and what says the order."""

    trips: Array
    middle: Array
    leaves: Array
    keys: Array


class Scaled(NamedTuple):
    """Sweeps so far, whether the last one changed a matrix, absolute values, and exponents."""

    sweeps: Array
    changed: Array
    sizes: Array
    exponents: Array


def numbers(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


def set_apart(a: Array) -> Apart:
    """Rows that are zero but for their diagonal go to the end, such columns to the front.

    What is found in a later trip is nearer to the middle, since it need be zero there only.
    """
    n = a.shape[-1]
    zero = (a == 0) | np.eye(n, dtype=bool)

    def step(state: Apart) -> Apart:
        trips, middle, leaves, keys = state
        middle = middle & ~leaves
        last = middle & jnp.all(zero | ~middle[..., None, :], -1)
        first = middle & jnp.all(zero | ~middle[..., :, None], -2) & ~last
        far = np.int32(n) - trips
        keys = jnp.where(last, far, jnp.where(first, -far, keys))
        return Apart(trips + 1, middle, last | first, keys)

    everyone = jnp.ones(a.shape[:-1], bool)
    start = Apart(jnp.int32(0), everyone, ~everyone, jnp.zeros(a.shape[:-1], np.int32))
    return lax.while_loop(lambda state: jnp.any(state.leaves), step, step(start))


def power(exponent: Array, most: int, dtype: np.dtype) -> Array:
    """Two to the power of a number between ``-most`` and ``most``, exactly."""
    table = jnp.asarray(np.ldexp(np.ones((), dtype), np.arange(-most, most + 1)))
    place = exponent + np.int32(most)
    return table.at[place].get(mode="promise_in_bounds", wrap_negative_indices=False)


def exponents_of(sizes: Array, most: int) -> Array:
    """The exponent of each number of a basis in which rows are about as long as columns."""
    n, dtype = sizes.shape[-1], sizes.dtype
    zero, one = dtype.type(0), dtype.type(1)

    def step(k: Array, state: Scaled) -> Scaled:
        sweeps, changed, sizes, exponents = state
        here = numbers(n) == k
        old = jnp.sum(jnp.where(here, exponents, np.int32(0)), -1, np.int32)
        column = jnp.sum(jnp.where(here, sizes, zero), (-1, -2))
        row = jnp.sum(jnp.where(here[:, None], sizes, zero), (-1, -2))
        known = (column > 0) & (row > 0)
        ratio = jnp.where(known, row, one) / jnp.where(known, column, one)
        change = jnp.clip(jnp.round(jnp.log2(ratio) / 2), -most, most).astype(np.int32)
        new = jnp.clip(old + change, -most, most)
        factor = power(new, most, dtype) / power(old, most, dtype)
        better = column * factor + row / factor < dtype.type(WORTH) * (column + row)
        new, factor = jnp.where(better, new, old), jnp.where(better, factor, one)[..., None, None]
        sizes = jnp.where(here, sizes * factor, sizes)
        sizes = jnp.where(here[:, None], sizes / factor, sizes)
        exponents = jnp.where(here, new[..., None], exponents)
        return Scaled(sweeps, changed | better, sizes, exponents)

    def sweep(state: Scaled) -> Scaled:
        state = state._replace(sweeps=state.sweeps + 1, changed=jnp.zeros_like(state.changed))
        return lax.fori_loop(np.int32(0), np.int32(n), step, state)

    def goes_on(state: Scaled) -> Array:
        return (state.sweeps < MOST_SWEEPS) & jnp.any(state.changed)

    batch = sizes.shape[:-2]
    none = jnp.zeros(sizes.shape[:-1], np.int32)
    start = Scaled(jnp.int32(0), jnp.ones(batch, bool), sizes, none)
    return lax.while_loop(goes_on, sweep, start).exponents


def reordered(x: Array, order: Array, axis: int) -> Array:
    index = order[..., :, None] if axis == -2 else order[..., None, :]
    return jnp.take_along_axis(x, index, axis, mode="promise_in_bounds")


def balanced(a: Array) -> Balanced:
    n = a.shape[-1]
    keys = set_apart(a).keys
    sizes = jnp.abs(a / scale_of(a))
    dtype = sizes.dtype
    most = int(np.finfo(dtype).maxexp) // 2 - 4  # so that the quotient of any two is finite
    basis = power(exponents_of(sizes, most), most, dtype)
    order = jnp.argsort(keys * np.int32(n) + numbers(n), -1).astype(np.int32)
    places = jnp.argsort(order, -1).astype(np.int32)
    scaled = a * (basis[..., None, :] / basis[..., :, None])
    matrix = reordered(reordered(scaled, order, -2), order, -1)
    greatest, least = (f(basis, -1, keepdims=True) for f in (jnp.max, jnp.min))
    return Balanced(matrix, basis / greatest, least / basis, places)


def given_back(vectors: Array, places: Array, basis: Array) -> Array:
    """Eigenvectors of the matrix that was balanced, of those of ``matrix``."""
    return reordered(vectors, places, -2) * basis[..., :, None]
