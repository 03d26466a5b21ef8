"""Lowering takes work in proportion to the equations, counted in calls of Python functions."""

import sys
from collections.abc import Callable
from types import FrameType

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from fnckpt.ir.graph import Parameter
from fnckpt.ir.lowering import lower
from fnckpt.ir.lowering.jaxpr import aval_of_var


def chain(count: int) -> Callable[[jax.Array], jax.Array]:
    def fn(x: jax.Array) -> jax.Array:
        for _ in range(count // 5):
            x = jnp.transpose(jnp.tanh(x) * 0.5 + x) - x
        return x

    return fn


def calls_to_lower(closed: ClosedJaxpr) -> int:
    inputs = [Parameter("x", aval_of_var(var)) for var in closed.jaxpr.invars]
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        lower(closed, [], inputs, name="chain", output_names=["y"])
    finally:
        sys.setprofile(None)
    return calls


def test_four_times_the_equations_take_four_times_the_calls() -> None:
    few, many = (jax.make_jaxpr(chain(n))(jnp.ones((4, 4))) for n in (1000, 4000))
    assert len(many.jaxpr.eqns) == 4000
    assert calls_to_lower(many) < 4.2 * calls_to_lower(few)
