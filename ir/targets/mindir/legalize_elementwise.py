"""Rewrites for elementwise operators that MindSpore lacks, or whose kernels differ at the edges."""

import math

import numpy as np

from fnckpt.ir.attributes import flag, number
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import constant
from fnckpt.ir.passes import special
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of
from fnckpt.ir.targets.mindir.legalize_types import FLOAT64, through


@rewrites("Identity")
def drop_identity(node: CNode) -> Node:
    return node.inputs[0]


def _is_number(node: Node) -> bool:
    """Whether the value is known and no element is NaN."""
    value = known(node)
    return value is not None and not np.isnan(value).any()


def keep_nan(node: CNode) -> Node | None:
    """The kernels compare, ``x > y ? x : y``: a NaN of the second input is kept, one of the first
    is lost. So a constant goes first; else the choice is made without them."""
    (x, y), build = node.inputs, Build(node)
    if x.aval.dtype.kind != "f" or _is_number(x):
        return None
    if _is_number(y):
        return build(node.op, y, x)
    wins = build("GreaterEqual" if node.op == "Maximum" else "LessEqual", x, y)
    return build.where(build("LogicalOr", build("IsNan", x), wins), x, y)


@rewrites("Sign")
def sign_by_comparison(node: CNode) -> Node:
    """The kernel makes 0 of NaN."""
    (x,), build = node.inputs, Build(node)
    zero, one = build.number(0, x), build.number(1, x)
    if x.aval.dtype.kind == "u":
        return build.cast(build("NotEqual", x, zero), x.aval.dtype)
    negative = build.where(build("Less", x, zero), build.number(-1, x), x)
    return build.where(build("Greater", x, zero), one, negative)


@rewrites("Softplus")
def compose_softplus(node: CNode) -> Node:
    """``max(0, x) + log1p(exp(-|x|))``; the kernel makes infinity of NaN."""
    (x,), build = node.inputs, Build(node)
    tail = build("Log1p", build("Exp", build("Neg", build("Abs", x))))
    return build("Add", build("Maximum", build.number(0, x), x), tail)


@rewrites("Cbrt")
def compose_cbrt(node: CNode) -> Node:
    """``sign(x) * |x| ** (1 / 3)``."""
    (x,), build = node.inputs, Build(node)
    root = build("Pow", build("Abs", x), build.number(1 / 3, x))
    return build.where(build("Less", x, build.number(0, x)), build("Neg", root), root)


@rewrites("LeakyRelu")
def compose_leaky_relu(node: CNode) -> Node:
    """A product and a choice."""
    (x,), build = node.inputs, Build(node)
    slope = build("Mul", x, build.number(number(node, "alpha"), x))
    return build.where(build("GreaterEqual", x, build.number(0, x)), x, slope)


@rewrites("Elu")
def compose_elu(node: CNode) -> Node:
    """``expm1`` of what is negative."""
    (x,), build = node.inputs, Build(node)
    zero = build.number(0, x)
    curve = build("Expm1", build("Minimum", zero, x))
    scaled = build("Mul", curve, build.number(number(node, "alpha"), x))
    return build.where(build("Greater", x, zero), x, scaled)


@rewrites("Gelu")
def compose_gelu(node: CNode) -> Node:
    """``x / 2 * (1 + erf(x / sqrt(2)))``, or the form with tanh as ``x * sigmoid(2 * slope)``.

    MindSpore's GeLU is the form with tanh, and takes two to seven times as long as its parts. With
    Erfc for ``1 + Erf``, which has more digits where x is far below 0, it takes 1.03 to 1.16.
    """
    (x,), build = node.inputs, Build(node)
    if flag(node, "approximate"):
        return build("Mul", x, build("Sigmoid", _gelu_slope(build, x)))
    half = build("Mul", x, build.number(0.5, x))
    bell = build("Erf", build("Mul", x, build.number(math.sqrt(0.5), x)))
    return build("Mul", half, build("Add", bell, build.number(1, x)))


def _gelu_slope(build: Build, x: Node) -> Node:
    """``2 * sqrt(2 / pi) * (x + 0.044715 * x ** 3)``."""
    factor = 2 * math.sqrt(2 / math.pi)
    square = build("Mul", build("Square", x), build.number(factor * 0.044715, x))
    return build("Mul", x, build("Add", square, build.number(factor, x)))


@rewrites("Digamma")
def no_digamma_of_zero(node: CNode) -> Node | None:
    """NaN at 0 as at the other poles; the kernel makes it infinite.

    Of float32 it has three digits beside its poles, and of float64 there is none.
    """
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype.itemsize > 2:
        return special.compose_digamma.rewrite(node)
    if isinstance(x, CNode) and x.op == "Select" and _equals(x.inputs[0], x.inputs[2], 0):
        return None
    at_zero = build("Equal", x, build.number(0, x))
    return build("Digamma", build.where(at_zero, build.number(-1, x), x))


# M. Giles, Approximating the erfinv function, 2010: polynomials for single precision.
NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
    -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613,
    0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


@rewrites("ErfInv")
def compose_erf_inv(node: CNode) -> Node | None:
    """A polynomial and two steps of Newton's in double; the kernel has four digits."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype != FLOAT64:
        return None
    w = build("Neg", build("Log1p", build("Neg", build("Square", x))))
    near = build("Less", w, build.number(5, x))
    v = build.where(
        near,
        build("Sub", w, build.number(2.5, x)),
        build("Sub", build("Sqrt", w), build.number(3, x)),
    )
    value: Node = build.where(near, build.number(NEAR[0], x), build.number(FAR[0], x))
    for a, b in zip(NEAR[1:], FAR[1:], strict=True):
        term = build.where(near, build.number(a, x), build.number(b, x))
        value = build("Add", build("Mul", value, v), term)
    value = build("Mul", value, x)
    for _ in range(2):
        bell = build("Exp", build("Neg", build("Square", value)))
        slope = build("Mul", bell, build.number(2 / math.sqrt(math.pi), x))
        excess = build("Sub", build("Erf", value), x)
        value = build("Sub", value, build("Div", excess, slope))
    edge = build("Equal", build("Abs", x), build.number(1, x))
    return build.where(edge, build("Mul", x, build.number(np.inf, x)), value)


def _divides_safely(node: Node) -> bool:
    """Whether no element is 0, nor -1 where that is signed: a constant, or a choice."""
    value = known(node)
    bad = (0, -1) if node.aval.dtype.kind == "i" else (0,)
    if value is not None:
        return not np.isin(value, bad).any()
    if not isinstance(node, CNode) or node.op != "Select":
        return False
    condition, instead, kept = node.inputs
    return _tests(condition, kept, bad) and isinstance(instead, Constant) and _is_one(instead)


def _is_one(node: Constant) -> bool:
    return bool(np.all(node.value == 1))


def _tests(condition: Node, value: Node, numbers: tuple[int, ...]) -> bool:
    """Whether ``condition`` is ``value == a or value == b`` for the ``numbers``."""
    if len(numbers) == 1:
        return _equals(condition, value, numbers[0])
    if not isinstance(condition, CNode) or condition.op != "LogicalOr":
        return False
    halves = zip(condition.inputs, numbers, strict=True)
    return all(_equals(half, value, number) for half, number in halves)


def _equals(condition: Node, value: Node, number: int) -> bool:
    """Whether ``condition`` is ``value == number``."""
    return (
        isinstance(condition, CNode)
        and condition.op == "Equal"
        and condition.inputs[0] is value
        and scalar_of(condition.inputs[1]) == number
    )


def divide_safely(node: CNode) -> Node | None:
    """An integer divided by 0 is -1, and leaves itself. The least one divided by -1 is itself; the
    kernel ends the process there.
    """
    (x, y), build = node.inputs, Build(node)
    if y.aval.dtype.kind not in "iu" or _divides_safely(y):
        return None
    divides = node.op == "Div"
    is_zero = build("Equal", y, build.number(0, y))
    at_zero = build.number(-1, x) if divides else x
    if y.aval.dtype.kind == "u":
        safe = build.where(is_zero, build.number(1, y), y)
        return build.where(is_zero, at_zero, build(node.op, x, safe))
    is_minus = build("Equal", y, build.number(-1, y))
    safe = build.where(build("LogicalOr", is_zero, is_minus), build.number(1, y), y)
    at_minus = build("Neg", x) if divides else build.number(0, x)
    result = build.where(is_minus, at_minus, build(node.op, x, safe))
    return build.where(is_zero, at_zero, result)


@rewrites("Rem")
def remainder_by_division(node: CNode) -> Node | None:
    """``x - x / y * y`` of integers."""
    (x, y), build = node.inputs, Build(node)
    if y.aval.dtype.kind not in "iu" or not _divides_safely(y):
        return None
    return build("Sub", x, build("Mul", build("Div", x, y), y))


@rewrites("Pow")
def power_by_squaring(node: CNode) -> Node | None:
    """Integers wrap; a negative exponent counts as 0."""
    (x, y), build = node.inputs, Build(node)
    if y.aval.dtype.kind not in "iu":
        return None
    value = known(y)
    most = y.aval.dtype.itemsize * 8 - (y.aval.dtype.kind == "i")
    if value is not None:
        most = int(max(value.max(initial=0), 0)).bit_length()
    elif y.aval.dtype.kind == "i":
        y = build("Maximum", build.number(0, y), y)
    else:
        y = build("BitwiseAnd", y, build.number(np.iinfo(y.aval.dtype).max, y))
    if value is not None:
        y = Constant(np.maximum(value, 0))
    result: Node = build.broadcast(build.number(1, x), node.aval.shape)
    for bit in range(most):
        is_set = build("NotEqual", build("BitwiseAnd", y, _bit(y, bit)), build.number(0, y))
        result = build.where(is_set, build("Mul", result, x), result)
        x = build("Mul", x, x)
    return result


def _bit(like: Node, bit: int) -> Node:
    unsigned = np.dtype(f"uint{like.aval.dtype.itemsize * 8}")
    return constant(np.array(1 << bit, unsigned).astype(like.aval.dtype))


@rewrites("PopulationCount")
def count_bits(node: CNode) -> Node:
    """Neighbouring counts added up; the kernel's result is uint8 whatever the input."""
    (x,), build = node.inputs, Build(node)
    bits = x.aval.dtype.itemsize * 8
    signed = np.dtype(f"int{bits}")
    if x.aval.dtype != signed:
        return through(node, signed)
    step = 1
    total: Node = x
    while step < bits:
        pattern = sum(((1 << step) - 1) << at for at in range(0, bits, 2 * step))
        mask = constant(np.array(pattern, f"uint{bits}").astype(signed))
        moved = build("ShiftRightArithmetic", total, build.number(step, x))
        total = build("Add", build("BitwiseAnd", total, mask), build("BitwiseAnd", moved, mask))
        step *= 2
    return total


GUARDS: tuple[Rule, ...] = (Rule(Op("Maximum"), keep_nan), Rule(Op("Minimum"), keep_nan))

RULES: tuple[Rule, ...] = (
    drop_identity,
    *GUARDS,
    sign_by_comparison,
    compose_softplus,
    compose_cbrt,
    compose_leaky_relu,
    compose_elu,
    compose_gelu,
    compose_erf_inv,
    no_digamma_of_zero,
    remainder_by_division,
    Rule(Op("Div"), divide_safely),
    Rule(Op("Rem"), divide_safely),
    power_by_squaring,
    count_bits,
)
