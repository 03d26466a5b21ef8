"""The metrics of a training: kept on the device while it runs, numpy arrays afterwards."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.checkpoints import device_to_host
from fnckpt.training.metrics import scalars
from fnckpt.training.past import Past, kept_steps

_MOST_PENDING = 256  # steps whose metrics may wait on the device
_MOST_BLOCKS = 64  # more are read and joined, but for the newest


@dataclass(frozen=True)
class History:
    """What ``step_fn`` reported.

    Attributes:
      steps: per metric, one value a step; shape (steps,), the metric's own dtype. NaN for steps
        that did not report it, before or after a resume with other metrics, and after a resume for
        steps that the checkpoint did not keep (``history_steps``); a metric of integers is float64
        then.
      epochs: per metric, the mean over each whole epoch, and the last that ``eval_fn`` gave in it,
        named ``eval.<metric>``; shape (epochs,), float64. NaN where no evaluation was due.
      ends: the number of steps trained at the end of each whole epoch; shape (epochs,), int64.
      evaluations: per metric of ``eval_fn``, its value at each evaluation; float64.
      evaluated: the number of steps trained at each evaluation; int64.
      trained: the number of steps trained, also where they report no metrics.
      gone: the metrics that earlier steps reported and the last one does not.

    ``history["loss"]`` is ``history.steps["loss"]``, and ``list(history)`` the metrics' names.
    """

    steps: Mapping[str, np.ndarray]
    epochs: Mapping[str, np.ndarray]
    ends: np.ndarray
    evaluations: Mapping[str, np.ndarray]
    evaluated: np.ndarray
    trained: int
    gone: tuple[str, ...]

    def __getitem__(self, metric: str) -> np.ndarray:
        return self.steps[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def ended(self, name: str) -> bool:
        """Whether NaN at the end of ``epochs[name]`` means that the last epoch has no value.

        Otherwise a step or an evaluation gave NaN.
        """
        if name in self.steps:
            return name in self.gone
        return bool((_last_in_epochs(self.evaluated, self.ends)[-1:] < 0).all())

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
    if not len(known):
        return f"last {numbers[-1]:.4g}"
    between = f"from {known.min():.4g} to {known.max():.4g}"
    return f"first {known[0]:.4g}, last {numbers[-1]:.4g}, {between}"


class Block:
    """The metrics of consecutive steps; threads may share it.

    Args:
      count: the number of steps; a step may have no metrics.
      pending: those metrics on the device, where ``values`` were not read yet.
      values: per metric, one value a step.
    """

    def __init__(
        self,
        count: int,
        *,
        pending: Sequence[Any] = (),
        values: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.count = count
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
      past: per metric, what is known of steps that were not kept.
    """

    blocks: Sequence[Block]
    evaluations: Mapping[str, np.ndarray]
    evaluated: Sequence[int]
    ends: Sequence[int]
    past: Mapping[str, Past] = field(default_factory=dict)

    def entries(self, most: int | None = None, room: int | None = None) -> dict[str, np.ndarray]:
        """What a checkpoint keeps of it; empty arrays are left out. Waits for the device.

        Args:
          most: the number of newest steps whose metrics are kept.
          room: the bytes that all of it may take, instead of ``most``; a few steps are kept anyhow.
        """
        steps, ends = dict(_joined(self.blocks)), np.array(self.ends, np.int64)
        numbers = {"ends": self.ends, "evaluated": self.evaluated}
        entries = {f"evaluations.{name}": values for name, values in self.evaluations.items()}
        entries |= {name: np.array(n, np.int64) for name, n in numbers.items() if n}
        others = sum(values.nbytes for values in entries.values())
        kept = kept_steps(steps, others, len(ends), most, room)
        for name, values in steps.items():
            past = self.past.get(name, Past())
            # What an earlier checkpoint dropped stays dropped, however many steps are kept now.
            cut = max(past.cut, 0 if kept is None else len(values) - kept)
            if cut:
                entries |= past.moved(values, ends, cut).entries(name)
                steps[name] = values[cut:]
        return {f"steps.{name}": values for name, values in steps.items()} | entries


@dataclass
class Recorder:
    """Collects metrics without waiting for the device, but to fetch many at once.

    ``pending`` are the steps after those of ``blocks``, ``recent`` the newest of all; ``reported``
    are the names of the metrics of the last step in ``blocks``; ``past`` is of the steps that the
    checkpoint did not keep from which the training goes on.
    """

    blocks: list[Block] = field(default_factory=list)
    pending: list[Any] = field(default_factory=list)
    recent: deque[Any] = field(default_factory=lambda: deque(maxlen=_MOST_PENDING))
    evaluations: dict[str, np.ndarray] = field(default_factory=dict)
    evaluated: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    reported: tuple[str, ...] = ()
    past: dict[str, Past] = field(default_factory=dict)

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
            self.blocks.append(Block(count, pending=self.pending[:count]))
            self.reported = tuple(scalars(self.pending[count - 1]))
            del self.pending[:count]
        if len(self.blocks) > _MOST_BLOCKS:
            self.blocks[:-1] = [_merged(self.blocks[:-1])]

    def newest(self) -> dict[str, float]:
        """The newest metrics that are computed, without waiting; empty where none is."""
        for metrics in reversed(self.recent):
            if all(leaf.is_ready() for leaf in jax.tree.leaves(metrics)):
                return {name: float(leaf) for name, leaf in scalars(metrics).items()}
        if self.blocks and self.blocks[-1].is_read:
            last = {name: values[-1] for name, values in self.blocks[-1].values().items()}
            return {name: float(last[name]) for name in self.reported}
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
        self.blocks = [_merged(self.blocks)]
        steps, ends = self.blocks[0].values(), np.array(self.ends, np.int64)
        means = {
            name: self.past.get(name, Past()).means_of(values, ends)
            for name, values in steps.items()
        }
        evaluated = np.array(self.evaluated, np.int64)
        last = _last_in_epochs(evaluated, ends)
        for name, values in sorted(self.evaluations.items()):
            means[f"eval.{name}"] = np.append(values, np.nan)[last]
        return History(
            steps,
            means,
            ends,
            dict(self.evaluations),
            evaluated,
            trained=self.blocks[0].count,
            gone=tuple(name for name in steps if name not in self.reported),
        )

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
            past=dict(self.past),
        )

    @classmethod
    def restored(cls, entries: Mapping[str, np.ndarray], trained: int | None = None) -> "Recorder":
        """The recorder that made these entries of ``Recorded``.

        Args:
          trained: the number of steps; None is that of the longest metric.
        """
        recorder, steps, totals, means = cls(), {}, {}, {}
        for key, values in entries.items():
            kind, _, name = key.partition(".")
            if kind == "steps":
                steps[name] = values
            elif kind == "evaluations":
                recorder.evaluations[name] = values
            elif kind == "open":
                totals[name] = float(values)
            elif kind == "epochs":
                means[name] = values
        recorder.ends = [int(end) for end in entries.get("ends", ())]
        recorder.evaluated = [int(step) for step in entries.get("evaluated", ())]
        count = max(map(len, steps.values()), default=0) if trained is None else trained
        recorder.past = {
            name: Past(count - len(steps[name]), means.get(name, np.empty(0)), total)
            for name, total in totals.items()
        }
        steps = {name: _at_the_end(values, count) for name, values in steps.items()}
        recorder.blocks = [Block(count, values=steps)]
        last = [name for name, values in steps.items() if count and not np.isnan(values[-1])]
        recorder.reported = tuple(last or steps)
        return recorder


def _merged(blocks: Sequence[Block]) -> Block:
    """One block of the steps of all."""
    return Block(sum(block.count for block in blocks), values=_joined(blocks))


def _joined(blocks: Sequence[Block]) -> dict[str, np.ndarray]:
    """Per metric, the values of all steps, oldest first; NaN where a block does not have it."""
    names = dict.fromkeys(name for block in blocks for name in block.values())
    return {name: _series(name, blocks) for name in names}


def _series(name: str, blocks: Sequence[Block]) -> np.ndarray:
    """The values of one metric, which at least one of ``blocks`` has."""
    held = [block.values().get(name) for block in blocks]
    parts = [part for part in held if part is not None]
    absent = any(part is None and block.count for part, block in zip(held, blocks, strict=True))
    dtype = _common({part.dtype for part in parts}, nan=absent)
    return np.concatenate(
        [
            np.full(block.count, np.nan, dtype) if part is None else part.astype(dtype, copy=False)
            for part, block in zip(held, blocks, strict=True)
        ]
    )


def _common(dtypes: Set[np.dtype], *, nan: bool) -> np.dtype:
    """A dtype that holds numbers of all ``dtypes`` and, where asked for, NaN."""
    try:
        common = np.result_type(*dtypes)
    except TypeError:  # such as bfloat16 with float16
        return np.dtype(np.float64)
    has_nan = jnp.issubdtype(common, np.inexact)
    return common if has_nan or not nan else np.dtype(np.float64)


def _at_the_end(values: np.ndarray, count: int) -> np.ndarray:
    """``values`` as those of the last of ``count`` steps.

    Files of fnckpt 0.1 have fewer where the first steps reported nothing.
    """
    absent = max(count - len(values), 0)
    return _series("", [Block(absent), Block(len(values), values={"": values})])


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


def _last_in_epochs(evaluated: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The position in ``evaluated`` of each epoch's last evaluation; -1 where it had none."""
    last = np.searchsorted(evaluated, ends, side="right") - 1
    begins = np.append(0, ends[:-1])[: len(ends)]
    return np.where((last >= 0) & (np.append(evaluated, 0)[last] > begins), last, -1)
