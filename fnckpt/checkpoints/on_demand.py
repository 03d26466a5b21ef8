"""A checkpoint whose arrays are read when they are asked for: those of a ``.ckpt`` each by itself.

The file is read, not mapped: what another process cuts off is an error here, where a map would end
the process (SIGBUS).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fnckpt.checkpoints.convert import FORMATS, format_of
from fnckpt.checkpoints.formats.ckpt import Contents
from fnckpt.checkpoints.formats.orbax_layout import is_orbax
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


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a checkpoint, by its suffix, or because it is a directory of Orbax."""
    return is_orbax(path) if path.is_dir() else path.suffix.lower() in FORMATS and path.suffix != ""


@contextmanager
def arrays_on_demand(path: str | os.PathLike[str]) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of the checkpoint ``path``, of any format; a ``.ckpt`` is open within the block.

    Raises:
      FormatError: the file is damaged, or it is cut off within the block.
      OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir() or path.suffix != ".ckpt":
        yield format_of(path).read(path)
        return
    with opened(path, verify=True, mapped=False) as file:
        yield OnDemand(file)


def outlines(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """For each array of the checkpoint ``path`` one of its dtype and shape, without its content.

    Raises:
      FormatError: the file is damaged.
      OSError: it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        from fnckpt.checkpoints.formats import orbax  # importing it takes seconds

        return orbax.outlines(path)
    if path.suffix != ".ckpt":
        return dict(format_of(path).read(path))
    with opened(path, verify=True, mapped=False) as file:
        return {
            name: np.broadcast_to(np.zeros((), entry.dtype), entry.shape)
            for name, entry in file.entries.items()
        }
