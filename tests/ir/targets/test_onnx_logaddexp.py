"""log(exp(x) + exp(y)) in ONNX: few nodes, and JAX's numbers at the ends and near 0."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnx

import fnckpt

RANDOM = np.random.default_rng(0)
ENDS = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-30, 3e38, -3e38], np.float32)
X = np.concatenate([np.repeat(ENDS, 8), RANDOM.standard_normal(500).astype(np.float32) * 30])
Y = np.concatenate([np.tile(ENDS, 8), RANDOM.standard_normal(500).astype(np.float32) * 30])


def test_the_rest_of_a_logaddexp_keeps_its_last_digits(tmp_path: Path) -> None:
    def rests(_: object, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.logaddexp(x, y), jnp.log1p(jnp.exp(-jnp.abs(x)))

    result = fnckpt.export({}, rests, (X, Y), "ONNX", file_name=tmp_path / "rests")
    ops = [node.op_type for node in onnx.load(result.path).graph.node]
    assert ops.count("Where") == 1  # of NaN
    wanteds = rests(None, jnp.asarray(X), jnp.asarray(Y))
    for found, wanted in zip(fnckpt.run(result, [X, Y]), wanteds, strict=True):
        np.testing.assert_allclose(found, np.asarray(wanted), rtol=3e-7, atol=3e-7)
