"""Reductions by any function: its jaxpr, on one element after the other, or on a window's."""

from collections.abc import Callable, Sequence
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Primitive, Var, jaxpr_as_fun

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_complex
from fnckpt.ir.operators.reduction import least_and_greatest

Ints = tuple[int, ...]
Pads = Sequence[tuple[int, int]]
Arrays = tuple[Array, ...]


def reducer(jaxpr: object, consts: Sequence[object], shape: Ints) -> Callable[..., Arrays]:
    """A function of scalars as a function of arrays of ``shape``."""
    closed = jaxpr if isinstance(jaxpr, ClosedJaxpr) else _closed(jaxpr, consts)
    of_scalars = jaxpr_as_fun(closed)

    def of_arrays(*arrays: Array) -> Arrays:
        flat = [jnp.broadcast_to(x, shape).reshape(-1) for x in arrays]
        return tuple(x.reshape(shape) for x in jax.vmap(of_scalars)(*flat))

    return of_arrays


def _closed(jaxpr: object, consts: Sequence[object]) -> ClosedJaxpr:
    assert isinstance(jaxpr, Jaxpr)
    return ClosedJaxpr(jaxpr, consts)


@lowers_complex("reduce")
@lowers("reduce")
def lower_reduce(
    site: Site,
    *args: Value,
    jaxpr: object,
    dimensions: Ints,
    computation: object = None,
    consts: Sequence[object] = (),
) -> tuple[Value, ...]:
    """As XLA on the CPU: one element after the other, in row-major order, from the initial one.

    Of one array, each 32 along an axis first, again and again. A function of one operator that is
    associative is combined by halves, which is short.
    """
    count = len(args) // 2
    if not dimensions:
        return args[:count]

    def reduce(*arrays: Array) -> Arrays:
        operands, initial = arrays[:count], arrays[count:]
        if count == 1 and not is_associative(jaxpr):
            operands = (in_blocks(jaxpr, consts, operands[0], initial[0], dimensions),)
        kept = [i for i in range(operands[0].ndim) if i not in dimensions]
        rest = tuple(operands[0].shape[i] for i in kept)
        size = prod(operands[0].shape[i] for i in dimensions)
        rows = [x.transpose(*sorted(dimensions), *kept).reshape(size, *rest) for x in operands]
        start = tuple(jnp.broadcast_to(x, rest) for x in initial)
        if size and is_associative(jaxpr):
            rows, size = by_halves(jaxpr, consts, rows, rest), 1
        combine = reducer(jaxpr, consts, rest)
        step = lambda value, row: (combine(*value, *row), None)  # noqa: E731
        return (
            lax.scan(step, start, rows)[0] if size != 1 else combine(*start, *(x[0] for x in rows))
        )

    return composed(site, reduce, *args)


BLOCK = 32  # how many along an axis XLA reduces at once


def in_blocks(
    jaxpr: object, consts: Sequence[object], x: Array, start: Array, dimensions: Ints
) -> Array:
    """``x`` with at most 32 left along each of ``dimensions``.

    Blocks lie as those of a window with padding SAME, and each starts from the initial value.
    """
    while any(x.shape[axis] > BLOCK for axis in dimensions):
        rows, there = blocks(x, dimensions)
        combine = reducer(jaxpr, consts, rows.shape[1:])

        def step(
            value: Array, given: tuple[Array, Array], combine: Callable[..., Arrays] = combine
        ) -> tuple[Array, None]:
            row, holds = given
            return jnp.where(holds, combine(value, row)[0], value), None

        x, _ = lax.scan(step, jnp.broadcast_to(start, rows.shape[1:]), (rows, there))
    return x


def blocks(x: Array, dimensions: Ints) -> tuple[Array, Array]:
    """What all blocks have at their first place, at their second, and so on; and whether they do.

    The first axis is that of places in row-major order.
    """
    sizes = [min(BLOCK, n) if i in dimensions else 1 for i, n in enumerate(x.shape)]
    counts = [-(-n // size) for n, size in zip(x.shape, sizes, strict=True)]
    lacks = [k * size - n for n, k, size in zip(x.shape, counts, sizes, strict=True)]
    pads = [(lack // 2, lack - lack // 2) for lack in lacks]
    split = [each for pair in zip(counts, sizes, strict=True) for each in pair]
    order = (*range(1, 2 * x.ndim, 2), *range(0, 2 * x.ndim, 2))
    whole = jnp.pad(x, pads).reshape(split).transpose(order).reshape(-1, *counts)
    inside = [n if i in dimensions else 1 for i, n in enumerate(x.shape)]
    thin = [each for i, pair in enumerate(zip(counts, sizes, strict=True))
            for each in (pair if i in dimensions else (1, 1))]  # fmt: skip
    there = np.pad(np.ones(inside, bool), pads).reshape(thin).transpose(order)
    return whole, jnp.asarray(there.reshape(-1, *thin[::2]))


ASSOCIATIVE = frozenset({"add", "and", "max", "min", "mul", "or", "xor"})


def is_associative(jaxpr: object) -> bool:
    """Whether a function is one operator of its two arguments whose order is free."""
    inner = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    assert isinstance(inner, Jaxpr)
    if len(inner.eqns) != 1 or len(inner.invars) != 2:
        return False
    (eqn,) = inner.eqns
    of_both = set(inner.invars) == {x for x in eqn.invars if isinstance(x, Var)}
    return eqn.primitive.name in ASSOCIATIVE and of_both


def by_halves(
    jaxpr: object, consts: Sequence[object], rows: Sequence[Array], rest: Ints
) -> list[Array]:
    """One row of all, the first half combined with the second again and again."""
    rows, size = list(rows), rows[0].shape[0]
    while size > 1:
        half = size // 2
        combine = reducer(jaxpr, consts, (half, *rest))
        joined = combine(*(x[:half] for x in rows), *(x[half : 2 * half] for x in rows))
        rows = [jnp.concatenate([a, x[2 * half :]]) for a, x in zip(joined, rows, strict=True)]
        size -= half
    return rows


def windows(
    x: Array, fill: Array | np.ndarray, window: Ints, strides: Ints, pads: Pads, base: Ints,
    dilation: Ints, shape: Ints,
) -> list[Array]:  # fmt: skip
    """What all windows have at their first place, at their second, and so on."""
    spread = [(low, high, step - 1) for (low, high), step in zip(pads, base, strict=True)]
    padded = lax.pad(x, jnp.asarray(fill, x.dtype), spread)
    result = []
    for place in product(*map(range, window)):
        start = [at * step for at, step in zip(place, dilation, strict=True)]
        limit = [s + (n - 1) * t + 1 for s, n, t in zip(start, shape, strides, strict=True)]
        result.append(lax.slice(padded, start, limit, strides))
    return result


@lowers_complex("reduce_window")
@lowers("reduce_window")
def lower_reduce_window(
    site: Site,
    *args: Value,
    jaxpr: object,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
    consts: Sequence[object] = (),
) -> tuple[Value, ...]:
    """The function on strided slices, one for each element of the window that is in the array."""
    count, shape = len(args) // 2, site.results[0].shape
    if not prod(shape):
        return composed(
            site, lambda *xs: tuple(jnp.zeros(shape, x.dtype) for x in xs[:count]), *args
        )

    def reduce(*arrays: Array) -> Arrays:
        combine = reducer(jaxpr, consts, shape)
        around = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
        columns = [
            windows(x, fill, *around, shape)
            for x, fill in zip(arrays[:count], arrays[count:], strict=True)
        ]
        inside = windows(jnp.ones(arrays[0].shape, bool), np.zeros((), bool), *around, shape)
        value = tuple(jnp.broadcast_to(x, shape) for x in arrays[count:])
        for holds, *parts in zip(inside, *columns, strict=True):
            new = combine(*value, *parts)
            value = tuple(jnp.where(holds, *both) for both in zip(new, value, strict=True))
        return value

    return composed(site, reduce, *args)


COMPARISONS = {"ge": (jnp.greater_equal, 0), "le": (jnp.less_equal, 1)}


def selection(select_prim: Primitive) -> tuple[Callable[[Array, Array], Array], int]:
    """The comparison that keeps an element, and which end of the dtype loses against all."""
    if select_prim.name not in COMPARISONS:
        raise Refusal(f"windows that select by {select_prim.name}; use a maximum or a minimum")
    return COMPARISONS[select_prim.name]


@lowers("select_and_gather_add")
def lower_select_and_gather_add(
    site: Site,
    tangents: Node,
    operand: Node,
    *,
    select_prim: Primitive,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Value:
    """The tangent at the place of each window's greatest or least element."""
    keeps, end = selection(select_prim)
    least = np.asarray(least_and_greatest(operand.aval.dtype)[end])
    zero = np.zeros((), tangents.aval.dtype)

    def select(t: Array, x: Array) -> Array:
        around = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
        values = windows(x, least, *around, site.aval.shape)
        chosen = windows(t, zero, *around, site.aval.shape)
        best, result = jnp.full_like(values[0], least), jnp.full_like(chosen[0], 0)
        for value, tangent in zip(values, chosen, strict=True):
            stays = keeps(best, value)
            best, result = jnp.where(stays, best, value), jnp.where(stays, result, tangent)
        return result

    (result,) = composed(site, select, tangents, operand)
    return result


@lowers("select_and_scatter_add")
def lower_select_and_scatter_add(
    site: Site,
    source: Node,
    operand: Node,
    *,
    select_prim: Primitive,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
) -> Value:
    """``source`` added at the place of each window's greatest or least element."""
    keeps, end = selection(select_prim)
    least = np.asarray(least_and_greatest(operand.aval.dtype)[end])
    rank, shape = len(window_dimensions), source.aval.shape
    ones = (1,) * rank

    def scatter(s: Array, x: Array) -> Array:
        values = windows(x, least, window_dimensions, window_strides, padding, ones, ones, shape)
        best, where = values[0], jnp.zeros(shape, np.int32)
        for number, value in enumerate(values[1:], 1):
            stays = keeps(best, value)
            best, where = jnp.where(stays, best, value), jnp.where(stays, where, np.int32(number))
        total = jnp.zeros(x.shape, x.dtype)
        for number, place in enumerate(product(*map(range, window_dimensions))):
            part = jnp.where(where == number, s, jnp.zeros_like(s))
            starts = [at - low for at, (low, _) in zip(place, padding, strict=True)]
            spread = [
                (start, size - start - (count - 1) * step - 1, step - 1)
                for start, size, count, step in zip(
                    starts, x.shape, shape, window_strides, strict=True
                )
            ]
            total = total + lax.pad(part, jnp.zeros((), s.dtype), spread)
        return total

    (result,) = composed(site, scatter, source, operand)
    return result
