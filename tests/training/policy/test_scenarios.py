"""The table of scenarios, through the real training loop and a directory, under a fake clock."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fnckpt.training.loop import TrainResult, train
from tests.training.policy.scenarios import SCENARIOS, Scenario


class Died(Exception):
    """Stands for a process that was killed."""


@dataclass
class Machine:
    """A clock that goes on when a batch is fetched, and the deaths that are still to come."""

    scenario: Scenario
    dies: list[int]
    terminated: list[int]
    now: float = 1e6

    def epoch(self, epoch: int) -> Iterator[np.float32]:
        for number in range(1, self.scenario.steps + 1):
            step = (epoch - 1) * self.scenario.steps + number
            if step in self.dies:
                self.dies.remove(step)
                raise Died
            self.now += self.scenario.seconds(step)
            if step in self.terminated:
                self.terminated.remove(step)
                os.kill(os.getpid(), signal.SIGTERM)
            yield np.float32(step)

    def train(self, directory: Path, *, resume: bool) -> TrainResult:
        return train(
            lambda total, step: (total + step, {"loss": step}),
            np.float32(0),
            self.epoch,
            epochs=self.scenario.epochs,
            policy=self.scenario.make(),
            directory=directory,
            prefix=self.scenario.prefix,
            resume=resume,
            async_save=False,
            clock=lambda: self.now,
        )


def run(scenario: Scenario, directory: Path) -> TrainResult:
    """Start the training, and again with ``resume`` whenever it dies."""
    machine = Machine(scenario, list(scenario.dies), list(scenario.terminated))
    resume = False
    while True:
        try:
            return machine.train(directory, resume=resume)
        except (Died, SystemExit):
            resume = True


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_training_leaves_exactly_these_files(scenario: Scenario, tmp_path: Path):
    for name in scenario.before.split():
        (tmp_path / name).touch()
    result = run(scenario, tmp_path)
    own = [f"{scenario.stem}-{name}.ckpt" for name in scenario.left.split()]
    expected = {*own, f"{scenario.stem}-graph.meta", *scenario.before.split()}
    assert set(os.listdir(tmp_path)) == expected
    assert [path.name for path in result.checkpoints] == own
    steps = scenario.epochs * scenario.steps
    assert float(result.state) == steps * (steps + 1) / 2
    assert result.history["loss"].tolist() == list(range(1, steps + 1))


def test_the_table_is_large_and_its_names_are_unique():
    names = {scenario.name for scenario in SCENARIOS}
    assert len(names) == len(SCENARIOS) >= 60
