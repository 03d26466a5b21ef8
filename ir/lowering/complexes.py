"""Complex numbers as pairs of real ones. Formulas hold for finite numbers.

Structure moves part by part, products are four real ones, functions are written in JAX on the
real and imaginary part.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import (
    RULES,
    Pair,
    Refusal,
    Site,
    Value,
    arguments,
    lowers,
    lowers_complex,
    part_of,
)

Array = jax.Array
Complex = tuple[Array, Array]

# What acts on the real and on the imaginary part alike, by the rule for real numbers.
BY_PART = (
    "add", "add_any", "broadcast_in_dim", "concatenate", "copy", "cumsum", "device_put",
    "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "name", "neg",
    "optimization_barrier", "pad", "reduce_sum", "reduce_window_sum", "reshape", "rev", "scatter",
    "scatter-add", "scatter-sub", "select_n", "slice", "split", "squeeze", "stack",
    "stop_gradient", "sub", "tile", "transpose", "unstack",
)  # fmt: skip


def real_site(site: Site) -> Site:
    """The same equation with real results."""
    return replace(site, results=tuple(map(part_of, site.results)))


def by_part(primitive: str, site: Site, *inputs: Value, **params: object) -> Sequence[Value]:
    rule, where = RULES[primitive], real_site(site)
    parts: list[list[Node]] = []
    for imaginary in (False, True):
        chosen = [(x.imag if imaginary else x.real) if isinstance(x, Pair) else x for x in inputs]
        results = rule(where, *chosen, **arguments(rule, params))
        nodes = list(results) if isinstance(results, Sequence) else [results]
        parts.append([node for node in nodes if not isinstance(node, Pair)])
    return [Pair(real, imag) for real, imag in zip(*parts, strict=True)]


for _primitive in BY_PART:
    lowers_complex(_primitive)(partial(by_part, _primitive))


def bilinear(primitive: str, site: Site, x: Value, y: Value, **params: object) -> Value:
    """A product of complex arrays: four products of real ones, two where one factor is real."""
    where, rule = real_site(site), RULES[primitive]
    known = arguments(rule, params)
    if known.get("preferred_element_type") is not None:
        known["preferred_element_type"] = where.aval.dtype

    def product(a: Node, b: Node) -> Node:
        result = rule(where, a, b, **known)
        assert not isinstance(result, Pair | Sequence)
        return result

    if not isinstance(x, Pair):
        assert isinstance(y, Pair)
        return Pair(product(x, y.real), product(x, y.imag))
    if not isinstance(y, Pair):
        return Pair(product(x.real, y), product(x.imag, y))
    real = site.apply("Sub", product(x.real, y.real), product(x.imag, y.imag))
    return Pair(real, site.apply("Add", product(x.real, y.imag), product(x.imag, y.real)))


for _primitive in ("conv_general_dilated", "dot_general", "mul"):
    lowers_complex(_primitive)(partial(bilinear, _primitive))


@lowers_complex("real")
def lower_real(site: Site, x: Pair) -> Node:
    return x.real


@lowers_complex("imag")
def lower_imag(site: Site, x: Pair) -> Node:
    return x.imag


@lowers_complex("complex")
def lower_complex(site: Site, real: Node, imag: Node) -> Pair:
    """The parts may be broadcast to each other."""
    shape = site.aval.shape
    whole = (
        part if part.aval.shape == shape else site.apply("BroadcastTo", part, shape=shape)
        for part in (real, imag)
    )
    return Pair(*whole)


@lowers_complex("conj")
def lower_conj(site: Site, x: Value, **_: object) -> Pair:
    if isinstance(x, Pair):
        return Pair(x.real, site.apply("Neg", x.imag))
    return Pair(x, _zeros(site, x))


def _zeros(site: Site, x: Node) -> Node:
    zero = site.constant(0, x)
    return site.apply("BroadcastTo", zero, shape=x.aval.shape) if x.aval.shape else zero


@lowers_complex("convert_element_type")
def lower_convert(site: Site, x: Value, *, new_dtype: np.dtype, weak_type: bool) -> Value:
    """A real number gets 0 as imaginary part; a complex one loses it."""
    dtype = site.aval.dtype
    if dtype.kind != "c":
        assert isinstance(x, Pair)
        if dtype.kind != "b":
            return site.cast(x.real, dtype)
        tests = (site.cast(part, dtype) for part in (x.real, x.imag))
        return site.apply("LogicalOr", *tests)
    part = part_of(site.aval).dtype
    if isinstance(x, Pair):
        return Pair(site.cast(x.real, part), site.cast(x.imag, part))
    real = site.cast(x, part)
    return Pair(real, _zeros(site, real))


def size(z: Complex) -> Array:
    """The absolute value, without overflow on the way."""
    a, b = jnp.abs(z[0]), jnp.abs(z[1])
    large, small = jnp.maximum(a, b), jnp.minimum(a, b)
    ratio = small / jnp.where(large == 0, jnp.ones_like(large), large)
    length = large * jnp.sqrt(1 + ratio * ratio)
    return jnp.where(jnp.isinf(large), large, length)


def times(x: Complex, y: Complex) -> Complex:
    (a, b), (c, d) = x, y
    return a * c - b * d, a * d + b * c


def divide(x: Complex, y: Complex) -> Complex:
    """Smith's division: the greater part of the divisor is factored out."""
    (a, b), (c, d) = x, y
    turned = jnp.abs(c) < jnp.abs(d)
    p, q = jnp.where(turned, d, c), jnp.where(turned, -c, d)
    a, b = jnp.where(turned, b, a), jnp.where(turned, -a, b)
    ratio = q / p
    whole = p + q * ratio
    return (a + b * ratio) / whole, (b - a * ratio) / whole


def exp(z: Complex) -> Complex:
    length = jnp.exp(z[0])
    return length * jnp.cos(z[1]), length * jnp.sin(z[1])


def log(z: Complex) -> Complex:
    return jnp.log(size(z)), jnp.arctan2(z[1], z[0])


def log1p(z: Complex) -> Complex:
    a, b = z
    return jnp.log1p(a * (2 + a) + b * b) / 2, jnp.arctan2(b, 1 + a)


def expm1(z: Complex) -> Complex:
    a, b = z
    half = jnp.sin(b / 2)
    return jnp.expm1(a) * jnp.cos(b) - 2 * half * half, jnp.exp(a) * jnp.sin(b)


def is_negative(x: Array) -> Array:
    """Whether the sign of ``x`` is set, that of -0.0 too: on a branch cut it says which side."""
    return (x < 0) | (1 / x < 0)


def sqrt(z: Complex) -> Complex:
    a, b = z
    root = jnp.sqrt((size(z) + jnp.abs(a)) / 2)
    other = jnp.where(root == 0, root, b / (2 * jnp.where(root == 0, jnp.ones_like(root), root)))
    left = a < 0
    turned = jnp.where(is_negative(b), -root, root)
    return jnp.where(left, jnp.abs(other), root), jnp.where(left, turned, other)


def one(z: Complex) -> Complex:
    return jnp.ones_like(z[0]), jnp.zeros_like(z[0])


def rsqrt(z: Complex) -> Complex:
    return divide(one(z), sqrt(z))


def power(x: Complex, y: Complex) -> Complex:
    """``exp(y * log(x))``; of 0 it is 0, or 1 for the power 0."""
    zero = (x[0] == 0) & (x[1] == 0)
    nothing = (y[0] == 0) & (y[1] == 0)
    safe = jnp.where(zero, jnp.ones_like(x[0]), x[0]), x[1]
    real, imag = exp(times(y, log(safe)))
    at_zero = nothing.astype(real.dtype)
    return jnp.where(zero, at_zero, real), jnp.where(zero, jnp.zeros_like(imag), imag)


def sin(z: Complex) -> Complex:
    return jnp.sin(z[0]) * jnp.cosh(z[1]), jnp.cos(z[0]) * jnp.sinh(z[1])


def cos(z: Complex) -> Complex:
    return jnp.cos(z[0]) * jnp.cosh(z[1]), -jnp.sin(z[0]) * jnp.sinh(z[1])


def sinh(z: Complex) -> Complex:
    return jnp.sinh(z[0]) * jnp.cos(z[1]), jnp.cosh(z[0]) * jnp.sin(z[1])


def cosh(z: Complex) -> Complex:
    return jnp.cosh(z[0]) * jnp.cos(z[1]), jnp.sinh(z[0]) * jnp.sin(z[1])


def tanh(z: Complex) -> Complex:
    """From tanh(a) and tan(b), whose products stay small: NIST Handbook, 4.35.36."""
    s, c, t = jnp.sin(z[1]), jnp.cos(z[1]), jnp.tanh(z[0])
    rest = 1 - t * t
    whole = c * c + t * t * s * s
    return t / whole, s * c * rest / whole


def tan(z: Complex) -> Complex:
    real, imag = tanh((-z[1], z[0]))
    return imag, -real


def around_one(z: Complex) -> tuple[Complex, Complex]:
    """The roots of ``1 - z`` and ``1 + z``, from which Kahan has the inverse functions.

    (Branch cuts for complex elementary functions, 1987.)
    """
    return sqrt((1 - z[0], -z[1])), sqrt((1 + z[0], z[1]))


def turned_product(x: Complex, y: Complex) -> Complex:
    """``conj(x) * y``."""
    return times((x[0], -x[1]), y)


def asin(z: Complex) -> Complex:
    less, more = around_one(z)
    real = jnp.arctan2(z[0], times(less, more)[0])
    return real, jnp.arcsinh(turned_product(less, more)[1])


def acos(z: Complex) -> Complex:
    less, more = around_one(z)
    return 2 * jnp.arctan2(less[0], more[0]), jnp.arcsinh(turned_product(more, less)[1])


def acosh(z: Complex) -> Complex:
    less, more = sqrt((z[0] - 1, z[1])), sqrt((z[0] + 1, z[1]))
    return jnp.arcsinh(turned_product(less, more)[0]), 2 * jnp.arctan2(less[1], more[0])


def asinh(z: Complex) -> Complex:
    real, imag = asin((-z[1], z[0]))
    return imag, -real


def atanh(z: Complex) -> Complex:
    a, b = z
    real = jnp.log1p(4 * a / ((1 - a) * (1 - a) + b * b)) / 4
    return real, jnp.arctan2(2 * b, (1 - a) * (1 + a) - b * b) / 2


def atan(z: Complex) -> Complex:
    real, imag = atanh((-z[1], z[0]))
    return imag, -real


def before(x: Complex, y: Complex) -> Array:
    """Whether ``x`` is less: by the real part, of equal ones by the imaginary part."""
    return jnp.where(x[0] == y[0], x[1] < y[1], x[0] < y[0])


def chosen(which: Array, x: Complex, y: Complex) -> Complex:
    return jnp.where(which, x[0], y[0]), jnp.where(which, x[1], y[1])


def sign(z: Complex) -> Complex:
    length = size(z)
    safe = jnp.where(length == 0, jnp.ones_like(length), length)
    return z[0] / safe, z[1] / safe


def logistic(z: Complex) -> Complex:
    real, imag = exp((-z[0], -z[1]))
    return divide(one(z), (1 + real, imag))


def log2(z: Complex) -> Complex:
    real, imag = log(z)
    return real / real.dtype.type(np.log(2)), imag / imag.dtype.type(np.log(2))


def polynomial(z: Complex, *coefficients: Complex) -> Complex:
    """Horner's rule; the coefficients come lowest first."""
    value = coefficients[-1]
    for real, imag in reversed(coefficients[:-1]):
        value = times(value, z)
        value = value[0] + real, value[1] + imag
    return value


FUNCTIONS: dict[str, Callable[..., Complex | Array]] = {
    "abs": size,
    "acos": acos,
    "acosh": acosh,
    "asin": asin,
    "asinh": asinh,
    "atan": atan,
    "atanh": atanh,
    "cos": cos,
    "cosh": cosh,
    "div": divide,
    "eq": lambda x, y: (x[0] == y[0]) & (x[1] == y[1]),
    "exp": exp,
    "exp2": lambda z: exp((z[0] * z[0].dtype.type(np.log(2)), z[1] * z[1].dtype.type(np.log(2)))),
    "expm1": expm1,
    "is_finite": lambda z: jnp.isfinite(z[0]) & jnp.isfinite(z[1]),
    "log": log,
    "log1p": log1p,
    "log2": log2,
    "logistic": logistic,
    "max": lambda x, y: chosen(before(y, x), x, y),
    "min": lambda x, y: chosen(before(x, y), x, y),
    "ne": lambda x, y: (x[0] != y[0]) | (x[1] != y[1]),
    "one_minus_square": lambda z: times((1 + z[0], z[1]), (1 - z[0], -z[1])),
    "polynomial": polynomial,
    "pow": power,
    "rsqrt": rsqrt,
    "sign": sign,
    "sin": sin,
    "sinh": sinh,
    "sqrt": sqrt,
    "square": lambda z: times(z, z),
    "tan": tan,
    "tanh": tanh,
}


def lower_function(
    function: Callable[..., Complex | Array], site: Site, *inputs: Value, **_: object
) -> Value:
    """A function of pairs of real arrays, written in JAX."""
    flat: list[Value] = []
    for x in inputs:
        flat += [x.real, x.imag] if isinstance(x, Pair) else [x, _zeros(site, x)]
    wide = np.promote_types(flat[0].aval.dtype, np.float32)

    def on_parts(*parts: Array) -> Complex | Array:
        numbers = [part.astype(wide) for part in parts]
        return function(*zip(numbers[::2], numbers[1::2], strict=True))

    results = composed(site, on_parts, *flat)
    nodes = [result for result in results if not isinstance(result, Pair)]
    return Pair(*nodes) if len(nodes) == 2 else nodes[0]


for _primitive, _function in FUNCTIONS.items():
    lowers_complex(_primitive)(partial(lower_function, _function))


@lowers_complex("integer_pow")
def lower_integer_pow(site: Site, x: Pair, *, y: int) -> Value:
    """Products by repeated squaring."""

    def raised(real: Array, imag: Array) -> Complex:
        result, square, left = one((real, imag)), (real, imag), abs(y)
        while left:
            result = times(result, square) if left & 1 else result
            square, left = times(square, square), left >> 1
        return result if y >= 0 else divide(one(result), result)

    real, imag = composed(site, raised, x.real, x.imag)
    assert not isinstance(real, Pair)
    assert not isinstance(imag, Pair)
    return Pair(real, imag)


@lowers_complex("iota")
def lower_iota(site: Site, **params: object) -> Pair:
    """Real numbers that count."""
    where = real_site(site)
    known = arguments(RULES["iota"], params) | {"dtype": where.aval.dtype}
    numbers = RULES["iota"](where, **known)
    assert not isinstance(numbers, Pair | Sequence)
    return Pair(numbers, _zeros(site, numbers))


@lowers_complex("bitcast_convert_type")
def lower_bitcast(site: Site, x: Value, *, new_dtype: np.dtype) -> Value:
    if x.aval != site.aval:
        raise Refusal(
            f"the bits of {x.aval.dtype} as {site.aval.dtype}; use jnp.real, jnp.imag and "
            "jax.lax.complex"
        )
    return x


@lowers("real", "conj")
def lower_real_itself(site: Site, x: Node, **_: object) -> Node:
    return x


@lowers("imag")
def lower_no_imag(site: Site, x: Node) -> Node:
    return _zeros(site, x)
