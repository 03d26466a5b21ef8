"""The data: ``iter`` is called once an epoch, and a resume goes on where the data stood."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnckpt.training.batches import Feed
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy


class Restarting:
    """A loader that is its own iterator and begins anew in ``__iter__``, as many are by hand."""

    def __init__(self) -> None:
        self.at, self.begun = 0, 0

    def __iter__(self) -> "Restarting":
        self.at, self.begun = 0, self.begun + 1
        return self

    def __next__(self) -> np.float32:
        if self.at == 4:
            raise StopIteration
        self.at += 1
        return np.float32(self.at)


class WithPosition(Restarting):
    """It can be moved, but forgets where to when ``iter`` is called."""

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class Pending(Restarting):
    """It moves at the next ``iter``, as torchdata's loaders do."""

    def __init__(self) -> None:
        super().__init__()
        self.to = 0

    def __iter__(self) -> "Pending":
        super().__iter__()
        self.at, self.to = self.to, 0
        return self

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.to = state["at"]


class Indexed:
    """A dataset by index, as torch's are; a for loop goes over it."""

    def __init__(self) -> None:
        self.begun = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.float32:
        if index >= 4:
            raise IndexError(index)
        self.begun += index == 0
        return np.float32(index + 1)


class OnceOnly:
    """An iterator that cannot begin anew."""

    def __iter__(self) -> "OnceOnly":
        return self

    def __next__(self) -> np.float32:
        return np.float32(1)


def step(total: Any, batch: Any) -> tuple[Any, Any]:
    return total + batch, {"loss": batch}


def fit(data: Any, directory: Path, **options: Any) -> TrainResult:
    policy = CheckpointPolicy(1)
    return train(step, np.float32(0), data, policy=policy, directory=directory, **options)


LOADERS = [Restarting, WithPosition, Pending, Indexed]


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("called", [True, False], ids=["by a function", "as it is"])
def test_every_batch_is_trained_once_an_epoch(loader: Any, called: bool, tmp_path: Path):
    data = loader()
    given: Any = (lambda epoch: data) if called else data
    result = fit(given, tmp_path, epochs=3)
    assert result.history["loss"].tolist() == [1, 2, 3, 4] * 3
    assert data.begun == 3


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("last", [1, 3, 4, 6, 8, 11])
def test_a_resume_goes_on_behind_the_last_batch(loader: Any, last: int, tmp_path: Path):
    def cut(number: int, *_: object) -> None:
        if number == last:
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        fit(loader(), tmp_path, epochs=3, on_step=cut)
    data = loader()
    result = fit(data, tmp_path, epochs=3, resume=True)
    assert result.history["loss"].tolist() == [1, 2, 3, 4] * 3
    assert data.begun == 3 - (last - 1) // 4


@pytest.mark.parametrize(
    "make", [OnceOnly, lambda: iter([1.0]), lambda: (x for x in [1.0]), lambda: map(float, "12")]
)
def test_what_can_be_read_only_once_serves_one_epoch(make: Callable[[], Iterator[Any]]):
    Feed(make()).check(1)
    with pytest.raises(ValueError, match="can be read only once, 2 epochs were asked for"):
        Feed(make()).check(2)
