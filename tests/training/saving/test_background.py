"""The saver beside the training: its memory, its order, its errors."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import store
from fnckpt.training.saving.background import Saved, Saver


def place(step: int) -> Saved:
    return Saved(store.Checkpoint(1, step), float(step))


def saver(directory: Path, done: list[Path], **options: Any) -> Saver:
    policy = CheckpointPolicy(1, keep_max=3)
    return Saver(store.Run(directory, "a"), policy, True, False, done.append, **options)


def steps(paths: list[Path]) -> list[int]:
    return [int(path.stem.split("_")[-1]) for path in paths]


def test_twelve_saves_take_the_memory_of_two(tmp_path: Path):
    """The first ones lie on the host, the others on the device."""
    written: list[int] = []

    def write(tree: Mapping[str, Any], path: Path) -> Path:
        written.append(np.asarray(tree["w"]).ctypes.data)
        return save_checkpoint(tree, path)

    done: list[Path] = []
    each = saver(tmp_path, done, write=write)
    kept_alive = []  # the allocator gives the memory of none of these to another
    for step in range(1, 13):
        kept_alive.append(np.full(1 << 16, step, np.float32))
        each.save({"w": jnp.asarray(kept_alive[-1])}, place(step))
    each.wait()
    each.close()
    assert len(set(written[:2])) == len(set(written[2:])) == 1
    assert steps(done) == list(range(1, 13))
    assert steps(each.paths()) == [10, 11, 12]
    assert [int(load_checkpoint(path)["w"][0]) for path in each.paths()] == [10, 11, 12]


def test_further_entries_are_made_by_the_thread_that_writes(tmp_path: Path):
    threads: list[int] = []

    def more() -> dict[str, Any]:
        threads.append(threading.get_ident())
        return {"m": np.ones(3)}

    done: list[Path] = []
    each = saver(tmp_path, done)
    each.save({"n": jnp.array(1)}, place(1), more)
    each.wait()
    each.close()
    assert threads
    assert threading.get_ident() not in threads
    assert sorted(load_checkpoint(done[0])) == ["m", "n"]


def test_one_save_is_in_flight_and_the_order_is_kept(tmp_path: Path):
    under_way, most, order = [0], [0], []

    def write(tree: Mapping[str, Any], path: Path) -> Path:
        under_way[0] += 1
        most[0] = max(most[0], under_way[0])
        order.append(int(tree["n"]))
        saved = save_checkpoint(tree, path)
        under_way[0] -= 1
        return saved

    done: list[Path] = []
    each = saver(tmp_path, done, write=write)
    for step in range(1, 21):
        each.save({"n": jnp.array(step)}, place(step))
    each.wait()
    each.close()
    assert (most[0], order, steps(done)) == (1, list(range(1, 21)), list(range(1, 21)))


def test_saving_returns_before_the_file_is_written_and_waiting_does_not(tmp_path: Path):
    go_on = threading.Event()

    def write(tree: Mapping[str, Any], path: Path) -> Path:
        assert go_on.wait(60)
        return save_checkpoint(tree, path)

    done: list[Path] = []
    each = saver(tmp_path, done, write=write)
    each.save({"n": jnp.array(1)}, place(1))
    each.poll()
    assert (done, os.listdir(tmp_path)) == ([], [])
    go_on.set()
    each.wait()
    each.close()
    assert steps(done) == [1]
    assert each.paths() == [tmp_path / "a-1_1.ckpt"]


@pytest.mark.parametrize("asked", ["save", "wait"])
def test_the_error_of_a_save_is_raised_once_by_the_next_call(tmp_path: Path, asked: str):
    done: list[Path] = []
    each = saver(tmp_path / "nowhere", done)
    each.save({"n": jnp.array(1)}, place(1))
    with pytest.raises(FileNotFoundError, match="a-1_1"):
        each.wait() if asked == "wait" else each.save({"n": jnp.array(2)}, place(2))
    (tmp_path / "nowhere").mkdir()
    each.save({"n": jnp.array(3)}, place(3))
    each.wait()
    each.close()
    assert steps(done) == steps(each.paths()) == [3]


def test_closing_awaits_the_save_in_flight(tmp_path: Path):
    each = saver(tmp_path, [])
    each.save({"w": jnp.zeros(1 << 20)}, place(1))
    each.close()
    assert load_checkpoint(tmp_path / "a-1_1.ckpt")["w"].shape == (1 << 20,)
