"""Choices between large arrays: what is left of them, and equal elements, NaN among them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

X = np.random.default_rng(0).standard_normal((3, 2, 4096)).astype(np.float32)
X[0, 0, :4] = np.nan, np.inf, -np.inf, -0.0
Function = Callable[[jax.Array], Any]


def two(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0.5, x, 1 - x)


def several(x: jax.Array) -> jax.Array:
    return jnp.where(x < -1, x * x, jnp.where(x < 0, x, jnp.where(x > 1, 1 / x, x + 1)))


def several_in_else(x: jax.Array) -> jax.Array:
    return jnp.where(x < 1, jnp.where(x < 0, x, x * x), 1 / x)


def of_integers(x: jax.Array) -> jax.Array:
    kind = (x > -1).astype(jnp.int32) + (x > 0) + (x > 1)
    return jnp.select([kind == i for i in range(3)], [x, x + 1, x * x], 7 / x)


def of_groups(x: jax.Array) -> jax.Array:
    return jnp.where(x[:1] > 0, x, x[:, :1])


def used_twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    inner = jnp.where(x < 0, x, x * x)
    return inner, jnp.where(x > 1, 1 / x, inner)


def of_a_number(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.0)


def of_rows(x: jax.Array) -> jax.Array:
    return jnp.where(x[..., :1] > 0, x, x * x)


def of_a_constant(x: jax.Array) -> jax.Array:
    return jnp.where(np.arange(4096) % 3 == 0, x, x * x)


READ = {two: 1, several: 1, several_in_else: 1, of_integers: 1, of_groups: 1, used_twice: 2}
LEFT = (of_a_number, of_rows, of_a_constant)


def left_of(call: Function, x: np.ndarray) -> list[str]:
    traced = optimized(trace({}, lambda _, x: call(x), (x,), name="call"))
    after = preferred(traced, target("ONNX"))
    for found, wanted in zip(evaluate(after, [x]), evaluate(traced, [x]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    return [node.op for node in after.cnodes()]


@pytest.mark.parametrize("call", READ)
def test_a_choice_between_arrays_reads_one_element(call: Function) -> None:
    ops = left_of(call, X)
    assert ("Select" in ops, ops.count("GatherElements")) == (False, READ[call])


@pytest.mark.parametrize(("call", "x"), [*((call, X) for call in LEFT), (two, X[..., :500])])
def test_a_choice_that_is_cheap_stays(call: Function, x: np.ndarray) -> None:
    assert "GatherElements" not in left_of(call, x)


@pytest.mark.parametrize("call", [*READ, *LEFT])
@pytest.mark.parametrize("shape", [(3, 2, 4096), ("b", 2, 4096)], ids=["fixed", "dynamic"])
def test_what_is_chosen_is_what_jax_chooses(
    call: Function, shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    sample = X if shape == X.shape else shape
    file = fnckpt.export({}, lambda _, x: call(x), sample, "ONNX", file_name=tmp_path / "a")
    wanted = jax.tree.leaves(jax.jit(call)(X))
    for found, each in zip(fnckpt.run(file, X), wanted, strict=True):
        np.testing.assert_allclose(found, np.asarray(each), rtol=1e-6)
