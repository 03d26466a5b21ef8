"""A signal is answered while a resume reads over batches, not after all of them."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fnckpt
from fnckpt.training.saving.store import Run

BATCHES = 1000


def step(state: float, batch: float) -> tuple[float, dict[str, float]]:
    return state + batch, {"sum": state}


class Data:
    """Numbers; ``at`` is called before each is given."""

    def __init__(self, at: Callable[[int], object]) -> None:
        self.at, self.given = at, 0

    def __iter__(self) -> Iterator[float]:
        for number in range(BATCHES):
            self.given = number
            self.at(number)
            yield 1.0


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_while_a_resume_reads_over_data_is_answered_at_once(
    tmp_path: Path, number: signal.Signals, error: type[BaseException]
) -> None:
    def interrupt(at: int) -> Callable[[int], object]:
        return lambda batch: os.kill(os.getpid(), number) if batch == at else None

    policy = fnckpt.CheckpointPolicy(step=500)
    with pytest.raises(error):
        fnckpt.train(step, 0.0, Data(interrupt(800)), policy=policy, directory=tmp_path)
    saved = Run(tmp_path, "CKP").checkpoints()
    assert [each.step for each in saved] == [500, 801]
    data = Data(interrupt(10))
    with pytest.raises(error):
        fnckpt.train(step, 0.0, data, policy=policy, directory=tmp_path, resume=True)
    assert data.given in (10, 11)
    assert Run(tmp_path, "CKP").checkpoints() == saved
    whole = fnckpt.train(
        step, 0.0, Data(lambda at: None), policy=policy, directory=tmp_path, resume=True
    )
    assert float(whole.state) == BATCHES
