"""Whole trainings on real images: they learn, compile once, and go on bit for bit."""

import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
import pytest

from fnckpt import load_checkpoint
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy
from tests.training.nets import NETS, STEPS, Net, epoch, plain, same_bits

all_nets = pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)


def fit(net: Net, directory: Path | None = None, **options: Any) -> TrainResult:
    step, state = net.make()
    policy = CheckpointPolicy(3) if directory else None
    given = {"epochs": 3, "policy": policy, "directory": directory, "prefix": "net"}
    return train(step, state, epoch, **(given | options))


@cache
def uninterrupted(net: Net) -> TrainResult:
    """Three epochs; saved in a directory that has gone since."""
    with TemporaryDirectory() as directory:
        return fit(net, Path(directory))


@all_nets
def test_it_learns_and_saves_all_of_the_state(net: Net, tmp_path: Path):
    result = fit(net, tmp_path, epochs=5)
    loss = result.history.epochs["loss"]
    assert loss[-1] < loss[0] / 2
    assert result.history["loss"].shape == (5 * STEPS,)
    assert named(result.checkpoints)[-1] == f"net-5_{STEPS}"
    stored = load_checkpoint(result.checkpoints[-1])
    for name, leaf in plain(result.state).items():
        assert np.array_equal(stored[name], leaf), name
    assert same_bits(load_checkpoint(result.checkpoints[-1], like=result.state), result.state)
    assert all(name.startswith("fnckpt.") for name in stored.keys() - plain(result.state).keys())


@all_nets
def test_it_equals_a_loop_written_by_hand(net: Net, tmp_path: Path):
    step, state = net.make()
    state = jax.tree.map(jax.numpy.array, state)
    compiled, losses = jax.jit(step), []
    for number in (1, 2):
        for batch in epoch(number):
            state, metrics = compiled(state, batch)
            losses.append(float(metrics["loss"]))
    result = fit(net, tmp_path, epochs=2)
    assert same_bits(result.state, state)
    assert result.history["loss"].tolist() == losses


@all_nets
def test_the_step_is_traced_once_and_the_given_state_stays_usable(net: Net, tmp_path: Path):
    step, state = net.make()
    before, traces = plain(state), []

    def counted(state: Any, batch: Any) -> Any:
        traces.append(1)
        return step(state, batch)

    train(counted, state, epoch, epochs=2, policy=CheckpointPolicy(2), directory=tmp_path)
    assert len(traces) == 1
    assert plain(state).keys() == before.keys()
    assert all(np.array_equal(plain(state)[name], leaf) for name, leaf in before.items())


def named(checkpoints: list[Path]) -> list[str]:
    return [path.stem for path in checkpoints]


class Killed(Exception):
    """Stands for the end of the process."""


def until(last: int):
    """The data, which ends the process before global step ``last`` + 1."""

    def batches(number: int):
        for at, batch in enumerate(epoch(number), start=1):
            if (number - 1) * STEPS + at > last:
                raise Killed
            yield batch

    return batches


@all_nets
@pytest.mark.parametrize("last", [2, 7, 8, 11, 23], ids=lambda last: f"killed after step {last}")
def test_a_resumed_training_ends_in_the_same_bits(net: Net, last: int, tmp_path: Path):
    whole = uninterrupted(net)
    step, state = net.make()
    options: Any = {"epochs": 3, "policy": CheckpointPolicy(3), "directory": tmp_path / "cut"}
    with pytest.raises(Killed):
        train(step, state, until(last), prefix="net", **options)
    result = fit(net, tmp_path / "cut", resume=True)
    assert same_bits(result.state, whole.state)
    assert same_bits(dict(result.history.steps), dict(whole.history.steps))
    assert same_bits(dict(result.history.epochs), dict(whole.history.epochs))
    assert named(result.checkpoints) == ["net-2_4", "net-2_7", "net-3_2", "net-3_5", "net-3_8"]


KILLED = """
import os, signal, sys
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.loop import train
from tests.training.nets import NETS, epoch

def kill(number, *_):
    if number == 11:
        os.kill(os.getpid(), signal.SIGKILL)

step, state = next(net for net in NETS if net.name == sys.argv[1]).make()
train(step, state, epoch, epochs=3, policy=CheckpointPolicy(3), directory=sys.argv[2], prefix="net",
      on_step=kill)
"""


@all_nets
def test_a_process_that_was_killed_and_resumed_ends_in_the_same_bits(
    net: Net, tmp_path: Path, root: Path
):
    whole = uninterrupted(net)
    command = [sys.executable, "-c", KILLED, net.name, tmp_path]
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    result = fit(net, tmp_path, resume=True)
    assert same_bits(result.state, whole.state)
    assert same_bits(dict(result.history.steps), dict(whole.history.steps))
    assert named(result.checkpoints) == ["net-2_4", "net-2_7", "net-3_2", "net-3_5", "net-3_8"]


@all_nets
def test_a_finished_training_resumed_is_finished_and_can_be_prolonged(net: Net, tmp_path: Path):
    whole = uninterrupted(net)
    fit(net, tmp_path / "parts", epochs=2)
    again = fit(net, tmp_path / "parts", epochs=2, resume=True)
    assert again.history["loss"].shape == (2 * STEPS,)
    assert named(again.checkpoints)[-1] == f"net-2_{STEPS}"
    longer = fit(net, tmp_path / "parts", epochs=3, resume=True)
    assert same_bits(longer.state, whole.state)
    assert same_bits(dict(longer.history.steps), dict(whole.history.steps))
