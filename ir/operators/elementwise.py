"""Operators that compute each element alone; inputs broadcast as in numpy."""

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.special

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.table import operator
from fnckpt.ir.sizes import broadcast_shapes

BOOL = np.dtype(bool)


def broadcast(*avals: Aval) -> Aval:
    """The common shape; the dtypes must agree."""
    dtypes = {aval.dtype for aval in avals}
    if len(dtypes) > 1:
        raise ValueError(f"the inputs have different dtypes: {', '.join(map(str, avals))}")
    return Aval(broadcast_shapes(*(a.shape for a in avals)), avals[0].dtype)


def to_bool(*avals: Aval) -> Aval:
    """The common shape, of booleans."""
    return Aval(broadcast(*avals).shape, BOOL)


def _widened(
    function: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """``function`` computed in float32 for the dtypes that scipy does not know."""

    def compute(x: np.ndarray) -> np.ndarray:
        wide = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
        return np.asarray(function(wide)).astype(x.dtype)

    return compute


def _digamma(x: np.ndarray) -> np.ndarray:
    """NaN at all poles, 0 among them, as XLA computes it."""
    with np.errstate(all="ignore"):
        pole = (x <= 0) & (x == np.floor(x))
    return np.where(pole, np.nan, scipy.special.digamma(x))


def _lgamma(x: np.ndarray) -> np.ndarray:
    """Infinity at both ends, as XLA computes it."""
    return np.where(np.isinf(x), np.inf, scipy.special.gammaln(x))


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": np.abs,
    "Acos": np.arccos,
    "Acosh": np.arccosh,
    "Asin": np.arcsin,
    "Asinh": np.arcsinh,
    "Atan": np.arctan,
    "Atanh": np.arctanh,
    "BitwiseNot": np.invert,
    "Cbrt": np.cbrt,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Cosh": np.cosh,
    "Digamma": _widened(_digamma),
    "Erf": _widened(scipy.special.erf),
    "ErfInv": _widened(scipy.special.erfinv),
    "Erfc": _widened(scipy.special.erfc),
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Floor": np.floor,
    "Identity": lambda x: x,
    "Lgamma": _widened(_lgamma),
    "Log": np.log,
    "Log1p": np.log1p,
    "LogicalNot": np.logical_not,
    "Neg": np.negative,
    "PopulationCount": lambda x: np.bitwise_count(x.view(f"u{x.dtype.itemsize}")).astype(x.dtype),
    "Reciprocal": lambda x: (1 / x).astype(x.dtype),
    "Relu": lambda x: np.maximum(x, np.zeros((), x.dtype)),
    "Round": np.rint,
    "Rsqrt": lambda x: (1 / np.sqrt(x)).astype(x.dtype),
    "Sigmoid": _widened(scipy.special.expit),
    "Sign": np.sign,
    "Silu": lambda x: (x * scipy.special.expit(x.astype(np.float64))).astype(x.dtype),
    "Sin": np.sin,
    "Sinh": np.sinh,
    "Softplus": lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    "Sqrt": np.sqrt,
    "Square": np.square,
    "Tan": np.tan,
    "Tanh": np.tanh,
}


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """True division; integers truncate towards zero, and division by zero gives -1 as XLA does."""
    if not np.issubdtype(x.dtype, np.integer):
        return np.divide(x, y)
    safe = np.where(y == 0, np.ones((), y.dtype), y)
    quotient = np.floor_divide(x, safe)
    exact = quotient * safe == x
    toward_zero = quotient + ((~exact) & ((x < 0) != (safe < 0)))
    return np.where(y == 0, np.full((), -1).astype(x.dtype), toward_zero).astype(x.dtype)


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What truncated division leaves, with the sign of ``x``; ``x`` where an integer ``y`` is 0."""
    if not np.issubdtype(x.dtype, np.integer):
        return np.fmod(x, y)
    safe = np.where(y == 0, np.ones((), y.dtype), y)
    return np.where(y == 0, x, np.fmod(x, safe)).astype(x.dtype)


def _power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if np.issubdtype(x.dtype, np.integer):
        return np.power(x, np.maximum(y, 0))
    return np.power(x, y)


def _shift_right_logical(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    unsigned = np.dtype(f"u{x.dtype.name.removeprefix('u')}")
    bits = x.dtype.itemsize * 8
    shifted = np.right_shift(x.view(unsigned), np.minimum(y.view(unsigned), bits - 1))
    return np.where(y.view(unsigned) >= bits, 0, shifted).astype(unsigned).view(x.dtype)


def _shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    unsigned = np.dtype(f"u{x.dtype.name.removeprefix('u')}")
    bits = x.dtype.itemsize * 8
    shifted = np.left_shift(x.view(unsigned), np.minimum(y.view(unsigned), bits - 1))
    return np.where(y.view(unsigned) >= bits, 0, shifted).astype(unsigned).view(x.dtype)


def _shift_right_arithmetic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    unsigned = np.dtype(f"u{y.dtype.name.removeprefix('u')}")
    most = np.minimum(y.view(unsigned), x.dtype.itemsize * 8 - 1).view(y.dtype)
    signed = x.view(np.dtype(x.dtype.name.removeprefix("u")))
    return np.right_shift(signed, most.view(signed.dtype)).view(x.dtype)


Binary = Callable[[np.ndarray, np.ndarray], np.ndarray]

BINARY: dict[str, Binary] = {
    "Atan2": np.arctan2,
    "BitwiseAnd": np.bitwise_and,
    "BitwiseOr": np.bitwise_or,
    "BitwiseXor": np.bitwise_xor,
    "Add": np.add,
    "Div": _divide,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalXor": np.logical_xor,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "NextAfter": np.nextafter,
    "Pow": _power,
    "Rem": _remainder,
    "ShiftLeft": _shift_left,
    "ShiftRightArithmetic": _shift_right_arithmetic,
    "ShiftRightLogical": _shift_right_logical,
    "Sub": np.subtract,
}

COMPARE: dict[str, Binary] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "NotEqual": np.not_equal,
}

COMMUTATIVE = {"Add", "Mul", "Maximum", "Minimum", "Equal", "NotEqual"} | {
    f"{kind}{name}" for kind in ("Logical", "Bitwise") for name in ("And", "Or", "Xor")
}


def _quietly(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """NaN and infinity are values here, not something to warn of."""
    with np.errstate(all="ignore"):
        return np.asarray(function(*arrays))


for _name, _function in UNARY.items():
    operator(_name, broadcast, elementwise=True)(partial(_quietly, _function))
for _name, _function in BINARY.items():
    operator(_name, broadcast, commutative=_name in COMMUTATIVE, elementwise=True)(
        partial(_quietly, _function)
    )
for _name, _function in COMPARE.items():
    operator(_name, to_bool, commutative=_name in COMMUTATIVE, elementwise=True)(
        partial(_quietly, _function)
    )
for _name, _function in {
    "IsFinite": np.isfinite,
    "IsNan": np.isnan,
    "IsInf": np.isinf,
}.items():
    operator(_name, to_bool, elementwise=True)(partial(_quietly, _function))


def _select_aval(condition: Aval, on_true: Aval, on_false: Aval) -> Aval:
    values = broadcast(on_true, on_false)
    return Aval(broadcast_shapes(condition.shape, values.shape), values.dtype)


@operator("Select", _select_aval, elementwise=True)
def select(condition: np.ndarray, on_true: np.ndarray, on_false: np.ndarray) -> np.ndarray:
    """``on_true`` where ``condition``, a bool, else ``on_false``."""
    return np.where(condition, on_true, on_false)


@operator("Cast", lambda x, *, dtype: Aval(x.shape, np.dtype(dtype)), elementwise=True)
def cast(x: np.ndarray, *, dtype: np.dtype) -> np.ndarray:
    """``x`` as ``dtype``: floats to integers truncate and saturate, NaN becomes 0, as in XLA."""
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(x.dtype, np.integer):
        if x.dtype == bool:
            return x.astype(dtype)
        info = np.iinfo(dtype)
        least, greatest = dtype.type(info.min), dtype.type(info.max)
        wide = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0))
        below, above = wide <= float(info.min), wide >= float(info.max)
        inside = np.where(below | above, 0.0, wide).astype(dtype)
        return np.where(below, least, np.where(above, greatest, inside))
    return _quietly(lambda value: value.astype(dtype), x)


@operator("Gelu", lambda x, *, approximate: x, elementwise=True)
def gelu(x: np.ndarray, *, approximate: bool) -> np.ndarray:
    """x times the normal distribution function at x; ``approximate`` is the form with tanh."""
    wide = x.astype(np.float64)
    if approximate:
        inner = np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
        return (0.5 * wide * (1 + np.tanh(inner))).astype(x.dtype)
    return (0.5 * wide * scipy.special.erfc(-wide * np.sqrt(0.5))).astype(x.dtype)


@operator("LeakyRelu", lambda x, *, alpha: x, elementwise=True)
def leaky_relu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """``x`` where it is at least 0, else ``alpha * x``."""
    return np.where(x >= 0, x, x * np.asarray(alpha, x.dtype))


@operator("Elu", lambda x, *, alpha: x, elementwise=True)
def elu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""
    negative = _quietly(np.expm1, np.minimum(x, np.zeros((), x.dtype)))
    return np.where(x > 0, x, np.asarray(alpha, x.dtype) * negative)


@operator("HardSigmoid", lambda x: x, elementwise=True)
def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """``x / 6 + 1 / 2``, not below 0 and not above 1; NaN stays."""
    three, six = (np.asarray(number, x.dtype) for number in (3, 6))
    return np.minimum(np.maximum(x + three, np.zeros((), x.dtype)), six) / six


@operator("HardSwish", lambda x: x, elementwise=True)
def hard_swish(x: np.ndarray) -> np.ndarray:
    """``x`` times its hard sigmoid."""
    return x * hard_sigmoid(x)


@operator("Mish", lambda x: x, elementwise=True)
def mish(x: np.ndarray) -> np.ndarray:
    """``x`` times the hyperbolic tangent of its softplus."""
    wide = x.astype(np.float64)
    return (wide * np.tanh(np.logaddexp(wide, 0))).astype(x.dtype)


@operator("Clip", lambda x, *, low, high: x, elementwise=True)
def clip(x: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """``x`` between two limits; NaN stays."""
    low_end, high_end = (np.asarray(end, x.dtype) for end in (low, high))
    return np.minimum(np.maximum(x, low_end), high_end)
