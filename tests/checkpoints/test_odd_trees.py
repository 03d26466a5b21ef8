"""Odd trees, written in each format, are read back as they were by each reader, or refused."""

import json
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from fnckpt.checkpoints.convert import convert, format_of
from fnckpt.checkpoints.formats import npz, safetensors
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import UnsupportedError
from tests.conftest import RunPython

Arrays = dict[str, np.ndarray]

DTYPES = ["bool", "int8", "uint8", "int16", "int32", "int64", "uint64", "float16", "float32"]
ODD_BOOLS = np.frombuffer(bytes([0, 1, 2, 255, 128]), np.bool_)

parts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
names = st.lists(parts, min_size=1, max_size=4).map(".".join) | st.sampled_from(
    ["", ".", "..", "a", "a.b", "a.b.c", "a/b", "../a", "x" * 1024, "é" * 600, "a.npy", " "]
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Any dtype, rank and stride, without elements too; bools of any byte; texts."""
    if draw(st.integers(0, 7)) == 0:
        return np.array(draw(parts))
    dtype = np.dtype(draw(st.sampled_from([*DTYPES, ">i4", ">f8"])))
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=4)))
    size = int(np.prod(shape)) * dtype.itemsize
    array = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)
    return array.T if draw(st.booleans()) else array


trees = st.dictionaries(names, arrays(), min_size=1, max_size=4).filter(
    lambda tree: not any(f"{name}.npy" in tree for name in tree)  # refused, as tested below
)


def same(found: Arrays, wanted: Arrays) -> None:
    """The same names, dtypes (in any byte order), shapes and bits; a bool is 0 or 1."""
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        native = array.dtype.newbyteorder("=")
        held = array.view(np.uint8) != 0 if native == np.bool_ else array.astype(native)
        assert found[name].shape == array.shape, name
        if native.kind == "U":
            assert str(found[name]) == str(array)
            continue
        assert found[name].dtype.newbyteorder("=") == native, name
        assert found[name].astype(native, order="C").tobytes() == held.tobytes(), name


def numbers(tree: Arrays) -> Arrays:
    return {name: array for name, array in tree.items() if array.dtype.kind != "U"}


odd = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@odd
@given(tree=trees)
def test_what_is_saved_is_read_from_each_file(tree: Arrays, tmp_path: Path):
    leaves = {n: str(a) if a.dtype.kind == "U" else a for n, a in tree.items()}
    first = save_checkpoint(leaves, tmp_path / "a.ckpt")
    same(load_checkpoint(first), tree)
    same(load_checkpoint(first, mmap=True), tree)
    convert(first, tmp_path / "a.safetensors")
    same(dict(format_of("a.safetensors").read(tmp_path / "a.safetensors")), tree)
    same(load_file(tmp_path / "a.safetensors"), numbers(tree))
    convert(first, tmp_path / "a.npz")
    same(dict(format_of("a.npz").read(tmp_path / "a.npz")), tree)
    with np.load(tmp_path / "a.npz") as held:
        for name, array in tree.items():
            key = name if name in held.files else f"{name}.npy"
            assert held[key].shape == array.shape
    for back in ("a.safetensors", "a.npz"):
        same(load_checkpoint(convert(tmp_path / back, tmp_path / "b.ckpt")), tree)


def test_a_name_that_numpy_takes_for_another_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"names that a .npz cannot have: 'a\.npy'"):
        npz.write({"a": np.zeros(2), "a.npy": np.ones(3)}, tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []
    npz.write({"a.npy": np.ones(3)}, tmp_path / "a.npz")
    assert np.load(tmp_path / "a.npz")["a.npy"].shape == (3,)


@odd
@given(tree=trees)
def test_what_other_libraries_wrote_becomes_a_sound_checkpoint(tree: Arrays, tmp_path: Path):
    tree = {n: np.ascontiguousarray(a) for n, a in numbers(tree).items() if a.dtype.isnative}
    tree["bools"] = ODD_BOOLS
    save_file(tree, tmp_path / "a.safetensors")
    npz.write({**tree, "text": np.array("x")}, tmp_path / "a.npz")
    for origin in ("a.safetensors", "a.npz"):
        found = load_checkpoint(convert(tmp_path / origin, tmp_path / "a.ckpt"))
        found.pop("text", None)
        same(dict(found), tree)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(st.sampled_from(["a", "a.b", "b", "c.d"]), arrays(), min_size=1))
def test_what_orbax_holds_it_gives_back(tree: Arrays, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("orbax")
    leaves = {n: str(a) if a.dtype.kind == "U" else a for n, a in tree.items()}
    first = save_checkpoint(leaves, folder / "a.ckpt")
    if any(not array.size for array in tree.values()):
        with pytest.raises(UnsupportedError, match="cannot hold these arrays"):
            convert(first, folder / "a")
        return
    made = convert(first, folder / "a")
    with ocp.PyTreeCheckpointer() as checkpointer:
        assert checkpointer.restore(made.absolute()) is not None
    same(load_checkpoint(convert(made, folder / "b.ckpt")), tree)


REAL = """
import json, os, sys
import mindspore
found = {}
for name in sorted(os.listdir(sys.argv[1])):
    held = mindspore.load_checkpoint(os.path.join(sys.argv[1], name))
    found[name] = {
        key: value if isinstance(value, str)
        else [list(value.shape), value.asnumpy().tobytes().hex()] for key, value in held.items()
    }
print("found", json.dumps(found))
"""


def test_mindspore_reads_what_is_written(tmp_path: Path, run_python: RunPython):
    written: dict[str, Arrays] = {}

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(tree=trees)
    def write(tree: Arrays) -> None:
        # MindSpore takes the dims [0] for a scalar; it has itself no array of that shape.
        tree = {n: a for n, a in tree.items() if a.shape != (0,)} | {"bools": ODD_BOOLS}
        name = f"{len(written)}.ckpt"
        save_checkpoint(
            {n: str(a) if a.dtype.kind == "U" else a for n, a in tree.items()}, tmp_path / name
        )
        written[name] = tree

    write()
    (line,) = (x for x in run_python(REAL, tmp_path).splitlines() if x.startswith("found"))
    found = json.loads(line.removeprefix("found"))
    assert found.keys() == written.keys()
    for name, tree in written.items():
        assert found[name].keys() == tree.keys()
        for key, array in tree.items():
            if array.dtype.kind == "U":
                assert found[name][key] == str(array)
                continue
            native = array.dtype.newbyteorder("=")
            held = array.view(np.uint8) != 0 if native == np.bool_ else array.astype(native)
            assert found[name][key] == [list(array.shape), held.tobytes().hex()], key


# ---------------------------------------------------------------------------------- what is refused


def test_a_file_without_arrays_does_not_become_a_checkpoint(tmp_path: Path):
    save_file({}, tmp_path / "a.safetensors")
    for target in ("b.ckpt", "b"):
        with pytest.raises(ValueError, match="there is no array"):
            convert(tmp_path / "a.safetensors", tmp_path / target)
        assert not (tmp_path / target).exists()
    convert(tmp_path / "a.safetensors", tmp_path / "b.npz")
    assert dict(npz.read(tmp_path / "b.npz")) == {}


def test_a_name_that_mindspore_refuses_needs_portable_false(tmp_path: Path):
    tree = {"x" * 1025: np.ones(2), "ok": np.ones(2)}
    with pytest.raises(TypeError, match=r"  x+\.\.\.: its name has 1,025 characters, .* 1,024"):
        save_checkpoint(tree, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []
    path = save_checkpoint(tree, tmp_path / "a.ckpt", portable=False)
    same(load_checkpoint(path), tree)
    safetensors.write(tree, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="its name has 1,025 characters"):
        convert(tmp_path / "a.safetensors", tmp_path / "b.ckpt")


def test_a_masked_array_is_refused_by_name(tmp_path: Path):
    masked = np.ma.masked_array([1.0, 2.0], [True, False])
    with pytest.raises(TypeError, match="  w: a masked array, whose mask would be lost"):
        save_checkpoint({"v": np.ones(2), "w": masked}, tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["a.safetensors", "a.ckpt", "a"])
def test_an_array_of_texts_is_refused_by_name(target: str, tmp_path: Path):
    np.savez(tmp_path / "a.npz", words=np.array(["one", "two"]), x=np.ones(2))
    with pytest.raises((UnsupportedError, TypeError), match="  words: "):
        convert(tmp_path / "a.npz", tmp_path / target)
    assert not (tmp_path / target).exists()


def test_the_name_of_the_formats_own_entry_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="__metadata__ cannot be the name of an array"):
        safetensors.write({"__metadata__": np.ones(2)}, tmp_path / "a.safetensors")
