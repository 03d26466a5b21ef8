"""Reductions, scans, windows and combining writes of complex numbers, written in JAX.

Complex numbers are ordered by their real parts, and equal ones of these by the imaginary parts.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.lax import GatherScatterMode, ScatterDimensionNumbers

from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.generic import Pads, windows
from fnckpt.ir.lowering.registry import Pair, Refusal, Site, Value, lowers_complex

Array = jax.Array
Ints = tuple[int, ...]

# What combines two arrays, and what an axis without elements gives.
Combine = Callable[[Array, Array], Array]
REDUCTIONS: dict[str, tuple[Combine, complex]] = {
    "reduce_max": (lax.max, -np.inf),
    "reduce_min": (lax.min, np.inf),
    "reduce_prod": (lax.mul, 1),
}
SCANS: dict[str, Combine] = {
    "cummax": lax.max,
    "cummin": lax.min,
    "cumprod": lax.mul,
}


def lower_reduction(
    combine: Combine, neutral: complex, site: Site, x: Pair, *, axes: Sequence[int]
) -> Value:
    """Halves are combined until one element is left."""

    def reduced(z: Array) -> Array:
        for axis in sorted(axes, reverse=True):
            z = jnp.moveaxis(z, axis, 0)
            if z.shape[0] == 0:
                z = jnp.full((1, *z.shape[1:]), neutral, z.dtype)
            while z.shape[0] > 1:
                half = z.shape[0] // 2
                z = jnp.concatenate([combine(z[:half], z[half : 2 * half]), z[2 * half :]])
            z = z[0]
        return z

    (result,) = composed(site, reduced, x)
    return result


def lower_scan(combine: Combine, site: Site, x: Pair, *, axis: int, reverse: bool) -> Value:
    """As JAX computes it on a CPU: halves of halves."""

    def scanned(z: Array) -> Array:
        return lax.associative_scan(combine, z, reverse=reverse, axis=axis)

    (result,) = composed(site, scanned, x)
    return result


for _primitive, _row in REDUCTIONS.items():
    lowers_complex(_primitive)(partial(lower_reduction, *_row))
for _primitive, _combine in SCANS.items():
    lowers_complex(_primitive)(partial(lower_scan, _combine))


def lower_window(
    combine: Combine,
    neutral: complex,
    site: Site,
    x: Pair,
    *,
    window_dimensions: Ints,
    window_strides: Ints,
    padding: Pads,
    base_dilation: Ints,
    window_dilation: Ints,
) -> Value:
    """What all windows have at their first place, combined with what they have at the next."""

    def reduced(z: Array) -> Array:
        fill = np.asarray(neutral, z.dtype)
        around = (window_dimensions, window_strides, padding, base_dilation, window_dilation)
        first, *others = windows(z, fill, *around, site.aval.shape)
        for each in others:
            first = combine(first, each)
        return first

    (result,) = composed(site, reduced, x)
    return result


for _name in ("max", "min"):
    lowers_complex(f"reduce_window_{_name}")(partial(lower_window, *REDUCTIONS[f"reduce_{_name}"]))


def lower_write(
    combine: Combine,
    site: Site,
    x: Value,
    indices: Value,
    updates: Value,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
    update_jaxpr: object,
    update_consts: object,
) -> Value:
    """One row of indices after the other, as several may name one place."""
    d, rows = dimension_numbers, indices.aval.shape[:-1]
    places = list(product(*map(range, rows)))
    if len(places) > site.max_unroll:
        raise Refusal(
            f"{len(places)} updates of complex numbers are written out one by one, and that is "
            f"more than max_unroll={site.max_unroll}; raise max_unroll"
        )
    if d.operand_batching_dims:
        raise Refusal("its updates are batched; use jax.numpy on the whole array instead")
    batch = [i for i in range(len(updates.aval.shape)) if i not in d.update_window_dims]

    def written(z: Array, at: Array, values: Array) -> Array:
        for place in places:
            row = at[tuple(slice(i, i + 1) for i in place)]
            cut = dict(zip(batch, place, strict=True))
            part = values[
                tuple(
                    slice(cut[i], cut[i] + 1) if i in cut else slice(None)
                    for i in range(values.ndim)
                )
            ]
            put = partial(lax.scatter, dimension_numbers=d, mode=mode)
            there = put(jnp.zeros(z.shape, np.int32), row, jnp.ones(part.shape, np.int32))
            z = jnp.where(there > 0, combine(z, put(z, row, part)), z)
        return z

    (result,) = composed(site, written, x, indices, updates)
    return result


for _name, _combine in (("max", lax.max), ("min", lax.min), ("mul", lax.mul)):
    lowers_complex(f"scatter-{_name}")(partial(lower_write, _combine))
