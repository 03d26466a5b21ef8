"""Arithmetic done on weights at export: what is left, what is left alone, equal numbers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.exporting import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import CHANGES_WEIGHTS, PASSES, chosen, run

RNG = np.random.default_rng(1)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def norm(y: jax.Array, w: dict[str, Any]) -> jax.Array:
    factor = jax.lax.rsqrt(w["var"] + 1e-5) * w["scale"]
    return (y - w["mean"]) * factor + w["bias"]


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


IMAGE, ROWS = numbers(2, 5, 5, 3), numbers(2, 4, 6)
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
        "rows that are known are taken at export",
        lambda w, x: x[:, :, :3] + w["k"][jnp.array([4, 0, 2, 1])],
        {"k": numbers(6, 3)},
        ROWS,
        "Slice Add",
    ),
]


def traced(case: Folded) -> FuncGraph:
    return trace(case.weights, case.function, (case.input,), name="case")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_left_of_arithmetic_on_weights_is_what_is_meant(case: Folded) -> None:
    graph = traced(case)
    after = run(graph, tuple(PASSES), debug=True)
    assert " ".join(node.op for node in after.cnodes()) == case.left
    (before,), (found,) = evaluate(graph, (case.input,)), evaluate(after, (case.input,))
    np.testing.assert_allclose(found, before, rtol=1e-4, atol=1e-4)
    again = run(after, tuple(PASSES), debug=True)
    assert [(n.op, n.attrs) for n in again.cnodes()] == [(n.op, n.attrs) for n in after.cnodes()]


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
