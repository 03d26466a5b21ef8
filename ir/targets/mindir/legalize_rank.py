"""Rewrites for shapes at the ends: nothing in them, no axes, more than eight axes."""

import math
from itertools import groupby

from fnckpt.ir.attributes import Ints, ints, rank
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Rule, rewrites

MOST_AXES = 8  # the kernels of BroadcastTo, StridedSlice and ReverseV2 take no more


@rewrites("Slice")
def slice_of_scalar(node: CNode) -> Node | None:
    """The kernel takes no scalar."""
    (x,) = node.inputs
    return x if rank(x) == 0 else None


@rewrites("Pad")
def pad_of_scalar(node: CNode) -> Node | None:
    """No axes, nothing to add."""
    x, _ = node.inputs
    return x if rank(x) == 0 else None


def _groups(kinds: list[object]) -> list[list[int]]:
    """Neighbouring axes of one kind together; None is of no kind but its own."""
    keys = [(i, None) if kind is None else (-1, kind) for i, kind in enumerate(kinds)]
    return [[i for i, _ in rows] for _, rows in groupby(enumerate(keys), lambda row: row[1])]


def _sizes(shape: Ints, groups: list[list[int]]) -> Ints:
    return tuple(math.prod(shape[i] for i in group) for group in groups)


def _is_too_deep(node: CNode, groups: list[list[int]]) -> bool:
    return rank(node) > MOST_AXES >= len(groups)


@rewrites("Slice")
def slice_merged_axes(node: CNode) -> Node | None:
    """Neighbours that are taken whole are one axis."""
    (x,), build, shape = node.inputs, Build(node), node.inputs[0].aval.shape
    rows = list(zip(*(ints(node, n) for n in ("start", "limit", "strides")), strict=True))
    whole = [row == (0, size, 1) or None for row, size in zip(rows, shape, strict=True)]
    groups = _groups(list(whole))
    if not _is_too_deep(node, groups):
        return None
    sizes = _sizes(shape, groups)
    parts = [
        (0, size, 1) if whole[group[0]] else rows[group[0]]
        for group, size in zip(groups, sizes, strict=True)
    ]
    start, limit, strides = zip(*parts, strict=True)
    cut = build("Slice", build.reshape(x, sizes), start=start, limit=limit, strides=strides)
    return build.reshape(cut, node.aval.shape)


@rewrites("Reverse")
def reverse_merged_axes(node: CNode) -> Node | None:
    """Neighbours that are all turned, or all kept, are one axis."""
    (x,), build, axes = node.inputs, Build(node), ints(node, "axes")
    groups = _groups([axis in axes for axis in range(rank(node))])
    if not _is_too_deep(node, groups):
        return None
    turned = tuple(i for i, group in enumerate(groups) if group[0] in axes)
    flat = build("Reverse", build.reshape(x, _sizes(x.aval.shape, groups)), axes=turned)
    return build.reshape(flat, node.aval.shape)


@rewrites("BroadcastTo")
def broadcast_merged_axes(node: CNode) -> Node | None:
    """Neighbours that all grow, or all stay, are one axis."""
    (x,), build, shape = node.inputs, Build(node), node.aval.shape
    full = (1,) * (len(shape) - rank(x)) + x.aval.shape
    groups = _groups([a != b for a, b in zip(full, shape, strict=True)])
    if not _is_too_deep(node, groups):
        return None
    flat = build.reshape(x, _sizes(full, groups))
    return build.reshape(build("BroadcastTo", flat, shape=_sizes(shape, groups)), shape)


RULES: tuple[Rule, ...] = (
    slice_of_scalar,
    pad_of_scalar,
    slice_merged_axes,
    reverse_merged_axes,
    broadcast_merged_axes,
)
