"""Files that are whole or absent, and a directory in which one writes at a time."""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

_BUFFER = 1 << 20  # bytes; what is larger goes to the file without being copied

NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""What flock says where the file system has no locks (some network mounts)."""

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file whose bytes become ``path`` in one step, when the block ends.

    Until then they are in ``.<name>.<random>.tmp`` in the same directory, made by exclusive
    creation. They and the renaming are on the disk when this returns. On any error, also
    KeyboardInterrupt, ``path`` is what it was and the temporary file is gone; only a kill or a
    power cut can leave it behind. The mode is what the umask gives, usually 0644.

    Raises:
      OSError: the disk is full, the directory is missing or not writable, ``path`` is a link, a
        device, a pipe or a directory, none of which is ever replaced, ...

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     with replacing(Path(directory, "a.bin")) as file:
    ...         _ = file.write(b"whole")
    ...     Path(directory, "a.bin").read_bytes()
    b'whole'
    """
    path = Path(path)
    check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"no directory {path.parent}; make it first", str(path)
        )
    try:
        with open(temporary, "xb", buffering=_BUFFER) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # KeyboardInterrupt too, at any moment since the file is there
        with suppress(OSError):  # the directory may have vanished; the first error is told
            os.unlink(temporary)
        if isinstance(error, OSError) and str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable: a renaming survives a power cut only after this."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_replaceable(path: Path) -> None:
    """Refuse a ``path`` that is there and no regular file.

    A link is refused, too: to replace it would leave the file that it names as it was, and to
    write through it would change a file that the caller has not named.

    Raises:
      OSError: it is a link, a device, a pipe, a socket or a directory.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # absent; what else is wrong is told when the file is made
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path}: is a directory; give the name of a file")
    if not stat.S_ISREG(mode):
        raise FileExistsError(
            f"{path}: is {_KINDS[stat.S_IFMT(mode)]}, and only a regular file is replaced; remove "
            "it, or give another name"
        )


@contextmanager
def opened_regular(path: str | os.PathLike[str]) -> Iterator[FileIO]:
    """The regular file ``path``, open to be read, unbuffered.

    A pipe would wait for a writer, maybe for ever, and a device may never end.

    Raises:
      OSError: it is a directory, a pipe, a socket or a device, or cannot be read.
    """
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(f"{path}: is {_KINDS[stat.S_IFMT(mode)]}; only regular files are read")
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def writing_alone(directory: Path) -> Iterator[bool]:
    """While the block runs, no other such block in ``directory`` does, of any process or thread.

    Gives whether that is so: some network mounts have no locks.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)  # and with it the lock


def _locked(descriptor: int) -> bool:
    """Wait for the lock; False where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (*NO_LOCKS, errno.EBADF):  # NFS locks only files open for writing
            raise
        return False
    return True
