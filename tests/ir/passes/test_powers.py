"""Powers with known exponents: what is left, what stays, the numbers of the power."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized

ENDS = [0, -0.0, np.nan, np.inf, -np.inf, 1e-30, -1e-30, 3e38, -3e38, 1e13, -7e12, 1, -2]
X = np.array([*ENDS, *np.random.default_rng(0).standard_normal(200)], np.float32)
CASES: dict[str, tuple[Callable[[jax.Array], jax.Array], str]] = {
    "square": (lambda x: x**2.0, "Square"),
    "cube": (lambda x: x**3.0, "Square Mul"),
    "fourth": (lambda x: x**4.0, "Square Square"),
    "one and a half": (lambda x: jnp.abs(x) ** 1.5, "Abs Sqrt Mul"),
    "a half": (lambda x: jnp.exp(x) ** 0.5, "Exp Sqrt"),
    "a half of what may be negative": (lambda x: x**0.5, "Pow"),
    "another exponent": (lambda x: jnp.abs(x) ** 2.4, "Abs Pow"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_known_power_is_products_and_roots_with_its_numbers(name: str) -> None:
    call, left = CASES[name]
    graph = trace({}, lambda _, x: call(x), (X,), name="power")
    after = optimized(graph, debug=True)
    assert " ".join(node.op for node in after.cnodes()) == left
    with np.errstate(all="ignore"):
        (found,), (wanted,) = evaluate(after, (X,)), evaluate(graph, (X,))
    np.testing.assert_allclose(found, wanted, rtol=3e-7)
