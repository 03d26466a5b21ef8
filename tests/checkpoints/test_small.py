"""Trees of very many small leaves: named without JAX's paths, read and written many at once."""

from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.tree_util import keystr, tree_flatten_with_path

from fnckpt.checkpoints.formats import ckpt, ckpt_index
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint


class Pair(NamedTuple):
    a: Any
    b: Any


keys = st.text(st.characters(exclude_characters="."), max_size=3) | st.integers(0, 99).map(str)
containers = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.one_of(
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.dictionaries(keys, inner, max_size=3).map(lambda made: defaultdict(int, made)),
        st.dictionaries(st.integers(), inner, max_size=3),
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=20,
)


@given(containers)
def test_leaves_have_the_order_and_the_names_of_jax(tree: Any):
    flat = tree_flatten_with_path(tree)[0]
    expected = [(keystr(path, simple=True, separator="."), leaf) for path, leaf in flat]
    if len(dict(expected)) == len(expected):
        assert leaves(tree) == expected
    else:
        with pytest.raises(ValueError, match="share a name"):
            leaves(tree)


def test_keys_without_an_order_are_refused_as_jax_does():
    with pytest.raises(ValueError, match="sorting pytree dictionary keys"):
        leaves({"a": {1: 2, "b": 3}})


# Of two kinds the messages have one length, and one length of the name; names of all scripts, with
# the byte that ends a name in the reader's pattern, and none.
MANY = {
    "": np.float32(0.5),
    "name\x12": np.arange(3),
    **{f"öl.{i}": np.full((2, 3) if i % 2 else (3, 2), i, np.int16) for i in range(300)},
    **{f"scalar.{i}": np.array(i, ">i4") for i in range(300)},
    **{f"flag.{i}": np.array([i % 2 == 0]) for i in range(30)},
    **{f"empty.{i}": np.zeros((0, i % 3), np.int8) for i in range(30)},
    "large": np.arange(100_000),
    "text": "wörd",
}


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("mmap", [False, True])
def test_many_leaves_of_few_kinds_come_back(tmp_path: Path, monkeypatch, mmap: bool, crc: bool):
    monkeypatch.setattr(ckpt, "_TOGETHER", 1000)
    path = save_checkpoint(MANY, tmp_path / "a.ckpt", crc=crc)
    found = load_checkpoint(path, mmap=mmap)
    assert list(found) == sorted(MANY)
    for name, leaf in MANY.items():
        expected = np.asarray(leaf)
        assert (found[name].dtype, found[name].shape) == (
            expected.dtype.newbyteorder("="),
            expected.shape,
        )
        np.testing.assert_array_equal(found[name], expected)
        assert isinstance(found[name], np.ndarray)
        assert found[name].flags.writeable != mmap
    again = load_checkpoint(path, MANY, mmap=mmap)
    assert jax.tree.structure(again) == jax.tree.structure(MANY)


def test_loaded_leaves_share_no_memory(tmp_path: Path):
    path = save_checkpoint({str(i): np.zeros(4) for i in range(100)}, tmp_path / "a.ckpt")
    found = load_checkpoint(path)
    found["7"][:] = 1
    assert sum(array.sum() for array in found.values()) == 4
    assert all(array.base is None for array in found.values())


def test_small_tensors_are_recognized_by_the_bytes_that_they_share(tmp_path: Path, monkeypatch):
    path = save_checkpoint({f"{i:04}": np.full(3, i) for i in range(1000)}, tmp_path / "a.ckpt")
    asked: list[int] = []
    real = ckpt_index._frame

    def counted(data: memoryview, at: int) -> Any:
        asked.append(at)
        return real(data, at)

    monkeypatch.setattr(ckpt_index, "_frame", counted)
    assert len(load_checkpoint(path)) == 1000
    assert asked == [0]
