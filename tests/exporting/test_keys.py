"""PRNG keys at the border of a file: inputs, named weights, outputs, and inside of jax.jit."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array, random

import fnckpt

PyTree = object
PARAMS = {"w": jnp.eye(3), "rng": random.key(3)}
X = jnp.ones((2, 3))


def noisy(params: dict[str, Array], x: Array, key: Array) -> tuple[Array, Array]:
    noise = random.normal(params["rng"], (3,)) + random.uniform(random.fold_in(key, 1), (3,))
    return x @ params["w"] + noise, random.split(key)


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_key_is_uint32_in_the_file_whether_input_weight_or_output(
    file_format: str, tmp_path: Path
) -> None:
    sample = (X, random.key(5))
    file = fnckpt.export(PARAMS, noisy, sample, file_format, file_name=tmp_path / "net")
    assert [str(value) for value in file.inputs] == ["x: float32[2,3]", "key: uint32[2]"]
    assert str(file.outputs[1]) == "output.1: uint32[2,2]"
    assert "rng" in [weight.path for weight in file.graph.weights()]
    key = random.key(9)
    found, wanted = fnckpt.run(file, [X, key]), noisy(PARAMS, X, key)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found[1], random.key_data(wanted[1]))


def dropout() -> tuple[PyTree, Callable[[PyTree, Array], Array]]:
    rngs = nnx.Rngs(0)
    layers = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    definition, state = nnx.split(layers)
    jitted = nnx.jit(lambda module, x: module(x))
    return state, lambda state, x: jitted(nnx.merge(definition, state), x)


def test_the_stream_of_keys_of_a_jitted_nnx_module_draws_as_in_jax(tmp_path: Path) -> None:
    state, apply = dropout()
    with pytest.warns(UserWarning, match="drops values"):
        file = fnckpt.export(state, apply, X, "ONNX", file_name=tmp_path / "net")
    (found,) = fnckpt.run(file, np.asarray(X))
    np.testing.assert_allclose(found, apply(state, X), rtol=1e-6)


def test_an_rnn_of_nnx_with_its_streams_as_parameters_is_exported(tmp_path: Path) -> None:
    definition, state = nnx.split(nnx.RNN(nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0))))
    sequence = jnp.ones((2, 5, 3))
    apply = lambda state, x: nnx.merge(definition, state)(x)  # noqa: E731
    file = fnckpt.export(state, apply, sequence, "ONNX", file_name=tmp_path / "net")
    (found,) = fnckpt.run(file, np.asarray(sequence))
    np.testing.assert_allclose(found, apply(state, sequence), rtol=1e-5, atol=1e-6)
    assert not any(weight.aval.dtype == np.uint32 for weight in file.graph.weights())


def test_a_constant_key_draws_an_array_of_symbolic_size(tmp_path: Path) -> None:
    (b,) = jax.export.symbolic_shape("b")
    net = lambda _, x: x + random.normal(random.key(4), x.shape)  # noqa: E731
    sample = jax.ShapeDtypeStruct((b, 3), jnp.float32)
    file = fnckpt.export((), net, sample, "ONNX", file_name=tmp_path / "net")
    for size in (1, 4):
        x = np.zeros((size, 3), np.float32)
        (found,) = fnckpt.run(file, x)
        np.testing.assert_allclose(found, net((), x), rtol=1e-5, atol=1e-6)
