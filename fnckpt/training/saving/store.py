"""The files of the runs in a directory: names, listing, claiming a run, deleting.

Run 1 of the prefix ``resnet50`` writes ``resnet50-graph.meta`` and
``resnet50-<epoch>_<step>.ckpt``, run N writes ``resnet50_<N>-...``. A run is claimed by the
exclusive creation of its graph file and locked (``flock``) while it lives, so that two runs never
share a name.
"""

import errno
import fcntl
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

LONGEST_PREFIX = 180  # bytes; a file name has 255, and a temporary name adds about 40

# Cc: control; Cs: half a character; Zl, Zp: separators of lines and paragraphs.
FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")

# What flock says where the file system has no locks (some network mounts).
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A checkpoint file by its name; the order is that of training."""

    epoch: int
    step: int


@dataclass(frozen=True)
class Run:
    """The names of run ``number`` (from 1) of ``prefix`` in ``directory``."""

    directory: Path
    prefix: str
    number: int = 1

    @property
    def stem(self) -> str:
        """What the names of this run begin with.

        >>> Run(Path("."), "resnet50").stem, Run(Path("."), "resnet50", 3).stem
        ('resnet50', 'resnet50_3')
        """
        return self.prefix if self.number == 1 else f"{self.prefix}_{self.number}"

    @property
    def graph(self) -> Path:
        return self.directory / f"{self.stem}-graph.meta"

    @property
    def best(self) -> Path:
        """Where the best state so far is kept; no policy deletes it."""
        return self.directory / f"{self.stem}-best.ckpt"

    def path(self, checkpoint: Checkpoint) -> Path:
        return self.directory / f"{self.stem}-{checkpoint.epoch}_{checkpoint.step}.ckpt"

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of this run that are on disk, oldest (in training) first."""
        names = map(_pattern(self.prefix).fullmatch, _entries(self.directory))
        return sorted(
            Checkpoint(int(name["epoch"]), int(name["step"]))
            for name in names
            if name and name["epoch"] and int(name["number"] or 1) == self.number
        )


def check_prefix(prefix: str) -> None:
    """Refuse what cannot begin a file name.

    Raises:
      TypeError, ValueError: saying which character is wrong.
    """
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: must be a str, got {prefix!r} of type {type(prefix).__name__}")
    if not prefix:
        raise ValueError('prefix: must not be empty, got ""; the default is "CKP"')
    for separator in ("/", "\\"):
        if separator in prefix:
            raise ValueError(
                f"prefix: must be the beginning of a file name, {prefix!r} contains {separator!r}; "
                "give the folder as directory="
            )
    _check_characters("prefix", prefix)
    if len(os.fsencode(prefix)) > LONGEST_PREFIX:
        raise ValueError(
            f"prefix: must have at most {LONGEST_PREFIX} bytes, "
            f"got {len(os.fsencode(prefix))}; give a shorter one"
        )


def open_directory(directory: str | os.PathLike[str] | None) -> Path:
    """The directory to write into, made when missing and known to be writable.

    Args:
      directory: ``None`` is the current one.

    Raises:
      TypeError, ValueError: it is no path, empty, or has control characters.
      OSError: it cannot be made or written to, or is no directory.
    """
    name = os.getcwd() if directory is None else os.fspath(directory)
    if not isinstance(name, str):
        raise TypeError(f"directory: must be a str or a path of str, got {name!r}")
    if not name:
        raise ValueError('directory: must not be empty, got ""; None is the current directory')
    _check_characters("directory", name)
    path = Path(name).absolute()  # a step_fn that changes the working directory moves nothing
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _located(
            error, f"directory: cannot write into {path}", "nothing was trained"
        ) from error
    return path


def runs(directory: Path, prefix: str) -> list[Run]:
    """The runs of ``prefix`` that left a graph or a checkpoint in ``directory``, oldest first.

    A file ``a_2-1_5.ckpt`` is run 2 of ``a`` and also run 1 of ``a_2``: the name does not tell.
    """
    names = map(_pattern(prefix).fullmatch, _entries(directory))
    numbers = {int(name["number"] or 1) for name in names if name}
    return [Run(directory, prefix, number) for number in sorted(numbers)]


def prefixes(directory: Path) -> list[str]:
    """What the names of the checkpoints in ``directory`` begin with."""
    found = map(re.compile(r"(.+)-[1-9][0-9]*_[1-9][0-9]*\.ckpt").fullmatch, _entries(directory))
    return sorted({name[1] for name in found if name})


def claim(directory: Path, prefix: str, write_graph: Callable[[Path], None]) -> Run:
    """A run of ``prefix`` that is nobody else's, with its graph file.

    Args:
      write_graph: writes the file it is given; when it fails, no file is left.
    """
    used = runs(directory, prefix)
    run = Run(directory, prefix, used[-1].number + 1 if used else 1)
    while not _created(run, write_graph):
        run = replace(run, number=run.number + 1)
    return run


def _created(run: Run, write_graph: Callable[[Path], None]) -> bool:
    """Make the graph file of ``run``; False where another run has it."""
    try:
        with open(run.graph, "xb") as file:  # O_EXCL: of two that start at once one is refused
            _lock(file)
            try:
                write_graph(run.graph)
            except BaseException:  # KeyboardInterrupt too
                delete([run.graph])
                raise
    except FileExistsError:
        return False
    return True


@contextmanager
def hold(run: Run) -> Iterator[None]:
    """Lock ``run`` while it is written.

    Raises:
      BlockingIOError: another process, or another call in this one, is writing it.
    """
    with open(run.graph, "ab") as file:
        try:
            _lock(file)
        except BlockingIOError as error:
            reason = "wait for its end, or use another prefix or directory"
            raise _located(error, f"{run.graph}: a process is writing this run", reason) from error
        yield


def abandoned(directory: Path, prefix: str) -> Run | None:
    """The latest run of ``prefix`` if it ended, or was killed, before its first checkpoint."""
    used = runs(directory, prefix)
    if used and not used[-1].checkpoints() and not is_live(used[-1]):
        return used[-1]
    return None


def is_live(run: Run) -> bool:
    """Whether some process holds ``run``; True also where the file system cannot tell."""
    try:
        with open(run.graph, "rb") as file:
            return not _lock(file)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def remove_stale(directory: Path, prefix: str) -> list[Path]:
    """Delete the temporary files that killed runs of ``prefix`` left; what was deleted."""
    stale = [
        directory / name.string
        for name in map(_pattern(prefix, temporary=True).fullmatch, _entries(directory))
        if name and not is_live(Run(directory, prefix, int(name["number"] or 1)))
    ]
    delete(stale)
    return stale


def delete(paths: list[Path]) -> None:
    """Delete ``paths`` in order; one that has gone already is no error."""
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()


def _pattern(prefix: str, *, temporary: bool = False) -> re.Pattern[str]:
    """Exactly the names of the runs of ``prefix``: no leading zeros, no ``_1``, ASCII digits.

    Args:
      temporary: the names under which ``files.replacing`` writes them instead.
    """
    name = (
        rf"{re.escape(prefix)}(_(?P<number>[2-9]|[1-9][0-9]+))?"
        r"-(graph\.meta|best\.ckpt|(?P<epoch>[1-9][0-9]*)_(?P<step>[1-9][0-9]*)\.ckpt)"
    )
    return re.compile(rf"\.{name}\.[0-9a-f]+\.tmp" if temporary else name)


def _entries(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _check_characters(what: str, text: str) -> None:
    for character in text:
        if unicodedata.category(character) in FORBIDDEN:
            raise ValueError(
                f"{what}: must not have control characters, {text!r} contains {character!r}; "
                "remove it"
            )


def _lock(file: BinaryIO) -> bool:
    """Lock ``file`` until it is closed; False where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _located(error: OSError, where: str, remedy: str) -> OSError:
    """``error`` again, of its own class, saying where and what to do."""
    return type(error)(error.errno, f"{where}, {error.strerror}; {remedy}")
