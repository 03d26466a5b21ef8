"""Special functions that no runtime has, as series of fixed length, written in JAX.

Accuracy, relative to max(1, value), against scipy: 2e-7 in float32 and 1e-14 in float64 for the
Bessel functions, 1e-6 and 1e-13 for zeta and polygamma.
"""

from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Site, Value, lowers
from fnckpt.ir.operators.arrays import special_of

Array = jax.Array

# Terms of a Chebyshev series: enough for the rounding of float32 and of float64.
TERMS = {4: 20, 8: 32}


@cache
def chebyshev(function: Callable[[np.ndarray], np.ndarray], terms: int) -> tuple[float, ...]:
    """The coefficients of ``function`` on [-1, 1] for the Chebyshev polynomials, lowest first."""
    series = np.polynomial.chebyshev.Chebyshev.interpolate(function, terms - 1)
    return tuple(np.asarray(series.coef).tolist())


def clenshaw(coefficients: tuple[float, ...], t: Array) -> Array:
    """The value of a Chebyshev series at ``t``."""
    last, before = jnp.zeros_like(t), jnp.zeros_like(t)
    for coefficient in reversed(coefficients[1:]):
        last, before = 2 * t * last - before + t.dtype.type(coefficient), last
    return t * last - before + t.dtype.type(coefficients[0])


# ive(n, y) on [0, 8] as a function of t in [-1, 1], and sqrt(y) * ive(n, y) above, where t is
# 16 / y - 1: the two intervals of Cephes' i0.c and i1.c.
def _near(order: int, t: np.ndarray) -> np.ndarray:
    return special_of(t).ive(order, 4 * (t + 1))


def _far(order: int, t: np.ndarray) -> np.ndarray:
    y = 16 / np.maximum(t + 1, 1e-300)
    limit = np.full_like(t, 1 / np.sqrt(2 * np.pi))
    return np.where(
        y > 1e12,
        limit,
        special_of(t).ive(order, np.minimum(y, 1e12)) * np.sqrt(np.minimum(y, 1e12)),
    )


NEAR = {order: partial(_near, order) for order in (0, 1)}
FAR = {order: partial(_far, order) for order in (0, 1)}


def bessel(order: int, x: Array) -> Array:
    """The modified Bessel function I of ``order`` 0 or 1, times exp(-abs(x))."""
    size, terms = jnp.abs(x), TERMS[max(4, x.dtype.itemsize)]
    near = clenshaw(chebyshev(NEAR[order], terms), jnp.minimum(size, 8) / 4 - 1)
    large = jnp.maximum(size, 8)
    far = clenshaw(chebyshev(FAR[order], terms), 16 / large - 1) / jnp.sqrt(large)
    value = jnp.where(size <= 8, near, far)
    return value if order == 0 else value * jnp.sign(x)


TERMS_OF_SUM = 12


@cache
def corrections() -> tuple[float, ...]:
    """Bernoulli numbers B(2k) / (2k)!, k from 1: those of Euler and Maclaurin's sum."""
    orders = np.arange(2, 2 * TERMS_OF_SUM + 1, 2)
    special = special_of(orders)
    numbers = special.bernoulli(2 * TERMS_OF_SUM)[2::2] / special.factorial(orders)
    return tuple(numbers.tolist())


def zeta(s: Array, q: Array) -> Array:
    """Hurwitz' zeta function: the sum of ``(q + n) ** -s``, for ``s`` > 1.

    The first terms are summed, the rest is Euler and Maclaurin's formula at ``a = q + 12``
    (Olver, NIST Handbook, 25.11.43).
    """
    kind = s.dtype.type
    total = jnp.zeros_like(s)
    for n in range(TERMS_OF_SUM):
        total = total + (q + kind(n)) ** -s
    a = q + kind(TERMS_OF_SUM)
    power = a**-s
    total = total + power * a / (s - kind(1)) + kind(0.5) * power
    # s (s + 1) ... a ** (-s - k): of large s the one factor overflows where the other underflows
    power = power * (s / a)
    for k, correction in enumerate(corrections()):
        total = total + kind(correction) * power
        power = power * ((s + kind(2 * k + 1)) / a) * ((s + kind(2 * k + 2)) / a)
    at_pole = (q <= 0) & (q == jnp.floor(q))
    at_negative = (q <= 0) & (s != jnp.floor(s))
    is_even = s == 2 * jnp.floor(s / 2)
    no_sum = (s < 1) | at_negative | jnp.isposinf(q)
    total = jnp.where(no_sum, kind(np.nan), total)
    total = jnp.where(at_pole, jnp.where(is_even, kind(np.inf), kind(np.nan)), total)
    return jnp.where(s == 1, kind(np.inf), total)


def polygamma(m: Array, x: Array) -> Array:
    """The derivative ``m`` of digamma: ``(-1) ** (m + 1) * m! * zeta(m + 1, x)``."""
    one = m.dtype.type(1)
    sign = jnp.where(jnp.floor(m / 2) * 2 == m, -one, one)
    value = sign * jnp.exp(jax.lax.lgamma(m + one)) * zeta(m + one, x)
    value = jnp.where((m < 0) | (m != jnp.floor(m)), m.dtype.type(np.nan), value)
    return jnp.where(m == 0, jax.lax.digamma(x), value)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "bessel_i0e": partial(bessel, 0),
    "bessel_i1e": partial(bessel, 1),
    "polygamma": polygamma,
    "zeta": zeta,
}


def lower_special(function: Callable[..., Array], site: Site, *inputs: Node) -> Value:
    """Narrow floats are computed in float32."""
    wide = np.promote_types(site.aval.dtype, np.float32)

    def widened(*arrays: Array) -> Array:
        return function(*(x.astype(wide) for x in arrays)).astype(site.aval.dtype)

    (result,) = composed(site, widened, *inputs)
    return result


for _primitive, _function in FUNCTIONS.items():
    lowers(_primitive)(partial(lower_special, _function))
