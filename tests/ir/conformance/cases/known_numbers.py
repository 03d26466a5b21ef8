"""What a rewrite may not take for granted of a number that it knows, or of a range."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import F64, normal
from tests.ir.conformance.case import Case

INTEGERS = np.array([5, -5, 7, -(2**31), 0], np.int32)
DIVISORS = np.array([0, 0, 3, -1, -1], np.int32)
WHICH = np.array([True, False, False, False, True])


def almost_one() -> Iterator[Case]:
    """A number is not the one beside it, of which more is known."""
    one = np.float64(1 + 1e-7)
    for name, fn in (
        ("x * c", lambda x: x * one),
        ("x / c", lambda x: x / one),
        ("a remainder", lambda x: x % one),
        ("elu", lambda x: jnp.where(x > 0, x, one * jnp.expm1(x))),
        ("half of erfc", lambda x: 0.5 * x * lax.erfc(-x * (np.sqrt(0.5) + 1e-8))),
        ("a sixth of a clip", lambda x: jnp.clip(x + 3, 0, 6) / (6 * one)),
    ):
        yield Case(f"almost 1: {name}", fn, (normal(9, dtype=F64) * 3,))
    # what is left is rounded: numbers of float32 are 1e-7 apart
    near = lambda x: (x * np.float32(1 + 9e-7) - x) / np.float32(9e-7)  # noqa: E731
    yield Case("almost 1: x * c - x", near, (normal(9),), tolerance=0.2)


def divisors() -> Iterator[Case]:
    """A divisor may be 0 or -1, however it was chosen or cast."""
    for name, fn in (("a quotient", lax.div), ("a rest", lax.rem), ("a modulus", jnp.mod)):
        chosen = lambda x, y, w, fn=fn: fn(x, jnp.where(w, 1, y))  # noqa: E731
        yield Case(f"divisor that is 1 here and there: {name}", chosen, (INTEGERS, DIVISORS, WHICH))
        floats = lambda x, y, fn=fn: fn(x, y.astype(x.dtype))  # noqa: E731
        args = INTEGERS, np.array([0.5, np.nan, -1.5, -1.2, 3], np.float32)
        yield Case(f"divisor of floats: {name}", floats, args)
        few = np.array([5, -5, 7, -128], np.int8), np.array([256, 255, 0, 512], np.int32)
        yield Case(f"divisor of more bits: {name}", floats, few)


def ends() -> Iterator[Case]:
    """Integers at the ends of their type, and where doubles hold not each."""
    far = np.array([2**53, 2**53 + 1, 2**53 - 1, 2**62, 2**63 - 1, 0], np.int64)
    yield Case(
        "ends: numbers above 2^53 are told apart",
        lambda x: (jnp.maximum(x, 2**53) < 2**53 + 1, jnp.maximum(x, 2**53) + 1 < 2**53 + 2),
        (far,),
    )
    yield Case(
        "ends: a sum of int64 wraps",
        lambda x: jnp.clip(x, 0, 2**62) + jnp.clip(x, 0, 2**62) < 0,
        (far,),
    )
    for dtype, number in (("uint32", 5), ("uint8", 200), ("int8", -128), ("int64", 7)):
        c, x = np.dtype(dtype).type(number), np.array([1, 5, 100], dtype)
        yield Case(
            f"ends: {dtype} and its opposite",
            lambda x, c=c: ((-x) * c, -(x * c), (-x) // c, -(x // c), c - (-x)),
            (x,),
        )
    yield Case(
        "ends: the opposite of uint64",
        lambda x: (-x, x - (-x)),
        (np.array([0, 1, 2**63, 2**64 - 1], np.uint64),),
    )


CASES = [*almost_one(), *divisors(), *ends()]
