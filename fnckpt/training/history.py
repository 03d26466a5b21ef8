"""The metrics of a training: kept on the device while it runs, numpy arrays afterwards."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import jax
import numpy as np

from fnckpt.checkpoints import device_to_host, leaf_names

BARE = "loss"  # the name of a metric that is a bare scalar, not a tree with names

_MOST_PENDING = 256  # steps whose metrics may wait on the device
_MOST_BLOCKS = 64  # more are read and joined, but for the newest


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

    def __repr__(self) -> str:
        """A summary: a line for each metric."""
        series = {**self.steps} | {f"eval.{name}": v for name, v in self.evaluations.items()}
        lines = [f"  {name}: {_in_words(values)}" for name, values in series.items() if len(values)]
        steps = max(map(len, self.steps.values()), default=0)
        counts = f"{steps} steps, {len(self.ends)} epochs, {len(self.evaluated)} evaluations"
        return "\n".join([f"History: {counts}", *lines])


def _in_words(values: np.ndarray) -> str:
    """First, last and range of one metric.

    >>> _in_words(np.array([2.5, 0.5, 1.0]))
    'first 2.5, last 1, from 0.5 to 2.5'
    """
    numbers = values.astype(np.float64)
    known = numbers[~np.isnan(numbers)]
    between = f", from {known.min():.4g} to {known.max():.4g}" if len(known) else ""
    return f"first {numbers[0]:.4g}, last {numbers[-1]:.4g}{between}"


def scalars(metrics: Any) -> dict[str, Any]:
    """The leaves of a tree of scalars by name; a bare scalar is the ``"loss"``.

    >>> scalars({"train": {"loss": 0.5}}), scalars(0.5)
    ({'train.loss': 0.5}, {'loss': 0.5})
    """
    return {name or BARE: leaf for name, leaf in leaf_names.leaves(metrics)}


class Block:
    """The metrics of consecutive steps; threads may share it.

    Args:
      pending: those metrics on the device, where ``values`` were not read yet.
      values: per metric, one value a step.
    """

    def __init__(
        self, pending: Sequence[Any] = (), values: Mapping[str, np.ndarray] | None = None
    ) -> None:
        self._pending, self._values, self._reading = pending, values, Lock()

    @property
    def is_read(self) -> bool:
        return self._values is not None

    def values(self) -> Mapping[str, np.ndarray]:
        """Per metric, one value a step. Waits for the device, the first time."""
        with self._reading:
            if self._values is None:
                self._values, self._pending = _fetched(self._pending), ()
            return self._values


@dataclass(frozen=True)
class Recorded:
    """What a ``Recorder`` held at one moment; any thread may read it, at any later time.

    Attributes:
      blocks: the metrics of all steps.
      evaluations, evaluated, ends: as in ``History``.
    """

    blocks: Sequence[Block]
    evaluations: Mapping[str, np.ndarray]
    evaluated: Sequence[int]
    ends: Sequence[int]

    def entries(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it; empty arrays are left out. Waits for the device."""
        entries = {f"steps.{name}": values for name, values in _joined(self.blocks).items()}
        entries |= {f"evaluations.{name}": values for name, values in self.evaluations.items()}
        numbers = {"ends": self.ends, "evaluated": self.evaluated}
        return entries | {name: np.array(n, np.int64) for name, n in numbers.items() if n}


@dataclass
class Recorder:
    """Collects metrics without waiting for the device, but to fetch many at once.

    ``pending`` are the steps after those of ``blocks``, ``recent`` the newest of all.
    """

    blocks: list[Block] = field(default_factory=list)
    pending: list[Any] = field(default_factory=list)
    recent: deque[Any] = field(default_factory=lambda: deque(maxlen=_MOST_PENDING))
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    evaluated: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def add(self, metrics: Any) -> None:
        """Take the metrics of the next step."""
        self.recent.append(metrics)
        self.pending.append(metrics)
        if len(self.pending) > _MOST_PENDING:
            self._close(keep=_MOST_PENDING // 8)  # the newest may not have been computed yet
            self.blocks[-1].values()

    def _close(self, *, keep: int = 0) -> None:
        """Make a block of all but the newest ``keep`` pending steps."""
        count = len(self.pending) - keep
        if count:
            self.blocks.append(Block(self.pending[:count]))
            del self.pending[:count]
        if len(self.blocks) > _MOST_BLOCKS:
            self.blocks[:-1] = [Block(values=_joined(self.blocks[:-1]))]

    def newest(self) -> dict[str, float]:
        """The newest metrics that are computed, without waiting; empty where none is."""
        for metrics in reversed(self.recent):
            if all(leaf.is_ready() for leaf in jax.tree.leaves(metrics)):
                return {name: float(leaf) for name, leaf in scalars(metrics).items()}
        if self.blocks and self.blocks[-1].is_read:
            return {name: float(values[-1]) for name, values in self.blocks[-1].values().items()}
        return {}

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
        self._close()
        self.ends.append(step)

    def history(self) -> History:
        """All of it so far; waits for the device."""
        self._close()
        steps, ends = _joined(self.blocks), np.array(self.ends, np.int64)
        self.blocks = [Block(values=steps)]
        means = {name: _means(values, ends) for name, values in steps.items()}
        evaluated = np.array(self.evaluated, np.int64)
        last = _last_in_epochs(evaluated, ends)
        for name, values in sorted(self.evaluations.items()):
            means[f"eval.{name}"] = np.append(values, np.nan)[last]
        return History(steps, means, ends, dict(self.evaluations), evaluated)

    def last_epoch(self) -> dict[str, float]:
        """The means and evaluations of the last whole epoch."""
        return {name: float(values[-1]) for name, values in self.history().epochs.items()}

    def recorded(self) -> Recorded:
        """All of it so far, without waiting."""
        self._close()
        return Recorded(
            blocks=tuple(self.blocks),
            evaluations=dict(self.evaluations),
            evaluated=tuple(self.evaluated),
            ends=tuple(self.ends),
        )

    @classmethod
    def restored(cls, entries: Mapping[str, np.ndarray]) -> "Recorder":
        """The recorder that made these entries of ``Recorded``."""
        recorder, steps = cls(), {}
        for key, values in entries.items():
            kind, _, name = key.partition(".")
            if kind == "steps":
                steps[name] = values
            elif kind == "evaluations":
                recorder.evaluations[name] = values
        recorder.ends = [int(end) for end in entries.get("ends", ())]
        recorder.evaluated = [int(step) for step in entries.get("evaluated", ())]
        recorder.blocks = [Block(values=steps)]
        return recorder


def _joined(blocks: Sequence[Block]) -> dict[str, np.ndarray]:
    """Per metric, the values of all steps, oldest first."""
    read = [values for block in blocks if (values := block.values())]
    names = read[0] if read else ()
    return {name: np.concatenate([values[name] for values in read]) for name in names}


def _fetched(pending: Sequence[Any]) -> dict[str, np.ndarray]:
    """The metrics of steps on the host: per name, one value a step."""
    leaves = jax.tree.leaves(pending)  # of all steps, one after the other
    if not leaves:
        return {}
    names = list(scalars(pending[0]))
    series = {name: leaves[at :: len(names)] for at, name in enumerate(names)}
    if device_to_host.on_accelerator(leaves[0].sharding):
        sent = {name: device_to_host.sent_together(values) for name, values in series.items()}
        return {name: device_to_host.received(parts, len(pending)) for name, parts in sent.items()}
    leaves[-1].block_until_ready()  # one wait, not one for each step
    return {name: np.array([np.asarray(x) for x in values]) for name, values in series.items()}


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
