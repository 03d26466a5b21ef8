"""Floats of 8 bits in ONNX files: weights, inputs and outputs of their own type, and casts."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.errors import UnsupportedError

E4M3 = onnx.TensorProto.FLOAT8E4M3FN
WEIGHTS = {"w": jnp.asarray(np.linspace(-3, 3, 12).reshape(4, 3), jnp.float8_e4m3fn)}
X = np.linspace(-500, 500, 8, dtype=np.float32).reshape(2, 4)


def narrow_product(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    rounded = x.astype(jnp.float8_e4m3fn).astype(jnp.float32)
    return jnp.nan_to_num(rounded) @ params["w"].astype(jnp.float32)


def test_a_cast_is_that_of_onnx_and_weights_are_widened_at_export(tmp_path: Path) -> None:
    path = tmp_path / "narrow.onnx"
    fnckpt.export(WEIGHTS, narrow_product, X, file_format="ONNX", file_name=path)
    graph = onnx.load(path).graph
    assert E4M3 not in [weight.data_type for weight in graph.initializer]
    casts = [node for node in graph.node if node.op_type == "Cast"]
    assert E4M3 in [each.i for node in casts for each in node.attribute if each.name == "to"]
    (found,) = fnckpt.run(path, [X])
    np.testing.assert_allclose(found, narrow_product(WEIGHTS, jnp.asarray(X)), rtol=1e-6)


def test_inputs_and_outputs_have_the_type(tmp_path: Path) -> None:
    path = tmp_path / "narrow.onnx"
    twice = lambda _, x: x + x  # noqa: E731
    fnckpt.export({}, twice, WEIGHTS["w"], file_format="ONNX", file_name=path)
    graph = onnx.load(path).graph
    kinds = [value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)]
    assert kinds == [E4M3, E4M3]


def test_an_opset_without_the_type_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"a cast to float8_e4m3fn needs opset 19"):
        fnckpt.export(
            WEIGHTS, narrow_product, X, file_format="ONNX", file_name=tmp_path / "a.onnx", opset=17
        )
