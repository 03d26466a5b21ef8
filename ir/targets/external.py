"""Weights in a file of their own beside the graph: a protobuf message ends at 2 GB.

The file's name holds a digest of its content. So the weights of a new export never take the place
of those that an older graph still names, and the same weights have the same name.
"""

import hashlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fnckpt.wire import Part

MOST_BYTES = 2**31 - 1  # of a message; protobuf's own limit
LEAST_BYTES = 1025  # what is smaller stays in the graph, where shape inference finds it
DIGEST_BYTES = 8
MOST_AXES = 16


@dataclass(frozen=True)
class Place:
    """Where an array lies in the file, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True)
class Beside:
    """A file beside the graph.

    Attributes:
      folder: relative to the graph's directory, ``""`` for that itself.
      before, digest, after: its name is these three, one after the other.
      front: the first bytes.
      arrays: what follows, each aligned to ``align`` bytes.
    """

    folder: str
    before: str
    digest: str
    after: str
    front: bytes
    arrays: Sequence[np.ndarray]
    align: int

    @property
    def name(self) -> str:
        """The file's name in its folder."""
        return f"{self.before}{self.digest}{self.after}"

    @property
    def location(self) -> str:
        """The path from the graph's directory."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    def older(self, directory: Path) -> list[Path]:
        """The files of the same name but for the digest, beside a graph in ``directory``."""
        name = re.compile(
            f"{re.escape(self.before)}[0-9a-f]{{{2 * DIGEST_BYTES}}}{re.escape(self.after)}"
        )
        found = (directory / self.folder).iterdir()
        return [each for each in found if name.fullmatch(each.name) and each.name != self.name]

    def places(self) -> list[Place]:
        """Where each array lies."""
        places, end = [], len(self.front)
        for array in self.arrays:
            end += -end % self.align
            places.append(Place(end, array.nbytes))
            end += array.nbytes
        return places

    def parts(self) -> Iterator[Part]:
        """The bytes, one array after the other, so that one at most is copied at a time."""
        yield self.front
        end = len(self.front)
        for array, place in zip(self.arrays, self.places(), strict=True):
            yield bytes(place.offset - end)
            yield raw(array)
            end = place.offset + place.length


def beside(
    arrays: Sequence[np.ndarray], *, folder: str, before: str, after: str, front: bytes, align: int
) -> Beside:
    """The file of ``arrays``, named by their content."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(raw(array))
    return Beside(folder, before, digest.hexdigest(), after, front, arrays, align)


def fits(arrays: Mapping[str, np.ndarray], rest: int) -> bool:
    """Whether a message of ``rest`` bytes and these named arrays stays below the limit."""
    frame = 64 + 20 * MOST_AXES  # around each
    named = sum(len(name.encode()) + frame + value.nbytes for name, value in arrays.items())
    return rest + named <= MOST_BYTES


def raw(value: np.ndarray) -> memoryview:
    """The bytes in row-major order, little end first; as they lie in memory where they do so."""
    swapped = value.byteswap() if sys.byteorder == "big" else value
    return np.ascontiguousarray(swapped).reshape(-1).view(np.uint8).data
