"""What is left of the oldest steps of a training, whose own metrics a checkpoint does not keep.

The means of the epochs stay exact: a checkpoint has those of the epochs that began before the cut,
and of the epoch that was going on the sum up to the cut.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

SHARE = 100  # the metrics of single steps may take one of so many bytes of the state,
LEAST = 4096  # or so many bytes


@dataclass(frozen=True)
class Past:
    """The oldest steps of one metric.

    Attributes:
      cut: how many steps.
      means: of the ended epochs that began before ``cut``; shape (epochs,), float64.
      total: the sum of the steps before ``cut`` of the epoch after these.
    """

    cut: int = 0
    means: np.ndarray = field(default_factory=lambda: np.empty(0))
    total: float = 0.0

    def means_of(self, values: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """The mean of ``values`` over each epoch, float64."""
        starts = np.append(0, ends[:-1])[: len(ends)]
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))[len(self.means) :]
        later = [self._mean(values, start, end) for start, end in spans]
        return np.append(self.means, later)

    def moved(self, values: np.ndarray, ends: np.ndarray, cut: int) -> "Past":
        """The same for the first ``cut`` of ``values``, at least as many as now."""
        begun = int(np.searchsorted(np.append(0, ends[:-1])[: len(ends)], cut))
        start = int(ends[-1]) if len(ends) else 0  # of the epoch that goes on
        if begun < len(ends):  # the cut is in epochs that have ended: they are in the means
            return Past(cut, self.means_of(values, ends)[:begun])
        total = self._total(values, start, cut) if cut > start else 0.0
        return Past(cut, self.means_of(values, ends), total)

    def _mean(self, values: np.ndarray, start: int, end: int) -> float:
        if start >= self.cut:
            return float(values[start:end].astype(np.float64).mean())
        return self._total(values, start, end) / (end - start)

    def _total(self, values: np.ndarray, start: int, stop: int) -> float:
        known = values[max(start, self.cut) : stop].astype(np.float64)
        return float(known.sum()) + (self.total if start < self.cut else 0.0)

    def entries(self, name: str) -> Iterator[tuple[str, np.ndarray]]:
        """What a checkpoint keeps, with the names of the entries."""
        yield f"open.{name}", np.array(self.total)
        if len(self.means):
            yield f"epochs.{name}", self.means


def kept_steps(
    steps: Mapping[str, np.ndarray], others: int, ends: int, most: int | None, room: int | None
) -> int | None:
    """The number of newest steps whose metrics are kept; None for all.

    Args:
      others: the bytes of what is kept in any case.
      ends: the number of ended epochs, each with a mean; the one that goes on has a sum.
      most: as the user said.
      room: bytes of all of it, where the user said nothing.
    """
    if room is None:
        return most
    a_step = sum(values.itemsize for values in steps.values())
    left = room - others - 8 * (ends + 1) * len(steps)
    return max(left, LEAST) // a_step if a_step else None
