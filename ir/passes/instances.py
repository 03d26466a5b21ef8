"""Norms over the places of each channel or group, as ONNX has them: InstanceNorm, and what follows.

A scale and a shift of channels behind the norm of groups are no part of it: there each channel has
its own. As one BatchNorm of mean 0 and variance 1 they are one walk over the image, not two.
"""

import math
from collections.abc import Callable

import numpy as np

from fnckpt.ir.attributes import Ints, ints, number
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, Build, known
from fnckpt.ir.passes.layout import untransposed
from fnckpt.ir.passes.norms import INTO, scale_norm, shift_norm, unit_norm
from fnckpt.ir.passes.reshape import inverse, reshaped, transposed
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Weight, rewrites

LEAST_TRANSPOSED = 64  # elements: of 16 the transposes took longer than the parts, of 64 not

x, w, b = Any_("x"), Weight("w"), Weight("b")


@rewrites("Standardize")
def standardize_instances(root: CNode) -> Node | None:
    """Over all axes but the first ones it is InstanceNorm of ``[1, rows, elements]``."""
    (x,), axes, rank = root.inputs, ints(root, "axes"), len(root.aval.shape)
    if axes != tuple(range(axes[0], rank)) or not axes[0] or x.aval.dtype == FLOAT64:
        return None
    shape = x.aval.shape
    if axes[0] != 2:
        rows = int(np.prod(shape[: axes[0]]))
        shape = (1, rows, x.aval.size // rows)
    norm = unit_norm("InstanceNorm", root, reshaped(x, shape, root), shape[1])
    return reshaped(norm, root.aval.shape, root)


@rewrites("Standardize")
def standardize_groups_first(root: CNode) -> Node | None:
    """Of an image of channels last in groups, with the channels moved before the places."""
    (moved,), axes, rank = root.inputs, ints(root, "axes"), len(root.aval.shape)
    if not isinstance(moved, CNode) or moved.op != "Reshape" or not _pays(root):
        return None
    (x,), (groups, each) = moved.inputs, root.aval.shape[-2:]
    if axes != (*range(1, rank - 2), rank - 1) or x.aval.shape[1:-1] != root.aval.shape[1:-2]:
        return None
    if x.aval.shape[-1] != groups * each:
        return None
    first = (0, rank - 2, *range(1, rank - 2))
    turned = transposed(x, first, root)
    parts = (turned.aval.shape[0], groups, each, *turned.aval.shape[2:])
    inner = reshaped(turned, parts, root)
    normal = apply("Standardize", inner, origin=root.origin, axes=tuple(range(2, rank)),
                   epsilon=number(root, "epsilon"))  # fmt: skip
    back = reshaped(normal, turned.aval.shape, root)
    return reshaped(transposed(back, inverse(first), root), root.aval.shape, root)


@rewrites("Standardize")
def standardize_places_first(root: CNode) -> Node | None:
    """Of the places of an image of channels last, with the channels moved before them."""
    (x,), axes, rank = root.inputs, ints(root, "axes"), len(root.aval.shape)
    if axes != tuple(range(1, rank - 1)) or not _pays(root):
        return None
    first, last = (0, rank - 1, *axes), tuple(range(2, rank))
    normal = apply("Standardize", transposed(x, first, root), origin=root.origin, axes=last,
                   epsilon=number(root, "epsilon"))  # fmt: skip
    return transposed(normal, inverse(first), root)


def _pays(root: CNode) -> bool:
    """Whether ONNX Runtime normalizes enough of each example at once to pay for a transpose."""
    axes, shape = ints(root, "axes"), root.aval.shape
    enough = math.prod(shape[i] for i in axes) >= LEAST_TRANSPOSED
    return enough and root.aval.dtype != FLOAT64


def _before_transpose(
    rewrite: Callable[[CNode, CNode, Node], Node | None],
) -> Callable[..., Node | None]:
    """f(transpose(norm(x)), w) is transpose(f(norm(x), w')), the latter one norm."""

    def moved(root: CNode, norm: CNode, w: Node, perm: Ints) -> Node | None:
        turned = untransposed(w, perm, root)
        if turned is None:
            return None
        result = rewrite(apply(root.op, norm, turned, origin=root.origin), norm, turned)
        return None if result is None else transposed(result, perm, root)

    return moved


TURNED_VECTORS = tuple(
    Rule(
        Op(op, Op("Transpose", Op("InstanceNorm", name="norm"), attrs={"perm": "perm"}), w),
        _before_transpose(rewrite),
    )
    for op, rewrite in (("Mul", scale_norm), ("Add", shift_norm))
)


@rewrites(Op("Add", Op("Mul", x, w), b))
def scale_channels(root: CNode, x: Node, w: Node, b: Node) -> Node | None:
    """x * w + b is batch_norm(x, w, b) of mean 0 and variance 1, for a number each channel."""
    axes, shape = _channel_axes(root, w), root.aval.shape
    if axes is None or axes != _channel_axes(root, b) or x.aval != root.aval:
        return None
    finite = all(bool(np.isfinite(each).all()) for each in map(known, (w, b)) if each is not None)
    if root.aval.dtype != FLOAT32 or not finite:  # the runtime computes b - 0 * w
        return None
    channels = math.prod(shape[1:axes])
    zeros, ones = (constant(np.full(channels, value, np.float32)) for value in (0, 1))
    vectors = (reshaped(each, (channels,), root) for each in (w, b))
    image = reshaped(x, (shape[0], channels, *shape[axes:]), root)
    scaled = Build(root)("BatchNorm", image, *vectors, zeros, ones, axis=1, epsilon=0.0)
    return reshaped(scaled, shape, root)


def _channel_axes(root: CNode, vector: Node) -> int | None:
    """Where the places begin, if ``vector`` has a number for each of the axes from 1 to there."""
    shape = root.aval.shape
    wide = (1,) * (len(shape) - len(vector.aval.shape)) + vector.aval.shape
    if vector.aval.size == 1:
        return None
    end = 1 + max(axis for axis, size in enumerate(wide) if size != 1)
    whole = wide[0] == 1 and wide[1:end] == shape[1:end] and end < len(shape)
    return end if whole else None


@rewrites("InstanceNorm")
def compose_instance_norm(root: CNode) -> Node:
    """Standardize over the axes from 2 on, times a scale, plus a bias."""
    (x, *vectors), build = root.inputs, Build(root)
    axes = tuple(range(2, len(x.aval.shape)))
    scale, bias = (build.reshape(each, (each.aval.size, *(1,) * len(axes))) for each in vectors)
    normal = build("Standardize", x, axes=axes, epsilon=number(root, "epsilon"))
    return build("Add", build("Mul", normal, scale), bias)


FUSE: tuple[Rule, ...] = (
    standardize_instances,
    standardize_groups_first,
    standardize_places_first,
    *INTO,
    *TURNED_VECTORS,
    scale_channels,
)
COMPOSE: tuple[Rule, ...] = (compose_instance_norm,)
