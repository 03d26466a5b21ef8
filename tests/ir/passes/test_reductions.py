"""Logsumexp as JAX writes it: one operator, whose numbers every target gives."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.reductions import COMPOSE
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target

INF, NAN, MOST = np.inf, np.nan, np.finfo(np.float32).max
ROWS = np.array(
    [
        [-INF, -INF, -INF, -INF],
        [-INF, -1000, -1000, -999],  # ONNX Runtime's ReduceLogSumExp makes -inf of it
        [-1000, -INF, -999, -1000],
        [INF, -INF, 0, 1],
        [INF, INF, INF, INF],
        [NAN, 1, 2, 3],
        [-INF, NAN, 0, 0],
        [INF, NAN, 0, 0],
        [1e30, 1, 2, 3],
        [-1e30, -1e30, -2e30, -1e30],
        [200, 201, 202, 100],
        [-300, -300, -301, -200],
        [MOST, 0, -MOST, -INF],
        [-MOST, -MOST, -MOST, -INF],
        [0, -0.0, 0.5, -0.5],
    ],
    np.float32,
)
X = np.stack([ROWS, ROWS[::-1]])  # [2, 15, 4]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [-1, 0, (0, 2), (1,), None], ids=str)
@pytest.mark.parametrize("opset", [13, 20])
def test_logsumexp_is_one_operator_with_the_numbers_of_jax(
    axis: int | tuple[int, ...] | None, keepdims: bool, opset: int, tmp_path: Path
) -> None:
    function = partial(jax.nn.logsumexp, axis=axis, keepdims=keepdims)
    wanted = np.asarray(jax.jit(function)(X))
    graph = trace(None, lambda _, x: function(x), (X,), name="case")
    after = optimized(graph, debug=True)
    assert [node.op for node in after.cnodes()] == ["ReduceLogSumExp"]
    for each in (after, rewrite(after, COMPOSE)):
        np.testing.assert_allclose(evaluate(each, (X,))[0], wanted, rtol=1e-6)
    path = tmp_path / "logsumexp"
    model = fnckpt.export(None, lambda _, x: function(x), X, "ONNX", file_name=path, opset=opset)
    np.testing.assert_allclose(RUNTIMES["ONNX"][1](model, (X,))[0], wanted, rtol=1e-6)


@pytest.mark.parametrize(("most", "fused"), [(MOST, True), (1e30, False)])
def test_so_it_is_with_the_greatest_brought_to_a_finite_number(most: float, fused: bool) -> None:
    def function(x: jax.Array) -> jax.Array:
        shift = jnp.clip(x.max(-1, keepdims=True), -most, most)
        return shift + jnp.log(jnp.exp(x - shift).sum(-1, keepdims=True))

    after = optimized(trace(None, lambda _, x: function(x), (X,), name="case"), debug=True)
    assert ([node.op for node in after.cnodes()] == ["ReduceLogSumExp"]) is fused
    np.testing.assert_allclose(evaluate(after, (X,))[0], jax.jit(function)(X), rtol=1e-6)


@pytest.mark.parametrize("file_format", ["MINDIR", "AIR"])
def test_other_targets_write_logsumexp_in_parts(file_format: str, tmp_path: Path) -> None:
    function = partial(jax.nn.logsumexp, axis=-1)
    wanted = np.asarray(jax.jit(function)(X))
    path = tmp_path / "logsumexp"
    model = fnckpt.export(None, lambda _, x: function(x), X, file_format, file_name=path)
    np.testing.assert_allclose(RUNTIMES[file_format][1](model, (X,))[0], wanted, rtol=1e-6)


LEFT_ALONE = {
    "another maximum": lambda x: jnp.log(jnp.exp(x - x.max(0)).sum(-1)) + x.max(0)[..., 0],
    "weighted": lambda x: jax.scipy.special.logsumexp(x, -1, jnp.arange(4.0)),
    "no maximum": lambda x: jnp.log(jnp.exp(x).sum(-1)),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_looks_like_logsumexp_is_left_alone(name: str) -> None:
    graph = trace(None, lambda _, x: LEFT_ALONE[name](x), (X,), name="case")
    after = optimized(graph, debug=True)
    assert "ReduceLogSumExp" not in {node.op for node in after.cnodes()}
    np.testing.assert_allclose(evaluate(after, (X,))[0], evaluate(graph, (X,))[0], rtol=1e-6)


LARGE = np.random.default_rng(0).standard_normal((64, 128)).astype(np.float32)
SUMS = {
    "squared error": (lambda x: ((x - 1) ** 2).mean(), ["Sub", "ReduceSumSquare", "Mul"]),
    "absolute error": (lambda x: jnp.abs(x - 1).mean(), ["Sub", "ReduceL1", "Mul"]),
    "length": (lambda x: jnp.sqrt((x * x).sum()), ["ReduceSumSquare", "Sqrt"]),
    "of rows": (lambda x: (x * x).sum(-1), ["Mul", "ReduceSum"]),
    "used twice": (lambda x: (jnp.abs(x).sum(), jnp.abs(x)), ["Abs", "ReduceSum"]),
}


@pytest.mark.parametrize("name", SUMS)
def test_a_sum_of_all_magnitudes_or_squares_is_one_operator_in_onnx(
    name: str, tmp_path: Path
) -> None:
    function, wanted = SUMS[name]
    file = fnckpt.export(None, lambda _, x: function(x), LARGE, "ONNX", file_name=tmp_path / "sum")
    assert [node.op for node in target("ONNX").summarize(file.path).nodes] == wanted
    odd = LARGE.copy()
    odd[3, 4] = np.inf
    for x in (LARGE, odd, np.where(odd == np.inf, np.nan, odd)):
        expected = jax.tree.leaves(function(jnp.asarray(x)))
        for found, one in zip(fnckpt.run(file, x), expected, strict=True):
            np.testing.assert_allclose(found, np.asarray(one), rtol=1e-5)


def test_a_mean_of_few_elements_stays_a_mean(tmp_path: Path) -> None:
    file = fnckpt.export(
        None, lambda _, x: jnp.abs(x).mean(), LARGE[:4], "ONNX", file_name=tmp_path / "few"
    )
    assert [node.op for node in target("ONNX").summarize(file.path).nodes] == ["Abs", "ReduceMean"]
