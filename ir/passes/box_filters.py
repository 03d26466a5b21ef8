"""Means and sums of windows as convolutions with ones, where a runtime's own are slow.

ONNX Runtime 1.32 adds up windows in vectors of 8 channels. With 3 channels a mean of 3 x 3 takes 3
to 7 times as long as a convolution of each channel by itself, one of 7 x 7 six to ten times.
"""

from math import prod

import numpy as np

from fnckpt.ir.attributes import ints, pairs
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import constant
from fnckpt.ir.passes.build import FLOAT32, Build
from fnckpt.ir.passes.rewrite import Any_, Op, Scalar, rewrites
from fnckpt.ir.sizes import is_known

VECTOR = 8  # channels
LEAST = 4096  # additions, without what is of symbolic size

total = Any_("total")


@rewrites("AvgPool")
def convolve_with_ones(root: CNode) -> Node | None:
    """The mean of each window is a convolution of each channel with ones, by their number."""
    (x,), window, build = root.inputs, ints(root, "window"), Build(root)
    channels, pads = x.aval.shape[1], pairs(root, "pads")
    counted = root.attrs["count_padding"] or not any(map(any, pads))
    if len(window) != 2 or root.aval.dtype != FLOAT32 or not counted or not channels % VECTOR:
        return None
    if prod(size for size in root.aval.shape if is_known(size)) * prod(window) < LEAST:
        return None
    ones = constant(np.ones((channels, 1, *window), np.float32))
    sums = build(
        "Conv", x, ones, strides=ints(root, "strides"), pads=pads, dilation=(1, 1), groups=channels
    )
    return build("Div", sums, build.number(prod(window), x))


@rewrites(Op("Mul", Op("Div", total, Scalar("divisor")), Scalar("factor")))
def keep_sum(root: CNode, total: Node, divisor: float, factor: float) -> Node | None:
    """x / n * n is x within rounding, n at least 1: a sum of windows came as a mean times n."""
    sums = isinstance(total, CNode) and total.op == "Conv" and total.aval == root.aval
    return total if sums and divisor == factor >= 1 else None


FUSE = (convolve_with_ones, keep_sum)
