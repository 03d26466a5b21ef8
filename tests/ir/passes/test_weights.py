"""Arithmetic done on weights at export: what is left, what is left alone, equal numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import CHANGES_WEIGHTS, PASSES, chosen, run

RNG = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def norm(y: jax.Array, w: dict[str, Any]) -> jax.Array:
    factor = jax.lax.rsqrt(w["var"] + 1e-5) * w["scale"]
    return (y - w["mean"]) * factor + w["bias"]


def keras_norm(y: jax.Array, w: dict[str, Any], scale: bool = True, bias: bool = True) -> jax.Array:
    factor = jax.lax.rsqrt(w["var"] + 1e-3)
    factor = factor * w["scale"] if scale else factor
    shift = -w["mean"] * factor
    return y * factor + (shift + w["bias"] if bias else shift)


def equinox_norm(y: jax.Array, w: dict[str, Any]) -> jax.Array:
    return (y - w["mean"]) / jnp.sqrt(w["var"] + 1e-5) * w["scale"] + w["bias"]


def conv(x: jax.Array, kernel: jax.Array, pads: str = "SAME", groups: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )  # fmt: skip


def statistics(size: int) -> dict[str, np.ndarray]:
    """Of a norm; the means are near 0."""
    return {
        "scale": numbers(size),
        "bias": numbers(size),
        "mean": numbers(size),
        "var": 0.7 + np.abs(numbers(size)),
    }


IMAGE, ROWS, MATRIX = numbers(2, 5, 5, 3), numbers(2, 4, 6), numbers(7, 6)
NORM = {"scale": numbers(4), "bias": numbers(4), "mean": numbers(4), "var": np.abs(numbers(4))}
KERNEL = numbers(3, 3, 3, 4)


@dataclass(frozen=True)
class Folded:
    """A function of weights and one input, and the operators that are left of it."""

    name: str
    function: Callable[..., jax.Array]
    weights: Any
    input: np.ndarray
    left: str


CASES = [
    Folded(
        "a norm behind a convolution",
        lambda w, x: norm(conv(x, w["k"]), w),
        {"k": KERNEL, **NORM},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a norm behind a convolution with a bias",
        lambda w, x: norm(conv(x, w["k"]) + w["b"], w),
        {"k": KERNEL, "b": numbers(4), **NORM},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a norm as Keras writes it",
        lambda w, x: (
            conv(x, w["k"]) * (inverse := jax.lax.rsqrt(w["var"] + 1e-3) * w["scale"])
            + (w["bias"] - w["mean"] * inverse)
        ),
        {"k": KERNEL, **NORM},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a difference and a quotient behind a convolution with a bias",
        lambda w, x: (conv(x, w["k"]) + w["b"]) / w["var"] - w["mean"],
        {"k": KERNEL, "b": numbers(4), **NORM},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a factor for each place of an image stays",
        lambda w, x: conv(x, w["k"]) * w["c"],
        {"k": KERNEL, "c": numbers(5, 1)},
        IMAGE,
        "Transpose Conv Mul Transpose",
    ),
    Folded(
        "a number behind a product that is bounded",
        lambda w, x: jnp.tanh(x) @ w["k"] / 8.0,
        {"k": numbers(6, 3)},
        ROWS,
        "Tanh MatMul",
    ),
    Folded(
        "a vector behind a product with a bias",
        lambda w, x: (x @ w["k"] + w["b"]) * w["c"],
        {"k": numbers(6, 3), "b": numbers(3), "c": numbers(3)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "a vector along the rows stays",
        lambda w, x: (x @ w["k"]) * w["c"],
        {"k": numbers(6, 3), "c": numbers(4, 1)},
        ROWS,
        "MatMul Mul",
    ),
    Folded(
        "a factor that overflows stays",
        lambda w, x: (x @ w["k"]) * 1e38,
        {"k": 100 * numbers(6, 3)},
        ROWS * 1e-9,
        "MatMul Mul",
    ),
    Folded(
        "a norm behind a product",
        lambda w, x: norm(x @ w["k"], w),
        {"k": numbers(6, 4), **NORM},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "a norm behind a product with a bias, as Keras writes it",
        lambda w, x: keras_norm(x @ w["k"] + w["b"], w),
        {"k": numbers(6, 4), "b": numbers(4), **NORM},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "two biases are one",
        lambda w, x: x @ w["k"] + w["b"] + w["c"],
        {"k": numbers(6, 4), "b": numbers(4), "c": numbers(4)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "rows that are known are taken at export",
        lambda w, x: x[:, :, :3] + w["k"][jnp.array([4, 0, 2, 1])],
        {"k": numbers(6, 3)},
        ROWS,
        "Slice Add",
    ),
]


BEFORE = [
    Folded(
        "a convolution without padding",
        lambda w, x: conv(norm(x, w), w["k"], "VALID"),
        {"k": KERNEL, **statistics(3)},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a convolution with a bias",
        lambda w, x: conv(norm(x, w), w["k"], "VALID") + w["b"],
        {"k": KERNEL, "b": numbers(4), **statistics(3)},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a convolution in groups",
        lambda w, x: conv(norm(x, w), w["k"], "VALID", groups=2),
        {"k": numbers(2, 3, 2, 6), **statistics(4)},
        numbers(2, 5, 5, 4),
        "Transpose Conv Transpose",
    ),
    Folded(
        "a padded convolution, which sees zeros that are not normed",
        lambda w, x: conv(norm(x, w), w["k"]),
        {"k": KERNEL, **statistics(3)},
        IMAGE,
        "Mul Add Transpose Conv Transpose",
    ),
    Folded(
        "a padded convolution, of a norm without a shift",
        lambda w, x: conv(norm(x, w), w["k"], groups=3),
        {"k": numbers(3, 3, 1, 6), **statistics(3), "mean": np.zeros(3, np.float32)}
        | {"bias": np.zeros(3, np.float32)},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a product",
        lambda w, x: norm(x, w) @ w["k"],
        {"k": numbers(6, 3), **statistics(6)},
        MATRIX,
        "MatMul Add",
    ),
    Folded(
        "a product with a bias",
        lambda w, x: norm(x, w) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "b": numbers(3), **statistics(6)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "Keras",
        lambda w, x: keras_norm(x, w) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "b": numbers(3), **statistics(6)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "Keras without a scale",
        lambda w, x: keras_norm(x, w, scale=False) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "b": numbers(3), **statistics(6)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "Keras without a scale and a bias",
        lambda w, x: keras_norm(x, w, scale=False, bias=False) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "b": numbers(3), **statistics(6)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "Equinox",
        lambda w, x: equinox_norm(x, w) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "b": numbers(3), **statistics(6)},
        ROWS,
        "MatMul Add",
    ),
    Folded(
        "a norm whose mean is far from 0",
        lambda w, x: norm(x, w) @ w["k"],
        {"k": numbers(6, 3), **statistics(6), "mean": 100 + numbers(6)},
        100 + MATRIX,
        "BatchNorm MatMul",
    ),
    Folded(
        "a norm that is used twice",
        lambda w, x: (y := norm(x, w)) @ w["k"] + jnp.sin(y) @ w["k"],
        {"k": numbers(6, 3), **statistics(6)},
        MATRIX,
        "BatchNorm MatMul Sin MatMul Add",
    ),
    Folded(
        "a product whose weight another one has, too",
        lambda w, x: norm(x, w) @ w["k"] + jnp.sin(x) @ w["k"],
        {"k": numbers(6, 3), **statistics(6)},
        MATRIX,
        "BatchNorm MatMul Sin MatMul Add",
    ),
    Folded(
        "an activation between",
        lambda w, x: jax.nn.relu(norm(x, w)) @ w["k"],
        {"k": numbers(6, 3), **statistics(6)},
        MATRIX,
        "BatchNorm Relu MatMul",
    ),
    Folded(
        "a norm along another axis of the product",
        lambda w, x: norm(x, w) @ w["k"],
        {"k": numbers(6, 3), **{k: v[:, None] for k, v in statistics(4).items()}},
        ROWS,
        "BatchNorm MatMul",
    ),
    Folded(
        "a vector before a padded convolution",
        lambda w, x: conv(x * w["v"], w["k"]),
        {"k": KERNEL, "v": numbers(3)},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a quotient before a product",
        lambda w, x: (x / w["v"]) @ w["k"],
        {"k": numbers(6, 3), "v": 1 + np.abs(numbers(6))},
        ROWS,
        "MatMul",
    ),
    Folded(
        "a factor that is 0 for a channel",
        lambda w, x: (x * w["v"]) @ w["k"],
        {"k": numbers(6, 3), "v": np.array([1, 0, 2, 3, 4, 5], np.float32)},
        ROWS,
        "MatMul",
    ),
    Folded(
        "a factor that is infinite",
        lambda w, x: (x * w["v"]) @ w["k"],
        {"k": numbers(6, 3), "v": np.array([1, np.inf, 2, 3, 4, 5], np.float32)},
        ROWS,
        "Mul MatMul",
    ),
    Folded(
        "a factor that would make a weight 0",
        lambda w, x: (x * w["v"]) @ w["k"],
        {"k": 1e-20 * numbers(6, 3), "v": np.array([1, 1e-30, 2, 3, 4, 5], np.float32)},
        1e20 * ROWS,
        "Mul MatMul",
    ),
    Folded(
        "a shift alone, of which nobody knows how much it cancels",
        lambda w, x: (x + w["v"]) @ w["k"] + w["b"],
        {"k": numbers(6, 3), "v": numbers(6), "b": numbers(3)},
        ROWS,
        "Add MatMul Add",
    ),
    Folded(
        "a vector for each row",
        lambda w, x: (x * w["v"]) @ w["k"],
        {"k": numbers(6, 3), "v": numbers(4, 1)},
        ROWS,
        "Mul MatMul",
    ),
    Folded(
        "a number that makes nothing larger",
        lambda w, x: conv(x / 255.0, w["k"]),
        {"k": KERNEL},
        IMAGE,
        "Transpose Conv Transpose",
    ),
    Folded(
        "a number that may make an infinity",
        lambda w, x: (x * 3.0) @ w["k"],
        {"k": numbers(6, 3)},
        ROWS,
        "Mul MatMul",
    ),
    Folded(
        "a number that makes what is bounded larger",
        lambda w, x: (jnp.tanh(x) * 3.0) @ w["k"],
        {"k": numbers(6, 3)},
        ROWS,
        "Tanh MatMul",
    ),
]


def steps(w: Any, x: jax.Array) -> jax.Array:
    h = jnp.tanh(x[:, 0])
    for t in range(1, x.shape[1]):
        h = jnp.tanh((h @ w["k"]) / 3.0 + x[:, t])
    return h


def test_a_weight_that_others_use_is_in_the_file_once() -> None:
    graph = trace({"k": numbers(6, 6)}, steps, (ROWS,), name="case")
    after = run(graph, tuple(PASSES), debug=True)
    assert len(after.weights()) == 1
    (before,), (found,) = evaluate(graph, (ROWS,)), evaluate(after, (ROWS,))
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-5)


def traced(case: Folded) -> FuncGraph:
    return trace(case.weights, case.function, (case.input,), name="case")


@pytest.mark.parametrize("case", CASES + BEFORE, ids=lambda case: case.name)
def test_what_is_left_of_arithmetic_on_weights_is_what_is_meant(case: Folded) -> None:
    graph = traced(case)
    after = run(graph, tuple(PASSES), debug=True)
    assert " ".join(node.op for node in after.cnodes()) == case.left
    (before,), (found,) = evaluate(graph, (case.input,)), evaluate(after, (case.input,))
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)
    again = run(after, tuple(PASSES), debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


@pytest.mark.parametrize("case", BEFORE, ids=lambda case: case.name)
def test_what_is_not_finite_stays_so_behind_a_fold(case: Folded) -> None:
    """NaN and infinities of the input give what they gave: nothing finite, NaN for NaN."""
    graph = traced(case)
    after = run(graph, tuple(PASSES), debug=True)
    rng = np.random.default_rng(4)
    for value in (np.nan, np.inf, -np.inf):
        x = np.where(rng.random(case.input.shape) < 0.05, np.float32(value), case.input)
        (before,), (found,) = evaluate(graph, (x,)), evaluate(after, (x,))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(before))
        np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["ONNX", "MINDIR"])
def test_a_runtime_computes_the_norms_that_are_folded(name: str, tmp_path: Path) -> None:
    cases = [case for case in BEFORE if "Norm" not in case.left]
    weights, given = [case.weights for case in cases], tuple(case.input for case in cases)

    def every(weights: Any, *given: jax.Array) -> list[jax.Array]:
        rows = zip(cases, weights, given, strict=True)
        return [case.function(w, x) for case, w, x in rows]

    file = fnckpt.export(weights, every, given, name, file_name=tmp_path / "net")
    found = RUNTIMES[name][1](file.path, given)
    wanted = every(jax.tree.map(jnp.asarray, weights), *map(jnp.asarray, given))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), rtol=1e-4, atol=1e-4)


def test_a_number_in_front_of_a_product_goes_into_it_with_fast_math() -> None:
    case = Folded("", lambda w, x: (x * 3.0) @ w["k"], {"k": numbers(6, 3)}, ROWS, "MatMul")
    after = run(traced(case), chosen(True, fast_math=True)[:-1], debug=True)
    assert [node.op for node in after.cnodes()] == ["MatMul"]


def test_a_product_with_another_user_is_not_computed_twice() -> None:
    case = Folded(
        "",
        lambda w, x: jnp.sin(x @ w["k"]) + (x @ w["k"]) * 3.0,
        {"k": numbers(6, 3)},
        ROWS,
        "",
    )
    after = run(traced(case), tuple(PASSES))
    assert [node.op for node in after.cnodes()].count("MatMul") == 1


def test_keep_params_leaves_out_what_changes_weights() -> None:
    assert not set(CHANGES_WEIGHTS) & set(chosen(True, keep_params=True))
    assert set(CHANGES_WEIGHTS) < set(chosen(True, fast_math=True))


def test_passes_are_chosen_by_name_and_run_in_their_order() -> None:
    assert chosen(["simplify", "share"]) == ("share", "simplify")
    assert chosen(False) == ()


def test_a_pass_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="optimize: no pass is called sharing; the passes are: sh"):
        chosen(["sharing"])
