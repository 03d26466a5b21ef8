"""Every network of the zoo, in every format, gives JAX's numbers where it is run."""

from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import PASSES, run
from fnckpt.ir.verify import verify
from fnckpt.showing.inspect import check_file
from tests.networks.zoo import ZOO

# Transposes that are left: at the input, and where a channels-last image is flattened.
TRANSPOSES = {"linen_cnn": 1, "linen_mlp": 0, "linen_resnet": 1, "nnx_cnn": 1}


@cache
def expected(name: str) -> list[np.ndarray]:
    params, apply_fn, inputs = ZOO[name]()
    return [np.asarray(x) for x in jax.tree.leaves(jax.jit(apply_fn)(params, *inputs))]


def assert_equal_numbers(found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    assert [x.shape for x in found] == [x.shape for x in wanted]
    assert [x.dtype for x in found] == [x.dtype for x in wanted]
    for a, b in zip(found, wanted, strict=True):
        assert np.max(np.abs(a - b)) <= 1e-4 * max(1.0, float(np.max(np.abs(b))))


@pytest.mark.parametrize("name", ZOO)
def test_every_pass_keeps_the_numbers_of_the_graph(name: str) -> None:
    params, apply_fn, inputs = ZOO[name]()
    graph = trace(params, apply_fn, inputs, name=name)
    wanted = expected(name)
    for step in (None, *PASSES):
        graph = graph if step is None else run(graph, [step])
        verify(graph)
        assert_equal_numbers(list(evaluate(graph, inputs)), wanted)


@pytest.mark.parametrize("file_format", RUNTIMES)
@pytest.mark.parametrize("name", ZOO)
def test_the_runtime_gives_the_numbers_of_jax(name: str, file_format: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO[name]()
    model = fnckpt.export(params, apply_fn, inputs, file_format, file_name=tmp_path / name)
    assert check_file(model.path) == []
    assert_equal_numbers(RUNTIMES[file_format][1](model, inputs), expected(name))


@pytest.mark.parametrize("name", ZOO)
def test_the_literal_graph_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO[name]()
    path = tmp_path / name
    model = fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=path, optimize=False)
    assert_equal_numbers(RUNTIMES["ONNX"][1](model, inputs), expected(name))


@pytest.mark.parametrize("name", TRANSPOSES)
def test_no_transpose_is_left_around_a_convolution(name: str) -> None:
    params, apply_fn, inputs = ZOO[name]()
    graph = run(trace(params, apply_fn, inputs, name=name), tuple(PASSES))
    ops = [node.op for node in graph.cnodes()]
    assert ops.count("Transpose") <= TRANSPOSES[name]
    assert "Rsqrt" not in ops  # each BatchNorm is one operator


def test_every_weight_keeps_its_name_and_its_numbers_with_keep_params(tmp_path: Path) -> None:
    params, apply_fn, inputs = ZOO["linen_resnet"]()
    path = tmp_path / "net"
    model = fnckpt.export(params, apply_fn, inputs, "ONNX", file_name=path, keep_params=True)
    graph = model.graph
    leaves = dict(zip(fnckpt_names(params), jax.tree.leaves(params), strict=True))
    for weight in graph.weights():
        assert weight.value is not None
        ours, theirs = np.sort(weight.value, None), np.sort(np.asarray(leaves[weight.path]), None)
        np.testing.assert_array_equal(ours, theirs)
    paths = {weight.path for weight in graph.weights()}
    assert paths == set(fnckpt_names(params))


def fnckpt_names(params: object) -> list[str]:
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in flat]
