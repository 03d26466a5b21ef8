"""log(exp(x) + exp(y)) in ONNX: few nodes, and JAX's numbers at the ends and near 0."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import onnx
import pytest

import fnckpt

RANDOM = np.random.default_rng(0)
ENDS = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 3e38, -3e38], np.float32)
X = np.concatenate([np.repeat(ENDS, 8), RANDOM.standard_normal(500).astype(np.float32) * 30])
Y = np.concatenate([np.tile(ENDS, 8), RANDOM.standard_normal(500).astype(np.float32) * 30])


ONE = ["Max", "Min", "Clip", "Sub", "Softplus", "Add"]


def test_the_rest_of_a_logaddexp_keeps_its_last_digits(tmp_path: Path) -> None:
    def rests(_: object, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.logaddexp(x, y), jnp.log1p(jnp.exp(-jnp.abs(x)))

    result = fnckpt.export({}, rests, (X, Y), "ONNX", file_name=tmp_path / "rests")
    ops = [node.op_type for node in onnx.load(result.path).graph.node]
    assert sorted(ops) == sorted([*ONE, "Abs", "Neg", "Softplus"])
    wanteds = rests(None, jnp.asarray(X), jnp.asarray(Y))
    for found, wanted in zip(fnckpt.run(result, [X, Y]), wanteds, strict=True):
        np.testing.assert_allclose(found, np.asarray(wanted), rtol=3e-7, atol=3e-7)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_infinities_add_up_in_other_floats_too(dtype: type, tmp_path: Path) -> None:
    with jax.enable_x64(dtype is np.float64):
        with np.errstate(over="ignore"):
            x, y = (each.astype(dtype) for each in (X, Y))
        function = lambda _, x, y: jnp.logaddexp(x, y)  # noqa: E731
        result = fnckpt.export({}, function, (x, y), "ONNX", file_name=tmp_path / "sum")
        (found,), wanted = fnckpt.run(result, [x, y]), np.asarray(function(None, x, y))
    rtol = 2 * float(ml_dtypes.finfo(dtype).eps)
    np.testing.assert_allclose(
        found.astype(np.float64), wanted.astype(np.float64), rtol=rtol, atol=1e-7
    )
