"""What is left for ONNX of each library's layers, in float32 and bfloat16, and its numbers.

A row is one layer or function as its package has it: the operators in float32, then those in
bfloat16 where they are others. Statistics in float32 inside a network of bfloat16 leave casts.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from transformers.modeling_flax_utils import ACT2FN

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred
from tests.ir.passes.layers import (
    FIRST,
    IMAGE,
    MATRIX,
    ROWS,
    WORDS,
    Make,
    Shape,
    of_equinox,
    of_function,
    of_haiku,
    of_keras,
    of_linen,
    of_nnx,
)

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
EPSILON = {"float32": 2.0**-23, "bfloat16": 2.0**-7}
MOST = {"float32": 16, "bfloat16": 3}  # of the last places of the greatest number of a result


@dataclass(frozen=True)
class Row:
    """A layer of a library, and the operators left of it; ``bfloat16`` if they are others."""

    name: str
    make: Make
    float32: str
    bfloat16: str = ""

    def left(self, dtype: str) -> str:
        return self.bfloat16 or self.float32 if dtype == "bfloat16" else self.float32


Function = Callable[..., Any]


def row(name: str, function: Function, x: Shape, float32: str, bfloat16: str = "") -> Row:
    return Row(name, of_function(function, x), float32, bfloat16)


MEAN, CAST_MEAN = "ReduceMean", "Cast ReduceMean Cast"
LAYER, CAST_LAYER = "LayerNorm", "Cast LayerNorm Cast"
BATCH, CAST_BATCH = "Mul Add", "Cast Mul Add Cast"
GROUPS = "Reshape Standardize Mul Add Reshape"
CAST_GROUPS = "Cast Reshape Standardize Mul Add Cast Reshape"
SINGLE, CAST_SINGLE = "Standardize Mul Add", "Cast Standardize Mul Add Cast"
LOOKUP = "Clip Equal Reshape Gather Select"
UNIT = "Square ReduceSum Sqrt Maximum Div", "Square Cast ReduceSum Cast Sqrt Maximum Div"

JAX = [
    row("jax relu", jax.nn.relu, MATRIX, "Relu"),
    row("jax relu6", jax.nn.relu6, MATRIX, "Clip"),
    row("jax sigmoid", jax.nn.sigmoid, MATRIX, "Sigmoid"),
    row("jax softplus", jax.nn.softplus, MATRIX, "Softplus"),
    row("jax silu", jax.nn.silu, MATRIX, "Silu"),
    row("jax log_sigmoid", jax.nn.log_sigmoid, MATRIX, "Neg Softplus Neg"),
    row("jax leaky_relu", jax.nn.leaky_relu, MATRIX, "LeakyRelu"),
    row("jax hard_sigmoid", jax.nn.hard_sigmoid, MATRIX, "HardSigmoid"),
    row("jax hard_swish", jax.nn.hard_swish, MATRIX, "HardSwish"),
    row("jax hard_tanh", jax.nn.hard_tanh, MATRIX, "Clip"),
    row("jax elu", jax.nn.elu, MATRIX, "Elu"),
    row("jax selu", jax.nn.selu, MATRIX, "Elu Mul"),
    row("jax mish", jax.nn.mish, MATRIX, "Mish"),
    row("jax gelu", partial(jax.nn.gelu, approximate=False), MATRIX, "Gelu"),
    row("jax gelu by tanh", jax.nn.gelu, MATRIX, "Gelu"),
    row("jax softmax", jax.nn.softmax, ROWS, "Softmax"),
    row("jax log_softmax", jax.nn.log_softmax, ROWS, "LogSoftmax"),
    row("jax logsumexp", jax.nn.logsumexp, ROWS, "ReduceLogSumExp"),
    row("jax logsumexp of rows", partial(jax.nn.logsumexp, axis=-1), ROWS, "ReduceLogSumExp"),
    row("jax mean", jnp.mean, ROWS, MEAN, CAST_MEAN),
    row("jax mean of places", partial(jnp.mean, axis=(1, 2)), IMAGE, MEAN, CAST_MEAN),
    row(
        "jax var",
        jnp.var,
        ROWS,
        "ReduceMean Sub Square ReduceMean",
        "Cast ReduceMean Sub Square ReduceMean Cast",
    ),
    row(
        "jax std of rows",
        partial(jnp.std, axis=-1),
        ROWS,
        "ReduceMean Sub Square ReduceMean Sqrt",
        "Cast ReduceMean Sub Square ReduceMean Cast Sqrt",
    ),
    row(
        "jax norm",
        partial(jnp.linalg.norm, axis=-1),
        ROWS,
        "Mul ReduceSum Sqrt",
        "Mul Cast ReduceSum Cast Sqrt",
    ),
]

TRANSFORMERS = [
    row(f"transformers {name}", ACT2FN[name], MATRIX, left)
    for name, left in {
        "gelu": "Gelu",
        "gelu_new": "Gelu",
        "gelu_pytorch_tanh": "Gelu",
        "quick_gelu": "Mul Sigmoid Mul",
        "relu": "Relu",
        "silu": "Silu",
        "swish": "Silu",
        "tanh": "Tanh",
    }.items()
]

KERAS = [
    *(
        row(f"Keras {name}", keras.activations.get(name), MATRIX, left)
        for name, left in {
            "elu": "Elu",
            "gelu": "Gelu",
            "hard_sigmoid": "HardSigmoid",
            "hard_silu": "HardSwish",
            "leaky_relu": "LeakyRelu",
            "log_softmax": "LogSoftmax",
            "mish": "Mish",
            "relu6": "Clip",
            "selu": "Elu Mul",
            "silu": "Silu",
            "softmax": "Softmax",
            "softplus": "Softplus",
        }.items()
    ),
    row("Keras logsumexp", partial(keras.ops.logsumexp, axis=-1), ROWS, "ReduceLogSumExp"),
    row("Keras normalize", keras.ops.normalize, ROWS, *UNIT),
    *(
        Row(f"Keras {name}", of_keras(layer, x), float32, bfloat16)
        for name, layer, x, float32, bfloat16 in (
            ("UnitNormalization", keras.layers.UnitNormalization, ROWS, *UNIT),
            ("LayerNormalization", keras.layers.LayerNormalization, ROWS, LAYER, CAST_LAYER),
            (
                "GroupNormalization",
                partial(keras.layers.GroupNormalization, 4),
                IMAGE,
                GROUPS,
                CAST_GROUPS,
            ),
            (
                "InstanceNorm",
                partial(keras.layers.GroupNormalization, -1),
                IMAGE,
                SINGLE,
                CAST_SINGLE,
            ),
            (
                "BatchNormalization",
                keras.layers.BatchNormalization,
                IMAGE,
                BATCH,
                CAST_BATCH,
            ),
            (
                "GlobalAveragePooling2D",
                keras.layers.GlobalAveragePooling2D,
                IMAGE,
                MEAN,
                CAST_MEAN,
            ),
            ("Embedding", partial(keras.layers.Embedding, 7, 4), WORDS, LOOKUP, ""),
        )
    ),
]

LINEN = [
    Row(f"linen {name}", of_linen(layer, x), float32, bfloat16)
    for name, layer, x, float32, bfloat16 in (
        ("LayerNorm", nn.LayerNorm, ROWS, LAYER, CAST_LAYER),
        (
            "exact LayerNorm",
            partial(nn.LayerNorm, use_fast_variance=False),
            ROWS,
            LAYER,
            CAST_LAYER,
        ),
        ("GroupNorm", partial(nn.GroupNorm, 4), IMAGE, GROUPS, CAST_GROUPS),
        ("InstanceNorm", nn.InstanceNorm, IMAGE, SINGLE, CAST_SINGLE),
        ("BatchNorm", partial(nn.BatchNorm, use_running_average=True), IMAGE, BATCH, CAST_BATCH),
        ("Embed", partial(nn.Embed, 7, 4), WORDS, LOOKUP, ""),
    )
]

NNX = [
    Row(f"NNX {name}", of_nnx(layer, x), float32, bfloat16)
    for name, layer, x, float32, bfloat16 in (
        ("LayerNorm", partial(nnx.LayerNorm, 8), ROWS, LAYER, CAST_LAYER),
        ("GroupNorm", partial(nnx.GroupNorm, 8, 4), IMAGE, GROUPS, CAST_GROUPS),
        ("InstanceNorm", partial(nnx.InstanceNorm, 8), IMAGE, SINGLE, CAST_SINGLE),
        (
            "BatchNorm",
            partial(nnx.BatchNorm, 8, use_running_average=True),
            IMAGE,
            BATCH,
            "Sub Mul Add",
        ),
        ("Embed", partial(nnx.Embed, 7, 4), WORDS, LOOKUP, ""),
    )
]

EQUINOX = [
    Row("Equinox LayerNorm", of_equinox(partial(eqx.nn.LayerNorm, 8), ROWS, 2), LAYER, CAST_LAYER),
    Row(
        "Equinox GroupNorm",
        of_equinox(partial(eqx.nn.GroupNorm, 4, 8), FIRST),
        "Reshape InstanceNorm Reshape BatchNorm",
        "Cast Reshape InstanceNorm Reshape BatchNorm Cast",
    ),
    Row(
        "Equinox InstanceNorm",
        of_equinox(partial(eqx.nn.GroupNorm, 8, 8), FIRST),
        "InstanceNorm",
        "Cast InstanceNorm Cast",
    ),
    Row(
        "Equinox Embedding",
        of_equinox(partial(eqx.nn.Embedding, 7, 4, key=jax.random.key(0)), WORDS, 2),
        "Clip Gather",
    ),
]

HAIKU = [
    Row(f"Haiku {name}", of_haiku(layer, x), float32, bfloat16)
    for name, layer, x, float32, bfloat16 in (
        ("LayerNorm", lambda: hk.LayerNorm(-1, True, True), ROWS, LAYER, ""),
        ("GroupNorm", lambda: hk.GroupNorm(4), IMAGE, GROUPS, ""),
        ("InstanceNorm", lambda: hk.InstanceNorm(True, True), IMAGE, SINGLE, ""),
        ("Embed", lambda: hk.Embed(7, 4), WORDS, "Clip Gather", ""),
    )
]

TABLE = [*JAX, *TRANSFORMERS, *KERAS, *LINEN, *NNX, *EQUINOX, *HAIKU]


def assert_near(found: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    """Within the last places of the greatest number; each step rounds in an order of its own."""
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    a, b = (np.asarray(each, np.float64) for each in (found, wanted))
    error = np.max(np.abs(a - b)) / np.max(np.abs(b)) / EPSILON[dtype]
    assert error <= MOST[dtype], f"{error:.1f} last places"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_layer_is_recognized_and_gives_the_numbers_of_jax(
    row: Row, dtype: str, tmp_path: Path
) -> None:
    weights, function, x = row.make(DTYPES[dtype])
    graph = trace(weights, function, (x,), name="layer")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert " ".join(node.op for node in after.cnodes()) == row.left(dtype)
    assert_near(evaluate(after, (x,))[0], evaluate(graph, (x,))[0], dtype)
    single = x if x is WORDS else x.astype(np.float32)

    def from_single(weights: object, x: jax.Array) -> jax.Array:
        """ONNX Runtime takes and gives no bfloat16 in Python."""
        return function(weights, x.astype(after.inputs[0].aval.dtype)).astype(np.float32)

    model = fnckpt.export(weights, from_single, single, "ONNX", file_name=tmp_path / "layer")
    wanted = np.asarray(jax.jit(from_single)(weights, single))
    assert_near(RUNTIMES["ONNX"][1](model, (single,))[0], wanted, dtype)


BFLOAT16 = DTYPES["bfloat16"]


def wide_sum(x: jax.Array) -> jax.Array:
    """A softmax whose sum is rounded to int32."""
    powers = jnp.exp(x - x.max(-1, keepdims=True))
    return powers / powers.astype(jnp.int32).sum(-1, keepdims=True).astype(x.dtype)


def other_number(x: jax.Array) -> jax.Array:
    """The next bfloat16 after the one that 0.044715 is rounded to."""
    inner = x + np.nextafter(BFLOAT16.type(0.044715), BFLOAT16.type(1)) * x**3
    return x * (0.5 * (1 + jnp.tanh(BFLOAT16.type(np.sqrt(2 / np.pi)) * inner)))


def other_mean(x: jax.Array) -> jax.Array:
    """Centred by the mean of other axes than those of the variance."""
    spread = jax.lax.rsqrt(x.var(-1, keepdims=True) + BFLOAT16.type(1e-5))
    return (x - x.mean(-2, keepdims=True)) * spread


LEFT_ALONE: dict[str, Function] = {
    "a sum of integers": wide_sum,
    "another number": other_number,
    "another mean": other_mean,
    "a narrowing cast": lambda x: x.astype(jnp.float16).astype(jnp.float32),
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_only_looks_alike_in_bfloat16_is_left_alone(name: str) -> None:
    _, function, x = of_function(LEFT_ALONE[name], ROWS)(BFLOAT16)
    graph = trace(None, function, (x,), name="case")
    after = preferred(optimized(graph, debug=True), target("ONNX"))
    assert len(after.cnodes()) > 1
    assert not {"Gelu", "Softmax", "LayerNorm"} & {node.op for node in after.cnodes()}
    assert_near(evaluate(after, (x,))[0], evaluate(graph, (x,))[0], "bfloat16")


def test_a_softmax_whose_sum_may_overflow_float16_is_left_alone() -> None:
    x = np.zeros((1, 70_000), np.float16)
    graph = trace(None, lambda _, x: jax.nn.softmax(x), (x,), name="case")
    after = optimized(graph, debug=True)
    assert "Softmax" not in {node.op for node in after.cnodes()}
    np.testing.assert_array_equal(evaluate(after, (x,))[0], evaluate(graph, (x,))[0])


def test_only_small_weights_are_widened_at_export() -> None:
    small, large = np.ones(8, BFLOAT16), np.ones((1 << 15, 8), BFLOAT16)
    x = np.zeros((1 << 15, 8), np.float32)
    graph = trace([small, large], lambda w, x: x * w[0] + w[1], (x,), name="case")
    after = optimized(graph, debug=True)
    assert [node.op for node in after.cnodes()] == ["Mul", "Cast", "Add"]
    assert {w.aval.dtype for w in after.weights()} == {np.dtype(np.float32), BFLOAT16}
