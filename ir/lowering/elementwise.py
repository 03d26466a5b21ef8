"""Primitives that compute each element alone."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.lowering.conditions import Conditions, conditions_of
from fnckpt.ir.lowering.ranges import range_of
from fnckpt.ir.lowering.registry import Refusal, Site, lowers
from fnckpt.ir.operators import constant

OPS = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "add_any": "Add",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atan2": "Atan2",
    "atanh": "Atanh",
    "cbrt": "Cbrt",
    "ceil": "Ceil",
    "cos": "Cos",
    "cosh": "Cosh",
    "digamma": "Digamma",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "erf_inv": "ErfInv",
    "erfc": "Erfc",
    "exp": "Exp",
    "expm1": "Expm1",
    "floor": "Floor",
    "ge": "GreaterEqual",
    "gt": "Greater",
    "is_finite": "IsFinite",
    "le": "LessEqual",
    "lgamma": "Lgamma",
    "log": "Log",
    "log1p": "Log1p",
    "logistic": "Sigmoid",
    "ne": "NotEqual",
    "neg": "Neg",
    "population_count": "PopulationCount",
    "rem": "Rem",
    "rsqrt": "Rsqrt",
    "shift_left": "ShiftLeft",
    "shift_right_arithmetic": "ShiftRightArithmetic",
    "shift_right_logical": "ShiftRightLogical",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "square": "Square",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
}

# One operator for booleans, another for integers or numbers.
BY_DTYPE = {
    "and": ("LogicalAnd", "BitwiseAnd"),
    "max": ("LogicalOr", "Maximum"),
    "min": ("LogicalAnd", "Minimum"),
    "not": ("LogicalNot", "BitwiseNot"),
    "or": ("LogicalOr", "BitwiseOr"),
    "xor": ("LogicalXor", "BitwiseXor"),
}

# Primitives that give back what they get; what they tell is for a compiler or a gradient.
IDENTITIES = (
    "copy",
    "device_put",
    "layout_constraint",
    "name",
    "optimization_barrier",
    "pvary",
    "reshard",
    "sharding_constraint",
    "stop_gradient",
)


def lower_elementwise(op: str, site: Site, *inputs: Node) -> Node:
    return site.apply(op, *inputs)


def lower_by_dtype(ops: tuple[str, str], site: Site, *inputs: Node) -> Node:
    return site.apply(ops[inputs[0].aval.dtype.kind != "b"], *inputs)


for _primitive, _op in OPS.items():
    lowers(_primitive)(partial(lower_elementwise, _op))
for _primitive, _ops in BY_DTYPE.items():
    lowers(_primitive)(partial(lower_by_dtype, _ops))


@lowers(*IDENTITIES)
def lower_identity(site: Site, *inputs: Node, **_: object) -> tuple[Node, ...]:
    return inputs


@lowers("lt")
def lower_less(site: Site, x: Node, y: Node) -> Node:
    """False where it cannot be: JAX asks so whether a place counts from the end."""
    if x.aval.dtype.kind in "iu" and np.min(range_of(x).low) >= np.max(range_of(y).high):
        never = constant(np.zeros((1,) * len(site.aval.shape), bool))
        return site.apply("BroadcastTo", never, shape=site.aval.shape)
    return site.apply("Less", x, y)


@lowers("mul")
def lower_mul(site: Site, x: Node, y: Node, *, out_dtype: np.dtype | None = None) -> Node:
    return site.apply("Mul", site.cast(x, site.aval.dtype), site.cast(y, site.aval.dtype))


@lowers("pow")
def lower_pow(site: Site, x: Node, y: Node) -> Node:
    if y.aval.dtype != x.aval.dtype:
        y = site.cast(y, x.aval.dtype)
    return site.apply("Pow", x, y)


@lowers("exp2")
def lower_exp2(site: Site, x: Node) -> Node:
    return site.apply("Pow", site.constant(2, x), x)


@lowers("log2")
def lower_log2(site: Site, x: Node) -> Node:
    return site.apply("Mul", site.apply("Log", x), site.constant(1.4426950408889634, x))


@lowers("one_minus_square")
def lower_one_minus_square(site: Site, x: Node) -> Node:
    """``(1 + x) (1 - x)``, which keeps more digits near 1."""
    one = site.constant(1, x)
    return site.apply("Mul", site.apply("Add", one, x), site.apply("Sub", one, x))


@lowers("polynomial")
def lower_polynomial(site: Site, x: Node, *coefficients: Node, unroll: int | None = None) -> Node:
    """Horner's rule; the coefficients come lowest first."""
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = site.apply("Add", site.apply("Mul", value, x), coefficient)
    return value


@lowers("integer_pow")
def lower_integer_pow(site: Site, x: Node, *, y: int) -> Node:
    """Products by repeated squaring, as XLA makes them."""
    if y == 0:  # of NaN too
        one, shape = site.constant(1, x), x.aval.shape
        return site.apply("BroadcastTo", one, shape=shape) if shape else one
    power, square, left = None, x, abs(y)
    while left:
        if left & 1:
            power = square if power is None else site.apply("Mul", power, square)
        left >>= 1
        if left:
            square = site.apply("Square", square)
    assert power is not None
    return power if y > 0 else site.apply("Reciprocal", power)


@lowers("round")
def lower_round(site: Site, x: Node, *, rounding_method: int) -> Node:
    """Half to even, or half away from zero; the latter exact for 0.49999997 too."""
    if int(rounding_method) == 1:
        return site.apply("Round", x)
    size = site.apply("Abs", x)
    whole = site.apply("Floor", size)
    half = site.apply("GreaterEqual", site.apply("Sub", size, whole), site.constant(0.5, x))
    up = site.apply("Select", half, site.apply("Add", whole, site.constant(1, x)), whole)
    return site.apply("Mul", site.apply("Sign", x), up)


@lowers("clamp")
def lower_clamp(site: Site, low: Node, x: Node, high: Node) -> Node:
    return site.apply("Minimum", site.apply("Maximum", x, low), high)


@lowers("select_n")
def lower_select_n(site: Site, which: Node, *cases: Node) -> Node:
    """``cases[which]``, where ``which`` may be a bool for two cases."""
    if len(cases) == 1:
        return cases[0]
    if which.aval.dtype.kind == "b":
        if _is_never(which):
            return cases[0]
        return site.apply("Select", which, cases[1], cases[0])
    conditions = conditions_of(which)
    if conditions is not None and len(conditions.rows) <= len(cases):
        return _by_conditions(site, conditions, cases)
    result = cases[-1]
    for number in reversed(range(len(cases) - 1)):
        here = site.apply("LessEqual", which, site.constant(number, which))
        result = site.apply("Select", here, cases[number], result)
    return result


def _by_conditions(site: Site, conditions: Conditions, cases: Sequence[Node]) -> Node:
    """The case of the first condition that holds, or of the last; the first case if none does."""
    pairs = list(zip(conditions.rows, cases, strict=False))
    result = cases[0]
    for row, case in reversed(pairs) if conditions.first else pairs[1:]:
        if not _is_never(row):
            here = site.apply("Reshape", row, shape=row.aval.shape[1:])
            result = site.apply("Select", here, case, result)
    return result


def _is_never(which: Node) -> bool:
    """Whether it is what ``lower_less`` says where nothing is below."""
    (source,) = which.inputs if isinstance(which, CNode) and which.op == "BroadcastTo" else (which,)
    return isinstance(source, Constant) and source.value.size > 0 and not source.value.any()


@lowers("convert_element_type")
def lower_convert(site: Site, x: Node, *, new_dtype: np.dtype, weak_type: bool) -> Node:
    if x.aval.dtype.kind == "c" and site.aval.dtype.kind != "c":
        raise Refusal("a complex number becomes a real one; take jnp.real of it first")
    return site.cast(x, site.aval.dtype)
