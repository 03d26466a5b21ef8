"""float16 and bfloat16 inside: what is narrowed, what stays, and how far the numbers move."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.narrowing import greatest_error
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.precision import NARROW, narrowed
from fnckpt.ir.verify import verify
from tests.networks.zoo import ZOO

RNG = np.random.default_rng(5)


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


X, W = numbers(4, 8), {"k": numbers(8, 8), "b": numbers(8)}


@dataclass(frozen=True)
class Case:
    """A function, and what is left of it in float16; ``f32:`` marks what computes in float32."""

    name: str
    function: Callable[[Any, jax.Array], Any]
    left: str


CASES = [
    Case("a product is narrow", lambda w, x: x @ w["k"] + w["b"], "Cast MatMul Add Cast"),
    Case("one cast of two users", lambda w, x: (x @ w["k"], x @ w["k"].T),
         "Cast MatMul Cast MatMul Cast"),
    Case("softmax stays", lambda w, x: jax.nn.softmax(x @ w["k"]) @ w["k"],
         "Cast MatMul Cast f32:Softmax Cast MatMul Cast"),
    Case("nothing to narrow", lambda w, x: jnp.exp(x) + x, "f32:Exp f32:Add"),
    Case("a move goes with its input", lambda w, x: jnp.exp(x @ w["k"]).T,
         "Cast MatMul Cast f32:Exp f32:Transpose"),
    Case("arithmetic with float32 is float32", lambda w, x: x @ w["k"] + x,
         "Cast MatMul Cast f32:Add"),
    Case("a number that overflows", lambda w, x: jnp.minimum(x @ w["k"], 1e6),
         "Cast MatMul Cast f32:Minimum"),
    Case("a number that underflows", lambda w, x: (x @ w["k"]) + 1e-12,
         "Cast MatMul Cast f32:Add"),
    Case("a mask of infinities fits", lambda w, x: jnp.where(x > 0, x @ w["k"], -jnp.inf),
         "f32:Greater Cast MatMul Select Cast"),
    Case("integers are left alone", lambda w, x: jnp.arange(8) * jnp.argmax(x @ w["k"]),
         "Cast MatMul Reshape ArgMax Mul"),
    Case("a cast of the network's own", lambda w, x: (x.astype(jnp.float16) @ w["k"].astype(
        jnp.float16)).astype(jnp.float32) @ w["k"], "Cast MatMul MatMul Cast"),
    Case("the best of a product", lambda w, x: jax.lax.top_k(x @ w["k"], 2),
         "Cast MatMul TopK TupleGetItem Cast TupleGetItem"),
]  # fmt: skip


def described(graph: FuncGraph) -> str:
    """The operators, marked where they take float32."""
    return " ".join(
        f"f32:{node.op}"
        if node.op not in ("Cast", "TupleGetItem")
        and any(n.aval.dtype == np.float32 for n in node.inputs)
        else node.op
        for node in graph.cnodes()
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_stays_in_float32_is_what_is_meant(case: Case) -> None:
    graph = optimized(trace(W, case.function, (X,), name="case"))
    after, _ = narrowed(graph, "float16")
    verify(after)
    assert described(after) == case.left
    assert [n.aval for n in after.outputs] == [n.aval for n in graph.outputs]
    assert greatest_error(evaluate(after, (X,)), evaluate(graph, (X,))) < 2e-3


@pytest.mark.parametrize("dtype", NARROW)
def test_to_narrow_twice_changes_nothing(dtype: str) -> None:
    graph = optimized(trace(W, CASES[2].function, (X,), name="case"))
    once, _ = narrowed(graph, dtype)
    twice, _ = narrowed(once, dtype)
    assert described(twice) == described(once)


def test_a_weight_that_overflows_stays_and_is_named(tmp_path: Path) -> None:
    weights = {"big": 1e5 * numbers(8, 8), "k": numbers(8, 8)}
    result = fnckpt.export(
        weights, lambda w, x: x @ w["k"] @ w["big"], X, "ONNX",
        file_name=tmp_path / "net", dtype="float16",
    )  # fmt: skip
    assert result.narrowing is not None
    (reason,) = result.narrowing.kept_weights.values()
    assert list(result.narrowing.kept_weights) == ["big"]
    assert "overflows float16" in reason
    assert result.narrowing.weights == 1
    assert "1 weights, 1 operators; in float32: 1 weights, 1 MatMul" in repr(result)
    (found,) = RUNTIMES["ONNX"][1](result, (X,))
    wanted = X @ weights["k"] @ weights["big"]
    assert greatest_error([found], [wanted]) < 2e-3


def test_large_activations_do_not_overflow_where_sums_stay_in_float32() -> None:
    def rms(w: Any, x: jax.Array) -> jax.Array:
        y = 400 * (x @ w["k"])
        return y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + 1e-6)

    graph = optimized(trace(W, rms, (X,), name="rms"))
    after, _ = narrowed(graph, "float16")
    assert greatest_error(evaluate(after, (X,)), evaluate(graph, (X,))) < 2e-3


LIMITS = {"float16": 5e-3, "bfloat16": 3e-2}  # of the eps of each, 10 and 8


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", ZOO)
def test_a_narrowed_network_gives_the_numbers_of_jax(name: str, dtype: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO[name]()
    wanted = [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]
    for target in ("ONNX", "AIR") if dtype == "float16" else ("ONNX",):
        result = fnckpt.export(
            params, apply_fn, inputs, target, file_name=tmp_path / name, dtype=dtype
        )
        found = RUNTIMES[target][1](result, inputs)
        assert [x.dtype for x in found] == [x.dtype for x in wanted]
        assert greatest_error(found, wanted) < LIMITS[dtype]
        assert result.narrowing is not None
        assert result.narrowing.error is not None
        assert 0 < result.narrowing.error < LIMITS[dtype]


@pytest.mark.parametrize("dtype", NARROW)
def test_mindspore_gives_the_numbers_of_a_narrowed_network(dtype: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO["linen_cnn"]()
    wanted = np.asarray(apply_fn(params, *inputs))
    result = fnckpt.export(
        params, apply_fn, inputs, "MINDIR", file_name=tmp_path / "net", dtype=dtype
    )
    assert greatest_error(RUNTIMES["MINDIR"][1](result, inputs), [wanted]) < LIMITS[dtype]


@pytest.mark.parametrize("dtype", NARROW)
def test_the_file_is_half_as_large(dtype: str, tmp_path: Path) -> None:
    weights = {"k": numbers(512, 512)}
    sizes = [
        fnckpt.export(
            weights, lambda w, x: x @ w["k"], numbers(1, 512), "ONNX",
            file_name=tmp_path / "net", dtype=each,
        ).bytes
        for each in (None, dtype)
    ]  # fmt: skip
    assert sizes[1] < 0.51 * sizes[0]
    (weight,) = onnx.load(tmp_path / "net.onnx").graph.initializer
    assert onnx.TensorProto.DataType.Name(weight.data_type) == dtype.upper()


def test_the_error_needs_values_to_measure_it_on(tmp_path: Path) -> None:
    sample = jax.ShapeDtypeStruct(X.shape, X.dtype)
    net = CASES[0].function
    result = fnckpt.export(W, net, sample, "ONNX", file_name=tmp_path / "net", dtype="float16")
    assert result.narrowing is not None
    assert result.narrowing.error is None


def test_air_has_no_bfloat16_and_says_so_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(fnckpt.UnsupportedError, match=r"bfloat16\n    GE r1.1 has no type for it"):
        fnckpt.export(W, CASES[0].function, X, "AIR", file_name=tmp_path / "net", dtype="bfloat16")
    assert not list(tmp_path.iterdir())


def test_a_type_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="dtype must be one of float16, bfloat16 or None, got 'h"):
        fnckpt.export(W, CASES[0].function, X, "ONNX", dtype="half")
