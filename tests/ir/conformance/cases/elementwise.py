"""Operations on each element alone."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import (
    BF16,
    BOOL,
    F16,
    F32,
    F64,
    FLOATS,
    INTS,
    NARROW_INTS,
    REALS,
    SHAPES,
    SIGNED,
    edges,
    every_pair,
    integers,
    normal,
    sample,
    uniform,
)
from tests.ir.conformance.case import Case

# The function, and where it is smooth and defined: float samples are drawn from there.
UNARY: dict[str, tuple[Callable[..., jax.Array], float, float]] = {
    "abs": (lax.abs, -3, 3),
    "acos": (lax.acos, -0.95, 0.95),
    "acosh": (lax.acosh, 1.1, 5),
    "asin": (lax.asin, -0.95, 0.95),
    "asinh": (lax.asinh, -3, 3),
    "atan": (lax.atan, -3, 3),
    "atanh": (lax.atanh, -0.9, 0.9),
    "bessel_i0e": (lax.bessel_i0e, -20, 20),
    "bessel_i1e": (lax.bessel_i1e, -20, 20),
    "cbrt": (lax.cbrt, -5, 5),
    "ceil": (lax.ceil, -3, 3),
    "cos": (lax.cos, -6, 6),
    "cosh": (lax.cosh, -3, 3),
    "digamma": (lax.digamma, 0.3, 9),
    "erf": (lax.erf, -3, 3),
    "erf_inv": (lax.erf_inv, -0.9, 0.9),
    "erfc": (lax.erfc, -3, 3),
    "exp": (lax.exp, -3, 3),
    "exp2": (lax.exp2, -3, 3),
    "expm1": (lax.expm1, -2, 2),
    "floor": (lax.floor, -3, 3),
    "lgamma": (lax.lgamma, 0.3, 9),
    "log": (lax.log, 0.1, 9),
    "log1p": (lax.log1p, -0.5, 5),
    "logistic": (lax.logistic, -5, 5),
    "neg": (lax.neg, -3, 3),
    "round away": (lambda x: lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO), -9, 9),
    "round even": (lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), -9, 9),
    "rsqrt": (lax.rsqrt, 0.1, 9),
    "sign": (lax.sign, -3, 3),
    "sin": (lax.sin, -6, 6),
    "sinh": (lax.sinh, -3, 3),
    "sqrt": (lax.sqrt, 0.1, 9),
    "square": (lax.square, -3, 3),
    "tan": (lax.tan, -1.2, 1.2),
    "tanh": (lax.tanh, -3, 3),
    "x ** -2": (lambda x: lax.integer_pow(x, -2), 0.3, 3),
    "x ** 0": (lambda x: lax.integer_pow(x, 0), -3, 3),
    "x ** 5": (lambda x: lax.integer_pow(x, 5), -2, 2),
    "x ** 11": (lambda x: lax.integer_pow(x, 11), -1.3, 1.3),
}

# What is exact, and so has one answer at every edge.
AT_EDGES = (
    "abs",
    "ceil",
    "floor",
    "neg",
    "round away",
    "round even",
    "sign",
    "sqrt",
    "exp",
    "log",
    "tanh",
    "logistic",
    "expm1",
    "log1p",
    "atan",
    "erf",
    "erfc",
    "rsqrt",
    "exp2",
    "cbrt",
    "x ** 0",
)

OF_INTS = {
    "abs": lax.abs,
    "clz": lax.clz,
    "neg": lax.neg,
    "not": lax.bitwise_not,
    "population_count": lax.population_count,
    "sign": lax.sign,
    "square": lax.square,
    "x ** 0": lambda x: lax.integer_pow(x, 0),
    "x ** 3": lambda x: lax.integer_pow(x, 3),
    "x ** 7": lambda x: lax.integer_pow(x, 7),
}

ARITHMETIC = {
    "add": lax.add,
    "sub": lax.sub,
    "mul": lax.mul,
    "div": lax.div,
    "rem": lax.rem,
    "max": lax.max,
    "min": lax.min,
}
COMPARE = {"eq": lax.eq, "ne": lax.ne, "lt": lax.lt, "le": lax.le, "gt": lax.gt, "ge": lax.ge}
BITWISE = {"and": lax.bitwise_and, "or": lax.bitwise_or, "xor": lax.bitwise_xor}
SHIFTS = {
    "shift_left": lax.shift_left,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
    "shift_right_logical": lax.shift_right_logical,
}


def unary() -> Iterator[Case]:
    for name, (fn, low, high) in UNARY.items():
        for dtype in FLOATS:
            x = uniform(3, 4, low=low, high=high, dtype=dtype)
            # XLA's float64 special functions are as good as 1e-9 only
            loose = 1e-8 if dtype == F64 and name in ("digamma", "lgamma", "erf_inv") else None
            yield Case(f"{name}: {dtype}", fn, (x,), tolerance=loose)
        for shape in SHAPES[::3]:
            x = uniform(*shape, low=low, high=high)
            yield Case(f"{name}: {list(shape)}", fn, (x,))
    for name in AT_EDGES:
        for dtype in (F32, F16, BF16):
            yield Case(f"{name}: edges of {dtype}", UNARY[name][0], (edges(dtype),))
    for dtype in FLOATS:
        tests = lambda x: (lax.is_finite(x), jnp.isnan(x), jnp.isinf(x), jnp.signbit(x))  # noqa: E731
        yield Case(f"is finite, nan, inf, negative: {dtype}", tests, (edges(dtype),))
    for name, function in OF_INTS.items():
        for dtype in SIGNED if name in ("abs", "sign", "neg") else INTS:
            yield Case(f"{name}: edges of {dtype}", function, (edges(dtype),))


def binary() -> Iterator[Case]:
    for name, fn in ARITHMETIC.items():
        for dtype in REALS:
            pair = lambda x, y, fn=fn: fn(*jnp.broadcast_arrays(x, y))  # noqa: E731
            yield Case(f"{name}: {dtype}", fn, (sample(dtype, 3, 4), sample(dtype, 3, 4, seed=1)))
            yield Case(f"{name}: edges of {dtype}", pair, every_pair(dtype))
        for shape in SHAPES:
            args = normal(*shape), uniform(*shape, low=0.5, high=3)
            yield Case(f"{name}: {list(shape)}", fn, args)
    for name, fn in COMPARE.items():
        for dtype in (*REALS, BOOL):
            pair = lambda x, y, fn=fn: fn(*jnp.broadcast_arrays(x, y))  # noqa: E731
            yield Case(f"{name}: edges of {dtype}", pair, every_pair(dtype))
    for name, fn in BITWISE.items():
        for dtype in (*INTS, BOOL):
            pair = lambda x, y, fn=fn: fn(*jnp.broadcast_arrays(x, y))  # noqa: E731
            yield Case(f"{name}: edges of {dtype}", pair, every_pair(dtype))
    for name, fn in SHIFTS.items():
        for dtype in INTS:
            pair = lambda x, y, fn=fn: fn(*jnp.broadcast_arrays(x, y))  # noqa: E731
            by = np.arange(0, dtype.itemsize * 8 + 3, dtype=dtype)[None]
            yield Case(f"{name}: edges of {dtype}", pair, (edges(dtype)[:, None], by))
    for name, fn in {"max": lax.max, "min": lax.min, "eq": lax.eq, "lt": lax.lt}.items():
        args = np.array([False, False, True, True]), np.array([False, True, False, True])
        yield Case(f"{name}: bool", fn, args)


def powers() -> Iterator[Case]:
    base = np.array([0.0, 0.5, 1.0, 2.0, 3.5, 10.0], np.float32)[:, None]
    exponent = np.array([-2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0], np.float32)[None]
    for dtype in FLOATS:
        args = base.astype(dtype), exponent.astype(dtype)
        yield Case(f"pow: {dtype}", jnp.power, args)
    negative = np.array([-3.0, -1.0, -0.5], np.float32)[:, None]
    yield Case("pow: of negative numbers", jnp.power, (negative, exponent))
    yield Case("pow: to an int32", lax.pow, (normal(5), integers(-3, 4, 5)))
    yield Case("pow: to a Python number", lambda x: (x**2.5, x**0.5, 2.0**x), (np.abs(normal(5)),))
    for dtype in NARROW_INTS:
        args = sample(dtype, 6), np.arange(6).astype(dtype)
        yield Case(f"pow: {dtype}", jnp.power, args)
    for dtype in (F32, F64):
        args = normal(4, 1, dtype=dtype), normal(1, 5, dtype=dtype, seed=1)
        yield Case(f"atan2: {dtype}", jnp.arctan2, args)
        yield Case(f"nextafter: {dtype}", jnp.nextafter, args)
        yield Case(
            f"hypot, logaddexp: {dtype}",
            lambda x, y: (jnp.hypot(x, y), jnp.logaddexp(x, y), jnp.logaddexp2(x, y)),
            args,
        )
    for dtype in (F16, BF16, F32):
        yield Case(f"nextafter: edges of {dtype}", jnp.nextafter, every_pair(dtype))
    axes = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
    yield Case("atan2: edges", jnp.arctan2, (axes[:, None], axes[None]))


NUMPY_UNARY = [
    "absolute",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctanh",
    "cbrt",
    "ceil",
    "conj",
    "cos",
    "cosh",
    "deg2rad",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "floor",
    "i0",
    "imag",
    "isfinite",
    "isinf",
    "isnan",
    "isneginf",
    "isposinf",
    "log",
    "log10",
    "log1p",
    "log2",
    "logical_not",
    "nan_to_num",
    "negative",
    "positive",
    "rad2deg",
    "real",
    "reciprocal",
    "rint",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "trunc",
]
NUMPY_BINARY = [
    "add",
    "arctan2",
    "copysign",
    "divide",
    "divmod",
    "equal",
    "float_power",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "isclose",
    "less",
    "less_equal",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "not_equal",
    "power",
    "remainder",
    "subtract",
    "true_divide",
    "ldexp",
]
NUMPY_OF_INTS = [
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "left_shift",
    "right_shift",
    "gcd",
    "lcm",
    "floor_divide",
    "mod",
    "divmod",
    "fmod",
    "remainder",
    "maximum",
    "minimum",
    "power",
]
DATA_DEPENDENT = {"gcd": "depends on the data", "lcm": "depends on the data"}


def numpy_functions() -> Iterator[Case]:
    for name in NUMPY_UNARY:
        fn = getattr(jnp, name)
        yield Case(f"jnp.{name}", fn, (uniform(2, 5, low=0.1, high=0.9),))
        yield Case(f"jnp.{name}: of negative numbers", fn, (-uniform(4, low=0.1, high=0.9),))
        yield Case(f"jnp.{name}: int32", fn, (integers(0, 2, 4),))
        yield Case(f"jnp.{name}: float16", fn, (uniform(4, low=0.1, high=0.9, dtype=F16),))
    for name in NUMPY_BINARY:
        fn = getattr(jnp, name)
        args = uniform(3, 1, low=0.5, high=3), uniform(1, 4, low=0.5, high=3, seed=1)
        if name == "ldexp":
            args = args[0], integers(-3, 4, 1, 4)
        yield Case(f"jnp.{name}: broadcast", fn, args)
        if name != "ldexp":
            yield Case(f"jnp.{name}: with a number", lambda x, fn=fn: fn(x, 2.5), args[:1])
            yield Case(f"jnp.{name}: int32 and float32", fn, (integers(1, 5, 4), args[1][0]))
    for name in NUMPY_OF_INTS:
        fn = getattr(jnp, name)
        for dtype in (SIGNED[0], SIGNED[2], INTS[4], INTS[6]):
            args = integers(0, 30, 5, dtype=dtype), integers(1, 6, 5, dtype=dtype)
            reason = DATA_DEPENDENT.get(name)
            cannot = {"AIR": reason} if reason else {}
            yield Case(f"jnp.{name}: {dtype}", fn, args, alike=not reason, cannot=cannot)


def conversions() -> Iterator[Case]:
    every = (*REALS, BOOL)
    for source in every:
        values = edges(source)
        if source in FLOATS:
            values = np.array([-2.7, -1.5, -0.5, -0.0, 0.0, 0.4, 1.0, 1.5, 2.5, 99.9], source)
        for to in every:
            if (to != source and to.kind != "u") or source.kind not in "f":
                yield Case(
                    f"convert: {source} to {to}",
                    lambda x, to=to: lax.convert_element_type(x, to),
                    (values,),
                    x64=to.itemsize == 8,
                )
    for to in INTS:
        wild = np.array([-1e30, -3.9, 300.7, 1e30, np.inf, -np.inf, np.nan], np.float32)
        saturate = lambda x, to=to: lax.convert_element_type(x, to)  # noqa: E731
        yield Case(f"convert: float32 to {to} saturates", saturate, (wild,), x64=to.itemsize == 8)
    for bits in ((5, 10), (8, 7), (8, 23), (5, 2), (4, 3), (8, 10)):
        x = np.concatenate([normal(20) * 30, edges(F32)])
        reduce = lambda x, bits=bits: lax.reduce_precision(x, *bits)  # noqa: E731
        yield Case(f"reduce_precision: {bits}", reduce, (x,))
    for source, to in ((F32, np.int32), (F32, np.uint32), (F16, np.int16), (BF16, np.uint16)):
        turn = lambda x, to=to: lax.bitcast_convert_type(x, to)  # noqa: E731
        x = np.concatenate([normal(9, dtype=source), edges(source)])
        yield Case(f"bitcast: {source} to {np.dtype(to)}", turn, (x[~np.isnan(x)],))
        back = lambda x, to=source: lax.bitcast_convert_type(x, to)  # noqa: E731
        yield Case(f"bitcast: {np.dtype(to)} to {source}", back, (x.view(to),))
    for source, to in (("int32", "uint32"), ("uint32", "int32"), ("int8", "uint8")):
        turn = lambda x, to=to: lax.bitcast_convert_type(x, np.dtype(to))  # noqa: E731
        yield Case(f"bitcast: {source} to {to}", turn, (edges(np.dtype(source)),))
    yield Case("jnp.frexp", jnp.frexp, (np.array([0.1, 3.0, -8.0, 1e20], np.float32),))
    yield Case("jnp.modf", jnp.modf, (normal(5) * 4,))


def choices() -> Iterator[Case]:
    for dtype in (*REALS, BOOL):
        args = bools_of(3, 4), sample(dtype, 3, 4), sample(dtype, 3, 4, seed=1)
        yield Case(f"where: {dtype}", jnp.where, args)
    for dtype in REALS:
        x = edges(dtype)
        low, high = np.array(1, dtype), np.array(3, dtype)
        yield Case(f"clamp: edges of {dtype}", lambda x, a, b: lax.clamp(a, x, b), (x, low, high))
    yield Case(
        "clamp: arrays", lax.clamp, (normal(5) - 1, normal(5, seed=1), normal(5, seed=2) + 1)
    )
    yield Case("clamp: low is above high", lambda x: lax.clamp(2.0, x, 1.0), (normal(5) * 3,))
    for count in (1, 2, 3, 5):
        which = integers(0, count, 4, 3)
        many = lambda k, x, n=count: lax.select_n(k, *(x + i for i in range(n)))  # noqa: E731
        yield Case(f"select_n: of {count}", many, (which, normal(4, 3)))
    yield Case(
        "select_n: a scalar chooses",
        lambda k, x: lax.select_n(k, x, -x, x + 1),
        (np.array(1, np.int32), normal(3)),
    )
    yield Case(
        "select: conditions in a list",
        lambda x: jnp.select([x > 1, x > 0, x > -1], [x, x * 2, x * 3], default=7),
        (normal(3, 5),),
    )
    yield Case(
        "piecewise",
        lambda x: jnp.piecewise(x, [x < 0, x >= 0], [lambda v: -v, lambda v: v * 2]),
        (normal(4),),
    )
    yield Case(
        "select: two conditions hold, or none, of a large array",
        lambda x: jnp.select([x > 1, x > 0, x < -1], [x, x * x, jnp.exp(x)], default=-x),
        (normal(70, 64),),
    )
    yield Case(
        "piecewise: two conditions hold, or none, of a large array",
        lambda x: jnp.piecewise(x, [x > 0, x > 1, x < -1], [jnp.exp, jnp.square, 5, lambda v: -v]),
        (normal(70, 64),),
    )
    yield Case("clip", lambda x: (jnp.clip(x, -0.5, 0.5), jnp.clip(x, None, 0)), (normal(3, 4),))
    yield Case("clip: int8", lambda x: jnp.clip(x, -3, 3), (edges(SIGNED[0]),))


def bools_of(*shape: int) -> np.ndarray:
    return normal(*shape, seed=5) > 0


def weak_types() -> Iterator[Case]:
    for dtype in REALS:
        yield Case(
            f"weak: {dtype} with Python numbers",
            lambda x: (x + 1, x * 2, 3 - x, x / 2),
            (sample(dtype, 4),),
        )
        yield Case(f"weak: {dtype} with a float", lambda x: (x + 1.5, x * 0.5), (sample(dtype, 4),))
    for a in (F16, BF16, F32, SIGNED[0], SIGNED[2], INTS[4], BOOL):
        for b in (F16, BF16, F32, SIGNED[0], SIGNED[2], INTS[4], BOOL):
            if a != b:
                args = sample(a, 4), sample(b, 4, seed=1)
                yield Case(f"promote: {a} and {b}", lambda x, y: (x + y, x * y), args)
    yield Case(
        "promote: float32 and float64", lambda x, y: x * y, (normal(3), normal(3, dtype=F64))
    )


CASES = [
    *unary(),
    *binary(),
    *powers(),
    *numpy_functions(),
    *conversions(),
    *choices(),
    *weak_types(),
]
