"""What an associative scan puts together of even and odd places: one join, and equal numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target

RANDOM = np.random.default_rng(0)
SCANS: dict[str, tuple[Callable[..., Any], np.dtype]] = {
    "sums": (jnp.add, np.dtype(np.float32)),
    "greatest": (jnp.maximum, np.dtype(np.int32)),
    "any": (jnp.logical_or, np.dtype(bool)),
}


def numbers(count: int, dtype: np.dtype) -> np.ndarray:
    return (RANDOM.standard_normal((2, count, 3)) * 3).astype(dtype)


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("reverse", [False, True])
def test_an_associative_scan_joins_its_places_without_pads(
    name: str, count: int, reverse: bool, tmp_path: Path
) -> None:
    op, dtype = SCANS[name]

    def scan(_: object, x: jax.Array) -> jax.Array:
        return lax.associative_scan(op, x, axis=1, reverse=reverse)

    x = numbers(count, dtype)
    wanted = np.asarray(scan(None, jnp.asarray(x)))
    graph = optimized(trace(None, scan, (x,), name="scan"), debug=True)
    assert "Pad" not in {node.op for node in graph.cnodes()}
    np.testing.assert_allclose(evaluate(graph, (x,))[0], wanted, rtol=1e-5, atol=1e-6)
    file = fnckpt.export(None, scan, x, "ONNX", file_name=tmp_path / "scan")
    assert "Pad" not in [node.op for node in target("ONNX").summarize(file.path).nodes]
    np.testing.assert_allclose(fnckpt.run(file, x)[0], wanted, rtol=1e-5, atol=1e-6)


def spread(x: jax.Array, low: int, high: int, fill: float = 0.0, gap: int = 1) -> jax.Array:
    return lax.pad(x, jnp.float32(fill), ((0, 0, 0), (low, high, gap), (0, 0, 0)))


LEFT: dict[str, Callable[[jax.Array], jax.Array]] = {
    "both at the even places": lambda x: spread(x, 0, 1) + spread(x * 2, 0, 1),
    "not zeros": lambda x: spread(x, 0, 1, 1.0) + spread(x * 2, 1, 0, 1.0),
    "two between": lambda x: spread(x, 0, 2, gap=2) + spread(x * 2, 1, 1, gap=2),
    "two behind": lambda x: spread(x, 0, 2) + spread(x * 2, 1, 1),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_sums_of_padded_arrays_stay_sums(name: str) -> None:
    x = numbers(4, np.dtype(np.float32))
    graph = optimized(trace(None, lambda _, x: LEFT[name](x), (x,), name="sum"), debug=True)
    assert "Pad" in {node.op for node in graph.cnodes()}
    np.testing.assert_array_equal(evaluate(graph, (x,))[0], np.asarray(LEFT[name](jnp.asarray(x))))
