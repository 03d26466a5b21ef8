"""Rewrites for products, convolution, pooling and normalization."""

import math

import numpy as np

from fnckpt.ir.graph import Attr, CNode, Node
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.targets.mindir.attrs import Build, flag, integer, ints, number, pairs, rank


@rewrites("Gelu")
def compose_exact_gelu(node: CNode) -> Node | None:
    """``x / 2 * erfc(-x / sqrt(2))``; MindSpore's GeLU is the other form."""
    (x,), build = node.inputs, Build(node)
    if flag(node, "approximate"):
        return None
    half = build("Mul", x, build.number(0.5, x))
    scaled = build("Mul", x, build.number(-math.sqrt(0.5), x))
    return build("Mul", half, build("Erfc", scaled))


@rewrites("MatMul")
def flatten_rows(node: CNode) -> Node | None:
    """A stack of rows times one matrix is one product of matrices."""
    (a, b), build = node.inputs, Build(node)
    if rank(a) == 2 or rank(b) != 2 or node.attrs["transpose_a"]:
        return None
    *stack, inner = a.aval.shape
    flat = build("MatMul", build.reshape(a, (math.prod(stack), inner)), b, **node.attrs)
    return build.reshape(flat, node.aval.shape)


@rewrites("MatMul")
def match_stacks(node: CNode) -> Node | None:
    """BatchMatMul does not broadcast."""
    (a, b), build = node.inputs, Build(node)
    if rank(a) == rank(b) and a.aval.shape[:-2] == b.aval.shape[:-2]:
        return None
    stack = node.aval.shape[:-2]
    wide = [build.broadcast(x, (*stack, *x.aval.shape[-2:])) for x in (a, b)]
    return build("MatMul", *wide, **node.attrs)


ONE_MORE: dict[str, Attr] = {"strides": 1, "window": 1, "dilation": 1, "pads": (0, 0)}


def _spread(attr: Attr, extra: Attr) -> Attr:
    assert isinstance(attr, tuple)
    return (extra, *attr)


def add_height(node: CNode) -> Node | None:
    """One spatial axis becomes two, the first of size 1."""
    if rank(node) != 3:
        return None
    build = Build(node)
    inputs = [
        build.reshape(x, (*x.aval.shape[:2], 1, x.aval.shape[2])) if rank(x) == 3 else x
        for x in node.inputs
    ]
    attrs = {k: _spread(v, ONE_MORE[k]) if k in ONE_MORE else v for k, v in node.attrs.items()}
    return build.reshape(build(node.op, *inputs, **attrs), node.aval.shape)


def pad_before_pool(node: CNode) -> Node | None:
    """Padding as an operator of its own; the mean without padding divides by what is there."""
    (x,), build, pads = node.inputs, Build(node), pairs(node, "pads")
    if not any(n for pair in pads for n in pair):
        return None
    low, high = ((0, 0, *(pair[side] for pair in pads)) for side in (0, 1))
    free: dict[str, Attr] = {"pads": ((0, 0),) * len(pads)}
    if node.op == "MaxPool":
        least = float(least_and_greatest(x.aval.dtype)[0])
        return build("MaxPool", build.pad(x, low, high, least), **(dict(node.attrs) | free))
    free["count_padding"] = True
    mean = build("AvgPool", build.pad(x, low, high), **(dict(node.attrs) | free))
    if flag(node, "count_padding"):
        return mean
    ones = np.pad(
        np.ones(x.aval.shape[2:], x.aval.dtype), tuple(zip(low[2:], high[2:], strict=True))
    )
    return build("Mul", mean, _share_there(build, ones, node))


def _share_there(build: Build, ones: np.ndarray, node: CNode) -> Node:
    """One over the share of each window that is no padding."""
    window, strides = ints(node, "window"), ints(node, "strides")
    views = np.lib.stride_tricks.sliding_window_view(ones, window)
    every = tuple(slice(None, None, step) for step in strides)
    counts = views[every].sum(tuple(range(len(window), 2 * len(window))))
    share = (math.prod(window) / counts.astype(np.float64)).astype(ones.dtype)
    return build.reshape(_constant(share), (1, 1, *share.shape))


def _constant(value: np.ndarray) -> Node:
    from fnckpt.ir.operators import constant

    return constant(value)


@rewrites("BatchNorm")
def normalize_in_four_axes(node: CNode) -> Node | None:
    """The kernel takes ``[N, C, H, W]`` and ``[N, C]``."""
    (x, *vectors), build = node.inputs, Build(node)
    if integer(node, "axis") != 1 or rank(x) in (2, 4) or rank(x) < 2:
        return None
    batch, channels, *size = x.aval.shape
    four = build.reshape(x, (batch, channels, 1, math.prod(size)))
    return build.reshape(build("BatchNorm", four, *vectors, **node.attrs), x.aval.shape)


@rewrites("BatchNorm")
def normalize_by_arithmetic(node: CNode) -> Node | None:
    """Along another axis."""
    (x, *vectors), build = node.inputs, Build(node)
    axis = integer(node, "axis")
    if axis == 1:
        return None
    shape = tuple(x.aval.shape[axis] if i == axis else 1 for i in range(rank(x)))
    scale, bias, mean, variance = (build.reshape(each, shape) for each in vectors)
    spread = build("Add", variance, build.number(number(node, "epsilon"), variance))
    factor = build("Mul", scale, build("Rsqrt", spread))
    return build("Add", build("Mul", build("Sub", x, mean), factor), bias)


POOLS = ("MaxPool", "AvgPool")

RULES: tuple[Rule, ...] = (
    compose_exact_gelu,
    flatten_rows,
    match_stacks,
    *(Rule(Op(op), add_height) for op in ("Conv", "ConvTranspose", *POOLS)),
    *(Rule(Op(op), pad_before_pool) for op in POOLS),
    normalize_in_four_axes,
    normalize_by_arithmetic,
)
