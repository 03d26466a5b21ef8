"""One file for every size: the numbers of JAX at several, in each runtime."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jax
import numpy as np
import onnxruntime
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.showing.inspect import check_file
from tests.ir.symbolic.cases import CASES, Open, Sizes
from tests.ir.targets.mindir.batch import Job, judge_groups
from tests.ir.targets.mindir.judge import Judged

SIZES = (
    {"b": 1, "n": 8, "h": 8, "w": 4},
    {"b": 3, "n": 5, "h": 6, "w": 10},
    {"b": 2, "n": 2, "h": 4, "w": 4},
)
TOGETHER = 16

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "_"))


def assert_as_jax(case: Open, sizes: Sizes, found: Sequence[np.ndarray]) -> None:
    given = map(jax.numpy.asarray, case.arrays(sizes))
    results = jax.tree.leaves(jax.jit(case.fn)(case.params, *given))
    for ours, theirs in zip(found, map(np.asarray, results), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        scale = max(1.0, float(np.max(np.abs(theirs), initial=0)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=case.tolerance * scale)


@cache
def graph_of(case: Open) -> FuncGraph:
    graph = trace(case.params, case.fn, case.samples(), name="net")
    return optimized(graph, debug=True)


@every_case
def test_the_graph_is_right_at_every_size(case: Open) -> None:
    literal = trace(case.params, case.fn, case.samples(), name="net")
    for graph in (literal, graph_of(case)):
        for sizes in SIZES:
            assert_as_jax(case, sizes, evaluate(graph, case.arrays(sizes)))


@pytest.mark.parametrize("optimize", [True, False])
@every_case
def test_one_onnx_file_runs_at_every_size(case: Open, optimize: bool, tmp_path: Path) -> None:
    file = fnckpt.export(
        case.params, case.fn, case.samples(), "ONNX", file_name=tmp_path / "net", optimize=optimize
    )
    assert check_file(file.path) == []
    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for sizes in SIZES:
        given = dict(zip(names, case.arrays(sizes), strict=True))
        assert_as_jax(case, sizes, [np.asarray(x) for x in session.run(None, given)])


@cache
def of_mindspore(number: int) -> Mapping[str, Judged]:
    """What MindSpore makes of all cases at the sizes of that number."""
    jobs = [Job(case.name, graph_of(case), case.arrays(SIZES[number])) for case in CASES]
    return judge_groups([jobs[i : i + TOGETHER] for i in range(0, len(jobs), TOGETHER)])


@pytest.mark.parametrize("number", [0, 1])
@every_case
def test_mindspore_runs_a_file_at_every_size(case: Open, number: int) -> None:
    judged = of_mindspore(number)[case.name]
    assert not judged.error, judged.error
    assert_as_jax(case, SIZES[number], judged.outputs)


def test_a_long_sum_of_indices_is_looked_at_once_not_once_a_path() -> None:
    def net(_: object, x: jax.Array, at: jax.Array) -> jax.Array:
        for _ in range(64):
            at = at + at % 3  # two ways to each step: 2**64 to the first
        return x[at]

    graph = trace((), net, (np.ones((9, 2), np.float32), np.int32(0)), name="net")
    assert len(graph.cnodes()) < 2000
