"""A graph in float16 or bfloat16, and how far its numbers are from those of float32."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np

from fnckpt.ir.border import as_real
from fnckpt.ir.cost import flops
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.lowering.known import array_of
from fnckpt.ir.passes.precision import Narrowing, narrowed

MOST_MEASURED = 2_000_000_000  # FLOPs


def narrowed_and_measured(
    graph: FuncGraph, dtype: str | None, sample: Sequence[object]
) -> tuple[FuncGraph, Narrowing | None]:
    """The graph with ``dtype`` inside, and what that costs.

    The error is measured where the sample has values and numpy computes it in some seconds.
    """
    if dtype is None:
        return graph, None
    after, narrowing = narrowed(graph, dtype)
    if not all(map(_has_values, sample)) or flops(graph) > MOST_MEASURED:
        return after, narrowing
    values = [as_in_file(x, p.aval.dtype) for x, p in zip(sample, graph.inputs, strict=True)]
    error = greatest_error(evaluate(after, values), evaluate(graph, values))
    return after, replace(narrowing, error=error)


def as_in_file(x: object, dtype: np.dtype) -> np.ndarray:
    """A value of the sample as the graph takes it."""
    return np.asarray(as_real(array_of(x)), dtype)


def _has_values(leaf: object) -> bool:
    """Whether this is an array, not only its shape."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def greatest_error(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The greatest difference over the greatest number, of the worst output of floats.

    Infinite where one has an infinity or a NaN and the other a number.
    """
    floats = [(a, b) for a, b in zip(found, wanted, strict=True) if b.dtype.kind not in "biuc"]
    return max((_error(*map(_wide, pair)) for pair in floats), default=0.0)


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    finite = np.isfinite(wanted)
    if not np.array_equal(np.isfinite(found), finite):
        return float("inf")
    gap = np.max(np.abs(found[finite] - wanted[finite]), initial=0.0)
    scale = np.max(np.abs(wanted[finite]), initial=0.0)
    return float(gap / scale if scale else gap)
