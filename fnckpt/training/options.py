"""What ``train`` is asked for besides the training itself, in groups, each checked."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from fnckpt.training.policy import CheckpointPolicy

State = TypeVar("State")
Metrics = TypeVar("Metrics")
OnStep = Callable[[int, State, Metrics], object]
OnEpoch = Callable[[int, State, Mapping[str, float]], object]
OnCheckpoint = Callable[[Path], object]
HistorySteps = int | Literal["auto"] | None


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Called on the host, in the thread that trains; what they raise ends the training."""

    on_step: OnStep | None = None
    on_epoch: OnEpoch | None = None
    on_checkpoint: OnCheckpoint | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to measure, when, and which metric of it says what the best state is."""

    measure: Callable[[Any], Any] | None = None
    every: int | None = None
    best: str | None = None
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        if self.every is not None and type(self.every) is not int:
            raise TypeError(f"eval_every: must be an int or None, got {self.every!r}")
        if self.every is not None and self.every < 1:
            raise ValueError(
                f"eval_every: must be at least 1, got {self.every}; None is once an epoch"
            )
        if self.mode not in ("min", "max"):
            raise ValueError(f'best_mode: must be "min" or "max", got {self.mode!r}')
        for name, given in (("eval_every", self.every), ("best", self.best)):
            if given is not None and self.measure is None:
                raise ValueError(f"{name}: there is nothing to evaluate; give eval_fn")

    def ignored(self) -> list[str]:
        """What was asked for and does not count, a line for each reason."""
        if self.mode == "min" or self.best is not None:
            return []
        return [
            "best_mode: ignored, because best is None; give best= the name of a metric of eval_fn"
        ]

    def due(self, step: int) -> bool:
        """Whether to evaluate after ``step`` steps in all, in the middle of an epoch or not."""
        return self.every is not None and step % self.every == 0


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How checkpoints are written."""

    policy: CheckpointPolicy | None = None
    directory: str | os.PathLike[str] | None = None
    prefix: str = "CKP"
    asynchronous: bool = True
    crc: bool = False
    portable: bool = True
    gather: bool = False
    format: Literal["ckpt", "safetensors"] = "ckpt"
    history_steps: HistorySteps = "auto"

    def __post_init__(self) -> None:
        if not (self.policy is None or isinstance(self.policy, CheckpointPolicy)):
            raise TypeError(
                "policy: must be a CheckpointPolicy or None, got a "
                f"{type(self.policy).__qualname__}"
            )
        self._check_format()
        self._check_history()

    def _check_history(self) -> None:
        steps = self.history_steps
        if steps not in ("auto", None) and (type(steps) is not int or steps < 1):
            raise ValueError(
                f'history_steps: must be a number of steps from 1, "auto" or None, got {steps!r}'
            )

    def _check_format(self) -> None:
        if self.format not in ("ckpt", "safetensors"):
            raise ValueError(
                f'checkpoint_format: must be "ckpt" or "safetensors", got {self.format!r}'
            )
        for name, given in (("crc", self.crc), ("gather", self.gather)):
            if given and self.format != "ckpt":
                raise ValueError(
                    f'{name}: is for "ckpt" files, checkpoint_format is {self.format!r}; '
                    "leave one of them out"
                )

    @property
    def suffix(self) -> str:
        """What the names of the checkpoints end in."""
        return f".{self.format}"

    def of_files(self) -> str:
        """The names of what was asked for that means files of our own; empty where none was."""
        return self._given("directory", "prefix", "crc", "gather", "format")

    def ignored(self, *, manager: bool, resume: bool, beside: Sequence[str] = ()) -> list[str]:
        """What was asked for and does not count, a line for each reason.

        Args:
          beside: other arguments of ``train`` that were given and mean nothing without checkpoints.
          manager: an Orbax manager keeps the checkpoints.
          resume: a checkpoint is read, from the directory and of the prefix.
        """
        lines = [f"policy: {line}" for line in (self.policy.ignored() if self.policy else ())]
        if self.policy is None and not manager:
            read = () if resume else ("directory", "prefix")
            given = self._given(*read, "crc", "gather", "format", "history_steps", "asynchronous")
            given = ", ".join(filter(None, [given, *beside]))
            reason = "because without a policy no checkpoint is saved; give policy="
            lines += [f"{given}: ignored, {reason}fnckpt.CheckpointPolicy() too"] if given else []
        if manager:
            given = self._given("asynchronous")
            lines += [f"{given}: ignored, because the Orbax manager saves"] if given else []
        if manager and self.policy and self.policy.keep_max != CheckpointPolicy.keep_max:
            kept = f"keep_max={self.policy.keep_max}"
            lines.append(f"policy: {kept} is ignored, because the Orbax manager says what to keep")
        return lines

    def _given(self, *names: str) -> str:
        """Which of ``names`` are not as they are by default, as arguments of ``train``."""
        plain = Saving()
        arguments = {"asynchronous": "async_save", "format": "checkpoint_format"}
        found = [name for name in names if vars(self)[name] != vars(plain)[name]]
        return ", ".join(arguments.get(name, name) for name in found)
