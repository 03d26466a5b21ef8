"""Reads of many single elements, and sums along rows: as JAX, by the kernels that are fast."""

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
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized, preferred

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((40, 100)).astype(np.float32)
PLACES = RANDOM.integers(-60, 60, 600).astype(np.int32)

Function = Callable[[jax.Array, jax.Array], Any]


def taken(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x.reshape(-1), i * 50)


def clipped(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x.reshape(-1), i.reshape(20, 30) * 50, mode="clip")


def of_pairs(x: jax.Array, i: jax.Array) -> jax.Array:
    return x[i % 40, (i * 7) % 100]


def of_triples(x: jax.Array, i: jax.Array) -> jax.Array:
    return x.reshape(5, 8, 100)[jnp.abs(i) % 5, jnp.abs(i) % 8, jnp.abs(i) % 100]


def of_a_batch(x: jax.Array, i: jax.Array) -> jax.Array:
    return jax.vmap(lambda row, i: row[i])(x, jnp.abs(i[:400].reshape(40, 10)) % 100)


def columns(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x, jnp.abs(i[:64]) % 100, axis=1)


def sums(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.cumsum(x.reshape(2, 20, 100), -1)


def sums_from_behind(x: jax.Array, i: jax.Array) -> jax.Array:
    return jax.lax.cumsum(x, 1, reverse=True)


def few(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x.reshape(-1), i[:8])


def rows(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x, jnp.abs(i) % 40, axis=0)


def one_row(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.cumsum(x.reshape(-1))


# What it is written with, and what it is not.
WRITTEN: dict[Function, tuple[str, str]] = {
    taken: ("GatherElements", "Gather"),
    clipped: ("GatherElements", "Gather"),
    of_pairs: ("GatherElements", "GatherNd"),
    of_triples: ("GatherElements", "GatherNd"),
    of_a_batch: ("GatherElements", "GatherNd"),
    columns: ("Transpose", "GatherElements"),
    sums: ("Transpose", "Gather"),
    sums_from_behind: ("Transpose", "Gather"),
    few: ("Gather", "GatherElements"),
    rows: ("Gather", "GatherElements"),
    one_row: ("CumSum", "Transpose"),
}


@pytest.mark.parametrize("call", WRITTEN)
def test_single_elements_are_read_at_once(call: Function) -> None:
    graph = optimized(trace({}, lambda _, *args: call(*args), (X, PLACES), name="call"))
    goal = target("ONNX")
    written = preferred(legalized(graph, goal), goal)
    (found,), wanted = evaluate(written, [X, PLACES]), jax.jit(call)(X, PLACES)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    ops = Counter(node.op for node in written.cnodes())
    there, gone = WRITTEN[call]
    assert (ops[there] > 0, ops[gone]) == (True, 0)
