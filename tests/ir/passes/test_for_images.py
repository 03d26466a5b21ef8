"""What images are computed with: columns, means of windows, fractions; equal numbers, NaN too."""

from collections.abc import Callable
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

X = np.random.default_rng(0).standard_normal((2, 48, 64, 3)).astype(np.float32)
X[0, 0, :5] = (
    [np.nan, np.inf, -np.inf],
    [-1e-9, 1e-9, -0.75],
    [1e30, -1e30, 3],
    [-2, 2, -1],
    [0] * 3,
)
Function = Callable[[jax.Array], jax.Array]


def column(x: jax.Array) -> jax.Array:
    return x[..., 1:2] * 2


def column_beside_colours(x: jax.Array) -> jax.Array:
    return jnp.clip(x[..., :1], 0, 1) * jnp.arange(1.0, 4.0) + 1


def fraction(x: jax.Array) -> jax.Array:
    return x % 1


def added(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0, x + 6, x)


def mean(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3))


def mean_of_two(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (2, 2), (2, 2))


def mean_with_padding(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (5, 3), padding="SAME")


def mean_of_what_is_there(x: jax.Array) -> jax.Array:
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def total(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "VALID")


def log_of_sums(x: jax.Array) -> jax.Array:
    return jax.scipy.special.logsumexp(x, axis=-1, b=jnp.array([1.0, 0.5, -0.25]))


HAS: dict[Function, set[str]] = {
    column: {"Reshape", "Slice", "Mul"},
    fraction: {"Floor", "Sub"},
    added: {"Less", "Add", "Cast", "Mul"},
    mean: {"Conv", "Div"},
    mean_of_two: {"Conv", "Div"},
    mean_with_padding: {"Conv", "Div"},
    total: {"Conv"},
}
LACKS: dict[Function, str] = {
    **dict.fromkeys((fraction,), "Rem"),
    **dict.fromkeys((added, log_of_sums), "Sign"),
    **dict.fromkeys((mean, mean_of_two, mean_with_padding, total), "AvgPool"),
}
EVERY = (*HAS, column_beside_colours, mean_of_what_is_there, log_of_sums)


def ops_of(call: Function, x: np.ndarray) -> list[str]:
    traced = optimized(trace({}, lambda _, x: call(x), (x,), name="call"))
    return [node.op for node in preferred(traced, target("ONNX")).cnodes()]


@pytest.mark.parametrize("call", HAS)
def test_the_faster_operators_are_chosen(call: Function) -> None:
    assert HAS[call] <= set(ops_of(call, X))


@pytest.mark.parametrize("call", LACKS)
def test_the_slower_operators_are_gone(call: Function) -> None:
    assert LACKS[call] not in ops_of(call, X)


@pytest.mark.parametrize("call", [mean, mean_of_two])
@pytest.mark.parametrize("x", [np.repeat(X, 8, -1), X[:1, :8, :8]], ids=["8 channels", "small"])
def test_a_pool_that_is_fast_stays_one(call: Function, x: np.ndarray) -> None:
    assert "AvgPool" in ops_of(call, x)


@pytest.mark.parametrize("shape", [X.shape, ("b", *X.shape[1:])], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("call", EVERY)
def test_the_numbers_are_those_of_jax(
    call: Function, shape: tuple[int | str, ...], tmp_path: Path
) -> None:
    sample = X if shape == X.shape else shape
    file = fnckpt.export({}, lambda _, x: call(x), sample, "ONNX", file_name=tmp_path / "a")
    (found,), wanted = fnckpt.run(file, X), np.asarray(jax.jit(call)(X))
    scale = np.maximum(1, np.abs(np.where(np.isfinite(wanted), wanted, 1)))
    same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
    with np.errstate(invalid="ignore"):
        assert (same | (np.abs(found - wanted) <= 1e-5 * scale)).all()
