"""The real MindSpore reads what we write, and we read what it writes."""

import ml_dtypes
import numpy as np
import pytest

from fnckpt.checkpoints.formats import ckpt, ckpt_index
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.proto.checkpoint_pb2 import Checkpoint

SHAPES = [(), (1,), (5,), (2, 3), (2, 1, 3, 2), (0, 3), (2, 0)]
DTYPES = {str(dtype): dtype for dtype in ckpt_index.PORTABLE.values()}


def sample(dtype, shape, seed=0):
    """Any bytes at all, for a dtype where all bytes mean something: NaNs, subnormals, -0.0."""
    rng = np.random.default_rng(seed)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(np.bool_)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


TREE = {
    f"{name}_{'x'.join(map(str, shape))}": sample(dtype, shape)
    for name, dtype in DTYPES.items()
    for shape in SHAPES
}
TYPE_NAMES = {dtype: name for name, dtype in ckpt_index.PORTABLE.items()}


PARTS = {"v": np.arange(3), "w": np.arange(50_000).reshape(2, -1)}


def save_in_parts(path):
    """With a page before each part of 64 KiB, as tensors over 512 MiB have one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ckpt, "PART", 65_536)
        return save_checkpoint(PARTS, path)


@pytest.fixture(scope="module")
def ours(tmp_path_factory, mindspore_load):
    """Our files, and what MindSpore found in them."""
    directory = tmp_path_factory.mktemp("ours")
    mark = np.frombuffer(b"0123crc_num0123456789", np.uint8)
    paths = {
        "plain": save_checkpoint(TREE, directory / "plain.ckpt"),
        "crc": save_checkpoint(TREE, directory / "crc.ckpt", crc=True),
        "texts": save_checkpoint(
            {"a": "héλ", "empty": "", "f.ü.日本": np.int8(1)}, directory / "texts.ckpt", crc=True
        ),
        "mark": save_checkpoint({"a": np.ones(3), "b": mark}, directory / "mark.ckpt"),
        "parts": save_in_parts(directory / "parts.ckpt"),
        "vector": save_checkpoint({"none": np.zeros(0), "w": np.ones(1)}, directory / "v.ckpt"),
    }
    found = mindspore_load(*paths.values())
    return {name: (path, found[str(path)]) for name, path in paths.items()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, mindspore_save):
    """Files that MindSpore wrote; it leaves out tensors without elements."""
    directory = tmp_path_factory.mktemp("theirs")
    full = {name: array for name, array in TREE.items() if array.size}
    tensors = {
        name: (f"{array.dtype}".replace("bool", "bool_"), list(array.shape), array.tobytes().hex())
        for name, array in full.items()
    }
    texts = {"note": ("str", [], "a note, wörd"), "zero": ("str", [], "")}
    files = {
        "plain.ckpt": (tensors, {}),
        "crc.ckpt": (tensors | texts, {"crc_check": True}),
        "complex.ckpt": (
            {"z": ("complex64", [2], np.array([1 + 2j, 3], np.complex64).tobytes().hex())},
            {},
        ),
        "int4.ckpt": ({"q": ("qint4x2", [3], "0102ff")}, {}),
    }
    mindspore_save(directory, files)
    return directory, full


@pytest.mark.parametrize("kind", ["plain", "crc"])
def test_mindspore_reads_every_dtype_and_shape_that_we_write(ours, kind):
    expected = {
        name: [TYPE_NAMES[array.dtype], list(array.shape), array.tobytes().hex()]
        for name, array in TREE.items()
    }
    assert ours[kind][1] == expected


def test_mindspore_reads_a_tensor_in_parts_that_begin_at_pages(ours):
    path, found = ours["parts"]
    w = ckpt.index(memoryview(path.read_bytes()), path)[0]["w"]
    assert isinstance(w, ckpt_index.Entry)
    assert len(w.spans) == 7
    assert found == {
        name: ["Int64", list(array.shape), array.tobytes().hex()] for name, array in PARTS.items()
    }


def test_mindspore_reads_our_texts_and_names_in_any_script(ours):
    found = ours["texts"][1]
    assert found == {
        "a": ["str", [], "héλ"],
        "empty": ["str", [], ""],
        "f.ü.日本": ["Int8", [], "01"],
    }


def test_content_that_looks_like_a_crc_trailer_is_read_as_content_by_both(ours):
    path, found = ours["mark"]
    assert bytes.fromhex(found["b"][2]) == b"0123crc_num0123456789"
    assert load_checkpoint(path)["b"].tobytes() == b"0123crc_num0123456789"


def test_mindspore_reads_a_vector_without_elements_as_a_zero_and_the_rest_rightly(ours):
    path, found = ours["vector"]
    assert found["none"] == ["Float64", [], bytes(8).hex()]
    assert found["w"] == ["Float64", [1], np.ones(1).tobytes().hex()]
    assert load_checkpoint(path)["none"].shape == (0,)


@pytest.mark.parametrize("kind", ["plain", "crc"])
@pytest.mark.parametrize("mmap", [False, True])
def test_we_read_every_dtype_that_mindspore_writes(theirs, kind, mmap):
    directory, full = theirs
    loaded = load_checkpoint(directory / f"{kind}.ckpt", mmap=mmap)
    for name, array in full.items():
        assert loaded[name].dtype == array.dtype, name
        assert loaded[name].shape == array.shape, name
        assert loaded[name].tobytes() == array.tobytes(), name


def test_we_write_the_very_bytes_that_mindspore_writes(theirs, tmp_path):
    directory, full = theirs
    assert save_checkpoint(full, tmp_path / "a.ckpt").read_bytes() == sorted_bytes(
        directory / "plain.ckpt", full
    )


def sorted_bytes(path, full):
    """The bytes of ``path`` with its messages in the order of a pytree: sorted by name."""
    data = path.read_bytes()
    messages = {
        value.tag: Checkpoint(value=[value]).SerializeToString()
        for value in Checkpoint.FromString(data).value
    }
    assert b"".join(messages.values()) == data
    return b"".join(messages[name] for name in sorted(full))


def test_we_read_the_texts_of_mindspore(theirs):
    loaded = load_checkpoint(theirs[0] / "crc.ckpt")
    assert (loaded["note"].item(), loaded["zero"].item()) == ("a note, wörd", "")


def test_we_read_the_complex_tensors_that_mindspore_itself_cannot_load(theirs):
    assert load_checkpoint(theirs[0] / "complex.ckpt")["z"].tolist() == [1 + 2j, 3]


def test_we_read_qint4x2_as_the_bytes_that_mindspore_shows(theirs):
    loaded = load_checkpoint(theirs[0] / "int4.ckpt")["q"]
    assert (loaded.dtype, loaded.tolist()) == (np.int8, [1, 2, -1])


def test_a_jax_bfloat16_is_no_stranger_to_ml_dtypes():
    assert ckpt_index.TYPES["BFloat16"] == ml_dtypes.bfloat16
