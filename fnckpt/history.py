"""The metrics of a training: kept on the device while it runs, numpy arrays afterwards."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
      epochs: per metric, the mean over each whole epoch, and the last that ``eval_fn`` gave in it,
        named ``eval.<metric>``; shape (epochs,), float64. NaN where no evaluation was due.
      ends: the number of steps trained at the end of each whole epoch; shape (epochs,), int64.
      evaluations: per metric of ``eval_fn``, its value at each evaluation; float64.
      evaluated: the number of steps trained at each evaluation; int64.

    ``history["loss"]`` is ``history.steps["loss"]``.
    """

    steps: Mapping[str, np.ndarray]
    epochs: Mapping[str, np.ndarray]
    ends: np.ndarray
    evaluations: Mapping[str, np.ndarray]
    evaluated: np.ndarray

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
    evaluated: list[int] = field(default_factory=list)
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
        leaves = jax.tree.leaves(taken)  # of all steps, one after the other
        if not _on_cpu(leaves):
            for leaf in leaves:
                leaf.copy_to_host_async()
        # Step by step: only the last one waits for the device, the others overlap with its work.
        values = [np.asarray(leaf) for leaf in leaves]
        for at, name in enumerate(names):
            self.steps.setdefault(name, []).append(np.array(values[at :: len(names)]))

    def newest(self) -> dict[str, float]:
        """The newest metrics that are computed, without waiting; empty where none is."""
        for metrics in reversed(self.pending):
            if all(leaf.is_ready() for leaf in jax.tree.leaves(metrics)):
                return {name: float(leaf) for name, leaf in scalars(metrics).items()}
        return {name: float(chunks[-1][-1]) for name, chunks in self.steps.items()}

    def evaluate(self, step: int, measured: Mapping[str, float]) -> None:
        """Take what was measured after ``step`` steps in all."""
        for name in self.evaluations.keys() | measured.keys():
            earlier = self.evaluations.get(name, np.full(len(self.evaluated), np.nan))
            self.evaluations[name] = np.append(earlier, measured.get(name, np.nan))
        self.evaluated.append(step)

    def best(self, metric: str, *, greatest: bool) -> tuple[int, float] | None:
        """The step and the value of the best evaluation, the first of equals; None without one."""
        values = self.evaluations.get(metric, np.empty(0))
        if np.isnan(values).all():
            return None
        at = int(np.nanargmax(values) if greatest else np.nanargmin(values))
        return self.evaluated[at], float(values[at])

    def end_epoch(self, step: int) -> None:
        """Close an epoch after ``step`` steps in all."""
        self.fetch()
        self.ends.append(step)

    def history(self) -> History:
        """All of it so far; waits for the device."""
        steps, ends = self._joined(), np.array(self.ends, np.int64)
        means = {name: _means(values, ends) for name, values in steps.items()}
        evaluated = np.array(self.evaluated, np.int64)
        last = _last_in_epochs(evaluated, ends)
        for name, values in sorted(self.evaluations.items()):
            means[f"eval.{name}"] = np.append(values, np.nan)[last]
        return History(steps, means, ends, dict(self.evaluations), evaluated)

    def last_epoch(self) -> dict[str, float]:
        """The means and evaluations of the last whole epoch."""
        return {name: float(values[-1]) for name, values in self.history().epochs.items()}

    def entries(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it; empty arrays are left out. Waits for the device."""
        entries = {f"steps.{name}": values for name, values in self._joined().items()}
        entries |= {f"evaluations.{name}": values for name, values in self.evaluations.items()}
        numbers = {"ends": self.ends, "evaluated": self.evaluated}
        return entries | {name: np.array(n, np.int64) for name, n in numbers.items() if n}

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
        recorder.evaluated = [int(step) for step in entries.get("evaluated", ())]
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


def _last_in_epochs(evaluated: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The position in ``evaluated`` of each epoch's last evaluation; -1 where it had none."""
    last = np.searchsorted(evaluated, ends, side="right") - 1
    begins = np.append(0, ends[:-1])[: len(ends)]
    return np.where((last >= 0) & (np.append(evaluated, 0)[last] > begins), last, -1)
