"""What ``fast_math=True`` adds: with it a node is gone, without it the value is kept."""

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
from fnckpt.ir.passes.bounds import bound
from fnckpt.ir.passes.pipeline import TARGET_PASS, chosen, run

RNG = np.random.default_rng(7)
KERNEL = RNG.standard_normal((8, 4)).astype(np.float32)
TABLE = {"table": np.arange(12, dtype=np.float32).reshape(4, 3)}
HUGE = np.full((2, 8), 3e38, np.float32)
INSIDE, OUTSIDE = np.array([0, 3, -1], np.int32), np.array([0, 3, 9], np.int32)
Function = Callable[[Any, jax.Array], jax.Array]


@dataclass(frozen=True)
class Trusted:
    """A function with the operators left of it, strict and fast, and the input they differ on."""

    name: str
    function: Function
    weights: Any
    kind: np.ndarray
    differs: np.ndarray
    strict: str
    fast: str


def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NCHW", "OIHW", "NCHW")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=numbers)


WRAP = "Less Add Select"
CASES = [
    Trusted(
        "a number behind a product", lambda w, x: x @ jnp.abs(w) / 8.0, np.abs(KERNEL),
        np.ones_like(HUGE), HUGE, "MatMul Mul", "MatMul",
    ),
    Trusted(
        "a number behind a product with a bias", lambda w, x: (x @ w["k"] + w["b"]) * 0.125,
        {"k": np.abs(KERNEL), "b": KERNEL[0]}, np.ones_like(HUGE), HUGE, "MatMul Add Mul",
        "MatMul Add",
    ),
    Trusted(
        "a number behind a convolution", lambda w, x: conv(x, w) * 0.125, np.ones((2, 1, 3, 3),
        np.float32), np.ones((1, 1, 4, 4), np.float32), np.full((1, 1, 4, 4), 1e38, np.float32),
        "Conv Mul", "Conv",
    ),
    Trusted(
        "rows of a table", lambda w, i: jnp.take(w["table"], i, axis=0), TABLE, INSIDE, OUTSIDE,
        f"{WRAP} GreaterEqual LessEqual LogicalAnd Reshape Maximum Minimum Gather Select",
        f"{WRAP} Maximum Minimum Gather",
    ),
    Trusted(
        "elements along an axis",
        lambda w, i: jnp.take_along_axis(w["table"][:, :1], i[:, None], axis=0),
        TABLE, INSIDE, OUTSIDE,
        f"Slice {WRAP} GreaterEqual LessEqual LogicalAnd Reshape Maximum Minimum Gather Select",
        f"Slice {WRAP} Maximum Minimum Gather",
    ),
]  # fmt: skip


def graphs(case: Trusted) -> tuple[FuncGraph, FuncGraph, FuncGraph]:
    """The graph of a case, literal, strict and fast."""
    graph = trace(case.weights, case.function, (case.kind,), name="case")
    names = (chosen(True), chosen(True, fast_math=True))
    strict, fast = (run(graph, [n for n in each if n != TARGET_PASS], debug=True) for each in names)
    return graph, strict, fast


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_fast_math_leaves_out_is_what_is_meant(case: Trusted) -> None:
    literal, strict, fast = graphs(case)
    assert sorted(n.op for n in strict.cnodes()) == sorted(case.strict.split())
    assert sorted(n.op for n in fast.cnodes()) == sorted(case.fast.split())
    (wanted,) = evaluate(literal, (case.kind,))
    for graph in (strict, fast):
        np.testing.assert_allclose(evaluate(graph, (case.kind,))[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_fast_math_infinities_and_what_lies_outside_stay(case: Trusted) -> None:
    literal, strict, fast = graphs(case)
    wanted, kept, other = (evaluate(g, (case.differs,))[0] for g in (literal, strict, fast))
    assert not np.isfinite(wanted).all()
    np.testing.assert_array_equal(np.isfinite(kept), np.isfinite(wanted))
    assert np.isfinite(other).all()


def test_a_choice_of_the_network_itself_stays() -> None:
    def masked(w: Any, i: jax.Array) -> jax.Array:
        inside = (i >= 0) & (i <= 3)
        return jnp.where(inside, w["table"][:, 1].at[i].get(mode="clip"), -1.0)

    graph = trace(TABLE, masked, (OUTSIDE,), name="masked")
    names = [n for n in chosen(True, fast_math=True) if n != TARGET_PASS]
    np.testing.assert_array_equal(
        evaluate(run(graph, names), (OUTSIDE,))[0], evaluate(graph, (OUTSIDE,))[0]
    )


BOUNDS: dict[str, tuple[Function, float]] = {
    "an input": (lambda w, x: x, np.inf),
    "what saturates": (lambda w, x: jnp.tanh(x) + jax.nn.softmax(x), 2.0),
    "a product of it": (lambda w, x: jnp.tanh(x) @ jnp.ones((8, 4)), 8.0),
    "a product of the input": (lambda w, x: x @ w, np.inf),
    "a limit": (lambda w, x: jnp.abs(jnp.tanh(x)).T * 3.0, 3.0),
    "a byte": (lambda w, x: x.astype(jnp.uint8).astype(jnp.float32), 256.0),
    "a choice": (lambda w, x: jnp.where(x > 0, 2.0, -5.0), 5.0),
    "a difference": (lambda w, x: jnp.sin(x) - jnp.ones(8), 2.0),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_holds_whatever_the_input_is(name: str) -> None:
    function, wanted = BOUNDS[name]
    graph = trace(KERNEL, function, (HUGE,), name="case")
    found = bound(run(graph, ["share", "simplify", "fuse"]).outputs[0])
    assert found == pytest.approx(wanted)
    for x in (HUGE, -HUGE, np.ones_like(HUGE)):
        assert np.nanmax(np.abs(evaluate(graph, (x,))[0])) <= found


def greater(w: Any, x: jax.Array) -> jax.Array:
    return jnp.maximum(x, x[::-1]) + x.astype(jnp.int32)


def test_mindspore_loses_the_guards_of_a_maximum_and_of_a_cast(tmp_path: Path) -> None:
    x = np.array([1.5, -2.0, 3.25], np.float32)
    results = [
        fnckpt.export({}, greater, x, "MINDIR", file_name=tmp_path / name, fast_math=fast)
        for name, fast in (("strict", False), ("fast", True))
    ]
    assert results[1].nodes < results[0].nodes - 5
    for result in results:
        found = RUNTIMES["MINDIR"][1](result, (x,))[0]
        np.testing.assert_array_equal(found, np.asarray(greater({}, jnp.asarray(x))))
    unknown = np.array([np.nan, 1.0, 2.0], np.float32)
    kept = RUNTIMES["MINDIR"][1](results[0], (unknown,))[0]
    np.testing.assert_array_equal(kept, np.asarray(greater({}, jnp.asarray(unknown))))


@pytest.mark.parametrize("choose", [jnp.argmax, jnp.argmin, lambda x: jax.lax.top_k(x, 2)])
def test_onnx_loses_the_guards_of_what_is_greatest(
    choose: Callable[[jax.Array], Any], tmp_path: Path
) -> None:
    x, unknown = np.array([1.5, -2.0, 3.25], np.float32), np.array([np.inf, np.nan, 2], np.float32)
    results = [
        fnckpt.export(
            {}, lambda w, x: choose(x), x, "ONNX", file_name=tmp_path / name, fast_math=fast
        )
        for name, fast in (("strict", False), ("fast", True))
    ]
    assert results[1].nodes < results[0].nodes - 3
    for result, given in ((results[0], x), (results[1], x), (results[0], unknown)):
        wanted = jax.tree.leaves(choose(jnp.asarray(given)))
        for found, each in zip(fnckpt.run(result, given), wanted, strict=True):
            np.testing.assert_array_equal(found, np.asarray(each))


def test_the_passes_of_fast_math_are_asked_for() -> None:
    assert set(chosen(True, fast_math=True)) - set(chosen(True)) == {"fast_reads", "fast_weights"}
    assert chosen(False, fast_math=True) == ()
    assert chosen(["fast_weights"]) == ("fast_weights",)
    assert "fast_weights" not in chosen(True, fast_math=True, keep_params=True)
