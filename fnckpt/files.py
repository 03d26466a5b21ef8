"""Files that are whole or absent."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_BUFFER = 1 << 20  # bytes; what is larger goes to the file without being copied


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file whose bytes become ``path`` in one step, when the block ends.

    Until then they are in ``.<name>.<random>.tmp`` in the same directory, made by exclusive
    creation. They and the renaming are on the disk when this returns. On any error, also
    KeyboardInterrupt, ``path`` is what it was and the temporary file is gone; only a kill or a
    power cut can leave it behind. The mode is what the umask gives, usually 0644.

    Raises:
      OSError: the disk is full, the directory is missing or not writable, ...

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with replacing(Path(directory, "a.bin")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(directory, "a.bin").read_bytes()
    b'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"no directory {path.parent}; make it first", str(path)
        )
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:  # it would name the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        with open(descriptor, "wb", buffering=_BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            os.replace(temporary, path)
        except OSError as error:  # it would name the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:  # KeyboardInterrupt too
        with suppress(
            OSError
        ):  # the directory may have vanished; the first error is the one to tell
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a renaming survives a power cut only after this."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
