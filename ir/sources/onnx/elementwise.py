"""Operators that compute each element alone."""

import math
from functools import reduce

import numpy as np

from fnckpt.ir.eight_bits import OF_ONNX
from fnckpt.ir.graph import Constant, Node
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.sources.build import BOOL, INT32, Builder
from fnckpt.ir.sources.composed import shrunk, softsign
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal
from fnckpt.ir.targets.onnx.emit import SAME

OURS = {theirs: ours for ours, theirs in SAME.items()}
OURS |= {"BitwiseNot": "BitwiseNot", "BitwiseAnd": "BitwiseAnd", "BitwiseOr": "BitwiseOr",
         "BitwiseXor": "BitwiseXor", "Cosh": "Cosh", "HardSwish": "HardSwish", "Mish": "Mish",
         "Sinh": "Sinh"}  # fmt: skip
REPEATED = {"Max": "Maximum", "Min": "Minimum", "Sum": "Add", "Mean": "Add"}
OTHERWISE = {"Identity", "IsInf", "Pow", "Neg", *REPEATED}


@imports(*(OURS.keys() - OTHERWISE))
def import_same(site: Site, *inputs: Node) -> Node:
    return site.build(OURS[site.node.op_type], *inputs)


@imports("Neg")
def import_neg(site: Site, x: Node) -> Node:
    return site.build("Neg", x)


@imports("Identity")
def import_identity(site: Site, x: Node) -> Node:
    return x


@imports(*REPEATED)
def import_repeated(site: Site, *inputs: Node) -> Node:
    """Of any number of inputs."""
    b, op = site.build, site.node.op_type
    found = reduce(lambda x, y: b(REPEATED[op], x, y), inputs)
    return b.div(found, len(inputs)) if op == "Mean" else found


@imports("Pow")
def import_pow(site: Site, x: Node, y: Node) -> Node:
    """The result is of the base's type, whatever that of the exponent."""
    b, own = site.build, x.aval.dtype
    if own.kind in "iu" and y.aval.dtype.kind not in "iu":
        wide = np.promote_types(y.aval.dtype, np.float32)
        return b.cast(b("Pow", b.cast(x, wide), b.cast(y, wide)), own)
    if scalar_of(y) == 2 and len(y.aval.shape) <= len(x.aval.shape) and y.aval.size == 1:
        return b("Square", x)
    return b("Pow", x, b.cast(y, own))


@imports("Mod")
def import_mod(site: Site, x: Node, y: Node) -> Node:
    """The remainder has the sign of ``x`` with ``fmod``, else that of ``y``."""
    b = site.build
    rest = b("Rem", x, y)
    if site.flag("fmod") or x.aval.dtype.kind == "u":
        return rest
    zero = b.number(0, x)
    other_sign = b("LogicalXor", b("Less", rest, zero), b("Less", y, zero))
    wrong = b("LogicalAnd", other_sign, b("NotEqual", rest, zero))
    return b.where(wrong, b.add(rest, y), rest)


@imports("BitShift")
def import_bit_shift(site: Site, x: Node, y: Node) -> Node:
    """To the right a negative number is filled with its sign."""
    left = site.text("direction") == "LEFT"
    right = "ShiftRightLogical" if x.aval.dtype.kind == "u" else "ShiftRightArithmetic"
    return site.build("ShiftLeft" if left else right, x, y)


@imports("IsInf")
def import_is_inf(site: Site, x: Node) -> Node:
    b = site.build
    both = site.flag("detect_negative", True), site.flag("detect_positive", True)
    found = b("IsInf", x)
    if both == (True, True):
        return found
    side = "Less" if both[0] else "Greater"
    none = b.full(x.aval.shape, 0, BOOL)
    return b("LogicalAnd", found, b(side, x, b.number(0, x))) if any(both) else none


@imports("Cast", "CastLike")
def import_cast(site: Site, x: Node, like: Node | None = None) -> Node:
    dtype = site.around.dtype(site.integer("to")) if like is None else like.aval.dtype
    if dtype.kind in "OcSU" or x.aval.dtype.kind in "OcSU":
        raise Refusal(f"JAX has no cast from {x.aval.dtype} to {dtype}; do it outside the network")
    saturate = site.flag("saturate", True)
    return cast(site.build, x, dtype, saturate=saturate)


NARROW_INTS = {"uint4": 4, "int4": 4, "uint2": 2, "int2": 2}


def cast(b: Builder, x: Node, dtype: np.dtype, *, saturate: bool) -> Node:
    """Of a float of 8 bits, what is too large is the greatest number where ``saturate``.

    Of an integer of fewer bits the lowest ones are left.
    """
    if dtype.name in NARROW_INTS and x.aval.dtype.name not in NARROW_INTS:
        left = 32 - NARROW_INTS[dtype.name]
        up = b("ShiftLeft", b.cast(x, INT32), b.number(left, INT32))
        shift = "ShiftRightLogical" if dtype.name[0] == "u" else "ShiftRightArithmetic"
        return b.cast(b(shift, up, b.number(left, INT32)), dtype)
    if saturate and dtype.name in OF_ONNX and x.aval.dtype.kind not in "biu":
        most = float(np.asarray(_greatest(dtype), np.float32))
        x = b.where(b("IsNan", x), x, b.minimum(b.maximum(x, -most), most))
    return b.cast(x, dtype)


def _greatest(dtype: np.dtype) -> np.generic:
    from ml_dtypes import finfo

    return finfo(dtype).max


# ------------------------------------------------------------------------------------- activations


@imports("Clip", since=11)
def import_clip(site: Site, x: Node, low: Node | None = None, high: Node | None = None) -> Node:
    b = site.build
    ends = [end.value for end in (low, high) if isinstance(end, Constant)]
    if len(ends) == 2 and x.aval.dtype.kind not in "iub":
        first, last = (float(end.reshape(())) for end in ends)
        return b("Clip", x, low=first, high=last)
    x = x if low is None else b.maximum(x, b.reshape(low, ()))
    return x if high is None else b.minimum(x, b.reshape(high, ()))


@imports("Clip", since=6)
def import_old_clip(site: Site, x: Node) -> Node:
    b = site.build
    if site.has("min") and site.has("max"):
        return b("Clip", x, low=site.number("min"), high=site.number("max"))
    x = b.maximum(x, site.number("min")) if site.has("min") else x
    return b.minimum(x, site.number("max")) if site.has("max") else x


@imports("LeakyRelu")
def import_leaky_relu(site: Site, x: Node) -> Node:
    return site.build("LeakyRelu", x, alpha=site.number("alpha", 0.01))


@imports("Elu")
def import_elu(site: Site, x: Node) -> Node:
    return site.build("Elu", x, alpha=site.number("alpha", 1.0))


@imports("Selu")
def import_selu(site: Site, x: Node) -> Node:
    alpha, gamma = site.number("alpha", 1.67326319217681884), site.number("gamma", 1.05070102214813)
    return site.build.mul(site.build("Elu", x, alpha=alpha), gamma)


@imports("Celu")
def import_celu(site: Site, x: Node) -> Node:
    b, alpha = site.build, site.number("alpha", 1.0)
    return b.mul(b("Elu", b.div(x, alpha), alpha=1.0), alpha)


@imports("PRelu")
def import_prelu(site: Site, x: Node, slope: Node) -> Node:
    """Before opset 7 the slopes are those of the channels."""
    b, rank = site.build, len(x.aval.shape)
    if site.opset < 7 and len(slope.aval.shape) == 1 and rank > 2 and slope.aval.size > 1:
        slope = b.reshape(slope, (slope.aval.size, *(1,) * (rank - 2)))
    return b.where(b.compare("Less", x, 0), b.mul(x, slope), x)


@imports("ThresholdedRelu")
def import_thresholded_relu(site: Site, x: Node) -> Node:
    b = site.build
    return b.where(b.compare("Greater", x, site.number("alpha", 1.0)), x, b.number(0, x))


@imports("Shrink")
def import_shrink(site: Site, x: Node) -> Node:
    return shrunk(site.build, x, site.number("lambd", 0.5), site.number("bias", 0.0))


@imports("Softsign")
def import_softsign(site: Site, x: Node) -> Node:
    return softsign(site.build, x)


@imports("Swish")
def import_swish(site: Site, x: Node) -> Node:
    b, alpha = site.build, site.number("alpha", 1.0)
    return b("Silu", x) if alpha == 1 else b.mul(x, b("Sigmoid", b.mul(x, alpha)))


@imports("HardSigmoid")
def import_hard_sigmoid(site: Site, x: Node) -> Node:
    alpha, beta = site.number("alpha", 0.2), site.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return site.build("HardSigmoid", x)
    return site.build("Clip", site.build.add(site.build.mul(x, alpha), beta), low=0.0, high=1.0)


@imports("Gelu")
def import_gelu(site: Site, x: Node) -> Node:
    return site.build("Gelu", x, approximate=site.text("approximate", "none") == "tanh")


@imports("Dropout")
def import_dropout(site: Site, x: Node, *_: Node | None) -> tuple[Node, ...]:
    """As after training: nothing is dropped."""
    mask = site.build.full(x.aval.shape, 1, BOOL if site.opset >= 10 else x.aval.dtype)
    return (x, mask)


@imports("Binarizer", domain="ai.onnx.ml")
def import_binarizer(site: Site, x: Node) -> Node:
    """1 above a threshold, 0 elsewhere."""
    b = site.build
    return b.cast(b.compare("Greater", x, site.number("threshold", 0.0)), x.aval.dtype)
