"""The progress bar, in a terminal or a notebook, and a line for each epoch, which stays."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from tqdm import TqdmWarning
from tqdm.std import tqdm as Tqdm

_REFRESH = 0.1  # seconds between two looks at the metrics
_SHOWN = 4  # metrics in the bar

Progress = bool | Literal["lines"] | None


@dataclass
class Bar:
    """Shows one epoch at a time; costs a look at the clock per step.

    Args:
      epochs: how many there are in all.
      has_lines: whether an epoch that has ended leaves a line.
    """

    epochs: int
    _bar: "Tqdm[Any] | None"
    has_lines: bool = True
    _next: float = 0.0
    _steps: int = 0  # since the bar was drawn
    _epoch: int = 1
    _count: int = 0  # of this epoch, in this process
    _begin: float = 0.0

    def start_epoch(self, epoch: int, *, steps: int | None, done: int) -> None:
        """Begin to show ``epoch``: ``done`` of ``steps`` steps, where their number is known."""
        self._epoch, self._count, self._steps, self._begin = epoch, 0, 0, time.monotonic()
        if self._bar is None:
            return
        self._bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.total = steps  # reset() would keep the last one for None
        self._bar.reset()
        # What was done before is no part of the rate.
        self._bar.initial = self._bar.n = self._bar.last_print_n = done

    def step(self, shown: Callable[[], Mapping[str, object]]) -> None:
        """Count a step; ask ``shown`` for what to show beside it when it is time to."""
        self._count += 1
        if self._bar is None:
            return
        self._steps += 1
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _REFRESH
            self.refresh(shown())

    def refresh(self, shown: Mapping[str, object]) -> None:
        """Draw the bar with ``shown`` behind it."""
        if self._bar is None:
            return
        self._bar.set_postfix_str(", ".join(f"{k} {_text(v)}" for k, v in shown.items()), False)
        self._bar.update(self._steps)
        self._steps = 0
        self._bar.refresh()

    def end_epoch(self, shown: Mapping[str, object]) -> None:
        """Print the line that stays: steps, seconds, rate and ``shown``."""
        self.refresh(shown)
        if self.has_lines:
            about = [*self._pace(), *(f"{k} {_text(v)}" for k, v in shown.items())]
            self.line(f"epoch {self._epoch}/{self.epochs}: {', '.join(about)}")

    def _pace(self) -> list[str]:
        """What this process did of the epoch; a resume may find its last step done."""
        seconds = max(time.monotonic() - self._begin, 1e-9)
        if not self._count:
            return ["no step was left"]
        steps = "1 step" if self._count == 1 else f"{self._count} steps"
        return [steps, f"{seconds:.1f} s", f"{self._count / seconds:.3g} step/s"]

    def line(self, text: str) -> None:
        """Print ``text`` above the bar, if anything is shown at all.

        On stderr, where the bar is; a notebook would show that red, so there on stdout.
        """
        if self.has_lines:
            Tqdm.write(text, file=sys.stdout if in_notebook() else sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def make_bar(epochs: int, progress: Progress) -> Bar:
    """A bar for ``epochs``; ``None``: only where a person looks, in a terminal or a notebook.

    Raises:
      ValueError: ``progress`` is something else.
    """
    if progress not in (None, True, False, "lines"):
        raise ValueError(f'progress: must be True, False, "lines" or None, got {progress!r}')
    if progress == "lines":
        return Bar(epochs, None)
    shown = progress if progress is not None else in_notebook() or sys.stderr.isatty()
    if not shown:
        return Bar(epochs, None, has_lines=False)
    if in_notebook() and find_spec("ipywidgets") is None:
        return Bar(epochs, None)  # a bar of text would fill the stored output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

        stream = sys.stdout if in_notebook() else sys.stderr
        return Bar(
            epochs,
            tqdm(unit="step", dynamic_ncols=True, mininterval=0, leave=False, file=stream),
        )


def say(line: str, progress: Progress) -> None:
    """Print a line that stays, above the bar; nothing with ``progress=False``.

    It goes to stderr, where the bar is, and in a notebook, which shows that red, to stdout.
    """
    if progress is not False:
        Tqdm.write(line, file=sys.stdout if in_notebook() else sys.stderr)


def chosen(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that fit into the bar."""
    return dict(list(metrics.items())[:_SHOWN])


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
