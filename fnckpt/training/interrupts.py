"""Ctrl-C and SIGTERM, put off until a step is finished."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Interrupts:
    """The signal that has arrived, if any."""

    pending: signal.Signals | None = None

    def agree(self, greatest: Callable[[int], int]) -> None:
        """Take over a signal that another process has heard, all at the same step.

        Args:
          greatest: of the numbers that the processes give.
        """
        number = greatest(0 if self.pending is None else int(self.pending))
        self.pending = signal.Signals(number) if number else None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; the second Ctrl-C stops at once."""
        if self.pending == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.pending = signal.Signals(number)


@contextmanager
def put_off() -> Iterator[Interrupts]:
    """While the block runs, signals are noted; the caller ends the block when one is pending.

    After the block the signal is delivered to who handled it before: by default KeyboardInterrupt
    for SIGINT and SystemExit(143) for SIGTERM. Only the main thread can receive signals: in others
    nothing is put off. A signal that was ignored stays ignored.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] not in (signal.SIG_IGN, None):
            signal.signal(number, interrupts.note)
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python, and is not ours to restore
                signal.signal(number, handler)
    if interrupts.pending is None:
        return
    if before[interrupts.pending] is signal.SIG_DFL:
        raise SystemExit(128 + interrupts.pending)
    signal.raise_signal(interrupts.pending)
