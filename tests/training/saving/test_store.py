"""Names of runs and files: what they may be, and whose they are."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnckpt.training.saving import store
from fnckpt.training.saving.store import Checkpoint, Run

numbers = st.integers(1, 10**6)
prefixes = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="/\\"),
    min_size=1,
    max_size=12,
)


def touch(path: Path) -> None:
    path.touch()


@given(prefixes, numbers, numbers, numbers)
def test_a_name_is_read_as_the_run_and_place_it_was_made_for(prefix, number, epoch, step):
    store.check_prefix(prefix)
    run = Run(Path("x"), prefix, number)
    name = store._pattern(prefix).fullmatch(run.path(Checkpoint(epoch, step)).name)
    assert name
    assert (int(name["number"] or 1), int(name["epoch"]), int(name["step"])) == (
        number,
        epoch,
        step,
    )
    assert store._pattern(prefix).fullmatch(run.graph.name)


@given(prefixes, prefixes, numbers, numbers, numbers)
def test_a_name_belongs_to_another_prefix_only_as_a_numbered_run(one, other, number, epoch, step):
    run = Run(Path("x"), one, number)
    name = store._pattern(other).fullmatch(run.path(Checkpoint(epoch, step)).name)
    assert (name is not None) == any(
        run.stem == Run(Path("x"), other, at).stem for at in (1, *range(2, 100), number)
    )


def test_checkpoints_are_listed_in_the_order_of_training_not_of_the_alphabet(tmp_path):
    for name in ("a-10_1", "a-2_10", "a-2_9", "a_2-1_1", "b-1_1", "a-2_9.old"):
        touch(tmp_path / f"{name}.ckpt")
    listed = [(each.epoch, each.step) for each in Run(tmp_path, "a").checkpoints()]
    assert listed == [(2, 9), (2, 10), (10, 1)]
    assert [run.number for run in store.runs(tmp_path, "a")] == [1, 2]


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("", "prefix: must not be empty"),
        ("a/b", "'a/b' contains '/'; give the folder as directory="),
        ("a\\b", r"contains '\\\\'"),
        ("a\nb", r"prefix: must not have control characters, 'a\\nb' contains '\\n'"),
        ("a\0", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85", "control characters"),
        ("a\u2028", "control characters"),
        ("\ud800", "control characters"),
        ("x" * 181, "prefix: must have at most 180 bytes, got 181"),
        ("模" * 61, "at most 180 bytes, got 183"),
    ],
)
def test_a_prefix_that_cannot_begin_a_file_name_is_refused(prefix, message):
    with pytest.raises(ValueError, match=message):
        store.check_prefix(prefix)


@pytest.mark.parametrize("prefix", [None, 1, b"CKP", Path("CKP")])
def test_a_prefix_that_is_no_str_is_refused(prefix):
    with pytest.raises(TypeError, match="prefix: must be a str, got"):
        store.check_prefix(prefix)


@pytest.mark.parametrize("directory", ["", "a\nb", "a\0b"])
def test_a_directory_of_no_or_control_characters_is_refused(directory):
    with pytest.raises(ValueError, match="directory: must not"):
        store.open_directory(directory)


@pytest.mark.parametrize("directory", [b"x", 3])
def test_a_directory_that_is_no_path_is_refused(directory):
    with pytest.raises(TypeError):
        store.open_directory(directory)


def test_a_missing_directory_is_made_with_its_parents(tmp_path):
    assert store.open_directory(tmp_path / "a" / "b").is_dir()
    assert os.listdir(tmp_path / "a" / "b") == []


def test_no_directory_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store.open_directory(None) == tmp_path


def test_a_file_in_the_place_of_the_directory_is_an_error_that_says_so(tmp_path):
    touch(tmp_path / "file")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=rf"cannot write into {path}.*; nothing was trained"):
            store.open_directory(path)


READ_ONLY = """
import os, tempfile
from fnckpt.training.saving import store
if os.getuid() == 0:  # root may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o555)
    try:
        store.open_directory(folder)
    except PermissionError as error:
        print(str(error).replace(folder, "FOLDER"))
"""


def test_a_directory_that_one_may_not_write_to_is_an_error_before_training(run_python):
    message = "cannot write into FOLDER, Permission denied; nothing was trained"
    assert message in run_python(READ_ONLY)


def test_each_claim_is_another_run(tmp_path):
    claimed = [store.claim(tmp_path, "a", touch).number for _ in range(3)]
    assert claimed == [1, 2, 3]
    assert sorted(os.listdir(tmp_path)) == ["a-graph.meta", "a_2-graph.meta", "a_3-graph.meta"]


def test_a_claim_whose_graph_cannot_be_written_leaves_nothing(tmp_path):
    def fail(path: Path) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        store.claim(tmp_path, "a", fail)
    assert os.listdir(tmp_path) == []


def test_a_run_that_is_held_cannot_be_held_again_and_can_after_that(tmp_path):
    run = store.claim(tmp_path, "a", touch)
    with store.hold(run):
        assert store.is_live(run)
        with (
            pytest.raises(BlockingIOError, match=r"a-graph\.meta: a process is writing this run"),
            store.hold(run),
        ):
            pass
    assert not store.is_live(run)
    with store.hold(run):
        pass


def test_stale_temporary_files_go_but_not_those_of_a_live_run_or_of_others(tmp_path):
    live, dead = store.claim(tmp_path, "a", touch), store.claim(tmp_path, "a", touch)
    mine = [f".{dead.stem}-1_2.ckpt.0badcafe.tmp", f".{dead.stem}-graph.meta.0badcafe.tmp"]
    others = [
        f".{live.stem}-1_2.ckpt.0badcafe.tmp",
        ".b-1_2.ckpt.0badcafe.tmp",
        ".ab-1_2.ckpt.0badcafe.tmp",
        ".a-1_2.ckpt.swp",
        "a-1_2.ckpt.0badcafe.tmp",
    ]
    for name in mine + others:
        touch(tmp_path / name)
    with store.hold(live):
        removed = store.remove_stale(tmp_path, "a")
    assert sorted(path.name for path in removed) == sorted(mine)
    assert set(others) < set(os.listdir(tmp_path))


CLAIM = """
import sys, time
from pathlib import Path
from fnckpt.training.saving import store
while time.time() < float(sys.argv[2]): pass
print([store.claim(Path(sys.argv[1]), "a", Path.touch).number for _ in range(50)])
"""


def test_processes_that_start_at_once_get_different_runs(tmp_path):
    start = time.time() + 2
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, tmp_path, str(start)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    claimed = [number for child in children for number in numbered(child.communicate()[0])]
    assert sorted(claimed) == list(range(1, 201))


def numbered(printed: str) -> list[int]:
    return [int(number) for number in printed.strip("[]\n").split(",")]
