"""A checkpoint whose arrays are read when they are asked for, each by itself.

The file is read, not mapped: what another process cuts off is an error here, where a map would end
the process (SIGBUS).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fnckpt.checkpoints.formats.ckpt import Contents
from fnckpt.checkpoints.pytree import opened


@dataclass(frozen=True)
class OnDemand(Mapping[str, np.ndarray]):
    """The arrays of an open checkpoint by name; each look-up reads the array anew."""

    file: Contents

    def __getitem__(self, name: str) -> np.ndarray:
        return self.file.array(self.file.entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.file.entries)

    def __len__(self) -> int:
        return len(self.file.entries)


@contextmanager
def arrays_on_demand(path: str | os.PathLike[str]) -> Iterator[OnDemand]:
    """The arrays of the file ``path``, which is open within the block.

    Raises:
      FormatError: the file is damaged, or it is cut off within the block.
      OSError: it cannot be read.
    """
    with opened(path, verify=True, mapped=False) as file:
        yield OnDemand(file)


def outlines(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """For each array of the file ``path`` one of its dtype and shape, without its content.

    Raises:
      FormatError: the file is damaged.
      OSError: it cannot be read.
    """
    with opened(path, verify=True, mapped=False) as file:
        return {
            name: np.broadcast_to(np.zeros((), entry.dtype), entry.shape)
            for name, entry in file.entries.items()
        }
