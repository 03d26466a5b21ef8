"""What a rewrite may not take for granted of a number that it knows, or of a range."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import F64, normal
from tests.ir.conformance.case import Case


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


CASES = [*almost_one()]
