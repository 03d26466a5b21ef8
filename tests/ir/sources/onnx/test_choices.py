"""Reads of one of several arrays that are choices, in files of ours and of others."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import fnckpt
from fnckpt.importing.load import load_graph
from tests.importing.test_round_trips import operators

X = np.random.default_rng(0).uniform(-1, 1, (3, 48, 40)).astype(np.float32)
X[0, :2] = np.nan


def of_two(x: jax.Array) -> jax.Array:
    return jnp.where(x < 0.5, x * 2, jnp.sqrt(x))


def of_four(x: jax.Array) -> jax.Array:
    low = jnp.where(x < 0, jnp.exp(x), jnp.sin(x))
    high = jnp.where(x > 0.3, low, jnp.cos(x))
    return jnp.where(x > 0.8, x * x, high)


@pytest.mark.parametrize("function", [of_two, of_four])
def test_a_choice_of_a_file_of_ours_comes_back_as_one_and_is_written_the_same(
    function: Callable[[jax.Array], jax.Array], tmp_path: Path
) -> None:
    file = fnckpt.export({}, lambda _, x: function(x), X, "ONNX", file_name=tmp_path / "net")
    assert operators(file.path, "ONNX")["GatherElements"] > 0
    params, apply_fn = loaded = load_graph(file)
    found = [node.op for node in loaded.graph.cnodes()]
    assert "Select" in found
    assert "GatherElements" not in found
    np.testing.assert_allclose(apply_fn(params, X), jax.jit(function)(X), rtol=1e-6)
    again = fnckpt.export(params, apply_fn, X, "ONNX", file_name=tmp_path / "again")
    assert operators(again.path, "ONNX") == operators(file.path, "ONNX")


def model(kind: int, axis: int) -> bytes:
    """[a, b][index] along ``axis``, the index cast from an input of an element type."""
    names = {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT, "c": kind}
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["rows"], axis=0),
        helper.make_node("Cast", ["c"], ["index"], to=TensorProto.INT64),
        helper.make_node("GatherElements", ["rows", "index"], ["y"], axis=axis),
    ]
    inputs = [helper.make_tensor_value_info(name, each, [1, 2]) for name, each in names.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(nodes, "net", inputs, [output])
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


@pytest.mark.parametrize(
    ("kind", "axis", "index", "chosen"),
    [(TensorProto.BOOL, 0, np.array([[True, False]]), True),
     (TensorProto.INT32, 0, np.array([[1, -2]], np.int32), False),
     (TensorProto.BOOL, 1, np.array([[True, False]]), False)],
    ids=["a condition", "an integer", "another axis"],
)  # fmt: skip
def test_a_read_of_a_file_of_others_is_a_choice_where_its_index_is_a_condition(
    kind: int, axis: int, index: np.ndarray, chosen: bool
) -> None:
    a, b = np.array([[1, np.nan]], np.float32), np.array([[3, 4]], np.float32)
    params, apply_fn = loaded = load_graph(model(kind, axis))
    found = [node.op for node in loaded.graph.cnodes()]
    assert ("GatherElements" not in found) == chosen
    rows, places = np.concatenate([a, b]), index.astype(np.int64)
    wanted = np.take_along_axis(rows if axis == 0 else rows[:1], places, axis)
    np.testing.assert_array_equal(apply_fn(params, a, b, index), wanted)
