"""The progress bar: a line in a terminal, a widget in a notebook, nothing elsewhere."""

import sys
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tqdm import TqdmWarning
from tqdm.std import tqdm as Tqdm

_REFRESH = 0.1  # seconds between two looks at the metrics
_SHOWN = 4  # metrics in the bar


@dataclass
class Bar:
    """Shows one epoch at a time; costs a look at the clock per step."""

    epochs: int
    _bar: "Tqdm[Any] | None"
    _next: float = 0.0
    _steps: int = 0

    def start_epoch(self, epoch: int, *, steps: int | None, done: int) -> None:
        """Begin to show ``epoch``: ``done`` of ``steps`` steps, where their number is known."""
        if self._bar is None:
            return
        self._steps = 0
        self._bar.set_description_str(f"epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.reset(total=steps)
        self._bar.initial = done
        self._bar.n = done

    def step(self, shown: Callable[[], Mapping[str, object]]) -> None:
        """Count a step; ask ``shown`` for what to show beside it when it is time to."""
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

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


def make_bar(epochs: int, progress: bool | None) -> Bar:
    """A bar for ``epochs``; ``None``: only where a person looks, in a terminal or a notebook."""
    shown = progress if progress is not None else in_notebook() or sys.stderr.isatty()
    if not shown:
        return Bar(epochs, None)
    with warnings.catch_warnings():  # a notebook without ipywidgets gets the text bar: good enough
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

        return Bar(epochs, tqdm(unit="step", dynamic_ncols=True, mininterval=0))


def say(line: str, progress: bool | None) -> None:
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
