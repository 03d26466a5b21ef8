"""Operators that compute each element alone."""

import math

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import BOOL, FLOAT32
from fnckpt.ir.sources.composed import (
    combined,
    floor_div,
    floor_mod,
    prelu,
    selu,
    shrunk,
    smooth_l1,
    softsign,
)
from fnckpt.ir.sources.source import Refusal
from fnckpt.ir.targets.air.codes import OF_ENGINE_CODE
from fnckpt.ir.targets.air.emit import ELEMENTWISE

OURS = {theirs: ours for ours, theirs in ELEMENTWISE.items()
        if theirs not in ("Exp", "Log", "RightShift")}  # fmt: skip
OURS |= {"Inv": "Reciprocal", "Mish": "Mish", "RealDiv": "Div", "SelectV2": "Select",
         "Select": "Select", "StopGradient": "Identity", "TruncateDiv": "Div"}  # fmt: skip


@imports(*OURS)
def import_same(site: Site, *inputs: Node) -> Node:
    return site.build(OURS[site.kind], *inputs)


@imports("RightShift")
def import_right_shift(site: Site, x: Node, y: Node) -> Node:
    signed = x.aval.dtype.kind == "i"
    return site.build("ShiftRightArithmetic" if signed else "ShiftRightLogical", x, y)


@imports("Div")
def import_div(site: Site, x: Node, y: Node) -> Node:
    if x.aval.dtype.kind != "f":
        raise Refusal("it is not documented how Div rounds integers; write TruncateDiv or FloorDiv")
    return site.build("Div", x, y)


@imports("DivNoNan", "Xdivy")
def import_div_no_nan(site: Site, x: Node, y: Node) -> Node:
    """0 where the divisor is 0; of Xdivy, where what is divided is."""
    b = site.build
    tested = y if site.kind == "DivNoNan" else x
    return b.where(b.compare("Equal", tested, 0), b.number(0, x), b.div(x, y))


@imports("Xlogy")
def import_xlogy(site: Site, x: Node, y: Node) -> Node:
    b = site.build
    return b.where(b.compare("Equal", x, 0), b.number(0, x), b.mul(x, b("Log", y)))


@imports("FloorDiv")
def import_floor_div(site: Site, x: Node, y: Node) -> Node:
    return floor_div(site.build, x, y)


@imports("FloorMod", "Mod")
def import_mod(site: Site, x: Node, y: Node) -> Node:
    """Mod is TensorFlow's, whose remainder has the sign of the dividend."""
    return floor_mod(site.build, x, y) if site.kind == "FloorMod" else site.build("Rem", x, y)


@imports("SquaredDifference")
def import_squared_difference(site: Site, x: Node, y: Node) -> Node:
    return site.build("Square", site.build.sub(x, y))


@imports("AddN", "AccumulateNV2")
def import_add_n(site: Site, parts: list[Node]) -> Node:
    total = parts[0]
    for part in parts[1:]:
        total = site.build.add(total, part)
    return total


@imports("Muls")
def import_muls(site: Site, x: Node) -> Node:
    return site.build.mul(x, site.op.number("value"))


@imports("Adds")
def import_adds(site: Site, x: Node) -> Node:
    return site.build.add(x, site.op.number("value"))


@imports("Axpy")
def import_axpy(site: Site, x: Node, y: Node) -> Node:
    return site.build.add(x, site.build.mul(y, site.op.number("alpha")))


@imports("FusedMulAdd")
def import_fused_mul_add(site: Site, x: Node, y: Node, z: Node) -> Node:
    return site.build.add(site.build.mul(x, y), z)


@imports("Addcmul", "Addcdiv")
def import_addc(site: Site, start: Node, x: Node, y: Node, factor: Node) -> Node:
    b = site.build
    found = b.mul(x, y) if site.kind == "Addcmul" else b.div(x, y)
    return b.add(start, b.mul(found, factor))


@imports("Power")
def import_power(site: Site, x: Node) -> Node:
    """``(scale * x + shift) ** power``, Caffe's."""
    b, op = site.build, site.op
    return b("Pow", scaled(site, x), b.number(op.number("power"), x))


@imports("Exp", "Log")
def import_of_base(site: Site, x: Node) -> Node:
    """``base ** (scale * x + shift)``, or its logarithm; base -1 stands for e."""
    b, base = site.build, site.op.number("base")
    if base != -1 and base <= 0:
        raise ValueError(f"a base of {base}")
    x, natural = scaled(site, x), 1.0 if base == -1 else math.log(base)
    if site.kind == "Exp":
        return b("Exp", x if natural == 1 else b.mul(x, natural))
    found = b("Log", x)
    return found if natural == 1 else b.div(found, natural)


def scaled(site: Site, x: Node) -> Node:
    """``scale * x + shift``."""
    b, scale, shift = site.build, site.op.number("scale"), site.op.number("shift")
    x = x if scale == 1 else b.mul(x, scale)
    return x if shift == 0 else b.add(x, shift)


@imports("Cast")
def import_cast(site: Site, x: Node) -> Node:
    code = site.op.integer("dst_type")
    known = OF_ENGINE_CODE.get(code)
    if known is None or known.dtype is None:
        raise ValueError(f"there is no type {code}")
    if known.dtype == BOOL and x.aval.dtype != BOOL:
        return site.build.compare("NotEqual", x, 0)
    return site.build.cast(x, known.dtype)


@imports("Bitcast")
def import_bitcast(site: Site, x: Node) -> Node:
    """Between integers of one width, whose casts keep the bits."""
    dtype, own = site.op.dtype("type"), x.aval.dtype
    if {dtype.kind, own.kind} - set("iu") or dtype.itemsize != own.itemsize:
        raise Refusal(f"it takes the bits of {own} as {dtype}; there is a rule for integers alone")
    return site.build.cast(x, dtype)


@imports("PopulationCount")
def import_population_count(site: Site, x: Node) -> Node:
    return site.build.cast(site.build("PopulationCount", x), np.dtype(np.uint8))


@imports("ClipByValue")
def import_clip(site: Site, x: Node, low: Node, high: Node) -> Node:
    return site.build.minimum(site.build.maximum(x, low), high)


@imports("ZerosLike", "OnesLike")
def import_like(site: Site, x: Node) -> Node:
    return site.build.full(x.aval.shape, int(site.kind == "OnesLike"), x)


# ------------------------------------------------------------------------------------- activations


@imports("Round")
def import_round(site: Site, x: Node) -> Node:
    """To the nearest, of two the even one, as the types of TensorFlow do."""
    return x if x.aval.dtype.kind in "iu" else site.build("Round", x)


@imports("Relu6")
def import_relu6(site: Site, x: Node) -> Node:
    return site.build("Clip", x, low=0.0, high=6.0)


@imports("Gelu")
def import_gelu(site: Site, x: Node) -> Node:
    return site.build("Gelu", x, approximate=True)


@imports("FastGelu")
def import_fast_gelu(site: Site, x: Node) -> Node:
    """``x * exp(0.851 (x - |x|)) / (1 + exp(-1.702 |x|))``, which is ``x * sigmoid(1.702 x)``."""
    return site.build.mul(x, site.build("Sigmoid", site.build.mul(x, 1.702)))


@imports("LeakyRelu")
def import_leaky_relu(site: Site, x: Node) -> Node:
    return site.build("LeakyRelu", x, alpha=site.op.number("negative_slope"))


@imports("Elu")
def import_elu(site: Site, x: Node) -> Node:
    return site.build("Elu", x, alpha=site.op.number("alpha"))


@imports("Selu")
def import_selu(site: Site, x: Node) -> Node:
    return selu(site.build, x)


@imports("PRelu")
def import_prelu(site: Site, x: Node, slope: Node) -> Node:
    return prelu(site.build, x, slope)


@imports("HardSigmoid")
def import_hard_sigmoid(site: Site, x: Node) -> Node:
    b, op = site.build, site.op
    line = b.add(b.mul(x, op.number("alpha")), op.number("beta"))
    return b("Clip", line, low=0.0, high=1.0)


@imports("Softsign")
def import_softsign(site: Site, x: Node) -> Node:
    return softsign(site.build, x)


@imports("SoftplusV2")
def import_softplus(site: Site, x: Node) -> Node:
    """``x`` itself above the threshold."""
    b, beta = site.build, site.op.number("beta")
    wide = b.mul(x, beta)
    found = b.div(b("Softplus", wide), beta)
    return b.where(b.compare("Greater", wide, site.op.number("threshold")), x, found)


@imports("HardShrink", "SoftShrink")
def import_shrink(site: Site, x: Node) -> Node:
    limit = site.op.number("lambd")
    return shrunk(site.build, x, limit, limit if site.kind == "SoftShrink" else 0.0)


@imports("ThresholdedRelu")
def import_thresholded_relu(site: Site, x: Node) -> Node:
    b = site.build
    return b.where(b.compare("Greater", x, site.op.number("alpha")), x, b.number(0, x))


@imports("Threshold")
def import_threshold(site: Site, x: Node) -> Node:
    b = site.build
    return b.cast(b.compare("Greater", x, site.op.number("threshold")), x.aval.dtype)


# ------------------------------------------------------------------------------------------ losses


@imports("SigmoidCrossEntropyWithLogits")
def import_sigmoid_cross_entropy(site: Site, x: Node, target: Node) -> Node:
    b = site.build
    return b.sub(b("Softplus", x), b.mul(x, target))


@imports("SoftmaxCrossEntropyWithLogits")
def import_softmax_cross_entropy(site: Site, x: Node, labels: Node) -> tuple[Node, ...]:
    """The losses, and their gradient by ``x``."""
    b = site.build
    found = b("Neg", b.sum(b.mul(labels, b("LogSoftmax", x, axis=1)), (1,)))
    return found, b.sub(b("Softmax", x, axis=1), labels)


@imports("SmoothL1LossV2")
def import_smooth_l1(site: Site, x: Node, y: Node) -> Node:
    found = smooth_l1(site.build, x, y, site.op.number("sigma"))
    return combined(site.build, found, site.op.text("reduction"))


@imports("BinaryCrossEntropy")
def import_binary_cross_entropy(site: Site, x: Node, y: Node, weight: Node | None) -> Node:
    b = site.build
    one = b.number(1, x)
    ours = b.mul(y, b("Log", b.maximum(x, 1e-12)))
    rest = b.mul(b.sub(one, y), b("Log", b.maximum(b.sub(one, x), 1e-12)))
    found = b("Neg", b.add(ours, rest))
    found = found if weight is None else b.mul(found, weight)
    return combined(b, found, site.op.text("reduction"))


@imports("L2Loss")
def import_l2_loss(site: Site, x: Node) -> Node:
    b = site.build
    return b.mul(b.sum(b("Square", x), tuple(range(len(x.aval.shape)))), 0.5)


@imports("LinSpace")
def import_lin_space(site: Site, start: Node, stop: Node, num: Node) -> Node:
    b, count = site.build, site.build.size(num, "how many numbers it makes")
    first, last = (b.reshape(each, ()) for each in (start, stop))
    step = b.div(b.sub(last, first), max(count - 1, 1))
    return b.add(b.mul(b.cast(b.counted(count), FLOAT32), step), first)
