"""Activations as jax.nn writes them: one operator in ONNX, whose runtime gives JAX's numbers."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.activations import COMPOSE
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

Activation = Callable[[jax.Array], jax.Array]
ENDS = np.finfo(np.float32)
EDGES = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    3.0,
    -3.0,
    1e-8,
    -1e-8,
    89.0,
    -89.0,
    ENDS.max,
    ENDS.min,
]
MODERATE = np.random.default_rng(5).standard_normal(500) * np.logspace(-6, 2, 500)
X = np.concatenate([EDGES, MODERATE]).astype(np.float32)


def hard_sigmoid_of_keras(x: jax.Array) -> jax.Array:
    return jax.nn.relu6(x + 3.0) * (1 / 6)


CASES: dict[str, tuple[Activation, str]] = {
    "elu": (jax.nn.elu, "Elu"),
    "hard_sigmoid": (jax.nn.hard_sigmoid, "HardSigmoid"),
    "hard_sigmoid of Keras": (hard_sigmoid_of_keras, "HardSigmoid"),
    "hard_swish": (jax.nn.hard_swish, "HardSwish"),
    "hard_tanh": (jax.nn.hard_tanh, "Clip"),
    "leaky_relu": (jax.nn.leaky_relu, "LeakyRelu"),
    "log_sigmoid": (jax.nn.log_sigmoid, "Neg Softplus Neg"),
    "mish": (jax.nn.mish, "Mish"),
    "relu6": (jax.nn.relu6, "Clip"),
    "selu": (jax.nn.selu, "Elu Mul"),
    "soft_sign": (jax.nn.soft_sign, "Abs Add Div"),
    "softplus": (jax.nn.softplus, "Softplus"),
    "what logaddexp adds": (lambda x: jnp.log1p(jnp.exp(-jnp.abs(x))), "Abs Neg Softplus"),
}


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Within 4e-7 of the number or of 1; what is not finite is the same."""
    np.testing.assert_allclose(found, wanted, rtol=4e-7, atol=4e-7)


@pytest.mark.parametrize("name", CASES)
def test_an_activation_is_recognized(name: str, tmp_path: Path) -> None:
    function, left = CASES[name]
    wanted = np.asarray(jax.jit(function)(X))
    graph = trace(None, lambda _, x: function(x), (X,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert " ".join(node.op for node in after.cnodes()) == left
    for each in (graph, after, rewrite(after, COMPOSE)):
        assert_close(evaluate(each, (X,))[0], wanted)
    for opset in (13, 20):
        path = tmp_path / f"{opset}.onnx"
        model = fnckpt.export(
            None, lambda _, x: function(x), X, "ONNX", file_name=path, opset=opset
        )
        assert_close(RUNTIMES["ONNX"][1](model, (X,))[0], wanted)


LEFT_ALONE: dict[str, Activation] = {
    "another slope above": lambda x: jnp.where(x >= 0, 2 * x, 0.1 * x),
    "another limit": lambda x: jnp.where(x > 1, 2.0, jnp.where(x < -1, -1.0, x)),
    "another sixth": lambda x: jax.nn.relu6(x + 3) / 5,
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_looks_like_an_activation_is_left_alone(name: str) -> None:
    graph = trace(None, lambda _, x: LEFT_ALONE[name](x), (X,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert len(after.cnodes()) > 1
    assert_close(evaluate(after, (X,))[0], np.asarray(LEFT_ALONE[name](jnp.asarray(X))))
