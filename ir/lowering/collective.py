"""What speaks to other devices, where there is none: axes of vmap, and axes of size 1."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Protocol

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_call
from fnckpt.ir.operators import constant

WAY_OUT = "export the function of one device"

REDUCTIONS = {
    "psum": "ReduceSum",
    "psum_invariant": "ReduceSum",
    "pmax": "ReduceMax",
    "pmin": "ReduceMin",
}


class Mesh(Protocol):
    """The devices of a ``shard_map``, as named axes."""

    shape: Mapping[str, int]


@lowers_call("shard_map")
def inline_shard(
    site: Site,
    *args: Value,
    jaxpr: object,
    mesh: Mesh,
    newly_manual_axes: frozenset[str] | None = None,
    manual_axes: frozenset[str] | None = None,
    **_: object,
) -> tuple[Value, ...]:
    """The function itself where each axis that it maps over has one device."""
    named = newly_manual_axes if newly_manual_axes is not None else manual_axes
    axes = mesh.shape if named is None else named
    devices = prod(mesh.shape[axis] for axis in axes)
    if devices > 1:
        raise Refusal(f"it is for {devices} devices, and one device runs a file; {WAY_OUT}")
    return site.call(jaxpr, args)


def reduce_over_vmap(
    op: str, site: Site, *xs: Node, axes: Sequence[int | str], axis_index_groups: object = None
) -> list[Node]:
    """Numbered axes are those of vmap; a named one is left where it has one device alone.

    ``psum_invariant``, which ``shard_map`` makes of ``psum``, knows no groups.
    """
    if axis_index_groups is not None:
        raise Refusal(f"it is for groups of devices, and one device runs a file; {WAY_OUT}")
    numbers = tuple(sorted(axis for axis in axes if isinstance(axis, int)))
    return [site.apply(op, x, axes=numbers, keepdims=False) if numbers else x for x in xs]


for _primitive, _op in REDUCTIONS.items():
    lowers(_primitive)(partial(reduce_over_vmap, _op))


@lowers(
    "all_gather", "all_gather_invariant", "all_gather_reduced", "all_to_all", "pbroadcast",
    "reduce_scatter",
)  # fmt: skip
def keep_alone(site: Site, *xs: Node, **_: object) -> list[Node]:
    """What one device gives itself: the same elements, with or without the axis of devices."""
    pairs = list(zip(xs, site.results, strict=True))
    if any(x.aval.size != result.size for x, result in pairs):
        raise Refusal(f"it is for several devices, and one device runs a file; {WAY_OUT}")
    return [site.reshape(x, result.shape) for x, result in pairs]


@lowers("ppermute")
def lower_ppermute(
    site: Site, *xs: Node, axis_name: object, perm: Sequence[tuple[int, int]]
) -> list[Node]:
    """The device's own value where it sends to itself, else zeros."""
    return [
        x
        if (0, 0) in perm
        else site.apply("Select", constant(np.zeros((), bool)), x, site.constant(0, x))
        for x in xs
    ]


@lowers("axis_index")
def lower_axis_index(site: Site, **_: object) -> Node:
    return constant(np.zeros((), site.aval.dtype))
