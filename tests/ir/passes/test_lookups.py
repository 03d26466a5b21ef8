"""Lookups by jnp.take for ONNX: fewer operators, the same for every index there is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import preferred

WORDS = np.arange(21, dtype=np.float32).reshape(7, 3)
ENDS = [0, 1, 6, 7, 8, -1, -6, -7, -8, 2**31 - 1, -(2**31)]


def lookup(indices: np.ndarray, mode: str) -> FuncGraph:
    def take(words: jax.Array, i: jax.Array) -> jax.Array:
        return jnp.take(words, i, 0, mode=mode)

    return trace(WORDS, take, (indices,), name="take")


def test_what_is_outside_is_nan_in_five_operators() -> None:
    graph = preferred(optimized(lookup(np.array([ENDS], np.int32), "fill")), target("ONNX"))
    ops = [node.op for node in graph.cnodes()]
    assert sorted(ops) == ["Clip", "Equal", "Gather", "Reshape", "Select"]


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8, np.uint32])
@pytest.mark.parametrize("mode", ["fill", "clip", "wrap"])
def test_each_mode_gives_what_jax_gives(mode: str, dtype: type) -> None:
    info = np.iinfo(dtype)
    indices = np.array([i for i in ENDS if info.min <= i <= info.max], dtype)
    after = preferred(optimized(lookup(indices, mode), debug=True), target("ONNX"))
    wanted = np.asarray(jnp.take(WORDS, indices, 0, mode=mode))
    np.testing.assert_array_equal(evaluate(after, (indices,))[0], wanted)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5))
def test_every_index_is_looked_up_as_before(indices: list[int]) -> None:
    given_ = np.array(indices, np.int32)
    graph = lookup(given_, "fill")
    after = preferred(optimized(graph), target("ONNX"))
    (found,), (wanted,) = evaluate(after, (given_,)), evaluate(graph, (given_,))
    np.testing.assert_array_equal(found, wanted)
