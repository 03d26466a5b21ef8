"""Rows at computed places in ONNX: how they are read and written, and equal numbers."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.ir.targets import target

X = np.arange(60, dtype=np.float32).reshape(3, 5, 4)
ROW = -np.ones((3, 1, 4), np.float32)
Function = Callable[[jax.Array, jax.Array], jax.Array]


def one_row(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_slice(x, (0, i, 0), (3, 1, 4))


def one_item(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(x, i, keepdims=False)


def one_taken(x: jax.Array, i: jax.Array) -> jax.Array:
    return jnp.take(x, i, axis=1, mode="clip")


def two_rows(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_slice(x, (0, i, 0), (3, 2, 4))


def part_of_a_row(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_slice(x, (0, i, i), (3, 1, 2))


def write_a_row(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(x, ROW, (0, i, 0))


def write_in_rows(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_update_slice(x, ROW[:, :, :2], (0, i, i))


READ: dict[Function, str] = {
    **dict.fromkeys((one_row, one_item, one_taken), "Gather"),
    **dict.fromkeys((two_rows, part_of_a_row), "Slice"),
}
PLACES = (-9, -5, -1, 0, 2, 4, 5, 99)  # from the end, and clipped


@pytest.mark.parametrize("call", [*READ, write_a_row, write_in_rows])
def test_every_place_is_that_of_jax(call: Function, tmp_path: Path) -> None:
    sample = (X, np.int32(0))
    file = fnckpt.export({}, lambda _, *a: call(*a), sample, "ONNX", file_name=tmp_path / "a")
    for place in PLACES:
        (found,) = fnckpt.run(file, (X, np.int32(place)))
        np.testing.assert_array_equal(found, call(jnp.asarray(X), jnp.int32(place)))


@pytest.mark.parametrize("call", READ)
def test_a_row_alone_is_gathered(call: Function, tmp_path: Path) -> None:
    sample = (X, np.int32(0))
    file = fnckpt.export({}, lambda _, *a: call(*a), sample, "ONNX", file_name=tmp_path / "a")
    ops = {node.op for node in target("ONNX").summarize(file.path).nodes}
    assert ops & {"Gather", "Slice"} == {READ[call]}
    assert ops <= {"Clip", "Gather", "Reshape", "Max", "Min"} or READ[call] == "Slice"


@pytest.mark.parametrize(("call", "rows"), [(write_a_row, 3), (write_in_rows, 6)])
def test_a_row_is_written_by_few_coordinates(call: Function, rows: int, tmp_path: Path) -> None:
    import onnx

    sample = (X, np.int32(0))
    file = fnckpt.export({}, lambda _, *a: call(*a), sample, "ONNX", file_name=tmp_path / "a")
    constants = onnx.load(file.path).graph.initializer
    assert max(np.prod(each.dims[:-1], dtype=int) for each in constants if each.dims) == rows


def test_a_vector_by_a_matrix_is_a_row(tmp_path: Path) -> None:
    weights = {"a": np.ones((4, 6), np.float32), "b": np.ones((3, 6), np.float32)}
    net = lambda p, x: p["b"] @ jnp.tanh(x @ p["a"])  # noqa: E731
    file = fnckpt.export(weights, net, X[0, 0], "ONNX", file_name=tmp_path / "a")
    ops = [node.op for node in target("ONNX").summarize(file.path).nodes]
    assert ops == ["Reshape", "MatMul", "Tanh", "Gemm", "Reshape"]
    (found,) = fnckpt.run(file, X[0, 0])
    np.testing.assert_allclose(found, net(weights, X[0, 0]), rtol=1e-6)
