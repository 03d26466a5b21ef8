"""Programs deeper than Python's stack, and with more ways than nodes, export in linear time."""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized, preferred

LONG, FRAMES = 150, 420  # operators in a row, and the frames of Python's stack that are left
X = np.linspace(0.5, 1.5, 24, dtype=np.float32).reshape(4, 6)
I = np.arange(24, dtype=np.int32).reshape(4, 6)  # noqa: E741
B = I % 2 == 0

Step = Callable[[Any, Any], Any]
STEPS: dict[str, tuple[Step, np.ndarray]] = {
    "sums": (lambda v, x: v + x, X),
    "products with themselves": (lambda v, x: jnp.sqrt(v * v + v), X),
    "choices": (lambda v, x: jnp.where(v > x, v, v * 1.01), X),
    "cosines": (lambda v, x: jnp.cos(v), X),
    "limits": (lambda v, x: jnp.minimum(jnp.maximum(v, x * 0.5), 9.0), X),
    "moves": (lambda v, x: jnp.tanh(v.reshape(6, 4).T), X),
    "whole numbers": (lambda v, x: jnp.where(v < 0, v + x, v + 1), I),
    "divisions": (lambda v, x: v // (x + 1) + 7, I),
    "conditions": (lambda v, x: (v & x) | ~x, B),
}
ENDS: tuple[Step, ...] = (
    lambda v, x: v.reshape(-1),
    lambda v, x: jax.nn.softmax(jnp.where(v != 0, X, -1e30)),
    lambda v, x: jnp.arange(30.0)[jnp.clip(v.astype(jnp.int32), 0, 29)],
    lambda v, x: jax.lax.dynamic_slice(x, (v[0, 0].astype(jnp.int32), 0), (2, 2)),
)


@pytest.fixture
def shallow() -> Iterator[Callable[[], None]]:
    """A call after which Python's stack has room for FRAMES more."""
    before = sys.getrecursionlimit()
    yield lambda: sys.setrecursionlimit(len(inspect.stack(0)) + FRAMES)
    sys.setrecursionlimit(before)


def assert_as_jax(apply: Step, x: np.ndarray, shallow: Callable[[], None]) -> None:
    def with_ends(_: Any, *inputs: Any) -> Any:
        return [end(apply(x, x), x) for end, x in zip(ENDS, inputs, strict=True)]

    inputs = [x] * len(ENDS)
    literal = trace({}, with_ends, inputs, name="long")
    shallow()
    graph = optimized(literal)
    for file_format in ("ONNX", "MINDIR", "AIR"):
        goal = target(file_format)
        legalized(preferred(graph, goal), goal)
    for found, wanted in zip(evaluate(graph, inputs), with_ends({}, *inputs), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("step", STEPS)
def test_a_long_chain_is_optimized_whatever_it_is_made_of(
    step: str, shallow: Callable[[], None]
) -> None:
    each, x = STEPS[step]

    def apply(v: Any, x: Any) -> Any:
        for _ in range(LONG):
            v = each(v, x)
        return v

    assert_as_jax(apply, x, shallow)


def test_values_with_exponentially_many_ways_to_them_are_optimized(
    shallow: Callable[[], None],
) -> None:
    def apply(v: Any, x: Any) -> Any:
        v = v.sum(0, keepdims=True)
        for _ in range(40):
            v = jnp.where(v > 0.7, v, -v) * 0.5
        return v

    assert_as_jax(apply, X, shallow)
