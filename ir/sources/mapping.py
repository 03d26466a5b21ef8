"""The bytes of a file: read at once, or if they are many, when they are used.

A mapped file that another process cuts off ends this one (SIGBUS). So only what is too large for
a copy is mapped.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path, PurePath

from fnckpt.errors import FormatError
from fnckpt.ir.targets.foreign import regular_size

MOST_READ = 64 << 20  # bytes of a file that is read; a larger one is mapped


@dataclass(frozen=True)
class Stored:
    """A regular file of ``size`` bytes; ``name`` is what errors call it."""

    path: Path
    size: int
    name: str

    def part(self, start: int, end: int) -> memoryview:
        """Its bytes from ``start`` to ``end``, read-only.

        Raises:
          FormatError: it has become shorter.
          OSError: it cannot be read.
        """
        with self.path.open("rb") as file:
            if self.size > MOST_READ:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[start:end]
            file.seek(start)
            found = file.read(end - start)
        if len(found) < end - start:
            raise FormatError(f"{self.name}: the file was cut off while it was read")
        return memoryview(found)


def stored(path: Path, name: str | None = None) -> Stored:
    """A file, of which nothing is read yet.

    Raises:
      FormatError: it is no regular file: a pipe may never end.
      OSError: it is not there.
    """
    return Stored(path, regular_size(path, "a graph"), name or str(path))


def beside(who: str, location: str, folder: Path | None) -> Stored:
    """A file below the folder of a model; no other is opened.

    Args:
      who: what errors call the tensor whose data it holds, the model's file before it.

    Raises:
      FormatError: ``location`` leads elsewhere, or to no file.
    """
    told, parts = f"{who}: its data is in {location!r}", PurePath(location)
    if folder is None:
        raise FormatError(f"{told}; give the path of the model")
    if not parts.parts or parts.is_absolute() or ".." in parts.parts or "\0" in location:
        raise FormatError(f"{told}, which is not beside the model")
    path = (folder / location).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise FormatError(f"{told}, and there is no such file beside the model")
    return stored(path, told)
