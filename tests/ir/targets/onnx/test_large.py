"""Functions of large arrays in parts that ONNX Runtime computes fast: as JAX, and back again."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.targets import target

ODD = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3e38, -3e38, 88.9, -88.9, 89.4, -89.4], np.float32
)
RANDOM = np.random.default_rng(0)
X = np.concatenate(
    [np.linspace(-120, 120, 3000), RANDOM.standard_normal(3000) * 1e-3, ODD]
).astype(np.float32)  # fmt: skip
WORDS = RANDOM.integers(-(2**31), 2**31, (3, 4000)).astype(np.int32)
WORDS[0, :2] = -(2**31), 2**31 - 1
ROWS = np.stack([RANDOM.permuted(X) for _ in range(3)])
ROWS[:, :-40] = np.nan_to_num(ROWS[:, :-40])
Function = Callable[..., Any]

# What is written, and the greatest error in units of each result.
MAPS = RANDOM.standard_normal((2, 21, 32, 32)).astype(np.float32)
FEW = RANDOM.standard_normal((2, 32, 32, 3)).astype(np.float32)
FEW[0, 0, :4] = [[np.nan, 1, 0], [np.inf, 1, 0], [-np.inf, 1, 0], [-np.inf] * 3]
SOFTMAXES: dict[str, tuple[Function, np.ndarray, str]] = {
    f"{op.__name__} {name}": (lambda x, op=op, axis=axis: op(x, axis), x, part)
    for op in (jax.nn.softmax, jax.nn.log_softmax)
    for name, x, axis, part in (
        ("of channels", MAPS, 1, "Reshape"),
        ("along the first axis", MAPS, 0, "Reshape"),
        ("of three", FEW, -1, "Max"),
        ("of two", FEW[..., :2], -1, "Max"),
        ("of four", MAPS.reshape(-1, 4), -1, "Max"),
    )
}
FLOATS: dict[str, tuple[Function, str, float]] = {
    "softplus": (jax.nn.softplus, "Log", 5e-7),
    "log_sigmoid": (jax.nn.log_sigmoid, "Log", 5e-7),
    "mish": (jax.nn.mish, "Log", 2e-6),
    "cosh": (jnp.cosh, "Exp", 3e-6),
    "sinh": (jnp.sinh, "Exp", 3e-6),
    "logaddexp": (lambda x: jnp.logaddexp(x, x[::-1]), "Log", 3e-6),
    "log of two cosh": (lambda x: jnp.logaddexp(x, -x), "Log", 5e-7),
}
EXACT: dict[str, tuple[Function, np.ndarray, str]] = {
    "where of integers": (lambda x: jnp.where(x > x[::-1], x, x[::-1] + 1), WORDS, "Mul"),
    "where or 0": (lambda x: jnp.where(x > 5, x, 0), WORDS, "Mul"),
    "where or 7": (lambda x: jnp.where(x > 5, 7, x), WORDS, "Mul"),
    "where 0": (lambda x: jnp.where(x > 5, 0, x), WORDS, "Mul"),
    "shifted by 3": (lambda x: x >> 3, WORDS, "BitwiseXor"),
    "shifted by many": (lambda x: x >> (jnp.abs(x[::-1]) % 40), WORDS, "BitwiseXor"),
    "greatest": (lambda x: x.max(1), ROWS[:, :-40], "Abs"),
    "least": (lambda x: x.min(1), ROWS[:, :-40], "Abs"),
    "greatest of few": (lambda x: x[:, -40:].max(1), ROWS, "ReduceL1"),
    "place of the greatest": (lambda x: x.argmax(0), ROWS, "ArgMax"),
    "place of the least": (lambda x: x.argmin(1), ROWS, "ArgMin"),
    "clipped to bytes": (lambda x: jnp.clip(x * 255, 0, 255).astype(jnp.uint8), X, "Clip"),
    "signed bytes": (lambda x: jnp.round(jnp.tanh(x) * 127).astype(jnp.int8), X, "Round"),
    "any to bytes": (lambda x: x.astype(jnp.uint8), X, "ThresholdedRelu"),
}


def run(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    return np.asarray(found)


def operators(path: Path) -> Counter[str]:
    return Counter(node.op for node in target("ONNX").summarize(path).every_node())


def exported(call: Function, x: np.ndarray, path: Path) -> Path:
    file = fnckpt.export({}, lambda _, x: call(x), x, "ONNX", file_name=path)
    params, again = load_graph(file)
    np.testing.assert_array_equal(again(params, x), jax.jit(call)(x))
    second = fnckpt.export(params, again, x, "ONNX", file_name=path.with_name("again"))
    assert operators(second.path) == operators(file.path)
    return file.path


@pytest.mark.parametrize("name", FLOATS)
def test_a_function_of_a_large_array_is_as_in_jax_and_comes_back(name: str, tmp_path: Path) -> None:
    call, part, limit = FLOATS[name]
    path = exported(call, X, tmp_path / "net")
    assert part in operators(path)
    np.testing.assert_allclose(run(path, X), jax.jit(call)(X), rtol=limit, atol=2e-36)


@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_softmax_is_laid_out_as_its_kernel_likes_it(name: str, tmp_path: Path) -> None:
    call, x, part = SOFTMAXES[name]
    file = fnckpt.export({}, lambda _, x: call(x), x, "ONNX", file_name=tmp_path / "net")
    assert part in operators(file.path)
    np.testing.assert_allclose(run(file.path, x), jax.jit(call)(x), rtol=1e-5, atol=1e-6)
    params, again = load_graph(file)
    second = fnckpt.export(params, again, x, "ONNX", file_name=tmp_path / "again")
    assert operators(second.path) == operators(file.path)


@pytest.mark.parametrize("name", EXACT)
def test_what_is_exact_of_a_large_array_stays_exact(name: str, tmp_path: Path) -> None:
    call, x, part = EXACT[name]
    path = exported(call, x, tmp_path / "net")
    assert part in operators(path)
    np.testing.assert_array_equal(run(path, x), jax.jit(call)(x))


@pytest.mark.parametrize("size", [40, 6000])
@pytest.mark.parametrize("axis", [0, 1])
def test_one_nan_makes_the_greatest_and_the_least_nan(size: int, axis: int, tmp_path: Path) -> None:
    """As NumPy has it, and JAX but for some long rows on a CPU."""
    x = RANDOM.standard_normal((3, size)).astype(np.float32)
    x[1, 7], x[2, 8], x[0, 9] = np.nan, np.inf, -np.inf
    for name in ("max", "min"):
        file = fnckpt.export(
            {}, lambda _, x, n=name: getattr(x, n)(axis), x, "ONNX", file_name=tmp_path / name
        )
        np.testing.assert_array_equal(run(file.path, x), getattr(x, name)(axis))


@pytest.mark.parametrize("sign", [1, -1])
def test_infinity_is_beyond_the_greatest_number_and_nan_beyond_it(
    sign: int, tmp_path: Path
) -> None:
    greatest = float(np.finfo(np.float32).max)
    for x in ([greatest, np.inf, 1], [np.inf, np.nan, 1, np.nan], [-np.inf, -greatest]):
        numbers = sign * np.array(x, np.float32)
        call = jnp.argmax if sign > 0 else jnp.argmin
        path = exported(call, numbers, tmp_path / "net")
        assert run(path, numbers) == call(numbers)


def test_bytes_that_are_scaled_need_no_guard(tmp_path: Path) -> None:
    x = RANDOM.integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)

    def brighter(x: jax.Array) -> jax.Array:
        return jnp.clip(x.astype(jnp.float32) * 1.2 + 10, 0, 255).astype(jnp.uint8)

    path = exported(brighter, x, tmp_path / "net")
    assert operators(path) == Counter({"Cast": 2, "Mul": 1, "Add": 1, "Clip": 1})
    np.testing.assert_array_equal(run(path, x), jax.jit(brighter)(x))


def test_rounded_numbers_between_two_ends_need_no_clip_of_their_own(tmp_path: Path) -> None:
    def to_bytes(x: jax.Array) -> jax.Array:
        return jnp.round(jnp.clip(x, 0, 1) * 255).astype(jnp.uint8)

    path = exported(to_bytes, X, tmp_path / "net")
    assert (operators(path)["Clip"], operators(path)["ThresholdedRelu"]) == (1, 1)
    np.testing.assert_array_equal(run(path, X), jax.jit(to_bytes)(X))


def test_numbers_have_all_axes_of_what_ends_in_one_element(tmp_path: Path) -> None:
    x = RANDOM.random((2, 32, 32, 1)).astype(np.float32)

    def loss(x: jax.Array) -> jax.Array:
        return jnp.where(x > 0.5, 1 - x, 2 * x) + jnp.maximum(x * 3, 1)

    path = exported(loss, x, tmp_path / "net")
    np.testing.assert_array_equal(run(path, x), jax.jit(loss)(x))
    floats = [each for each in onnx.load(path).graph.initializer if each.data_type == 1]
    assert {tuple(each.dims) for each in floats} == {(1, 1, 1, 1)}


def test_the_derivative_of_a_softplus_that_comes_back_is_one_half_at_0(tmp_path: Path) -> None:
    x = np.zeros(4096, np.float32)
    file = fnckpt.export({}, lambda _, x: jax.nn.softplus(x), x, "ONNX", file_name=tmp_path / "net")
    params, again = load_graph(file)
    np.testing.assert_allclose(jax.grad(lambda x: again(params, x).sum())(x), 0.5)
