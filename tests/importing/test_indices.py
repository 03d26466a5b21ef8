"""Indices from the front, from the end and outside: the same elements when a file comes back."""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnckpt
from fnckpt.importing.load import load_graph
from fnckpt.ir.targets import target

X = np.random.default_rng(0).uniform(-1, 1, (2, 7)).astype(np.float32)
PLACES = np.arange(-9, 10, dtype=np.int32)  # of 7: from the end, from the front, and outside
READS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "take": lambda x, j: jnp.take(x, j, axis=1),
    "take, wrap": lambda x, j: jnp.take(x, j, axis=1, mode="wrap"),
    "take, clip": lambda x, j: jnp.take(x, j, axis=1, mode="clip"),
    "take, fill": lambda x, j: jnp.take(x, j, axis=1, mode="fill", fill_value=3),
    "of an element": lambda x, j: x[0, j[2]],
    "at": lambda x, j: x[:, j],
    "at two axes": lambda x, j: x[j // 4, j],
    "along an axis": lambda x, j: jnp.take_along_axis(x, jnp.stack([j, -j]), axis=1),
    "along an axis, a column": lambda x, j: jnp.take_along_axis(
        jnp.broadcast_to(x[:1], (19, 7)), j[:, None], axis=-1
    ),
    "along an axis, clip": lambda x, j: jnp.take_along_axis(
        x, jnp.stack([j, -j]), axis=1, mode="clip"
    ),
    "set": lambda x, j: x.at[:, j].set(5.0),
    "add": lambda x, j: x.at[1, j].add(1.0),
    "drop": lambda x, j: x.at[:, j].add(1.0, mode="drop"),
    "put along an axis": lambda x, j: jnp.put_along_axis(
        x, jnp.stack([j, -j])[:, 2:9], 9.0, axis=1, inplace=False, mode="drop"
    ),
    "slices": lambda x, j: jax.vmap(lambda i: jax.lax.dynamic_slice(x, (0, i), (2, 3)))(j),
    "updates": lambda x, j: jax.lax.dynamic_update_slice(x, x[:, :2], (0, j[3])),
}


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
@pytest.mark.parametrize("name", READS)
def test_an_index_means_the_same_in_a_loaded_file(
    name: str, file_format: str, tmp_path: Path
) -> None:
    function, arrays = READS[name], (X, PLACES)
    file = fnckpt.export(
        (), lambda _, *given: function(*given), arrays, file_format, file_name=tmp_path / "net"
    )
    params, loaded = load_graph(file)
    second = fnckpt.export(params, loaded, arrays, file_format, file_name=tmp_path / "again")
    goal = target(file_format)
    first, after = (len(goal.summarize(each.path).every_node()) for each in (file, second))
    assert after <= first
    again, once_more = load_graph(second)
    for places in (PLACES, PLACES[::-1], np.roll(PLACES, 7)):
        wanted = np.asarray(function(jnp.asarray(X), jnp.asarray(places)))
        np.testing.assert_array_equal(np.asarray(loaded(params, X, places)), wanted)
        np.testing.assert_array_equal(np.asarray(once_more(again, X, places)), wanted)
