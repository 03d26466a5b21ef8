"""Functions of floats that ONNX lacks, as formulas of those that it has."""

import math

import numpy as np

from fnckpt.ir.attributes import ints, number
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import constant
from fnckpt.ir.passes.build import FLOAT32, Build, through
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites
from fnckpt.ir.targets.onnx.legalize_moves import doubled

# ln(erfc(x) e^(x ** 2) / t) by powers of t = 1 / (1 + x / 2).
ERFC_SERIES = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
    0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
)  # fmt: skip


def _in_float32(root: CNode) -> Node | None:
    """A formula of several steps loses the digits of a narrow float."""
    narrow = root.aval.dtype.kind in "fV" and root.aval.dtype.itemsize == 2
    return through(root, FLOAT32) if narrow else None


@rewrites("Silu")
def compose_silu(root: CNode) -> Node:
    """silu(x) is x * sigmoid(x)."""
    (x,), build = root.inputs, Build(root)
    return build("Mul", x, build("Sigmoid", x))


@rewrites("Rsqrt")
def compose_rsqrt(root: CNode) -> Node:
    """rsqrt(x) is 1 / sqrt(x)."""
    build = Build(root)
    return build("Reciprocal", build("Sqrt", *root.inputs))


@rewrites("Square")
def compose_square(root: CNode) -> Node:
    """square(x) is x * x."""
    return Build(root)("Mul", *root.inputs, *root.inputs)


@rewrites("IsFinite")
def compose_is_finite(root: CNode) -> Node:
    """x is finite where x - x is 0; infinity and NaN give NaN."""
    (x,), build = root.inputs, Build(root)
    return build("Equal", build("Sub", x, x), build.number(0, x))


@rewrites("Cbrt")
def compose_cbrt(root: CNode) -> Node:
    """cbrt(x) is sign(x) * |x| ** (1/3)."""
    (x,), build = root.inputs, Build(root)
    return build("Mul", build("Sign", x), build("Pow", build("Abs", x), build.number(1 / 3, x)))


@rewrites("Erfc")
def compose_erfc(root: CNode) -> Node:
    """erfc(x) is 1 - erf(x), and from 0.5 on a series, where that has few digits left.

    The relative error is 1.2e-7 and the rounding of x ** 2 in the exponent: Press et al.,
    Numerical Recipes, section 6.2, erfcc.
    """
    (x,), build = root.inputs, Build(root)
    one = build.number(1, x)
    size = build("Abs", x)
    t = build("Reciprocal", build("Add", one, build("Mul", size, build.number(0.5, x))))
    series = build.number(ERFC_SERIES[-1], x)
    for coefficient in reversed(ERFC_SERIES[:-1]):
        series = build("Add", build("Mul", series, t), build.number(coefficient, x))
    exponent = build("Sub", series, build("Mul", x, x))
    far = build("Mul", t, build("Exp", exponent))
    near = build("Sub", one, build("Erf", x))
    return build("Select", build("Greater", x, build.number(0.5, x)), far, near)


@rewrites("Expm1")
def compose_expm1(root: CNode) -> Node:
    """expm1(x) is tanh(x / 2) * (exp(x) + 1); exp(x) - 1 where that is no longer small.

    The product has no cancellation near 0; the difference no infinity times 1 far from it.
    """
    (x,), build = root.inputs, Build(root)
    one, power = build.number(1, x), build("Exp", x)
    near = build("Tanh", build("Mul", x, build.number(0.5, x)))
    product = build("Mul", near, build("Add", power, one))
    small = build("Less", build("Abs", x), one)
    return build("Select", small, product, build("Sub", power, one))


@rewrites("Log1p")
def compose_log1p(root: CNode) -> Node:
    """log1p(x) is log(u) * x / (u - 1) with u = 1 + x, and x where u is 1.

    The rounding of u cancels in the quotient: Higham, Accuracy and Stability of Numerical
    Algorithms, section 1.14.1. Where x is large, log(u) alone.
    """
    (x,), build = root.inputs, Build(root)
    if _is_exp_of_negative(x):
        return _log1p_up_to_one(build, x)
    one = build.number(1, x)
    u = build("Add", x, one)
    rest, log = build("Sub", u, one), build("Log", u)
    vanishes = build("Equal", rest, build.number(0, x))
    ratio = build("Div", x, build("Select", vanishes, one, rest))
    large = build("GreaterEqual", build("Abs", x), one)
    result = build("Select", large, log, build("Mul", log, ratio))
    return build("Select", vanishes, x, result)


def _is_exp_of_negative(node: Node) -> bool:
    """Whether it is exp(-|x|), as in logaddexp: from 0 to 1, or NaN."""
    for op in ("Exp", "Neg", "Abs"):
        if not isinstance(node, CNode) or node.op != op:
            return False
        (node,) = node.inputs
    return True


def _log1p_up_to_one(build: Build, x: Node) -> Node:
    """log(u) - ((u - 1) - x) / u with u = 1 + x: what u lost by rounding, to the first order."""
    one = build.number(1, x)
    u = build("Add", x, one)
    lost = build("Sub", build("Sub", u, one), x)
    return build("Sub", build("Log", u), build("Div", lost, u))


@rewrites("Atan2")
def compose_atan2(root: CNode) -> Node:
    """The angle of (x, y): atan(y / x), moved by pi into the quadrant of the signs.

    The sign of a zero counts, and 1 / x tells it; of two infinities the signs are left.
    """
    (y, x), build = root.inputs, Build(root)
    zero, one = build.number(0, x), build.number(1, x)
    infinite = build("LogicalAnd", _is_infinite(build, x), _is_infinite(build, y))
    y, x = (build("Select", infinite, build("Sign", v), v) for v in (y, x))
    at_zero = build("Equal", x, zero)
    angle = build("Atan", build("Div", y, build("Select", at_zero, one, x)))
    minus, plus = build.number(-math.pi, x), build.number(math.pi, x)
    turn = build("Select", _is_negative(build, y), minus, plus)
    turned = build("Select", _is_negative(build, x), build("Add", angle, turn), angle)
    upright = build("LogicalAnd", at_zero, build("NotEqual", y, zero))
    half = build("Mul", build("Sign", y), build.number(math.pi / 2, x))
    unknown = build("Add", y, x)  # NaN where one of them is
    result = build("Select", upright, half, turned)
    return build("Select", build("IsNan", unknown), unknown, result)


def _is_infinite(build: Build, x: Node) -> Node:
    return build("Equal", build("Abs", x), build.number(math.inf, x))


def _is_negative(build: Build, x: Node) -> Node:
    zero = build.number(0, x)
    return build("LogicalOr", build("Less", x, zero), build("Less", build("Reciprocal", x), zero))


@rewrites(Op("Select", Any_("holds"), Op("Neg", Any_("x")), Any_("x")))
def turn_sign_by_product(root: CNode, holds: Node, x: Node) -> Node | None:
    """-x or x is x times -1 or 1; the runtime's Where makes 0 of -0."""
    if x.aval.dtype.kind in "iu" or x.aval.shape != root.aval.shape:
        return None
    build = Build(root)
    return build("Mul", x, build.where(holds, build.number(-1, x), build.number(1, x)))


@rewrites("BatchNorm")
def normalize_by_arithmetic(root: CNode) -> Node | None:
    """Along another axis than 1, or in float64, which the attribute's float32 would spoil."""
    (x, *vectors), build = root.inputs, Build(root)
    axis, sizes = root.attrs["axis"], x.aval.shape
    if axis == 1 and len(sizes) >= 2 and x.aval.dtype != np.float64:
        return None
    shape = tuple(n if i == axis else 1 for i, n in enumerate(sizes))
    scale, bias, mean, variance = (build.reshape(v, shape) for v in vectors)
    epsilon = build.number(number(root, "epsilon"), x)
    factor = build("Div", scale, build("Sqrt", build("Add", variance, epsilon)))
    return build("Add", build("Mul", build("Sub", x, mean), factor), bias)


@rewrites("Standardize")
def standardize_by_products(root: CNode) -> Node | None:
    """Over the channels of an image, with both means as products with a row of ``1 / channels``.

    The runtime's ReduceMean of a middle axis takes three times as long.
    """
    (x,), shape, build = root.inputs, root.aval.shape, Build(root)
    if ints(root, "axes") != (1,) or shape[0] != 1 or len(shape) < 3 or x.aval.dtype != FLOAT32:
        return None
    channels, size = shape[1], math.prod(shape[2:])
    row = constant(np.full((1, channels), 1 / channels, np.float32))
    plain = {"transpose_a": False, "transpose_b": False}
    image = build.reshape(x, (channels, size))
    centred = build("Sub", image, build("MatMul", row, image, **plain))
    epsilon = constant(np.full(1, number(root, "epsilon"), np.float32))
    spread = build("Gemm", row, build("Square", centred), epsilon, **plain)
    return build.reshape(build("Div", centred, build("Sqrt", spread)), shape)


@rewrites("CumLogSumExp")
def compose_cum_log_sum_exp(root: CNode) -> Node:
    """Each step takes in twice as many elements by log(exp(a) + exp(b))."""
    return doubled(root, -math.inf, lambda a, b: _log_add_exp(Build(root), a, b))


def _log_add_exp(build: Build, a: Node, b: Node) -> Node:
    """max + log(1 + exp(-|a - b|)), with the difference 0 where both are equal infinities."""
    gap = build("Abs", build("Sub", a, b))
    safe = build("Select", build("Equal", a, b), build.number(0, a), gap)
    return build("Add", build("Maximum", a, b), build("Log1p", build("Exp", build("Neg", safe))))


FORMULAS = ("Atan2", "Cbrt", "CumLogSumExp", "Erfc", "Expm1", "Log1p")

RULES: tuple[Rule, ...] = (
    *(Rule(Op(op), _in_float32) for op in FORMULAS),
    compose_silu,
    compose_rsqrt,
    compose_square,
    compose_is_finite,
    compose_cbrt,
    compose_erfc,
    compose_expm1,
    compose_log1p,
    compose_atan2,
    turn_sign_by_product,
    normalize_by_arithmetic,
    standardize_by_products,
    compose_cum_log_sum_exp,
)
