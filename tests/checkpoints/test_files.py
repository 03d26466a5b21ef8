"""A file is whole or it is what it was, whatever happens on the way."""

import os
import socket
import stat
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

from fnckpt.checkpoints.formats import ckpt
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint, write_leaves
from fnckpt.files import replacing

RLIMIT = """
import resource, sys
import numpy as np
from fnckpt.checkpoints.pytree import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    save_checkpoint({"w": np.zeros(int(sys.argv[2]))}, sys.argv[1])
except OSError as error:
    print(error.strerror)
"""

MEMORY = """
import sys, threading, time
import jax, jax.numpy as jnp, numpy as np
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint

def peak():  # of memory that belongs to no file
    lines = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
    return int(lines["RssAnon"].split()[0]) << 10

path, mode, count, each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
make = {"numpy": np.ones, "jax": jnp.ones, "strided": lambda s, d: np.ones((s[0] * 2,), d)[::2]}
if mode in make:
    tree = {str(i): make[mode]((each // 4,), np.float32) for i in range(count)}
    jax.block_until_ready(tree)
    work = lambda: save_checkpoint(tree, path)
else:
    like = {str(i): jax.ShapeDtypeStruct((each // 4,), np.float32) for i in range(count)}
    work = lambda: load_checkpoint(path, like if mode == "like" else None)
most, done, before = [0], threading.Event(), peak()
def watch():
    while not done.is_set():
        most[0] = max(most[0], peak())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
kept = work()
done.set()
thread.join()
print(max(most[0], peak()) - before)
"""


def test_a_finished_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"first", b"second"):
        with replacing(path) as file:
            file.write(content)
            assert len(list(tmp_path.iterdir())) == (1 if content == b"first" else 2)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


def made(kind, path):
    other = path.with_name("other")
    other.write_bytes(b"of another")
    if kind == "link":
        path.symlink_to(other)
    elif kind == "dangling link":
        path.symlink_to(path.with_name("nothing"))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
    elif kind == "directory":
        path.mkdir()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "socket", "directory"])
def test_only_regular_files_are_replaced(tmp_path, kind):
    path = tmp_path / "a.ckpt"
    made(kind, path)
    before = os.lstat(path)
    with pytest.raises(OSError, match=f"a.ckpt: is a .*{kind.split()[-1]}"):
        save_checkpoint({"w": np.ones(3)}, path)
    assert os.path.samestat(before, os.lstat(path))
    assert (tmp_path / "other").read_bytes() == b"of another"
    assert sorted(os.listdir(tmp_path)) == ["a.ckpt", "other"]


def test_a_device_is_not_replaced():
    with pytest.raises(OSError, match="/dev/null: is a device, and only a regular file"):
        save_checkpoint({"w": np.ones(3)}, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def interrupted_at(line, path):
    """Write ``path``, with a Ctrl-C before the ``line``-th line of ``replacing``; whether it came.

    Ctrl-C is raised between two lines of Python, as a signal's handler does it.
    """
    left = [line]

    def trace(frame, event, argument):
        if frame.f_code.co_name != "replacing" or event == "return":
            return trace
        if event == "line":
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with replacing(path) as file:
            file.write(b"whole")
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_ctrl_c_at_any_line_leaves_no_temporary_file(tmp_path):
    line = 1
    while interrupted_at(line, tmp_path / "a.bin"):
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} in ({}, {"a.bin": b"whole"})
        line += 1
    assert line > 8


def broken_off(path, error):
    with replacing(path) as file:
        file.write(bytes(3 << 20))
        raise error


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_midway_leaves_the_old_bytes_and_no_other_file(tmp_path, error, old):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error):
        broken_off(path, error)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"a.bin": old} if old else {})


def test_a_leaf_that_cannot_be_fetched_leaves_the_old_checkpoint(tmp_path):
    path = save_checkpoint({"w": np.ones(3)}, tmp_path / "a.ckpt")
    deleted = jax.numpy.ones(3)
    deleted.delete()
    with pytest.raises(RuntimeError, match="deleted"):
        save_checkpoint({"first": np.zeros(1 << 20), "second": deleted}, path)
    assert load_checkpoint(path)["w"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("items", [20_000, 1_000_000])
def test_a_full_disk_leaves_the_old_checkpoint_and_no_other_file(tmp_path, run_python, items):
    path = save_checkpoint({"w": np.ones(3)}, tmp_path / "a.ckpt")
    assert run_python(RLIMIT, path, items) == "File too large\n"
    assert load_checkpoint(path)["w"].tolist() == [1, 1, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_that_vanishes_is_an_error(tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()

    def leaves():
        yield "w", np.ones(3)
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()

    with pytest.raises(FileNotFoundError):
        write_leaves(leaves(), directory / "a.ckpt")
    assert not directory.exists()


def test_a_missing_directory_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        save_checkpoint({"w": 1}, tmp_path / "nowhere" / "a.ckpt")


def test_the_mode_is_what_the_umask_gives(tmp_path):
    old = os.umask(0o027)
    try:
        path = save_checkpoint({"w": 1}, tmp_path / "a.ckpt")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_reader_of_the_old_file_keeps_it_while_a_new_one_is_saved(tmp_path):
    path = save_checkpoint({"w": np.full(100_000, 1.0)}, tmp_path / "a.ckpt")
    old = load_checkpoint(path, mmap=True)["w"]
    save_checkpoint({"w": np.full(100_000, 2.0)}, path)
    assert old.sum() == 100_000
    assert load_checkpoint(path)["w"].sum() == 200_000


def files_under(array):
    """The files in whose memory ``array`` begins and ends, as the kernel tells them."""
    first = array.ctypes.data
    last = first + array.nbytes - 1
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, stop = (int(end, 16) for end in line.split()[0].split("-"))
        if start <= first < stop or start <= last < stop:
            found.add(line[73:])
    return found


@pytest.mark.parametrize("size", [65_538, 131_072, 200_000])
def test_a_tensor_in_parts_is_one_view_of_the_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr(ckpt, "PART", 65_536)  # instead of 512 MiB
    array = np.arange(size // 2, dtype=np.uint16).reshape(1, -1)
    tree = {"a": np.ones(3), "w": array, "x": np.ones(5), "y": array[:, ::-1], "z": 1}
    path = save_checkpoint(tree, tmp_path / "a.ckpt")
    found = load_checkpoint(path, mmap=True)
    for name in ("w", "y"):
        view = found[name]
        assert files_under(view) == {str(path)}
        assert view.flags.aligned
        np.testing.assert_array_equal(view, tree[name])
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            view.flags.writeable = True
    np.testing.assert_array_equal(load_checkpoint(path)["y"], tree["y"])
    del found, view
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_parts_that_do_not_begin_at_pages_are_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(ckpt, "PART", 65_536)
    monkeypatch.setattr(ckpt, "_up_to_a_page", lambda at: b"")  # as MindSpore writes them
    array = np.arange(200_000, dtype=np.uint8)
    path = save_checkpoint({"w": array}, tmp_path / "a.ckpt")
    found = load_checkpoint(path, mmap=True)["w"]
    assert str(path) not in files_under(found)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, array)


def test_a_file_that_is_cut_while_it_is_read_is_a_format_error(tmp_path):
    path = save_checkpoint({"w": np.ones(1 << 20)}, tmp_path / "a.ckpt")
    with ckpt.opened(path) as file:
        os.truncate(path, 4096)
        with pytest.raises(ckpt.FormatError, match="cut off while it was read"):
            file.array(file.entries["w"])


def test_leaves_are_fetched_one_at_a_time(tmp_path):
    alive = []

    def fetched():
        for index in range(4):
            alive.append(index)
            yield str(index), np.full(10, index)

    path = write_leaves(fetched(), tmp_path / "a.ckpt")
    assert alive == [0, 1, 2, 3]
    assert [a[0] for a in load_checkpoint(path).values()] == [0, 1, 2, 3]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_leaf_is_let_go_before_the_next_one_is_fetched(tmp_path, order):
    """So that of leaves that are gathered from other processes one is in memory at a time."""
    alive: list[weakref.ref[np.ndarray]] = []

    def fetched():
        for index in range(4):
            assert [leaf for leaf in alive if leaf() is not None] == []
            leaf = np.full((300, 300), index, order=order)
            alive.append(weakref.ref(leaf))
            item = str(index), leaf
            del leaf
            yield item
            del item

    write_leaves(fetched(), tmp_path / "a.ckpt", crc=True)
    assert len(alive) == 4


MIB = 1 << 20


@pytest.mark.parametrize("mode", ["numpy", "jax", "strided"])
def test_saving_takes_less_than_64_mib_of_extra_memory(tmp_path, run_python, mode):
    assert int(run_python(MEMORY, tmp_path / "a.ckpt", mode, 2, 128 * MIB)) < 64 * MIB


@pytest.mark.parametrize("mode", ["like", "plain"])
def test_loading_takes_the_arrays_and_less_than_one_leaf_more(tmp_path, run_python, mode):
    path = save_checkpoint(
        {str(i): np.ones(16 * MIB, np.float32) for i in range(4)}, tmp_path / "a.ckpt"
    )
    assert int(run_python(MEMORY, path, mode, 4, 64 * MIB)) < (4 * 64 + 64) * MIB
