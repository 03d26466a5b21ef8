"""The bytes of a file, read when they are used."""

import mmap
import stat
from pathlib import Path

from fnckpt.errors import FormatError


def mapped(path: Path) -> memoryview:
    """The bytes of a file as memory, of which nothing is read yet.

    Raises:
      FormatError: it is no regular file: a pipe may never end.
      OSError: it cannot be read.
    """
    with path.open("rb") as file:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise FormatError(f"{path}: is a pipe or a device; a graph is in a regular file")
        if not found.st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
