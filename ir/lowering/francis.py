"""Schur's form and the eigenvalues of general matrices, by Francis' QR algorithm, in JAX.

A matrix becomes Hessenberg's form, and then a bulge is chased along its diagonal until what is
below is small enough: three rows high with two shifts at once for real matrices, whose blocks of
two conjugate eigenvalues stay, and two rows high with one shift for complex ones (Golub, Van Loan:
Matrix Computations, chapter 7). Each matrix of a batch has its own window, from ``low`` to
``high``, and all make a step at once; a step mirrors the whole matrix, which is simpler than to cut
out what it changes and as fast for small ones.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.lowering.jacobi import diagonal, squares

MOST_SWEEPS = 30  # for each column, of which two or three are usual
STUCK = 10  # sweeps without a result, after which a shift is taken that fits nothing


class Form(NamedTuple):
    """``vectors @ h @ adjoint(vectors)``, the matrix."""

    h: Array
    vectors: Array


class State(NamedTuple):
    """Sweeps so far, those since the window changed for each matrix, the window, the form."""

    sweeps: Array
    age: Array
    window: "Window"
    form: Form


class Window(NamedTuple):
    """The last rows that are not done yet, both included; nothing is left if ``high`` is 0."""

    low: Array
    high: Array


class Mirror(NamedTuple):
    """``I - weight v adjoint(v)``."""

    v: Array
    weight: Array


def numbers(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


def at(position: Array, n: int) -> Array:
    """Where a position is among ``n``: one is true, or none."""
    return numbers(n) == position[..., None]


def picked(x: Array, position: Array) -> Array:
    """``x[..., position]``, and 0 outside."""
    return jnp.sum(jnp.where(at(position, x.shape[-1]), x, jnp.zeros_like(x)), -1)


def times(a: Array, x: Array) -> Array:
    """The product with a vector."""
    return (a @ x[..., None])[..., 0]


def column(a: Array, position: Array) -> Array:
    return times(a, at(position, a.shape[-1]).astype(a.dtype))


def mirror_of(x: Array, head: Array) -> Mirror:
    """What makes of ``x``, which is 0 above ``head``, a multiple of that unit vector."""
    here = at(head, x.shape[-1])
    first = picked(x, head)
    size = jnp.abs(first)
    phase = jnp.where(size == 0, jnp.ones_like(first), first / jnp.where(size == 0, 1, size))
    whole = jnp.sqrt(squares(x[..., None])[..., 0])
    v = jnp.where(here, (phase * (size + whole))[..., None], x)
    norm = whole * (whole + size)
    weight = jnp.where(norm == 0, jnp.zeros_like(norm), 1 / jnp.where(norm == 0, 1, norm))
    return Mirror(v, weight)


def both_sides(form: Form, by: Mirror) -> Form:
    """The form after a change of basis."""
    v, row = by.v[..., None], jnp.conj(by.v)[..., None, :]
    weighted = row * by.weight[..., None, None].astype(row.dtype)
    h = form.h - v @ (weighted @ form.h)
    return Form(h - (h @ v) @ weighted, form.vectors - (form.vectors @ v) @ weighted)


def to_hessenberg(a: Array) -> Form:
    n = a.shape[-1]
    unit = jnp.broadcast_to(np.eye(n, dtype=a.dtype), a.shape)

    def step(k: Array, form: Form) -> Form:
        place = jnp.broadcast_to(k, a.shape[:-2])
        below = numbers(n) > k
        x = column(form.h, place)
        return both_sides(form, mirror_of(jnp.where(below, x, jnp.zeros_like(x)), place + 1))

    form = lax.fori_loop(np.int32(0), np.int32(max(n - 2, 0)), step, Form(a, unit))
    return Form(jnp.triu(form.h, -1), form.vectors)


def off_diagonal(a: Array, below: bool) -> Array:
    """The diagonal beside the main one, with a 0 after the last."""
    n = a.shape[-1]
    mask = np.eye(n, k=-1 if below else 1, dtype=bool)
    return jnp.sum(jnp.where(mask, a, jnp.zeros_like(a)), -2 if below else -1)


def deflated(h: Array) -> Array:
    """With zeros for what is negligible below the diagonal."""
    n = h.shape[-1]
    sizes = jnp.abs(diagonal(h))
    eps = np.finfo(sizes.dtype).eps
    following = jnp.concatenate([sizes[..., 1:], jnp.zeros_like(sizes[..., :1])], -1)
    least = jnp.maximum(eps * (sizes + following), eps * eps)
    stays = jnp.abs(off_diagonal(h, below=True)) > least
    return jnp.where(np.eye(n, k=-1, dtype=bool) & ~stays[..., None, :], jnp.zeros_like(h), h)


def window_of(h: Array, width: int) -> Window:
    """The last block of at least ``width`` rows."""
    rows = numbers(h.shape[-1])
    linked = off_diagonal(h, below=True) != 0
    before = jnp.concatenate([jnp.zeros_like(linked[..., :1]), linked[..., :-1]], -1)
    ends = linked & before if width == 3 else linked
    high = jnp.max(jnp.where(ends, rows + 1, np.int32(0)), -1)
    breaks = ~linked & (rows < high[..., None])
    return Window(jnp.max(jnp.where(breaks, rows + 1, np.int32(0)), -1), high)


def first_of_two_shifts(h: Array, window: Window, stuck: Array) -> Array:
    """The first column of ``(h - s)(h - t)``; the shifts are eigenvalues of the last block."""
    low, high = window
    main, under, over = diagonal(h), off_diagonal(h, below=True), off_diagonal(h, below=False)
    last, previous = picked(main, high), picked(main, high - 1)
    product = picked(under, high - 1) * picked(over, high - 1)
    size = jnp.abs(picked(under, high - 1)) + jnp.abs(picked(under, high - 2))
    last, previous, product = (
        jnp.where(stuck, 0.75 * size + last, last),
        jnp.where(stuck, 0.75 * size + last, previous),
        jnp.where(stuck, -0.4375 * size * size, product),
    )
    head, link = picked(main, low), picked(under, low)
    link = jnp.where(link == 0, jnp.ones_like(link), link)
    s, t = last - head, previous - head
    x = (s * t - product) / link + picked(over, low)
    y = picked(main, low + 1) - head - s - t
    z = picked(under, low + 1)
    n = h.shape[-1]
    return sum(
        (jnp.where(at(low + i, n), each[..., None], jnp.zeros_like(main)))
        for i, each in enumerate((x, y, z))
    ) + jnp.zeros_like(main)


def first_of_one_shift(h: Array, window: Window, stuck: Array) -> Array:
    """The first column of ``h - s``; the shift is the nearer eigenvalue of the last block."""
    low, high = window
    main, under, over = diagonal(h), off_diagonal(h, below=True), off_diagonal(h, below=False)
    last, link = picked(main, high), picked(under, high - 1)
    product = link * picked(over, high - 1)
    half = (picked(main, high - 1) - last) / 2
    root = jnp.sqrt(half * half + product)
    nearer = jnp.real(jnp.conj(half) * root) >= 0
    root = half + jnp.where(nearer, root, -root)
    shift = last - jnp.where(
        root == 0, jnp.zeros_like(root), product / jnp.where(root == 0, 1, root)
    )
    shift = jnp.where(stuck, last + 0.75 * jnp.abs(link), shift)
    n = h.shape[-1]
    x, y = picked(main, low) - shift, picked(under, low)
    return jnp.where(
        at(low, n),
        x[..., None],
        jnp.where(at(low + 1, n), y[..., None], jnp.zeros_like(main)),
    )


def swept(form: Form, window: Window, first: Array, width: int) -> Form:
    """The form after a bulge was chased through the window of each matrix."""
    n = form.h.shape[-1]
    low, high = (each[..., None] for each in window)

    def step(k: Array, form: Form) -> Form:
        head = window.low + k
        x = jnp.where(k == 0, first, column(form.h, head - 1))
        rows = numbers(n)
        bulge = (rows >= low + k) & (rows < low + k + width) & (rows <= high)
        return both_sides(form, mirror_of(jnp.where(bulge, x, jnp.zeros_like(x)), head))

    steps = jnp.max(window.high - window.low)
    form = lax.fori_loop(np.int32(0), steps, step, form)
    return Form(jnp.triu(form.h, -1), form.vectors)


def schur_of(a: Array) -> Form:
    """Schur's form of matrices whose greatest number is about 1; real ones keep blocks of two."""
    n = a.shape[-1]
    of_complex = jnp.iscomplexobj(a)
    width = 2 if of_complex else 3
    first_of = first_of_one_shift if of_complex else first_of_two_shifts
    form = to_hessenberg(a)
    form = Form(deflated(form.h), form.vectors)
    none = jnp.zeros(a.shape[:-2], np.int32)
    if n < width:
        return form

    def goes_on(state: State) -> Array:
        return (state.sweeps < MOST_SWEEPS * n) & jnp.any(state.window.high > 0)

    def sweep(state: State) -> State:
        sweeps, age, window, form = state
        stuck = (age % np.int32(STUCK)) == STUCK - 1
        first = first_of(form.h, window, stuck)
        form = swept(form, window, first, width)
        form = Form(deflated(form.h), form.vectors)
        new = window_of(form.h, width)
        age = jnp.where(new.high == window.high, age + 1, np.int32(0))
        return State(sweeps + 1, age, new, form)

    start = State(jnp.int32(0), none, window_of(form.h, width), form)
    return lax.while_loop(goes_on, sweep, start).form
