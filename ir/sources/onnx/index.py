"""Operators that read or write at computed places."""

import math
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node, before_reshapes
from fnckpt.ir.lowering.ranges import range_of
from fnckpt.ir.sources.build import INT64, Builder, axis_of
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.onnx.shape import uncast

REDUCTIONS = {"none": "", "add": "add", "mul": "mul", "min": "min", "max": "max"}


def inside(site: Site, indices: Node, size: int) -> Node:
    """Indices from the front: a negative one counts from the end of an axis of ``size``."""
    b = site.build
    if isinstance(indices, Constant):
        value = indices.value
        if isinstance(size, int) and (value < 0).any():
            return b.constant(np.where(value < 0, value + size, value), value.dtype)
        if not (value < 0).any():
            return indices
    indices, limits = uncast(indices), limits_of(indices) if site.ours else None
    if indices.aval.dtype.kind == "u":
        return indices
    if site.ours and limits is not None and limits.low == -size:  # as passes/lookups.py writes it
        clipped = b.minimum(b.maximum(from_end(b, limits.x, size), 0), limits.high)
        return b.reshape(clipped, indices.aval.shape)
    if site.ours and (site.node.op_type != "Gather" or (limits is not None and limits.low == 0)):
        return indices
    return from_end(b, indices, size)


def from_end(b: Builder, indices: Node, size: int) -> Node:
    """A negative index counts from the end, where it may be one."""
    if np.all(range_of(indices).low >= 0):
        return indices
    return b.where(b.compare("Less", indices, 0), b.add(indices, _size(b, size, indices)), indices)


@dataclass(frozen=True)
class Limits:
    """A value that was brought between two numbers."""

    x: Node
    low: int
    high: int


def limits_of(node: Node) -> Limits | None:
    """The limits of ``Minimum(Maximum(x, low), high)``, reshaped or not, where they are numbers."""
    node = before_reshapes(uncast(node))
    outer = _with_number(node, "Minimum")
    inner = None if outer is None else _with_number(outer[0], "Maximum")
    return None if outer is None or inner is None else Limits(inner[0], inner[1], outer[1])


def _with_number(node: Node, op: str) -> tuple[Node, int] | None:
    if isinstance(node, CNode) and node.op == op:
        for x, number in (node.inputs, node.inputs[::-1]):
            if isinstance(number, Constant) and number.value.size == 1:
                return x, int(number.value.reshape(()))
    return None


def _size(b: Builder, size: int, like: Node) -> Node:
    return b.sizes_node(np.array(size, object), like.aval.dtype)


@imports("Gather")
def import_gather(site: Site, x: Node, indices: Node) -> Node:
    axis = axis_of(site.integer("axis", 0), len(x.aval.shape))
    return site.build("Gather", x, inside(site, indices, x.aval.shape[axis]), axis=axis)


@imports("GatherElements")
def import_gather_elements(site: Site, x: Node, indices: Node) -> Node:
    """NumPy and JAX read along whole axes: where the indices cover a part, the rest is cut off."""
    b = site.build
    axis = axis_of(site.integer("axis", 0), len(x.aval.shape))
    indices = inside(site, indices, x.aval.shape[axis])
    for other, size in enumerate(indices.aval.shape):
        x = x if other == axis else b.slice(x, other, 0, size)
    return b("GatherElements", x, indices, axis=axis)


def of_axes(site: Site, indices: Node, sizes: tuple[int, ...]) -> Node:
    """The rows of a table of places, each counted from the front of its axis."""
    b = site.build
    if site.ours:
        return uncast(indices)
    if isinstance(indices, Constant) and not (indices.value < 0).any():
        return indices
    whole = b.sizes_node(np.array(sizes, object), indices.aval.dtype)
    return b.where(b.compare("Less", indices, 0), b.add(indices, whole), indices)


@imports("GatherND")
def import_gather_nd(site: Site, x: Node, indices: Node) -> Node:
    b, batch = site.build, site.integer("batch_dims", 0)
    depth = indices.aval.shape[-1]
    places = of_axes(site, indices, x.aval.shape[batch : batch + depth])
    return b("GatherNd", x, with_batch(b, places, batch))


def with_batch(b: Builder, indices: Node, batch: int) -> Node:
    """Places with their own first axes in front."""
    shape = (*indices.aval.shape[:-1], 1)
    own: list[Node] = []
    for axis in range(batch):
        count = b.counted(shape[axis], indices.aval.dtype)
        own.append(b.broadcast(_along(b, count, axis, len(shape)), shape))
    return b.concat([*own, indices], len(shape) - 1)


def _along(b: Builder, x: Node, axis: int, rank: int) -> Node:
    """A vector along one axis of ``rank``."""
    sizes = [1] * rank
    sizes[axis] = x.aval.shape[0]
    return b.reshape(x, sizes)


@imports("ScatterND")
def import_scatter_nd(site: Site, x: Node, indices: Node, updates: Node) -> Node:
    depth = indices.aval.shape[-1]
    places = of_axes(site, indices, x.aval.shape[:depth])
    reduction = REDUCTIONS[site.text("reduction", "none")]
    return site.build("ScatterNd", x, places, updates, reduction=reduction)


@imports("ScatterElements", "Scatter")
def import_scatter_elements(site: Site, x: Node, indices: Node, updates: Node) -> Node:
    """Each update has a place of its own: its index along one axis, its own along the others."""
    b, shape = site.build, indices.aval.shape
    rank = len(shape)
    axis = axis_of(site.integer("axis", 0), rank)
    at = inside(site, indices, x.aval.shape[axis])
    places = [
        at if other == axis else b.broadcast(
            _along(b, b.counted(shape[other], at.aval.dtype), other, rank), shape)
        for other in range(rank)
    ]  # fmt: skip
    reduction = REDUCTIONS[site.text("reduction", "none")]
    return b("ScatterNd", x, b.stack(places, rank), updates, reduction=reduction)


@imports("TensorScatter")
def import_tensor_scatter(site: Site, past: Node, update: Node, start: Node | None = None) -> Node:
    """A cache with new rows written from a place of each batch; around its end in circles."""
    b, shape = site.build, past.aval.shape
    axis = axis_of(site.integer("axis", -2), len(shape))
    count, batch = update.aval.shape[axis], shape[0]
    first = b.full((batch,), 0, INT64) if start is None else b.cast(start, INT64)
    at = b.add(b.unsqueeze(first, 1), b.counted(count))
    if site.text("mode", "linear") == "circular":
        at = b("Rem", at, b.number(shape[axis], at))
    sizes = [batch, *(1,) * (len(shape) - 1)]
    sizes[axis] = count
    along = b.broadcast(b.reshape(at, sizes), update.aval.shape)
    places = [
        along if other == axis else b.broadcast(
            _along(b, b.counted(update.aval.shape[other]), other, len(shape)), update.aval.shape)
        for other in range(len(shape))
    ]  # fmt: skip
    return b("ScatterNd", past, b.stack(places, len(shape)), update, reduction="")


@imports("ArrayFeatureExtractor", domain="ai.onnx.ml")
def import_array_feature_extractor(site: Site, x: Node, indices: Node) -> Node:
    flat = site.build.reshape(indices, (math.prod(indices.aval.shape),))
    return site.build("Gather", x, flat, axis=len(x.aval.shape) - 1)
