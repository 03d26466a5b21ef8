"""The metrics of a training: kept on the device while it runs, numpy arrays afterwards."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import jax
import numpy as np

from fnckpt import checkpoint

BARE = "loss"  # the name of a metric that is a bare scalar, not a tree with names

_MOST_PENDING = 256  # steps whose metrics may wait on the device


@dataclass(frozen=True)
class History:
    """What ``step_fn`` reported.

    Attributes:
      steps: per metric, one value a step; shape (steps,), the metric's own dtype.
      epochs: per metric, the mean over each whole epoch, and what ``eval_fn`` gave after it, named
        ``eval.<metric>``; shape (epochs,), float64. NaN where an evaluation was not due.
      ends: the number of steps trained at the end of each whole epoch; shape (epochs,), int64.

    ``history["loss"]`` is ``history.steps["loss"]``.
    """

    steps: Mapping[str, np.ndarray]
    epochs: Mapping[str, np.ndarray]
    ends: np.ndarray

    def __getitem__(self, metric: str) -> np.ndarray:
        return self.steps[metric]


def scalars(metrics: Any) -> dict[str, Any]:
    """The leaves of a tree of scalars by name; a bare scalar is the ``"loss"``.

    >>> scalars({"train": {"loss": 0.5}}), scalars(0.5)
    ({'train.loss': 0.5}, {'loss': 0.5})
    """
    return {name or BARE: leaf for name, leaf in checkpoint.leaves(metrics)}


@dataclass
class Recorder:
    """Collects metrics without waiting for the device, but to fetch many at once.

    ``pending`` are the steps that have not been fetched, oldest first.
    """

    pending: deque[Any] = field(default_factory=deque)
    steps: dict[str, list[np.ndarray]] = field(default_factory=dict)
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)

    def add(self, metrics: Any) -> None:
        """Take the metrics of the next step."""
        self.pending.append(metrics)
        if len(self.pending) > _MOST_PENDING:
            self.fetch(keep=_MOST_PENDING // 8)  # the newest may not have been computed yet

    def fetch(self, *, keep: int = 0) -> None:
        """Bring all but the newest ``keep`` pending steps to the host; waits for the device."""
        taken = [self.pending.popleft() for _ in range(len(self.pending) - keep)]
        if not taken:
            return
        names = list(scalars(taken[0]))
        rows = [jax.tree.leaves(metrics) for metrics in taken]
        if not _on_cpu(rows[0]):
            for leaf in chain.from_iterable(rows):
                leaf.copy_to_host_async()
        # Row by row: only the last row waits for the device, the others overlap with its work.
        values = [[np.asarray(leaf) for leaf in row] for row in rows]
        for name, column in zip(names, zip(*values, strict=True), strict=True):
            self.steps.setdefault(name, []).append(np.stack(column))

    def newest(self) -> dict[str, float]:
        """The newest metrics that are computed, without waiting; empty where none is."""
        for metrics in reversed(self.pending):
            if all(leaf.is_ready() for leaf in jax.tree.leaves(metrics)):
                return {name: float(leaf) for name, leaf in scalars(metrics).items()}
        return {name: float(chunks[-1][-1]) for name, chunks in self.steps.items()}

    def end_epoch(self, step: int, evaluation: Mapping[str, float]) -> None:
        """Close an epoch after ``step`` steps in all, with what was measured after it."""
        self.fetch()
        for name in self.evaluations.keys() | evaluation.keys():
            earlier = self.evaluations.get(name, np.full(len(self.ends), np.nan))
            self.evaluations[name] = np.append(earlier, evaluation.get(name, np.nan))
        self.ends.append(step)

    def history(self) -> History:
        """All of it so far; waits for the device."""
        steps, ends = self._joined(), np.array(self.ends, np.int64)
        means = {name: _means(values, ends) for name, values in steps.items()}
        return History(steps, means | dict(sorted(self.evaluations.items())), ends)

    def last_epoch(self) -> dict[str, float]:
        """The means and evaluations of the last whole epoch."""
        return {name: float(values[-1]) for name, values in self.history().epochs.items()}

    def entries(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it; empty arrays are left out. Waits for the device."""
        entries = {f"steps.{name}": values for name, values in self._joined().items()}
        entries |= {f"evaluations.{name}": values for name, values in self.evaluations.items()}
        return entries | ({"ends": np.array(self.ends, np.int64)} if self.ends else {})

    def _joined(self) -> dict[str, np.ndarray]:
        self.fetch()
        joined = {name: np.concatenate(chunks) for name, chunks in self.steps.items()}
        self.steps = {name: [values] for name, values in joined.items()}
        return joined

    @classmethod
    def restored(cls, entries: Mapping[str, np.ndarray]) -> "Recorder":
        """The recorder whose ``entries`` these are."""
        recorder = cls()
        for key, values in entries.items():
            kind, _, name = key.partition(".")
            if kind == "steps":
                recorder.steps[name] = [values]
            elif kind == "evaluations":
                recorder.evaluations[name] = values
        recorder.ends = [int(end) for end in entries.get("ends", ())]
        return recorder


def _on_cpu(leaves: list[jax.Array]) -> bool:
    return all(device.platform == "cpu" for leaf in leaves[:1] for device in leaf.devices())


def _means(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The mean of ``values`` over each epoch, float64."""
    return np.array([part.astype(np.float64).mean() for part in _epochs(values, ends)])


def _epochs(values: np.ndarray, ends: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for end in ends:
        yield values[start:end]
        start = end
