"""The standard form of Schur, eigenvalues and eigenvectors of general matrices, in JAX.

Schur vectors and eigenvectors have the sign or phase that ``jacobi`` states. Conjugate eigenvalues
of a real matrix are exactly that, and so are their vectors; the one above the real axis is first.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.balance import balanced, given_back
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.francis import Form, numbers, off_diagonal, schur_of
from fnckpt.ir.lowering.jacobi import (
    adjoint,
    definite,
    diagonal,
    polished,
    require_small,
    scale_of,
    squares,
)
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers_factorization


def rotation_of(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, Array]:
    """Cosine and sine that make ``[[a, b], [c, d]]`` triangular, or its diagonal equal.

    The first where its eigenvalues are real.
    """
    half = (a - d) / 2
    product = b * c
    square = half * half + product
    root = jnp.sqrt(jnp.maximum(square, jnp.zeros_like(square)))
    z = half + jnp.where(half < 0, -root, root)
    tau = jnp.sqrt(c * c + z * z)
    safe = jnp.where(tau == 0, jnp.ones_like(tau), tau)
    real_c, real_s = jnp.where(tau == 0, jnp.ones_like(tau), z / safe), c / safe
    total = b + c
    long = jnp.sqrt(total * total + 4 * half * half)
    done = long == 0
    long = jnp.where(done, jnp.ones_like(long), long)
    equal_c = jnp.sqrt((1 + jnp.where(done, long, jnp.abs(total)) / long) / 2)
    sign = jnp.where(total < 0, -jnp.ones_like(total), jnp.ones_like(total))
    equal_s = -half / (long * equal_c) * sign
    real = square >= 0
    plain = c == 0
    cosine = jnp.where(plain, jnp.ones_like(c), jnp.where(real, real_c, equal_c))
    return cosine, jnp.where(plain, jnp.zeros_like(c), jnp.where(real, real_s, equal_s))


def placed(main: Array, over: Array, under: Array) -> Array:
    """Matrices of a diagonal and the two beside it, whose last numbers are not used."""
    n = main.shape[-1]
    zero = jnp.zeros((), main.dtype)
    before = jnp.concatenate([jnp.zeros_like(over[..., :1]), over[..., :-1]], -1)
    middle = jnp.where(np.eye(n, dtype=bool), main[..., None, :], zero)
    above = jnp.where(np.eye(n, k=1, dtype=bool), before[..., None, :], zero)
    return middle + above + jnp.where(np.eye(n, k=-1, dtype=bool), under[..., None, :], zero)


def turned_blocks(form: Form, cosine: Array, sine: Array, starts: Array) -> Form:
    """The form after each block, which begins where ``starts``, is turned."""
    zero, one = jnp.zeros_like(cosine), jnp.ones_like(cosine)
    ends = jnp.concatenate([jnp.zeros_like(starts[..., :1]), starts[..., :-1]], -1)
    previous = jnp.concatenate([zero[..., :1], cosine[..., :-1]], -1)
    main = jnp.where(starts, cosine, jnp.where(ends, previous, one))
    over = jnp.where(starts, -jnp.conj(sine), zero)
    turn = placed(main, over, jnp.where(starts, sine, zero))
    return Form(adjoint(turn) @ form.h @ turn, form.vectors @ turn)


def standard(form: Form) -> Form:
    """Blocks of two stay where eigenvalues are conjugate; their diagonal is equal then."""
    h = form.h
    main, under, over = diagonal(h), off_diagonal(h, below=True), off_diagonal(h, below=False)
    after = jnp.concatenate([main[..., 1:], main[..., -1:]], -1)
    starts = under != 0
    cosine, sine = rotation_of(main, over, under, after)
    square = ((main - after) / 2) ** 2 + over * under
    form = turned_blocks(form, cosine, sine, starts)
    return Form(blocks(form.h, starts & (square < 0)), form.vectors)


def blocks(h: Array, starts: Array) -> Array:
    """Zeros below the diagonal but where blocks of conjugate eigenvalues start."""
    n = h.shape[-1]
    main, under, over = diagonal(h), off_diagonal(h, below=True), off_diagonal(h, below=False)
    starts = starts & (under * over < 0)
    after = jnp.concatenate([main[..., 1:], main[..., -1:]], -1)
    ends = jnp.concatenate([jnp.zeros_like(starts[..., :1]), starts[..., :-1]], -1)
    mean = (main + after) / 2
    before = jnp.concatenate([mean[..., :1], mean[..., :-1]], -1)
    equal = jnp.where(starts, mean, jnp.where(ends, before, main))
    zero = jnp.zeros((), h.dtype)
    h = jnp.where(np.eye(n, dtype=bool), equal[..., None, :], jnp.triu(h))
    kept = np.eye(n, k=-1, dtype=bool) & starts[..., None, :]
    return h + jnp.where(kept, under[..., None, :], zero)


def triangular(form: Form) -> Form:
    """The complex form of a real one: each block of two conjugate eigenvalues is turned."""
    h = form.h
    complex_of = np.result_type(h.dtype, np.complex64)
    under, over = off_diagonal(h, below=True), off_diagonal(h, below=False)
    starts = under != 0
    # With an equal diagonal (b, c), c b < 0, the eigenvectors are (sqrt|b|, +-i sqrt|c|).
    first, second = jnp.sqrt(jnp.abs(over)), jnp.sqrt(jnp.abs(under))
    long = jnp.sqrt(jnp.abs(over) + jnp.abs(under))
    long = jnp.where(starts, long, jnp.ones_like(long))
    sign = jnp.where(over < 0, -jnp.ones_like(over), jnp.ones_like(over))
    cosine = (first / long).astype(complex_of)
    sine = (sign * second / long).astype(complex_of) * complex_of.type(1j)
    form = Form(h.astype(complex_of), form.vectors.astype(complex_of))
    form = turned_blocks(form, cosine, sine, starts)
    return Form(jnp.triu(form.h), form.vectors)


def standard_form(a: Array) -> Form:
    """Schur's form of matrices, with the signs of the rule."""
    if a.shape[-1] == 0:
        return Form(a, a)
    scale = scale_of(a)
    given = a / scale
    found = schur_of(given)
    vectors = polished(found.vectors)
    h = adjoint(vectors) @ given @ vectors
    if jnp.iscomplexobj(a):
        form = Form(jnp.triu(h), vectors)
    else:
        starts = off_diagonal(found.h, below=True) != 0
        kept = np.eye(a.shape[-1], k=-1, dtype=bool) & starts[..., None, :]
        form = standard(Form(jnp.triu(h) + jnp.where(kept, h, jnp.zeros_like(h)), vectors))
    sign = definite(form.vectors)
    return Form(adjoint(sign) * form.h * sign * scale, form.vectors * sign)


def values_of(h: Array) -> Array:
    """The eigenvalues of a standard form."""
    if jnp.iscomplexobj(h):
        return diagonal(h)
    product = -off_diagonal(h, below=True) * off_diagonal(h, below=False)
    part = jnp.sqrt(jnp.maximum(product, jnp.zeros_like(product)))
    before = jnp.concatenate([jnp.zeros_like(part[..., :1]), part[..., :-1]], -1)
    return lax.complex(diagonal(h), part - before)


def vectors_of(t: Array, values: Array) -> Array:
    """The eigenvectors of triangular matrices, by substitution from the last row upwards.

    They grow with each eigenvalue that is nearly there twice, and are divided by what they have
    grown to.
    """
    n = t.shape[-1]
    sizes = jnp.abs(values)
    eps = np.finfo(sizes.dtype).eps
    greatest = jnp.max(jnp.abs(t), (-1, -2))[..., None]
    floor = jnp.maximum(jnp.maximum(eps * sizes, eps * eps * greatest), np.finfo(sizes.dtype).tiny)
    unit = jnp.broadcast_to(np.eye(n, dtype=t.dtype), t.shape)

    def row(k: Array, x: Array) -> Array:
        i = np.int32(n - 2) - k
        here = numbers(n) == i
        across = jnp.where(here[:, None] & (numbers(n) > i), t, jnp.zeros_like(t))
        across = jnp.sum(across, -2, keepdims=True)
        mine = jnp.sum(jnp.where(here, values, jnp.zeros_like(values)), -1, keepdims=True)
        gap = mine - values
        gap = jnp.where(jnp.abs(gap) < floor, floor.astype(gap.dtype), gap)
        new = -(across @ x) / gap[..., None, :]
        new = jnp.where(numbers(n) > i, new, jnp.zeros_like(new))
        x = x + jnp.where(here[:, None], new, jnp.zeros_like(x))
        return x / jnp.maximum(jnp.abs(new), jnp.ones_like(jnp.abs(new)))

    return lax.fori_loop(np.int32(0), np.int32(n - 1), row, unit)


def eigenvectors(values: Array, vectors: Array, *, of_real: bool) -> Array:
    """Of length 1 and with the phase of the rule; exactly real, or conjugate, where they are."""
    if of_real:
        side = jnp.imag(values)[..., None, :]
        before = jnp.concatenate([vectors[..., :1], vectors[..., :-1]], -1)
        real = jnp.real(vectors).astype(vectors.dtype)
        vectors = jnp.where(side < 0, jnp.conj(before), jnp.where(side == 0, real, vectors))
    vectors = vectors / jnp.sqrt(squares(vectors))[..., None, :]
    return vectors * definite(vectors)


def flipped(x: Array) -> Array:
    return jnp.flip(x, (-1, -2))


def require_loops(site: Site) -> None:
    if not site.loops:
        raise Refusal(
            "how many steps it takes depends on the data, and the format has no loops; export to "
            "ONNX or MINDIR, or compute it outside apply_fn and give the result as an input"
        )


@lowers_factorization("schur")
def lower_schur(
    site: Site,
    x: Node,
    *,
    compute_schur_vectors: bool,
    sort_eig_vals: bool = False,
    select_callable: object = None,
) -> tuple[Value, ...]:
    """Upper triangular; of real matrices with blocks of two for conjugate eigenvalues."""
    del select_callable
    if sort_eig_vals:
        raise Refusal("schur that sorts has no rule, nor in JAX; sort_eig_vals=False does not sort")
    require_small(x.aval.shape[-1], *x.aval.shape[-2:])
    require_loops(site)
    count = 2 if compute_schur_vectors else 1
    return composed(site, lambda a: standard_form(a)[:count], x, keep_loops=True)


@lowers_factorization("eig")
def lower_eig(
    site: Site,
    x: Node,
    *,
    compute_left_eigenvectors: bool,
    compute_right_eigenvectors: bool,
    enable_eigvec_derivs: bool = False,
    implementation: object = None,
) -> tuple[Value, ...]:
    """The values in the order of Schur's form, the vectors of the left and of the right."""
    del enable_eigvec_derivs, implementation
    n = x.aval.shape[-1]
    require_small(n, *x.aval.shape[-2:])
    require_loops(site)

    def solve(a: Array) -> tuple[Array, ...]:
        of_real = not jnp.iscomplexobj(a)
        if n == 0:
            empty = a.astype(np.result_type(a.dtype, np.complex64))
            count = compute_left_eigenvectors + compute_right_eigenvectors
            return empty.reshape(a.shape[:-1]), *([empty] * count)
        matrix, basis, inverse, places = balanced(a)
        form = standard_form(matrix)
        values = values_of(form.h)
        if not (compute_left_eigenvectors or compute_right_eigenvectors):
            return (values,)
        t, q = triangular(form) if of_real else form
        found = [values]
        if compute_left_eigenvectors:
            left = flipped(vectors_of(flipped(jnp.swapaxes(t, -1, -2)), jnp.flip(values, -1)))
            left = given_back(q @ jnp.conj(left), places, inverse)
            found.append(eigenvectors(values, left, of_real=of_real))
        if compute_right_eigenvectors:
            right = given_back(q @ vectors_of(t, values), places, basis)
            found.append(eigenvectors(values, right, of_real=of_real))
        return tuple(found)

    return composed(site, solve, x, keep_loops=True)
