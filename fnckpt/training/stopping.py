"""Ending a training before its last epoch, normally: with the final save and the result."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Literal, Protocol, runtime_checkable

from fnckpt.training.history import History


class _Stop(Enum):
    STOP = "STOP"

    def __repr__(self) -> str:
        return "fnckpt.STOP"


STOP: Final = _Stop.STOP
"""What a callback returns to end the training after this step."""


class StopTraining(Exception):
    """Raised by a callback, ``eval_fn`` or the data, ends the training normally.

    The last whole step is saved, and ``train`` returns its result.
    """


StopTraining.__module__ = "fnckpt"


def heed(answer: object) -> None:
    """Raise StopTraining where a callback's ``answer`` is STOP."""
    if answer is STOP:
        raise StopTraining


@dataclass
class Noted:
    """An ``on_checkpoint`` whose wish to stop waits until the step is finished.

    It is called while files are written, where the training cannot end.
    """

    call: Callable[[Path], object]
    wants_stop: bool = False

    def __call__(self, path: Path) -> None:
        try:
            heed(self.call(path))
        except StopTraining:
            self.wants_stop = True

    def check(self) -> None:
        """Raise StopTraining where it was asked for."""
        if self.wants_stop:
            raise StopTraining


@runtime_checkable
class Resumable(Protocol):
    """A callback that is given the history when a training goes on from a checkpoint."""

    def resume(self, history: History, /) -> object: ...


@dataclass
class EarlyStopping:
    """An ``on_epoch`` callback that ends the training when a metric no longer gets better.

    It counts epochs; a resumed training counts those before it, too. NaN is no improvement.

    Args:
      metric: of ``eval_fn``, as ``best=`` names it; if there is none of that name, of
        ``step_fn``: its mean over the epoch.
      patience: stop after so many epochs in a row without an improvement, at least 1.
      mode: ``"min"`` or ``"max"`` of it is best.
      min_delta: what is closer to the best value is no improvement.

    Attributes:
      best: the best value so far; None before the first.
      waited: epochs since then.

    Raises:
      TypeError, ValueError: naming the argument; when called, that there is no such metric.

    Examples:
      >>> import fnckpt
      >>> def step(state, batch):
      ...     return state - 1, {"distance": abs(state - 3.0)}
      >>> stop = fnckpt.EarlyStopping("distance", patience=2)
      >>> result = fnckpt.train(step, 5.0, [0.0], epochs=100, on_epoch=stop)
      >>> result.history["distance"].tolist()
      [2.0, 1.0, 0.0, 1.0, 2.0]
    """

    metric: str
    patience: int = 3
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0
    best: float | None = field(default=None, init=False)
    waited: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise TypeError(f"metric: must be a name, got {self.metric!r}")
        if type(self.patience) is not int:
            raise TypeError(f"patience: must be an int, got {self.patience!r}")
        if self.patience < 1:
            raise ValueError(f"patience: must be at least 1, got {self.patience}")
        if self.mode not in ("min", "max"):
            raise ValueError(f'mode: must be "min" or "max", got {self.mode!r}')
        if not self.min_delta >= 0:
            raise ValueError(f"min_delta: must be at least 0, got {self.min_delta}")

    def __call__(self, epoch: int, state: object, metrics: Mapping[str, float]) -> object:
        """Take the metrics of an epoch; STOP when it is time."""
        self._take(self._value(metrics))
        return STOP if self.waited >= self.patience else None

    def resume(self, history: History) -> None:
        """Count the epochs of ``history`` anew."""
        self.best, self.waited = None, 0
        for at in range(len(history.ends)):
            self._take(self._value({name: v[at] for name, v in history.epochs.items()}))

    def _value(self, metrics: Mapping[str, float]) -> float:
        for name in (f"eval.{self.metric}", self.metric):
            if name in metrics:
                return float(metrics[name])
        raise ValueError(
            f"EarlyStopping: there is no metric {self.metric!r}, an epoch has "
            f"{', '.join(metrics) or 'none'}"
        )

    def _take(self, value: float) -> None:
        if self._is_better(value):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta
