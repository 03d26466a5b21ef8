"""A softmax beside its logarithm: two operators, and the numbers of JAX."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized

X = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32) * 4
X[1, 2], X[2, 3], X[3, 4] = np.nan, -np.inf, np.inf
softmax, log_softmax = jax.nn.softmax, jax.nn.log_softmax


def entropy(x: jax.Array) -> jax.Array:
    return -(softmax(x) * log_softmax(x)).sum(-1)


def along_columns(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return log_softmax(x, 0), softmax(x, 0)


def of_two(x: jax.Array) -> jax.Array:
    return (softmax(x) * (log_softmax(x) - log_softmax(x * 2))).sum()


def by_hand(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    shifted = x - x.max(-1, keepdims=True)
    powers = jnp.exp(shifted)
    total = powers.sum(-1, keepdims=True)
    return powers / total, shifted - jnp.log(total)


def of_others(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return softmax(x, 0), log_softmax(x, 1)


FOUND = {entropy: 1, along_columns: 1, of_two: 2, by_hand: 1}


def operators(call: Callable[..., Any]) -> Counter[str]:
    graph = optimized(trace({}, lambda _, x: call(x), (X,), name="call"))
    for found, wanted in zip(evaluate(graph, [X]), jax.tree.leaves(jax.jit(call)(X)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    return Counter(node.op for node in graph.cnodes())


@pytest.mark.parametrize("call", FOUND)
def test_both_are_one_operator_and_its_power(call: Callable[..., Any]) -> None:
    found = operators(call)
    assert (found["LogSoftmax"], found["Exp"], found["Softmax"]) == (FOUND[call], 1, 0)
    assert found["ReduceMax"] == 0


def test_those_of_other_axes_stay_two() -> None:
    found = operators(of_others)
    assert (found["LogSoftmax"], found["Softmax"], found["Exp"]) == (1, 1, 0)
