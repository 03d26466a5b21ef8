"""Operators and dtypes that ONNX or its runtime lacks, in those that they have."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import integer, number, pairs
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import OPERATORS, apply, constant
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes import special
from fnckpt.ir.passes.build import Build, through
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.targets.onnx.kernels import BY_VALUE, DTYPES, INSTEAD, kernel_dtypes, value_dtype


def _widen(root: CNode) -> Node | None:
    """f(x) is cast(f(cast(x))) where the runtime computes f in a wider dtype alone."""
    own, known = value_dtype(root), kernel_dtypes(root)
    if own.name in known or (own.name == "uint64" and root.op in BY_VALUE):
        return None
    instead = next((name for name in INSTEAD.get(own.name, ()) if name in known), None)
    if instead is None or len(root.results) > 1:
        return None
    return through(root, np.dtype(instead))


@rewrites("Silu")
def compose_silu(root: CNode) -> Node:
    """silu(x) is x * sigmoid(x)."""
    (x,) = root.inputs
    return apply("Mul", x, apply("Sigmoid", x, origin=root.origin), origin=root.origin)


@rewrites("Rsqrt")
def compose_rsqrt(root: CNode) -> Node:
    """rsqrt(x) is 1 / sqrt(x)."""
    root_of = apply("Sqrt", *root.inputs, origin=root.origin)
    return apply("Reciprocal", root_of, origin=root.origin)


@rewrites("Square")
def compose_square(root: CNode) -> Node:
    """square(x) is x * x."""
    return apply("Mul", *root.inputs, *root.inputs, origin=root.origin)


@rewrites("NotEqual")
def compose_not_equal(root: CNode) -> Node:
    """a != b is not (a == b)."""
    same = apply("Equal", *root.inputs, origin=root.origin)
    return apply("LogicalNot", same, origin=root.origin)


@rewrites("IsFinite")
def compose_is_finite(root: CNode) -> Node:
    """x is finite where x - x is 0; infinity and NaN give NaN."""
    (x,) = root.inputs
    rest = apply("Sub", x, x, origin=root.origin)
    return apply("Equal", rest, constant(0, x.aval.dtype), origin=root.origin)


@rewrites("Cbrt")
def compose_cbrt(root: CNode) -> Node:
    """cbrt(x) is sign(x) * |x| ** (1/3)."""
    (x,) = root.inputs
    size = apply("Abs", x, origin=root.origin)
    power = apply("Pow", size, constant(1 / 3, x.aval.dtype), origin=root.origin)
    return apply("Mul", apply("Sign", x, origin=root.origin), power, origin=root.origin)


@rewrites("Erfc")
def compose_erfc(root: CNode) -> Node:
    """erfc(x) is 1 - erf(x): absolute, not relative, accuracy where it is near 0."""
    (x,) = root.inputs
    part = apply("Erf", x, origin=root.origin)
    return apply("Sub", constant(1, x.aval.dtype), part, origin=root.origin)


@rewrites("Expm1")
def compose_expm1(root: CNode) -> Node:
    """expm1(x) is tanh(x / 2) * (exp(x) + 1); exp(x) - 1 where that is no longer small.

    The product has no cancellation near 0; the difference no infinity times 1 far from it.
    """
    (x,) = root.inputs
    one, half = (constant(v, x.aval.dtype) for v in (1, 0.5))
    power = apply("Exp", x, origin=root.origin)
    near = apply("Tanh", apply("Mul", x, half, origin=root.origin), origin=root.origin)
    product = apply("Mul", near, apply("Add", power, one, origin=root.origin), origin=root.origin)
    far = apply("Sub", power, one, origin=root.origin)
    size = apply("Abs", x, origin=root.origin)
    return apply(
        "Select", apply("Less", size, one, origin=root.origin), product, far, origin=root.origin
    )


@rewrites("Log1p")
def compose_log1p(root: CNode) -> Node:
    """log1p(x) is log(u) * x / (u - 1) with u = 1 + x, and x where u is 1.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 1.14.1: the rounding
    of u cancels in the quotient. Where x is infinite, log(u) alone.
    """
    (x,) = root.inputs
    one = constant(1, x.aval.dtype)
    u = apply("Add", x, one, origin=root.origin)
    rest = apply("Sub", u, one, origin=root.origin)
    log = apply("Log", u, origin=root.origin)
    small = apply("Equal", rest, constant(0, x.aval.dtype), origin=root.origin)
    divisor = apply("Select", small, one, rest, origin=root.origin)
    ratio = apply("Div", x, divisor, origin=root.origin)
    product = apply("Mul", log, ratio, origin=root.origin)
    large = apply("GreaterEqual", apply("Abs", x, origin=root.origin), one, origin=root.origin)
    exact = apply("Select", large, log, product, origin=root.origin)
    return apply("Select", small, x, exact, origin=root.origin)


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


@rewrites("Pow")
def power_of_integers(root: CNode) -> Node | None:
    """Products by repeated squaring, which wrap; the runtime's power is one of doubles.

    A negative exponent counts as 0; of the exponent's bits only as many matter as the dtype has,
    but for the powers of 0, 1 and -1, which the sign of the parity tells.
    """
    (x, y), build = root.inputs, Build(root)
    dtype = root.aval.dtype
    if dtype.kind not in "iu":
        return None
    unsigned, width = np.dtype(f"uint{dtype.itemsize * 8}"), dtype.itemsize * 8
    bits = build.cast(build("Maximum", y, build.number(0, y)), unsigned)
    result, square = build.number(1, x), x
    for place in range(width if dtype.kind == "u" else width - 1):
        moved = build("ShiftRightLogical", bits, constant(place, unsigned))
        is_set = build.cast(build("BitwiseAnd", moved, constant(1, unsigned)), np.dtype(bool))
        result = build("Mul", result, build("Select", is_set, square, build.number(1, x)))
        square = build("Mul", square, square)
    return build.broadcast(result, root.aval.shape)


def _drop_reduction(root: CNode) -> Node | None:
    """A reduction over no axes changes nothing; ONNX would take it for all axes."""
    return None if root.attrs["axes"] else root.inputs[0]


@rewrites("Select")
def select_booleans(root: CNode) -> Node | None:
    """Of booleans, select(c, a, b) is (c and a) or (not c and b)."""
    condition, a, b = root.inputs
    if a.aval.dtype.kind != "b":
        return None
    other = apply("LogicalNot", condition, origin=root.origin)
    first = apply("LogicalAnd", condition, a, origin=root.origin)
    second = apply("LogicalAnd", other, b, origin=root.origin)
    return apply("LogicalOr", first, second, origin=root.origin)


@rewrites("Reverse")
def compose_reverse(root: CNode) -> Node | None:
    """Reversing no axis changes nothing."""
    return None if root.attrs["axes"] else root.inputs[0]


@rewrites("BatchNorm")
def normalize_last_axis(root: CNode) -> Node | None:
    """Along another axis than 1, or in float64 (epsilon is a float32): arithmetic with vectors."""
    x, scale, bias, mean, variance = root.inputs
    axis = root.attrs["axis"]
    if axis == 1 and len(x.aval.shape) >= 2 and x.aval.dtype != np.float64:
        return None
    shape = tuple(-1 if i == axis else 1 for i in range(len(x.aval.shape)))
    shape = tuple(x.aval.shape[i] if n < 0 else n for i, n in enumerate(shape))
    scale, bias, mean, variance = (
        apply("Reshape", v, origin=root.origin, shape=shape) for v in (scale, bias, mean, variance)
    )
    epsilon = constant(number(root, "epsilon"), x.aval.dtype)
    spread = apply("Sqrt", apply("Add", variance, epsilon, origin=root.origin), origin=root.origin)
    centred = apply("Sub", x, mean, origin=root.origin)
    scaled = apply(
        "Mul", centred, apply("Div", scale, spread, origin=root.origin), origin=root.origin
    )
    return apply("Add", scaled, bias, origin=root.origin)


@rewrites("ConvTranspose")
def pad_after_transposed(root: CNode) -> Node | None:
    """ONNX cuts the result but does not grow it; zeros are put around it afterwards."""
    both = pairs(root, "pads")
    if all(max(pair) <= 0 for pair in both):
        return None
    cut = tuple((min(low, 0), min(high, 0)) for low, high in both)
    result = apply("ConvTranspose", *root.inputs, origin=root.origin, **{**root.attrs, "pads": cut})
    low, high = ((0, 0, *(max(pair[i], 0) for pair in both)) for i in (0, 1))
    return Build(root).pad(result, low, high)


@rewrites("Div")
def divide_by_no_zero(root: CNode) -> Node | None:
    """An integer division by 0 gives -1, where the runtime would end the process."""
    return _without_zero(root, _all_ones)


def _all_ones(x: Node) -> Node:
    """-1, or for unsigned integers what has the same bits."""
    dtype = x.aval.dtype
    return constant(-1 if dtype.kind == "i" else np.iinfo(dtype).max, dtype)


@rewrites("Rem")
def rest_of_no_zero(root: CNode) -> Node | None:
    """The rest of an integer division by 0 is the dividend."""
    return _without_zero(root, lambda x: x)


def _without_zero(root: CNode, instead: Callable[[Node], Node]) -> Node | None:
    x, y = root.inputs
    if y.aval.dtype.kind not in "iu" or _never_zero(y):
        return None
    zero, one = constant(0, y.aval.dtype), constant(1, y.aval.dtype)
    is_zero = apply("Equal", y, zero, origin=root.origin)
    safe = apply("Select", is_zero, one, y, origin=root.origin)
    result = apply(root.op, x, safe, origin=root.origin)
    return apply("Select", is_zero, instead(x), result, origin=root.origin)


def _never_zero(y: Node) -> bool:
    if isinstance(y, Constant):
        return bool(np.all(y.value != 0))
    if isinstance(y, CNode) and y.op == "Cast":
        return _never_zero(y.inputs[0])
    return isinstance(y, CNode) and y.op == "Select" and _is_one(y.inputs[1])


def _is_one(x: Node) -> bool:
    if isinstance(x, CNode) and x.op == "Cast":
        return _is_one(x.inputs[0])
    return isinstance(x, Constant) and bool(np.all(x.value == 1))


def _scan_by_doubling(op: str, fill: Callable[[np.dtype], float]) -> Callable[[CNode], Node]:
    """A running ``op``: combine with what is 1, 2, 4, ... elements before."""

    def compose(root: CNode) -> Node:
        (x,), axis = root.inputs, integer(root, "axis")
        shape, dtype, reverse = x.aval.shape, x.aval.dtype, root.attrs["reverse"]
        step = 1
        while step < shape[axis]:
            x = apply(op, x, _shifted(root, x, axis, step, bool(reverse), fill(dtype)))
            x = replace(x, origin=root.origin)
            step *= 2
        return x

    return compose


def _shifted(root: CNode, x: Node, axis: int, step: int, reverse: bool, fill: float) -> Node:
    """``x`` moved by ``step`` along ``axis``, what is left free being ``fill``."""
    shape = x.aval.shape
    on_axis = tuple(step if i == axis else 0 for i in range(len(shape)))
    none, ones = (0,) * len(shape), (1,) * len(shape)
    short = tuple(n - s for n, s in zip(shape, on_axis, strict=True))
    start, limit = (on_axis, shape) if reverse else (none, short)
    part = apply("Slice", x, origin=root.origin, start=start, limit=limit, strides=ones)
    low, high = (none, on_axis) if reverse else (on_axis, none)
    value = constant(fill, x.aval.dtype)
    return apply("Pad", part, value, origin=root.origin, low=low, high=high)


def _least(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).min) if dtype.kind in "iu" else -np.inf


def _greatest(dtype: np.dtype) -> float:
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else np.inf


SCANS = {
    "CumMax": _scan_by_doubling("Maximum", _least),
    "CumMin": _scan_by_doubling("Minimum", _greatest),
    "CumProd": _scan_by_doubling("Mul", lambda dtype: 1),
}


@rewrites("CumLogSumExp")
def compose_cum_log_sum_exp(root: CNode) -> Node:
    """log(cumsum(exp(x - m))) + m, m being the greatest so far, combined by doubling."""
    (x,), axis = root.inputs, integer(root, "axis")
    reverse, step = bool(root.attrs["reverse"]), 1
    while step < x.aval.shape[axis]:
        x = _log_add_exp(root, x, _shifted(root, x, axis, step, reverse, -np.inf))
        step *= 2
    return x


def _log_add_exp(root: CNode, a: Node, b: Node) -> Node:
    """max + log(1 + exp(-|a - b|)), with the difference 0 where both are equal infinities."""
    origin, dtype = root.origin, a.aval.dtype
    most = apply("Maximum", a, b, origin=origin)
    same = apply("Equal", a, b, origin=origin)
    gap = apply("Abs", apply("Sub", a, b, origin=origin), origin=origin)
    safe = apply("Select", same, constant(0, dtype), gap, origin=origin)
    small = apply("Exp", apply("Neg", safe, origin=origin), origin=origin)
    return apply("Add", most, apply("Log1p", small, origin=origin), origin=origin)


@rewrites("ShiftRightArithmetic")
def compose_arithmetic_shift(root: CNode) -> Node:
    """Of a negative number, not(not(x) >> n); amounts over the width shift all bits out."""
    x, amount = root.inputs
    origin, dtype = root.origin, x.aval.dtype
    if dtype.kind == "u":
        signed = np.dtype(dtype.name[1:])
        x, amount = (apply("Cast", n, origin=origin, dtype=signed) for n in (x, amount))
        shifted = apply("ShiftRightArithmetic", x, amount, origin=origin)
        return apply("Cast", shifted, origin=origin, dtype=dtype)
    negative = apply("Less", x, constant(0, dtype), origin=origin)
    turned = apply("Select", negative, apply("BitwiseNot", x, origin=origin), x, origin=origin)
    shifted = apply("ShiftRightLogical", turned, amount, origin=origin)
    back = apply("BitwiseNot", shifted, origin=origin)
    return apply("Select", negative, back, shifted, origin=origin)


def _shift_unsigned(root: CNode) -> Node | None:
    """Shifts of signed numbers are shifts of their bits; a shift by the width or more gives 0."""
    x, amount = root.inputs
    if x.aval.dtype.kind == "u":
        return None
    unsigned = np.dtype(f"u{x.aval.dtype.name}")
    bits, origin = unsigned.itemsize * 8, root.origin
    x, amount = (apply("Cast", n, origin=origin, dtype=unsigned) for n in (x, amount))
    shifted = apply("Cast", apply(root.op, x, amount, origin=origin), origin=origin,
                    dtype=root.aval.dtype)  # fmt: skip
    outside = apply("GreaterEqual", amount, constant(bits, unsigned), origin=origin)
    zero = constant(0, root.aval.dtype)
    return apply("Select", outside, zero, shifted, origin=origin)


@rewrites("PopulationCount")
def compose_population_count(root: CNode) -> Node:
    """The sum of all bits, each shifted to the lowest place."""
    (x,) = root.inputs
    origin, bits = root.origin, x.aval.dtype.itemsize * 8
    unsigned = np.dtype(f"uint{bits}")
    x = apply("Cast", x, origin=origin, dtype=unsigned)
    one = constant(1, unsigned)
    total: Node = apply("BitwiseAnd", x, one, origin=origin)
    for place in range(1, bits):
        moved = apply("ShiftRightLogical", x, constant(place, unsigned), origin=origin)
        total = apply("Add", total, apply("BitwiseAnd", moved, one, origin=origin), origin=origin)
    return apply("Cast", total, origin=origin, dtype=root.aval.dtype)


@rewrites("DynamicUpdateSlice")
def update_slice_by_rows(root: CNode) -> Node:
    """Every place of the slice, start plus offset, written by one ScatterNd."""
    x, update, starts = root.inputs
    origin, rank = root.origin, len(x.aval.shape)
    grid = np.moveaxis(np.indices(update.aval.shape, starts.aval.dtype), 0, -1)
    places = apply("Add", constant(grid), starts, origin=origin)
    return apply("ScatterNd", x, places, update, origin=origin, reduction="") if rank else update


def _reduce_bools(root: CNode) -> Node:
    """Any is the greatest, all the least of the bits as numbers."""
    (x,) = root.inputs
    number = apply("Cast", x, origin=root.origin, dtype=np.dtype(np.int32))
    op = {"ReduceAny": "ReduceMax", "ReduceAll": "ReduceMin"}[root.op]
    result = apply(op, number, origin=root.origin, **root.attrs)
    return apply("Cast", result, origin=root.origin, dtype=root.aval.dtype)


LEGALIZE: tuple[Rule, ...] = (
    compose_silu,
    compose_rsqrt,
    compose_square,
    compose_not_equal,
    compose_is_finite,
    compose_cbrt,
    compose_erfc,
    compose_expm1,
    compose_log1p,
    compose_atan2,
    power_of_integers,
    select_booleans,
    compose_reverse,
    normalize_last_axis,
    pad_after_transposed,
    divide_by_no_zero,
    rest_of_no_zero,
    compose_cum_log_sum_exp,
    compose_arithmetic_shift,
    compose_population_count,
    update_slice_by_rows,
    *(Rule(Op(op), compose) for op, compose in SCANS.items()),
    *(Rule(Op(op), _shift_unsigned) for op in ("ShiftLeft", "ShiftRightLogical")),
    *(Rule(Op(op), _reduce_bools) for op in ("ReduceAny", "ReduceAll")),
    *(Rule(Op(op), _drop_reduction) for op in REDUCTIONS),
    *special.RULES,
    *(Rule(Op(op), _widen) for op in DTYPES if op in OPERATORS),
)
