"""What the attribute style needs beside ``LEGALIZE``: the kernels of its readers are fewer.

Measured with MindSpore 2.0.0 and MindSpore Lite 2.0.0.
"""

import math
from typing import TypeGuard

import numpy as np

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of
from fnckpt.ir.targets.mindir.kernels import OLDER_KERNELS, VALUES, stand_in, takes
from fnckpt.ir.targets.mindir.legalize_elementwise import gelu_by_tanh
from fnckpt.ir.targets.mindir.legalize_types import through, top_k_in_stand_in

NARROWER = ("MatMul", "Reverse")


def compute_in_stand_in(node: CNode) -> Node | None:
    """In a dtype that the older kernel takes."""
    own = node.inputs[VALUES.get(node.op, (0,))[0]].aval.dtype
    dtype = stand_in(node.op, own, OLDER_KERNELS)
    return None if dtype is None else through(node, dtype)


@rewrites("Less")
def less_as_greater(node: CNode) -> Node | None:
    """Greater takes unsigned integers."""
    x, y = node.inputs
    return None if takes("Less", x.aval.dtype, OLDER_KERNELS) else Build(node)("Greater", y, x)


@rewrites("Equal")
def equal_as_not_different(node: CNode) -> Node | None:
    """NotEqual takes uint64."""
    if node.inputs[0].aval.dtype != "uint64":
        return None
    build = Build(node)
    return build("LogicalNot", build("NotEqual", *node.inputs))


@rewrites("Silu")
def silu_as_product(node: CNode) -> Node:
    """Lite's converter has no SiLU, and leaves it out without a word."""
    (x,), build = node.inputs, Build(node)
    return build("Mul", x, build("Sigmoid", x))


@rewrites("Gelu")
def gelu_as_it_is_meant(node: CNode) -> Node:
    """The form with tanh; Lite's GeLU is the other, whatever it is told."""
    return gelu_by_tanh(Build(node), node.inputs[0])


@rewrites("Mul")
def exact_gelu_by_erf(node: CNode) -> Node | None:
    """``x / 2 * (1 + erf(x / sqrt(2)))`` as ``LEGALIZE`` left it, with erfc; Lite has no Erfc.

    Elsewhere Erfc stays: this loses the digits of its tail, which the product with x / 2 does not
    need.
    """
    half, tail = node.inputs
    if not (_is_op(tail, "Erfc") and _is_op(half, "Mul") and scalar_of(half.inputs[1]) == 0.5):
        return None
    (scaled,), x, build = tail.inputs, half.inputs[0], Build(node)
    if not _is_op(scaled, "Mul") or scaled.inputs[0] is not x or x.aval.dtype == np.float64:
        return None
    factor = scalar_of(scaled.inputs[1])
    if factor is None or abs(factor + math.sqrt(0.5)) > 1e-3:
        return None
    bell = build("Erf", build("Mul", x, build.number(math.sqrt(0.5), x)))
    return build("Mul", half, build("Add", bell, build.number(1, x)))


def _is_op(node: Node, op: str) -> TypeGuard[CNode]:
    return isinstance(node, CNode) and node.op == op


@rewrites("IsNan")
def nan_is_not_itself(node: CNode) -> Node:
    """Lite has no IsNan."""
    (x,) = node.inputs
    return Build(node)("NotEqual", x, x)


@rewrites("Rsqrt")
def rsqrt_by_division(node: CNode) -> Node:
    """Lite's Rsqrt has four digits."""
    (x,), build = node.inputs, Build(node)
    return build("Div", build.number(1, x), build("Sqrt", x))


@rewrites("Pad")
def pad_by_concat(node: CNode) -> Node:
    """One axis after the other; Lite's converter has no PadV3."""
    (x, fill), build = node.inputs, Build(node)
    for axis, sizes in enumerate(zip(ints(node, "low"), ints(node, "high"), strict=True)):
        low, high = (_filled(build, fill, x.aval.shape, axis, size) for size in sizes)
        if low or high:
            x = build("Concat", *low, x, *high, axis=axis)
    return x


def _filled(build: Build, fill: Node, like: Ints, axis: int, size: int) -> list[Node]:
    """``size`` of ``fill`` along ``axis``, other axes as ``like``; none where there is nothing."""
    if size == 0:
        return []
    shape = (*like[:axis], size, *like[axis + 1 :])
    value = known(fill)
    if value is not None:
        return [Constant(np.full(shape, value, value.dtype))]
    return [build.broadcast(fill, shape)]


OLDER: tuple[Rule, ...] = (
    *(Rule(Op(op), compute_in_stand_in) for op in NARROWER),
    Rule(Op("TupleGetItem"), lambda node: top_k_in_stand_in(node, OLDER_KERNELS)),
    less_as_greater,
    equal_as_not_different,
    gelu_as_it_is_meant,
    exact_gelu_by_erf,
    nan_is_not_itself,
    rsqrt_by_division,
    pad_by_concat,
    silu_as_product,
)
