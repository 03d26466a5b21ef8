"""Rewrites for matrix products and normalization: into the shapes that the kernels take."""

import math
from dataclasses import replace

from fnckpt.ir.attributes import integer, number, rank
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes import products
from fnckpt.ir.passes.build import FLOAT32, Build
from fnckpt.ir.passes.rewrite import Any_, Op, Weight, rewrites, scalar_of


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
    """BatchMatMul does not broadcast: it reads beyond the smaller operand."""
    (a, b), build = node.inputs, Build(node)
    if rank(a) == rank(b) and a.aval.shape[:-2] == b.aval.shape[:-2]:
        return None
    stack = node.aval.shape[:-2]
    wide = [build.broadcast(x, (*stack, *x.aval.shape[-2:])) for x in (a, b)]
    return build("MatMul", *wide, **node.attrs)


@rewrites("Gemm")
def compose_gemm(node: CNode) -> Node | None:
    """BiasAdd is faster than Add, and takes a vector along the columns, of float32."""
    columns = node.inputs[2].aval.shape == node.aval.shape[-1:]
    return None if columns and node.aval.dtype == FLOAT32 else products.compose_gemm.rewrite(node)


@rewrites(Op("Gemm", Any_("x"), Weight("w"), Any_("b")))
def turn_weight(node: CNode, x: Node, w: Node, b: Node) -> Node | None:
    """A weight lies as MindSpore's Dense has it, outputs first: its product is the faster one."""
    if node.attrs["transpose_b"]:
        return None
    turned = Build(node).transpose(w, (1, 0))
    return replace(node, inputs=(x, turned, b), attrs={**node.attrs, "transpose_b": True})


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
    """Along another axis, or in double, which the kernel computes with float32's digits."""
    (x, *vectors), build = node.inputs, Build(node)
    axis = integer(node, "axis")
    if axis == 1 and x.aval.dtype != "float64":
        return None
    shape = tuple(x.aval.shape[axis] if i == axis else 1 for i in range(rank(x)))
    scale, bias, mean, variance = (build.reshape(each, shape) for each in vectors)
    spread = build("Add", variance, build.number(number(node, "epsilon"), variance))
    factor = build("Mul", scale, build("Rsqrt", spread))
    return build("Add", build("Mul", build("Sub", x, mean), factor), bias)


@rewrites("LogSoftmax")
def compose_log_softmax(node: CNode) -> Node | None:
    """In double, which the kernel computes with float32's digits."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype != "float64":
        return None
    along = {"axes": (integer(node, "axis"),), "keepdims": True}
    shifted = build("Sub", x, build("ReduceMax", x, **along))
    return build("Sub", shifted, build("Log", build("ReduceSum", build("Exp", shifted), **along)))


@rewrites("LayerNorm")
def compose_layer_norm(node: CNode) -> Node | None:
    """In double, which the kernel computes with float32's digits."""
    (x, scale, bias), build = node.inputs, Build(node)
    if x.aval.dtype != "float64":
        return None
    last = {"axes": (rank(x) - 1,), "keepdims": True}
    centred = build("Sub", x, build("ReduceMean", x, **last))
    variance = build("ReduceMean", build("Square", centred), **last)
    epsilon = build.number(number(node, "epsilon"), x)
    normal = build("Mul", centred, build("Rsqrt", build("Add", variance, epsilon)))
    if scalar_of(scale) != 1:
        normal = build("Mul", normal, scale)
    return normal if scalar_of(bias) == 0 else build("Add", normal, bias)


RULES = (
    flatten_rows,
    match_stacks,
    normalize_in_four_axes,
    normalize_by_arithmetic,
    compose_log_softmax,
    compose_layer_norm,
)
