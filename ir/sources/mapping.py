"""The bytes of a file, read when they are used."""

import mmap
from pathlib import Path, PurePath

from fnckpt.errors import FormatError
from fnckpt.ir.targets.foreign import regular_size


def mapped(path: Path) -> memoryview:
    """The bytes of a file as memory, of which nothing is read yet.

    Raises:
      FormatError: it is no regular file: a pipe may never end.
      OSError: it cannot be read.
    """
    if not regular_size(path, "a graph"):
        return memoryview(b"")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def mapped_beside(who: str, location: str, folder: Path | None) -> memoryview:
    """The bytes of a file below the folder of a model; no other is opened.

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
    return mapped(path)
