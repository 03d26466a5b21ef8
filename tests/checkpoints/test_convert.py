"""Between .ckpt, safetensors, .npz and Orbax, bit for bit, and as the real libraries see it."""

import itertools
import json
import random

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from fnckpt.checkpoints.convert import convert, format_of
from fnckpt.checkpoints.formats import ckpt_index, npz, safetensors
from fnckpt.checkpoints.orbax_handler import CkptRestore, CkptSave
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import FormatError, UnsupportedError

RNG = np.random.default_rng(0)


UNKNOWN = {  # dtypes that a format has no name for
    "b": {"float8_e4m3", "uint2", "uint4"},
    "b.safetensors": {
        *("complex128", "float4_e2m1fn", "int2", "int4", "uint2", "uint4", "float8_e3m4"),
        *("float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz"),
    },
}


def sample(dtype, shape):
    if dtype == np.bool_:
        return RNG.integers(0, 2, shape).astype(np.bool_)
    return np.frombuffer(RNG.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


TREE = {
    "params": {
        f"{dtype}": {"x".join(map(str, shape)) or "scalar": sample(dtype, shape)}
        for dtype in ckpt_index.PORTABLE.values()
        for shape in [(), (3,), (2, 3)]
    },
    "text": "héllo, 世界",
    "step": 7,
}
NAMES = ["a.ckpt", "a.safetensors", "a.npz", "a"]


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NAMES, 2)))
def test_every_round_trip_keeps_every_bit(first, second, tmp_path):
    origin = save_checkpoint(TREE, tmp_path / "origin.ckpt")
    expected = load_checkpoint(origin)
    one = convert(origin, tmp_path / f"1{first}")
    two = convert(one, tmp_path / f"2{second}")
    back = convert(two, tmp_path / "back.ckpt")
    assert_same(dict(format_of(one).read(one)), expected)
    assert_same(dict(format_of(two).read(two)), expected)
    assert_same(load_checkpoint(back), expected)


@pytest.mark.parametrize("dtype", list(ckpt_index.FNCKPT_ONLY.values()), ids=str)
def test_what_mindspore_cannot_read_goes_anywhere_but_into_a_portable_ckpt(dtype, tmp_path):
    array = RNG.integers(0, 2, (2, 3)).astype(dtype)
    origin = save_checkpoint({"w": array}, tmp_path / "a.ckpt", portable=False)
    for name in ("b.npz", "b", "b.safetensors"):
        path = tmp_path / name
        if str(dtype) in UNKNOWN.get(name, ()):
            with pytest.raises(UnsupportedError, match=rf"hold these arrays.*\n  w: {dtype}"):
                convert(origin, path)
            assert not path.exists()
            continue
        convert(origin, path)
        assert_same(dict(format_of(path).read(path)), {"w": array})
        with pytest.raises(TypeError, match=r"w: MindSpore cannot load"):
            convert(path, tmp_path / "c.ckpt")


def test_the_real_safetensors_reads_ours_and_we_read_its(tmp_path):
    kinds = [np.float32, np.float16, np.int64, np.uint8, np.bool_, np.float64]
    arrays = {str(np.dtype(k)): sample(np.dtype(k), (2, 3)) for k in kinds}
    arrays |= {"0-d": np.array(1.5), "empty": np.zeros((0, 2))}
    safetensors.write({**arrays, "note": np.array("hi")}, tmp_path / "ours.safetensors")
    assert_same(load_file(tmp_path / "ours.safetensors"), arrays)
    with safe_open(tmp_path / "ours.safetensors", "np") as file:
        assert file.metadata()["fnckpt.text.note"] == "hi"
    save_file(arrays, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert_same(safetensors.read(tmp_path / "theirs.safetensors"), arrays)


def test_the_real_numpy_reads_our_npz_and_we_read_its(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b/c": np.array(1),
        "f": np.asfortranarray(np.eye(3)),
    }
    npz.write({**arrays, "bf": np.ones(2, ml_dtypes.bfloat16)}, tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz") as loaded:
        assert_same({name: loaded[name] for name in arrays}, arrays)
        assert loaded["bf"].tolist() == [0x3F80] * 2
    np.savez(tmp_path / "theirs.npz", **arrays)
    assert_same(npz.read(tmp_path / "theirs.npz"), arrays)


def test_orbax_itself_restores_our_directory_as_a_nested_tree(tmp_path):
    origin = save_checkpoint({"params": {"w": np.arange(3.0)}, "step": 7}, tmp_path / "a.ckpt")
    path = convert(origin, tmp_path / "orbax")
    with ocp.PyTreeCheckpointer() as checkpointer:
        tree = checkpointer.restore(path)
    assert tree["params"]["w"].tolist() == [0, 1, 2]
    assert int(tree["step"]) == 7


def test_names_that_cannot_nest_survive_orbax(tmp_path):
    tree = {"a": np.ones(1), "a.b": np.ones(2), "c.": np.ones(3)}
    origin = save_checkpoint(tree, tmp_path / "a.ckpt")
    path = convert(origin, tmp_path / "orbax")
    assert_same(dict(format_of(path).read(path)), tree)


def test_an_orbax_manager_saves_and_restores_ckpt_files(tmp_path, mindspore_load):
    tree = {"w": np.arange(3, dtype=np.float32), "step": 3}
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(tmp_path, options=options, item_names=("state",)) as manager:
        for step in range(4):
            args = ocp.args.Composite(state=CkptSave(tree | {"step": step}, crc=True))
            manager.save(step, args=args)
        manager.wait_until_finished()
        assert manager.all_steps() == [2, 3]
        args = ocp.args.Composite(state=CkptRestore(tree))
        restored = manager.restore(3, args=args)["state"]
        assert_same(restored | {"step": np.array(restored["step"])}, tree | {"step": np.array(3)})
    (path,) = tmp_path.glob("3/**/*.ckpt")
    assert mindspore_load(path)[str(path)]["step"] == ["Int64", [], (3).to_bytes(8, "little").hex()]


def test_arrays_that_a_format_cannot_hold_are_all_named_and_nothing_is_written(tmp_path):
    tree = {"e": np.zeros((0, 3)), "f": np.zeros(0), "g": np.ones((1,) * 33)}
    origin = save_checkpoint(tree, tmp_path / "a.ckpt")
    with pytest.raises(UnsupportedError) as raised:
        convert(origin, tmp_path / "orbax")
    assert str(raised.value) == (
        f"{tmp_path}/orbax: an Orbax directory cannot hold these arrays, nothing was written:\n"
        f"  e: float64 (0, 3)\n  f: float64 (0,)\n  g: float64 {(1,) * 33}"
    )
    assert not (tmp_path / "orbax").exists()


def test_an_unknown_suffix_and_a_directory_in_the_way_are_told(tmp_path):
    origin = save_checkpoint({"w": 1}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"no format has the suffix \.bin; use \.ckpt"):
        convert(origin, tmp_path / "a.bin")
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="exists"):
        convert(origin, tmp_path / "there")
    with pytest.raises(FormatError, match="not an Orbax PyTree checkpoint"):
        convert(tmp_path / "there", tmp_path / "b.ckpt")


def header(text, body=b""):
    return len(text).to_bytes(8, "little") + text + body


W = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has at least 8 bytes"),
        (bytes([255] * 8), "the header claims 18446744073709551615 bytes, 0 are left"),
        (header(b"nonsense"), "the header is not JSON"),
        (header(b"[" * 100_000), "the header is not JSON"),
        (header(b"[]"), "the header is not a JSON object"),
        (header(b'{"w":1}'), "tensor 'w': an entry has dtype, shape and data_offsets, found 1"),
        (header(json.dumps({"w": W | {"dtype": "Q8"}}).encode()), "the dtype Q8 is unknown"),
        (header(json.dumps({"w": W | {"shape": [-2]}}).encode()), "the shape [-2] is impossible"),
        (header(json.dumps({"w": W}).encode(), b"a"), "takes 2 bytes, found 0 to 2 of 1"),
        (header(json.dumps({"w": W | {"shape": [3]}}).encode(), b"abc"), "takes 3 bytes"),
    ],
)
def test_a_damaged_safetensors_file_is_told(tmp_path, data, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(FormatError) as raised:
        safetensors.read(path)
    assert message in str(raised.value)


def test_a_damaged_npz_is_a_format_error(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, w=np.arange(100.0))
    data = path.read_bytes()
    pick = random.Random(0)
    for _ in range(300):
        changed = bytearray(data)
        changed[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
        path.write_bytes(changed)
        try:
            npz.read(path)
        except FormatError as error:
            assert str(path) in str(error)  # noqa: PT017 - most changes are refused, not all


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", w=np.array([object()]))
    with pytest.raises(FormatError, match="allow_pickle"):
        npz.read(tmp_path / "a.npz")
