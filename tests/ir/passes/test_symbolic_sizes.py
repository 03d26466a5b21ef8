"""Where a slice begins, as sizes: nothing is written over and nothing is looked up."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.passes.pipeline import optimized

Struct = jax.ShapeDtypeStruct


def shapes(*texts: str) -> list[Struct]:
    scope = jax.export.SymbolicScope()
    made = [jax.export.symbolic_shape(text, scope=scope) for text in texts]
    return [Struct(shape, np.float32) for shape in made]


def append(_: object, past: jax.Array, new: jax.Array) -> jax.Array:
    """A buffer as long as both, the new rows written behind the past."""
    room = jnp.concatenate([past, jnp.zeros(new.shape)], 1)
    at = jnp.asarray(past.shape[1], jnp.int32)
    return jax.lax.dynamic_update_slice(room, new, (0, at, 0))


def last(_: object, past: jax.Array, new: jax.Array) -> jax.Array:
    both = jnp.concatenate([past, new], 1)
    at = jnp.asarray(past.shape[1], jnp.int32)
    return jax.lax.dynamic_slice(both, (0, at, 0), new.shape)


def turned(_: object, past: jax.Array, new: jax.Array) -> jax.Array:
    both = jnp.concatenate([past.swapaxes(1, 2), new.swapaxes(1, 2)], 2)
    return both.swapaxes(1, 2)


def first(_: object, past: jax.Array, new: jax.Array) -> jax.Array:
    """Over the first rows: what is there is lost, so it stays an update."""
    room = jnp.concatenate([past, new], 1)
    return jax.lax.dynamic_update_slice(room, new, (0, 0, 0))


CASES: dict[str, tuple[Callable[..., jax.Array], list[str]]] = {
    "what is written behind the past is appended": (append, ["Concat"]),
    "a slice behind the past has known ends": (last, ["Concat", "Slice"]),
    "a concatenation is not turned twice": (turned, ["Concat"]),
}


@pytest.mark.parametrize("case", CASES)
def test_starts_that_are_sizes_leave(case: str, tmp_path: Path) -> None:
    function, left = CASES[case]
    structs = shapes("b, p, 4", "b, s, 4")
    graph = optimized(trace({}, function, structs, name="net"), debug=True)
    assert sorted(node.op for node in graph.cnodes()) == left
    file = fnckpt.export({}, function, tuple(structs), "ONNX", file_name=tmp_path / "net")
    rng = np.random.default_rng(0)
    for b, p, s in ((2, 3, 1), (1, 1, 5)):
        inputs = [rng.normal(size=(b, n, 4)).astype(np.float32) for n in (p, s)]
        np.testing.assert_array_equal(fnckpt.run(file, inputs)[0], _of_jax(function, inputs))


def test_an_update_of_unknown_length_elsewhere_stays_an_update(tmp_path: Path) -> None:
    structs = shapes("b, p, 4", "b, s, 4")
    file = fnckpt.export({}, first, tuple(structs), "ONNX", file_name=tmp_path / "net")
    for b, p, s in ((2, 3, 1), (1, 1, 5)):
        inputs = [np.full((b, n, 4), i, np.float32) for i, n in enumerate((p, s))]
        np.testing.assert_array_equal(fnckpt.run(file, inputs)[0], _of_jax(first, inputs))


def _of_jax(function: Callable[..., jax.Array], inputs: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(function({}, *map(jnp.asarray, inputs)))
