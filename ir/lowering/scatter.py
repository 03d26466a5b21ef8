"""Writing at computed places: scatter in general form."""

import math
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.lax import GatherScatterMode, ScatterDimensionNumbers

from fnckpt.ir.graph import Aval, Constant, Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.index import (
    INT32,
    are_inside,
    as_index,
    clamp,
    full_indices,
    inside_of,
)
from fnckpt.ir.lowering.known import known_value
from fnckpt.ir.lowering.registry import Pair, Site, lowers
from fnckpt.ir.operators import constant
from fnckpt.ir.sizes import is_known

WRITES = {
    "scatter": "",
    "scatter-add": "add",
    "scatter-max": "max",
    "scatter-min": "min",
    "scatter-mul": "mul",
    "scatter-sub": "sub",
}


def lower_scatter(
    reduction: str,
    site: Site,
    x: Node,
    indices: Node,
    updates: Node,
    *,
    dimension_numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
    update_jaxpr: object,
    update_consts: object,
) -> Node:
    """Writes over every indexed axis at once; an update that lies outside goes to a spare row."""
    if not reduction and isinstance(update_jaxpr, Jaxpr):
        return _apply_at(site, x, indices, updates, update_jaxpr, dimension_numbers, mode)
    if reduction == "sub":
        reduction, updates = "add", site.apply("Neg", updates)
    d, rank = dimension_numbers, len(x.aval.shape)
    if not rank:
        return _scatter_to_scalar(site, x, indices, updates, reduction)
    hidden = {*d.inserted_window_dims, *d.operand_batching_dims}
    shown = [i for i in range(rank) if i not in hidden]
    sizes = {i: updates.aval.shape[a] for i, a in zip(shown, d.update_window_dims, strict=True)}
    touched = {*d.scatter_dims_to_operand_dims, *hidden}
    touched |= {i for i in shown if sizes[i] != x.aval.shape[i]}
    touched = touched or {0}
    indexed = sorted(touched)
    rest = [i for i in range(rank) if i not in touched]
    windows = [i for i in indexed if i in sizes]
    indices = as_index(site, indices)
    last = [x.aval.shape[i] - sizes.get(i, 1) for i in d.scatter_dims_to_operand_dims]
    promised = mode == GatherScatterMode.PROMISE_IN_BOUNDS
    drops = mode == GatherScatterMode.FILL_OR_DROP and not are_inside(indices, last)
    valid = inside_of(site, indices, last) if drops else None
    indices = indices if promised else clamp(site, indices, last)
    places = full_indices(
        site, indices, indexed, d.scatter_dims_to_operand_dims, d.operand_batching_dims,
        d.scatter_indices_batching_dims, windows, [sizes[i] for i in windows],
    )  # fmt: skip
    order = [i for i in range(len(updates.aval.shape)) if i not in d.update_window_dims]
    axis_of = dict(zip(shown, d.update_window_dims, strict=True))
    moved = site.transpose(updates, (*order, *(axis_of[i] for i in (*windows, *rest))))
    turned = site.transpose(x, (*indexed, *rest))
    result = _write(site, turned, places, moved, valid, len(indexed), reduction)
    return site.transpose(result, tuple(np.argsort((*indexed, *rest)).tolist()))


def _scatter_to_scalar(site: Site, x: Node, indices: Node, updates: Node, reduction: str) -> Node:
    """Every update goes to the one number that there is."""
    places = constant(np.zeros((*updates.aval.shape, 1), INT32))
    row = site.reshape(x, (1,))
    return site.reshape(site.apply("ScatterNd", row, places, updates, reduction=reduction), ())


def _write(
    site: Site, x: Node, places: Node, updates: Node, valid: Node | None, indexed: int,
    reduction: str,
) -> Node:  # fmt: skip
    if valid is None or (isinstance(valid, Constant) and valid.value.all()):
        return site.apply("ScatterNd", x, places, updates, reduction=reduction)
    shape = x.aval.shape
    rows, rest = math.prod(shape[:indexed]), shape[indexed:]
    strides = [math.prod(shape[i + 1 : indexed]) for i in range(indexed)]
    weighted = site.apply("Mul", places, site.sizes(strides))
    axis = len(places.aval.shape) - 1
    flat = site.apply("ReduceSum", weighted, axes=(axis,), keepdims=True)
    wide = (*valid.aval.shape, *(1 for _ in flat.aval.shape[len(valid.aval.shape) :]))
    beyond = site.reshape(site.sizes((rows,)), ())
    aimed = site.apply("Select", site.reshape(valid, wide), flat, beyond)
    table = site.reshape(x, (rows, *rest))
    none, one = (0,) * len(table.aval.shape), (1, *(0 for _ in rest))
    spare = site.apply("Pad", table, site.constant(0, x), low=none, high=one)
    written = site.apply("ScatterNd", spare, aimed, updates, reduction=reduction)
    limit = (rows, *rest)
    kept = site.apply("Slice", written, start=none, limit=limit, strides=(1,) * len(limit))
    return site.reshape(kept, shape)


def _apply_at(
    site: Site,
    x: Node,
    indices: Node,
    updates: Node,
    function: Jaxpr,
    numbers: ScatterDimensionNumbers,
    mode: GatherScatterMode,
) -> Node:
    """``x.at[...].apply(function)``: the function of all, chosen where it is asked for.

    It is applied to an element as often as the indices name it.
    """
    flags = [constant(np.full(node.aval.shape, n, INT32)) for n, node in ((0, x), (1, updates))]
    counts = lower_scatter(
        "add", replace(site, results=(Aval(x.aval.shape, INT32),)), flags[0], indices, flags[1],
        dimension_numbers=numbers, mode=mode, update_jaxpr=None, update_consts=(),
    )  # fmt: skip
    of_scalars = jaxpr_as_fun(ClosedJaxpr(function, ()))
    most = _most_named(site, counts, math.prod(indices.aval.shape[:-1]))

    def applied(x: Array, counts: Array) -> Array:
        def once(number: Array, x: Array) -> Array:
            after = jax.vmap(lambda v: of_scalars(v, v)[0])(x.reshape(-1)).reshape(x.shape)
            return jnp.where(counts > number, after, x)

        if most == 1:
            return once(jnp.int32(0), x)
        last = jnp.max(counts, initial=0) if most is None else jnp.int32(most)
        return jax.lax.fori_loop(np.int32(0), last, once, x)

    (result,) = composed(site, applied, x, counts)
    assert not isinstance(result, Pair)
    return result


def _most_named(site: Site, counts: Node, rows: int) -> int | None:
    """How often an element is named at most, by ``rows`` indices; None where the file counts."""
    known = known_value(counts)
    if known is not None:
        return int(known.max(initial=0))
    return rows if is_known(rows) and (rows == 1 or not site.loops) else None


for _primitive, _reduction in WRITES.items():
    lowers(_primitive)(partial(lower_scatter, _reduction))
