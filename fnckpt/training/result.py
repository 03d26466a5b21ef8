"""What ``train`` returns."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from fnckpt.picture.facts import facts
from fnckpt.training.history import History

State = TypeVar("State")

_SHOWN = 5  # checkpoints in the tables


@dataclass(frozen=True)
class Best:
    """The best evaluation of a training.

    Attributes:
      metric: of ``eval_fn``.
      value: its best value.
      step: the number of steps trained by then.
      path: the checkpoint with this state; None where none was saved.
    """

    metric: str
    value: float
    step: int
    path: Path | None


@dataclass(frozen=True, repr=False)
class TrainResult(Generic[State]):
    """The outcome of a training.

    Attributes:
      state: the final state, on the devices.
      history: the metrics, as NumPy arrays on the host.
      checkpoints: the files of this run that are on disk, oldest first.
      seconds: of training, over all processes of the run.
      best: the best evaluation, where ``train`` was told by which metric.
    """

    state: State = field(repr=False)
    history: History
    checkpoints: list[Path]
    seconds: float
    best: Best | None = None

    def __repr__(self) -> str:
        rows = "\n".join(f"  {name}: {text}" for name, text in self._rows())
        return f"TrainResult\n{rows}"

    def _repr_html_(self) -> str:
        return facts(self._rows(), "TrainResult")

    def _rows(self) -> list[tuple[str, str]]:
        steps, epochs = self.history.trained, len(self.history.ends)
        rows = [("trained", f"{steps} steps, {epochs} epochs, {self.seconds:.1f} s")]
        for name, values in self.history.epochs.items():
            told = _first_and_last(values, ended=self.history.ended(name))
            if told:
                rows.append((name, told))
        if self.best is not None:
            best, file = self.best, f", {self.best.path.name}" if self.best.path else ""
            rows.append(("best", f"{best.metric} {best.value:.4g} at step {best.step}{file}"))
        older = len(self.checkpoints) - _SHOWN
        files = ", ".join(path.name for path in self.checkpoints[-_SHOWN:])
        rows.append(("checkpoints", f"{older} older, {files}" if older > 0 else files or "none"))
        if self.checkpoints:
            rows.append(("directory", str(self.checkpoints[-1].parent)))
        return rows


def _first_and_last(values: np.ndarray, *, ended: bool) -> str:
    """The first and the last of the epochs' ``values`` that there are; empty where there is none.

    Args:
      ended: NaN in the last epoch means no value, and not a number that went wrong.
    """
    present = np.flatnonzero(~np.isnan(values)).tolist()
    if not ended and len(values):
        present = sorted({*present, len(values) - 1})
    if not present:
        return ""
    first, last = present[0], present[-1]
    told = f"{values[first]:.4g} in epoch {first + 1}"
    if last == len(values) - 1:
        return f"{told}, {values[last]:.4g} in the last"
    return told if first == last else f"{told}, {values[last]:.4g} in epoch {last + 1}"
