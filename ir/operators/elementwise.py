"""Operators that compute each element alone; inputs broadcast as in numpy."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JNP, LAX, NN, is_jax, module_of, special_of, wide
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


def _named(name: str) -> Callable[..., np.ndarray]:
    """The function that NumPy and JAX both call ``name``."""

    def compute(*arrays: np.ndarray) -> np.ndarray:
        return vars(module_of(*arrays))[name](*arrays)

    return compute


def _widened(
    function: Callable[[np.ndarray], np.ndarray],
) -> Callable[[np.ndarray], np.ndarray]:
    """``function`` computed in float32 for the dtypes that scipy does not know."""

    def compute(x: np.ndarray) -> np.ndarray:
        known = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
        return np.asarray(function(known)).astype(x.dtype)

    return compute


def _special(
    primitive: str, function: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """A function of SciPy's for the dtypes that it knows; the primitive of JAX has all."""
    widened = _widened(function)
    return lambda x: vars(LAX)[primitive](x) if is_jax(x) else widened(x)


def _digamma(x: np.ndarray) -> np.ndarray:
    """NaN at all poles, 0 among them, as XLA computes it."""
    with np.errstate(all="ignore"):
        pole = (x <= 0) & (x == np.floor(x))
    return np.where(pole, np.nan, special_of(x).digamma(x))


def _lgamma(x: np.ndarray) -> np.ndarray:
    """Infinity at both ends, as XLA computes it."""
    return np.where(np.isinf(x), np.inf, special_of(x).gammaln(x))


def _population_count(x: np.ndarray) -> np.ndarray:
    if is_jax(x):
        return LAX.population_count(x)
    return np.bitwise_count(x.view(f"u{x.dtype.itemsize}")).astype(x.dtype)


def _relu(x: np.ndarray) -> np.ndarray:
    """Its gradient at 0 is 0, as that of ``jax.nn.relu``."""
    return NN.relu(x) if is_jax(x) else np.maximum(x, np.zeros((), x.dtype))


def _reciprocal(x: np.ndarray) -> np.ndarray:
    return LAX.integer_pow(x, -1) if is_jax(x) else (1 / x).astype(x.dtype)


def _rsqrt(x: np.ndarray) -> np.ndarray:
    return LAX.rsqrt(x) if is_jax(x) else (1 / np.sqrt(x)).astype(x.dtype)


def _silu(x: np.ndarray) -> np.ndarray:
    """JAX's own with its arrays, so that it is known again when it is traced."""
    return NN.silu(x) if is_jax(x) else (x * special_of(x).expit(wide(x))).astype(x.dtype)


UNARY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Abs": _named("abs"),
    "Acos": _named("arccos"),
    "Acosh": _named("arccosh"),
    "Asin": _named("arcsin"),
    "Asinh": _named("arcsinh"),
    "Atan": _named("arctan"),
    "Atanh": _named("arctanh"),
    "BitwiseNot": _named("invert"),
    "Cbrt": _named("cbrt"),
    "Ceil": _named("ceil"),
    "Cos": _named("cos"),
    "Cosh": _named("cosh"),
    "Digamma": _special("digamma", _digamma),
    "Erf": _special("erf", lambda x: special_of(x).erf(x)),
    "ErfInv": _special("erf_inv", lambda x: special_of(x).erfinv(x)),
    "Erfc": _special("erfc", lambda x: special_of(x).erfc(x)),
    "Exp": _named("exp"),
    "Expm1": _named("expm1"),
    "Floor": _named("floor"),
    "Identity": lambda x: x,
    "Lgamma": _special("lgamma", _lgamma),
    "Log": _named("log"),
    "Log1p": _named("log1p"),
    "LogicalNot": _named("logical_not"),
    "Neg": _named("negative"),
    "PopulationCount": _population_count,
    "Reciprocal": _reciprocal,
    "Relu": _relu,
    "Round": _named("rint"),
    "Rsqrt": _rsqrt,
    "Sigmoid": _special("logistic", lambda x: special_of(x).expit(x)),
    "Sign": _named("sign"),
    "Silu": _silu,
    "Sin": _named("sin"),
    "Sinh": _named("sinh"),
    "Softplus": lambda x: module_of(x).logaddexp(x, np.zeros((), x.dtype)),
    "Sqrt": _named("sqrt"),
    "Square": _named("square"),
    "Tan": _named("tan"),
    "Tanh": _named("tanh"),
}


def _in_lax(name: str, *arrays: np.ndarray) -> np.ndarray:
    """The one primitive of JAX that an operator is, whose operands have one shape."""
    return vars(LAX)[name](*JNP.broadcast_arrays(*arrays))


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """True division; integers truncate towards zero, and division by zero gives -1 as XLA does."""
    # Broadcast apart: together, XLA multiplies with 1 / y, which may be 0.
    if is_jax(x, y):
        return _in_lax("div", x, y)
    if not np.issubdtype(x.dtype, np.integer):
        return np.asarray(np.divide(x, y))
    safe = np.where(y == 0, np.ones((), y.dtype), y)
    quotient = np.floor_divide(x, safe)
    exact = quotient * safe == x
    toward_zero = quotient + ((~exact) & ((x < 0) != (safe < 0)))
    return np.where(y == 0, np.full((), -1).astype(x.dtype), toward_zero).astype(x.dtype)


def _remainder(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What truncated division leaves, with the sign of ``x``; ``x`` where an integer ``y`` is 0."""
    if is_jax(x, y):
        return _in_lax("rem", x, y)
    if not np.issubdtype(x.dtype, np.integer):
        return np.fmod(x, y)
    safe = np.where(y == 0, np.ones((), y.dtype), y)
    return np.where(y == 0, x, np.fmod(x, safe)).astype(x.dtype)


def _power(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    xp = module_of(x, y)
    if np.issubdtype(x.dtype, np.integer):
        return xp.power(x, xp.maximum(y, 0))
    return xp.power(x, y)


def _shift_right_logical(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if is_jax(x, y):
        return _in_lax("shift_right_logical", x, y)
    unsigned = np.dtype(f"u{x.dtype.name.removeprefix('u')}")
    bits = x.dtype.itemsize * 8
    most = np.minimum(y.view(unsigned), unsigned.type(bits - 1))
    shifted = np.right_shift(x.view(unsigned), most)
    return np.where(y.view(unsigned) >= bits, 0, shifted).astype(unsigned).view(x.dtype)


def _shift_left(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if is_jax(x, y):
        return _in_lax("shift_left", x, y)
    unsigned = np.dtype(f"u{x.dtype.name.removeprefix('u')}")
    bits = x.dtype.itemsize * 8
    most = np.minimum(y.view(unsigned), unsigned.type(bits - 1))
    shifted = np.left_shift(x.view(unsigned), most)
    return np.where(y.view(unsigned) >= bits, 0, shifted).astype(unsigned).view(x.dtype)


def _shift_right_arithmetic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if is_jax(x, y):
        return _in_lax("shift_right_arithmetic", x, y)
    unsigned = np.dtype(f"u{y.dtype.name.removeprefix('u')}")
    last = unsigned.type(x.dtype.itemsize * 8 - 1)
    most = np.minimum(y.view(unsigned), last).view(y.dtype)
    signed = x.view(np.dtype(x.dtype.name.removeprefix("u")))
    return np.right_shift(signed, most.view(signed.dtype)).view(x.dtype)


Binary = Callable[[np.ndarray, np.ndarray], np.ndarray]

BINARY: dict[str, Binary] = {
    "Atan2": _named("arctan2"),
    "BitwiseAnd": _named("bitwise_and"),
    "BitwiseOr": _named("bitwise_or"),
    "BitwiseXor": _named("bitwise_xor"),
    "Add": _named("add"),
    "Div": _divide,
    "LogicalAnd": _named("logical_and"),
    "LogicalOr": _named("logical_or"),
    "LogicalXor": _named("logical_xor"),
    "Maximum": _named("maximum"),
    "Minimum": _named("minimum"),
    "Mul": _named("multiply"),
    "NextAfter": _named("nextafter"),
    "Pow": _power,
    "Rem": _remainder,
    "ShiftLeft": _shift_left,
    "ShiftRightArithmetic": _shift_right_arithmetic,
    "ShiftRightLogical": _shift_right_logical,
    "Sub": _named("subtract"),
}

COMPARE: dict[str, Binary] = {
    "Equal": _named("equal"),
    "Greater": _named("greater"),
    "GreaterEqual": _named("greater_equal"),
    "Less": _named("less"),
    "LessEqual": _named("less_equal"),
    "NotEqual": _named("not_equal"),
}

COMMUTATIVE = {"Add", "Mul", "Maximum", "Minimum", "Equal", "NotEqual"} | {
    f"{kind}{name}" for kind in ("Logical", "Bitwise") for name in ("And", "Or", "Xor")
}


def _quietly(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """NaN and infinity are values here, not something to warn of."""
    with np.errstate(all="ignore"):
        return module_of(*arrays).asarray(function(*arrays))


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

TESTS = {
    "IsFinite": _named("isfinite"),
    "IsNan": _named("isnan"),
    "IsInf": _named("isinf"),
}

for _name, _function in TESTS.items():
    operator(_name, to_bool, elementwise=True)(partial(_quietly, _function))


def _select_aval(condition: Aval, on_true: Aval, on_false: Aval) -> Aval:
    values = broadcast(on_true, on_false)
    return Aval(broadcast_shapes(condition.shape, values.shape), values.dtype)


@operator("Select", _select_aval, elementwise=True)
def select(condition: np.ndarray, on_true: np.ndarray, on_false: np.ndarray) -> np.ndarray:
    """``on_true`` where ``condition``, a bool, else ``on_false``."""
    return module_of(condition, on_true, on_false).where(condition, on_true, on_false)


@operator("Cast", lambda x, *, dtype: Aval(x.shape, np.dtype(dtype)), elementwise=True)
def cast(x: np.ndarray, *, dtype: np.dtype) -> np.ndarray:
    """``x`` as ``dtype``: floats to integers truncate and saturate, NaN becomes 0, as in XLA."""
    if is_jax(x):
        return x.astype(dtype)
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
    if is_jax(x):
        return NN.gelu(x, approximate=approximate)
    own, x = x.dtype, wide(x)
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return (x * (0.5 * (1 + np.tanh(inner)))).astype(own)
    return (0.5 * x * special_of(x).erfc(-x * math.sqrt(0.5))).astype(own)


@operator("LeakyRelu", lambda x, *, alpha: x, elementwise=True)
def leaky_relu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """``x`` where it is at least 0, else ``alpha * x``."""
    return module_of(x).where(x >= 0, x, x * np.asarray(alpha, x.dtype))


@operator("Elu", lambda x, *, alpha: x, elementwise=True)
def elu(x: np.ndarray, *, alpha: float) -> np.ndarray:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""
    xp, positive = module_of(x), x > 0
    below = _quietly(xp.expm1, xp.where(positive, np.zeros((), x.dtype), x))
    return xp.where(positive, x, below if alpha == 1 else np.asarray(alpha, x.dtype) * below)


@operator("HardSigmoid", lambda x: x, elementwise=True)
def hard_sigmoid(x: np.ndarray) -> np.ndarray:
    """``x / 6 + 1 / 2``, not below 0 and not above 1; NaN stays."""
    xp, three, six = module_of(x), *(np.asarray(number, x.dtype) for number in (3, 6))
    return xp.minimum(xp.maximum(x + three, np.zeros((), x.dtype)), six) / six


@operator("HardSwish", lambda x: x, elementwise=True)
def hard_swish(x: np.ndarray) -> np.ndarray:
    """``x`` times its hard sigmoid."""
    return x * hard_sigmoid(x)


@operator("Mish", lambda x: x, elementwise=True)
def mish(x: np.ndarray) -> np.ndarray:
    """``x`` times the hyperbolic tangent of its softplus."""
    xp, own, x = module_of(x), x.dtype, wide(x)
    return (x * xp.tanh(xp.logaddexp(x, np.zeros((), x.dtype)))).astype(own)


@operator("Clip", lambda x, *, low, high: x, elementwise=True)
def clip(x: np.ndarray, *, low: float, high: float) -> np.ndarray:
    """``x`` between two limits; NaN stays."""
    low_end, high_end = (np.asarray(end, x.dtype) for end in (low, high))
    xp = module_of(x)
    return xp.minimum(xp.maximum(x, low_end), high_end)
