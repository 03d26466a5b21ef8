"""When to save a checkpoint and which ones to keep: decisions only, no clock and no disk.

The meaning of the four numbers is the MindSpore r1.1 tutorial's ("CheckPoint配置策略") and, where
the tutorial is silent, that of ``CheckpointConfig`` and ``ModelCheckpoint`` in
mindspore/train/callback/_checkpoint.py, 2.10. docs/policy.md states every boundary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CheckpointPolicy:
    """When ``train`` saves, and which of the run's files stay.

    If ``step`` is set, ``seconds`` is ignored. If ``keep_max`` is set, ``keep_per_n_minutes`` is
    ignored. ``None`` or 0 disables a setting. If both keep settings are disabled, only the newest
    file is kept, as in MindSpore.

    Args:
      step: save after every ``step``-th step, counted over all epochs
        (``save_checkpoint_steps``).
      seconds: save when more than this many seconds have passed since the last save
        (``save_checkpoint_seconds``).
      keep_max: keep the newest ``keep_max`` files (``keep_checkpoint_max``).
      keep_per_n_minutes: keep one file for every n minutes for good, and also the newest file
        (``keep_checkpoint_per_n_minutes``).

    Raises:
      TypeError: a field is neither an int nor None.
      ValueError: a field is negative.

    Examples:
      >>> policy = CheckpointPolicy(step=32, keep_max=10)
      >>> [step for step in range(1, 100) if policy.should_save(step=step, now=0.0, last_save=0.0)]
      [32, 64, 96]
    """

    step: int | None = 1
    seconds: int | None = 0
    keep_max: int | None = 5
    keep_per_n_minutes: int | None = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, where = getattr(self, field.name), f"{type(self).__name__}.{field.name}"
            if value is not None and type(value) is not int:  # True is no number of steps
                raise TypeError(
                    f"{where}: must be an int or None, got {value!r} of type "
                    f"{type(value).__name__}; give a whole number, or None to disable it"
                )
            if value is not None and value < 0:
                raise ValueError(f"{where}: must be at least 0, got {value}; 0 or None disables it")

    def ignored(self) -> list[str]:
        """Time settings that were given and do not count, because a default is still set.

        Who gives both settings is taken to know that steps win.

        Examples:
          >>> CheckpointPolicy(seconds=600).ignored()
          ['seconds=600 is ignored, because step is 1: every step is saved; give step=None as well']
        """
        lines: list[str] = []
        if self.seconds and self.step == type(self).step:
            lines.append(
                f"seconds={self.seconds} is ignored, because step is {self.step}: every step is "
                "saved; give step=None as well"
            )
        if self.keep_per_n_minutes and self.keep_max == type(self).keep_max:
            lines.append(
                f"keep_per_n_minutes={self.keep_per_n_minutes} is ignored, because keep_max is "
                f"{self.keep_max}: the newest {self.keep_max} are kept; give keep_max=None as well"
            )
        return lines

    def _repr_html_(self) -> str:
        """The two decisions in words."""
        rows = "".join(
            f"<tr><th>{name}</th><td style='text-align:left'>{text}</td></tr>"
            for name, text in (("saves", self._saves()), ("keeps", self._keeps()))
        )
        return f"<table><caption>CheckpointPolicy</caption>{rows}</table>"

    def _saves(self) -> str:
        if self.step:
            often = f"after every {self.step} steps" if self.step > 1 else "after every step"
            return f"{often}, and at the end"
        if self.seconds:
            return f"when more than {self.seconds} seconds have passed, and at the end"
        return "nothing"

    def _keeps(self) -> str:
        if self.keep_max:
            return f"the newest {self.keep_max}"
        if self.keep_per_n_minutes:
            return f"one of every {self.keep_per_n_minutes} minutes, and the newest"
        return "the newest alone"

    def should_save(self, *, step: int, now: float, last_save: float) -> bool:
        """Whether to save after a step.

        Args:
          step: the number of steps trained, over all epochs, from 1.
          now: seconds on any monotonic clock.
          last_save: the same clock at the last save, or at the start of training.
        """
        if self.step:
            return step % self.step == 0
        return bool(self.seconds) and now - last_save > self.seconds

    def should_save_at_end(self, *, step: int, last_saved_step: int) -> bool:
        """Whether to save once more at a normal end after ``step`` steps in all.

        Args:
          step: as in ``should_save``; 0 where nothing was trained.
          last_saved_step: the step of the newest checkpoint, 0 if there is none.
        """
        return bool(self.step or self.seconds) and step != last_saved_step

    def to_delete(self, saved_at: Sequence[float]) -> list[int]:
        """The positions in ``saved_at`` of the checkpoints to delete, oldest first.

        Args:
          saved_at: for each file of this run that is present, oldest first, the seconds on a
            monotonic clock at which it was saved. The last one is the newest and never deleted.

        Examples:
          >>> CheckpointPolicy(keep_max=2).to_delete([0.0, 1.0, 2.0, 3.0])
          [0, 1]
          >>> policy = CheckpointPolicy(keep_max=None, keep_per_n_minutes=1)
          >>> policy.to_delete([0.0, 59.0, 60.0, 61.0])
          [1]
        """
        if not self.keep_max and self.keep_per_n_minutes:
            kept = _one_of_every(60 * self.keep_per_n_minutes, saved_at)
            return [at for at in range(len(saved_at) - 1) if at not in kept]
        return list(range(len(saved_at) - (self.keep_max or 1)))


def _one_of_every(seconds: int, saved_at: Sequence[float]) -> set[int]:
    """The positions kept for good: the first, then each at least ``seconds`` after the last kept.

    Deleting the others does not change the answer for those that stay, so that what is kept for
    good needs no record beside the files.
    """
    kept: list[int] = []
    for at, when in enumerate(saved_at):
        if not kept or when - saved_at[kept[-1]] >= seconds:
            kept.append(at)
    return set(kept)
