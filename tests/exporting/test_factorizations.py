"""Factorizations of weights are computed at export, by JAX itself, unless weights must stay."""

from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
import onnx
import pytest
from jax import Array

import fnckpt

W = (np.random.default_rng(0).standard_normal((5, 5)) + 3 * np.eye(5)).astype(np.float32)
X = np.arange(5, dtype=np.float32)

OF_WEIGHTS: dict[str, Callable[[Array, Array], Array]] = {
    "svd": lambda w, x: jnp.linalg.svd(w)[0] @ x,
    "eigh": lambda w, x: jnp.linalg.eigh(w @ w.T)[1] @ x,
    "pinv": lambda w, x: jnp.linalg.pinv(w) @ x,
    "spectral norm": lambda w, x: w @ x / jnp.linalg.norm(w, 2),
    "cholesky": lambda w, x: jnp.linalg.cholesky(w @ w.T) @ x,
    "inv": lambda w, x: jnp.linalg.inv(w) @ x,
    "qr": lambda w, x: jnp.linalg.qr(w)[0] @ x,
    "expm": lambda w, x: jsl.expm(w / 8) @ x,
    "a closed over one": lambda w, x: x @ jnp.linalg.svd(W)[2],
    "complex": lambda w, x: jnp.real(jnp.linalg.svd(w + 1j * w.T)[0] @ x),
}


def operators(file: fnckpt.ExportResult) -> set[str]:
    return {node.op_type for node in onnx.load(file.path).graph.node}


@pytest.mark.parametrize("what", OF_WEIGHTS)
def test_a_factorization_of_weights_is_a_constant_with_the_signs_of_jax(
    what: str, tmp_path: Path
) -> None:
    function = OF_WEIGHTS[what]
    apply_fn = lambda params, x: function(params["w"], x)  # noqa: E731
    file = fnckpt.export({"w": W}, apply_fn, X, "ONNX", file_name=tmp_path / "f")
    assert operators(file).isdisjoint({"Loop", "Scan", "If", "Where", "ArgMax"})
    (found,) = fnckpt.run(file, X)
    np.testing.assert_allclose(found, apply_fn({"w": W}, X), rtol=1e-4, atol=1e-5)


def test_weights_that_are_kept_are_factorized_in_the_file(tmp_path: Path) -> None:
    apply_fn = lambda params, x: jnp.linalg.pinv(params["w"]) @ x  # noqa: E731
    file = fnckpt.export({"w": W}, apply_fn, X, "ONNX", file_name=tmp_path / "f", keep_params=True)
    assert "Loop" in operators(file) or "Scan" in operators(file)
    (found,) = fnckpt.run(file, X)
    np.testing.assert_allclose(found, apply_fn({"w": W}, X), rtol=1e-4, atol=1e-5)
