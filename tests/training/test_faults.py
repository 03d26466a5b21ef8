"""Real faults: kills, full disks, vanished directories, damaged files, two runs at once."""

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnckpt.checkpoints import pytree
from fnckpt.errors import FormatError
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import store

ITEMS = 1_000_000  # float32: 4 MB
both_ways = pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])


def step(state: dict[str, Any], batch: Any) -> tuple[dict[str, Any], Any]:
    return {"w": state["w"] + 1, "n": state["n"] + 1}, {"loss": batch}


def fit(directory: Path, steps: int = 8, **options: Any) -> TrainResult:
    state = {"w": np.zeros(ITEMS, np.float32), "n": 0}
    data = [np.float32(0)] * steps
    given = {"policy": CheckpointPolicy(1, keep_max=3), "directory": directory}
    return train(step, state, data, **(given | options))


def check_whole(directory: Path, *, number: int = 1) -> list[int]:
    """The steps of the checkpoints of a run, each read and compared with what was trained."""
    run = store.Run(directory, "CKP", number)
    for file in run.checkpoints():
        stored = pytree.load_checkpoint(run.path(file))
        assert int(stored["n"]) == int(stored["fnckpt.global_step"]) == file.step
        assert (stored["w"] == file.step).all()
    return [file.step for file in run.checkpoints()]


def temporary(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".")]


def test_200_kills_while_saving_50_MB_lose_nothing(tmp_path: Path, root: Path):
    children = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        command = [
            sys.executable,
            "-m",
            "tests.training.killed",
            tmp_path / str(seed),
            "100",
            str(seed),
        ]
        children.append(subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True))
    found = [json.loads(child.communicate()[0]) for child in children]
    assert sum(each["kills"] for each in found) == 200
    assert sum(each["midway"] for each in found) > 50  # they did hit saves under way
    for each in found:
        checkpoints = [name for name in each["left"] if name.endswith(".ckpt")]
        assert set(each["left"]) - set(checkpoints) == {"CKP-graph.meta"}  # no temporary file
        # The last kill may have come between a file's renaming and the deletion of the oldest.
        assert len(checkpoints) in (2, 3)


def test_a_file_is_deleted_only_when_the_newer_one_is_on_the_disk(tmp_path: Path, monkeypatch):
    """Every save: write, fsync, rename, fsync of the directory, and only then delete."""
    calls: list[tuple[str, str]] = []

    def watch(name: str, file_of: Callable[..., str]) -> None:
        real = vars(os)[name]

        def watched(*args: Any, **options: Any) -> Any:
            calls.append((name, os.path.basename(file_of(*args)).partition(".ckpt")[0]))
            return real(*args, **options)

        monkeypatch.setattr(os, name, watched)

    synced: list[int] = []

    def file_of(descriptor: int) -> str:
        synced.append(os.fstat(descriptor).st_size)
        return os.readlink(f"/proc/self/fd/{descriptor}")

    watch("fsync", file_of)
    watch("replace", lambda source, target: target)
    watch("unlink", lambda path: path)
    fit(tmp_path, 3, policy=CheckpointPolicy(1, keep_max=1), async_save=False)
    expected = [
        *saving(tmp_path, 1),
        *saving(tmp_path, 2),
        ("unlink", "CKP-1_1"),
        *saving(tmp_path, 3),
        ("unlink", "CKP-1_2"),
    ]
    assert calls[-len(expected) :] == expected
    assert synced[-2] == (tmp_path / "CKP-1_3.ckpt").stat().st_size  # all of it, flushed before


def saving(directory: Path, step: int) -> list[tuple[str, str]]:
    return [
        ("fsync", f".CKP-1_{step}"),
        ("replace", f"CKP-1_{step}"),
        ("fsync", directory.name),
    ]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process can grow over ``size`` bytes: to a writer, the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit))


def remove(path: Path) -> None:
    shutil.rmtree(path.parent)


def at_the(nth: int, fault: Callable[[Path], None]) -> Callable[[Path], None]:
    """An ``on_checkpoint`` that lets ``fault`` happen after the nth checkpoint."""
    seen: list[Path] = []

    def on_checkpoint(path: Path) -> None:
        seen.append(path)
        if len(seen) == nth:
            fault(path)

    return on_checkpoint


@both_ways
def test_a_full_disk_raises_and_leaves_the_earlier_checkpoints(tmp_path: Path, asynchronous: bool):
    with largest_file(10**9), pytest.raises(OSError, match="File too large"):
        fit(tmp_path, on_checkpoint=at_the(4, fill), async_save=asynchronous)
    steps = check_whole(tmp_path)
    assert len(steps) == 3
    assert temporary(tmp_path) == []
    result = fit(tmp_path, resume=True)
    assert int(result.state["n"]) == 8
    assert check_whole(tmp_path) == [6, 7, 8]


@both_ways
def test_a_disk_that_is_full_at_the_last_save_raises_too(tmp_path: Path, asynchronous: bool):
    """Nothing comes after it that could raise."""
    with largest_file(1_000_000), pytest.raises(OSError, match="File too large"):
        fit(tmp_path, policy=CheckpointPolicy(100), async_save=asynchronous)
    assert os.listdir(tmp_path) == ["CKP-graph.meta"]


@both_ways
def test_a_directory_that_vanishes_raises(tmp_path: Path, asynchronous: bool):
    with pytest.raises(FileNotFoundError, match=r"CKP-1_\d"):
        fit(tmp_path / "gone", on_checkpoint=at_the(2, remove), async_save=asynchronous)


def test_a_full_disk_is_told_beside_the_error_that_came_first(tmp_path: Path):
    def data() -> Iterator[np.float32]:
        yield np.float32(0)
        raise RuntimeError("the data broke")

    with largest_file(1_000_000), pytest.raises(RuntimeError, match="the data broke") as raised:
        train(
            step,
            {"w": np.zeros(ITEMS, np.float32), "n": 0},
            data(),
            policy=CheckpointPolicy(100),
            directory=tmp_path,
            save_on_error=True,
        )
    assert "a checkpoint could not be saved: [Errno 27] File too large" in raised.value.__notes__[0]


def test_a_save_that_failed_is_tried_again_when_the_last_state_is_asked_for(tmp_path: Path):
    """The directory is away for one save only."""

    def data() -> Iterator[np.float32]:
        for number in range(1, 9):
            if number == 4:
                (tmp_path / "out").rename(tmp_path / "away")
            yield np.float32(number)

    def back(number: int, *_: object) -> None:
        if number == 4:
            time.sleep(0.5)  # the save fails meanwhile, on its thread
            (tmp_path / "away").rename(tmp_path / "out")
            raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke") as raised:
        train(
            step,
            {"w": np.zeros(ITEMS, np.float32), "n": 0},
            data(),
            policy=CheckpointPolicy(4),
            directory=tmp_path / "out",
            save_on_error=True,
            on_step=back,
        )
    assert check_whole(tmp_path / "out") == [4]
    failed, saved = raised.value.__notes__
    assert "a checkpoint could not be saved: [Errno 2]" in failed
    assert saved.endswith("out/CKP-1_4.ckpt")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"no checkpoint" * 99)


def unreadable(path: Path) -> None:
    """Opening it fails, also for root."""
    path.unlink()
    path.mkdir()


def of_another_kind(path: Path) -> None:
    pytree.save_checkpoint({"w": np.zeros(3)}, path)


@pytest.mark.parametrize("damage", [truncate, empty, overwrite, unreadable, of_another_kind])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, damage):
    whole = fit(tmp_path)
    damage(whole.checkpoints[-1])
    with pytest.warns(UserWarning, match=r"CKP-1_8\.ckpt: cannot be read and is skipped"):
        result = fit(tmp_path, policy=None, resume=True)
    assert (np.asarray(result.state["w"]) == 8).all()
    assert [path.name for path in result.checkpoints][:2] == ["CKP-1_6.ckpt", "CKP-1_7.ckpt"]


def test_a_damaged_checkpoint_is_replaced_and_does_not_push_out_a_good_one(tmp_path: Path):
    whole = fit(tmp_path)
    truncate(whole.checkpoints[-1])
    with pytest.warns(UserWarning, match="is skipped"):
        fit(tmp_path, resume=True)
    assert check_whole(tmp_path) == [6, 7, 8]


def test_a_flipped_bit_is_found_where_the_crc_was_asked_for(tmp_path: Path):
    whole = fit(tmp_path, crc=True)
    data = bytearray(whole.checkpoints[-1].read_bytes())
    data[len(data) // 2] ^= 1
    whole.checkpoints[-1].write_bytes(data)
    with pytest.warns(UserWarning, match=r"CKP-1_8\.ckpt: cannot be read"):
        fit(tmp_path, crc=True, resume=True)
    assert check_whole(tmp_path) == [6, 7, 8]


def test_when_no_checkpoint_can_be_read_training_does_not_start_afresh(tmp_path: Path):
    for path in fit(tmp_path).checkpoints:
        truncate(path)
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(FormatError, match=r"none of the 3 checkpoints of 'CKP' can be read, the "),
    ):
        fit(tmp_path, resume=True)


def test_files_that_the_user_deletes_are_missed_by_nobody(tmp_path: Path):
    def delete(path: Path) -> None:
        path.unlink()

    result = fit(tmp_path, on_checkpoint=at_the(5, delete), async_save=False)
    assert check_whole(tmp_path) == [6, 7, 8]
    assert len(result.checkpoints) == 3


def test_trainings_at_once_with_one_prefix_have_their_own_run_each(tmp_path: Path):
    results: list[TrainResult] = []
    threads = [threading.Thread(target=lambda: results.append(fit(tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.checkpoints[-1].name for result in results) == [
        "CKP-1_8.ckpt",
        "CKP_2-1_8.ckpt",
        "CKP_3-1_8.ckpt",
    ]
    for number in (1, 2, 3):
        assert check_whole(tmp_path, number=number) == [6, 7, 8]


def test_a_run_that_is_being_written_cannot_be_resumed(tmp_path: Path):
    refused: list[str] = []

    def resume(path: Path) -> None:
        with pytest.raises(BlockingIOError, match=r"CKP-graph\.meta: a process is writing this"):
            fit(tmp_path, 9, resume=True)
        refused.append(path.name)

    fit(tmp_path, on_checkpoint=at_the(3, resume))
    assert refused == ["CKP-1_3.ckpt"]


def test_resume_keeps_to_the_latest_run_and_to_its_own_prefix(tmp_path: Path):
    fit(tmp_path)  # run 1 of CKP
    fit(tmp_path, 4)  # run 2 of CKP
    fit(tmp_path, 3, prefix="CKP_2")  # run 2 of CKP_2, since CKP_2 looks used
    assert int(fit(tmp_path, 5, resume=True).state["n"]) == 5
    assert check_whole(tmp_path) == [6, 7, 8]
    assert check_whole(tmp_path, number=2) == [3, 4, 5]
    result = fit(tmp_path, 3, prefix="CKP_2", resume=True)
    assert [path.name for path in result.checkpoints][-1] == "CKP_2_2-1_3.ckpt"


def test_a_prefix_does_not_resume_the_numbered_run_of_another(tmp_path: Path):
    fit(tmp_path)
    fit(tmp_path, 4)  # writes CKP_2-1_4.ckpt
    result = fit(tmp_path, 2, prefix="CKP_2", resume=True)
    assert [path.name for path in result.checkpoints] == ["CKP_2_2-1_1.ckpt", "CKP_2_2-1_2.ckpt"]


def test_a_graph_that_was_deleted_is_written_again(tmp_path: Path):
    fit(tmp_path, 4)
    graph = tmp_path / "CKP-graph.meta"
    before = graph.read_bytes()
    graph.unlink()
    fit(tmp_path, 8, resume=True)
    assert graph.read_bytes() == before
