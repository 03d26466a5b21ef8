"""Files of the past load for ever."""

import jax
import numpy as np
import pytest

from fnckpt.checkpoints.formats.ckpt_index import FNCKPT_ONLY, PORTABLE
from fnckpt.checkpoints.pytree import load_checkpoint


def expected(dtype, modulus):
    return (np.arange(6) % modulus).astype(dtype).reshape(2, 3)


def assert_all_types(loaded):
    for name, dtype in PORTABLE.items():
        assert loaded[name].dtype == dtype
        np.testing.assert_array_equal(loaded[name], expected(dtype, 2 if name == "Bool" else 6))
    assert (loaded["note"].item(), loaded["scalar"].item()) == ("wörd", 7)


@pytest.mark.parametrize("mmap", [False, True])
def test_the_types_of_mindspore_2_10(root, mmap):
    directory = root / "tests/golden"
    assert_all_types(load_checkpoint(directory / "mindspore-2.10.0-all-types.ckpt", mmap=mmap))
    key = b"0123456789abcdef"
    path = directory / "mindspore-2.10.0-aes-gcm.ckpt"
    assert_all_types(load_checkpoint(path, mmap=mmap, dec_key=key))


def test_the_leaf_kinds_of_fnckpt_0_1(root):
    path = root / "tests/golden/fnckpt-0.1.0-kinds.ckpt"
    loaded = load_checkpoint(path)
    assert_all_types(loaded)
    like = {**loaded, "note": "", "key": jax.random.key(0), "step": 0, "rate": 0.0, "flag": False}
    restored = load_checkpoint(path, like)
    assert (restored["note"], restored["step"], restored["rate"]) == ("wörd", 7, 0.5)
    assert restored["flag"] is True
    assert restored["key"] == jax.random.key(3)


def test_the_types_that_only_fnckpt_0_1_reads(root):
    loaded = load_checkpoint(root / "tests/golden/fnckpt-0.1.0-not-portable.ckpt")
    for dtype in FNCKPT_ONLY.values():
        assert loaded[str(dtype)].dtype == dtype
        assert loaded[str(dtype)].tobytes() == expected(dtype, 2).tobytes()
