"""The files of the runs in a directory: names, listing, claiming a run, deleting.

Run 1 of the prefix ``resnet50`` writes ``resnet50-graph.meta`` and
``resnet50-<epoch>_<step>.ckpt`` (or ``.safetensors``), run N writes ``resnet50_<N>-...``. A
run is claimed by giving its graph file, whole and locked (``flock``), a name that nobody has; it
stays locked while the run lives, so that two runs never share a name.
"""

import errno
import fcntl
import os
import re
import secrets
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from fnckpt.files import NO_LOCKS

SUFFIXES = (".ckpt", ".safetensors")

LONGEST_PREFIX = 180  # bytes; a file name has 255, and a temporary name adds about 40

# What a file system says that has no hard links.
NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)

_TRIALS, _PAUSE = 20, 0.01  # of a lock, seconds apart: who asks whether a run lives has it so long

# Cc: control; Cs: half a character; Zl, Zp: separators of lines and paragraphs.
FORBIDDEN = ("Cc", "Cs", "Zl", "Zp")


WriteGraph = Callable[[Path], None]


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A checkpoint file by its name; the order is that of training."""

    epoch: int
    step: int
    suffix: str = ".ckpt"


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

    def best(self, suffix: str = ".ckpt") -> Path:
        """Where the best state so far is kept; no policy deletes it."""
        return self.directory / f"{self.stem}-best{suffix}"

    def path(self, checkpoint: Checkpoint) -> Path:
        place = f"{checkpoint.epoch}_{checkpoint.step}{checkpoint.suffix}"
        return self.directory / f"{self.stem}-{place}"

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of this run that are on disk, oldest (in training) first."""
        names = map(_pattern(self.prefix).fullmatch, _entries(self.directory))
        return sorted(
            Checkpoint(int(name["epoch"]), int(name["step"]), name["suffix"])
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


def claim(directory: Path, prefix: str, write_graph: WriteGraph) -> Run:
    """A run of ``prefix`` that is nobody else's, with its graph file; see ``claimed``."""
    with claimed(directory, prefix, write_graph) as run:
        return run


@contextmanager
def claimed(directory: Path, prefix: str, write_graph: WriteGraph) -> Iterator[Run]:
    """A run of ``prefix`` that is nobody else's, locked from the moment that its name is there.

    Args:
      write_graph: writes the file it is given; when it fails, no file is left.
    """
    used = runs(directory, prefix)
    run = Run(directory, prefix, used[-1].number + 1 if used else 1)
    temporary, held = _locked_graph(run, write_graph)
    with held:
        try:
            while not _named(temporary, run.graph):
                run = replace(run, number=run.number + 1)
        finally:
            delete([temporary])
        yield run


def _locked_graph(run: Run, write_graph: WriteGraph) -> tuple[Path, BinaryIO]:
    """A graph file under a temporary name, and what it is locked by while that is open."""
    for trial in range(_TRIALS):
        temporary = run.graph.with_name(f".{run.graph.name}.{secrets.token_hex(4)}.tmp")
        try:
            write_graph(temporary)
            return temporary, _opened_and_locked(temporary, "r+b")
        except FileNotFoundError:  # a run that starts beside this one took it for a stale file
            if trial == _TRIALS - 1 or not run.directory.is_dir():
                raise
        except BaseException:  # KeyboardInterrupt too
            delete([temporary])
            raise
    raise AssertionError("the last trial raises")


def _named(temporary: Path, graph: Path) -> bool:
    """Give ``temporary`` the name ``graph``; False where a file has it."""
    try:
        try:
            os.link(temporary, graph)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            with open(graph, "xb") as file:  # O_EXCL: of two that start at once one is refused
                _lock(file)
                os.replace(temporary, graph)
    except FileExistsError:
        return False
    return True


@contextmanager
def hold(run: Run, write_graph: WriteGraph | None = None) -> Iterator[None]:
    """Lock ``run`` while it is written.

    Args:
      write_graph: writes the graph file, where that is not there, or empty since a run was killed.

    Raises:
      BlockingIOError: another process, or another call in this one, is writing it.
    """
    with ExitStack() as held:
        try:
            file = held.enter_context(_opened_and_locked(run.graph, "ab"))
        except BlockingIOError as error:
            reason = "wait for its end, or use another prefix or directory"
            raise _located(error, f"{run.graph}: a process is writing this run", reason) from error
        if write_graph is not None and not os.fstat(file.fileno()).st_size:
            temporary, whole = _locked_graph(run, write_graph)
            held.enter_context(whole)
            os.replace(temporary, run.graph)
        yield


@contextmanager
def taken(run: Run | None, directory: Path, prefix: str, write_graph: WriteGraph) -> Iterator[Run]:
    """The ``abandoned`` ``run``, held, where it still is abandoned; else a new one."""
    with ExitStack() as held:
        is_mine = False
        if run is not None:
            with suppress(BlockingIOError):  # another process took it
                held.enter_context(hold(run, write_graph))
                is_mine = not run.checkpoints()
        if run is None or not is_mine:
            held.close()
            run = held.enter_context(claimed(directory, prefix, write_graph))
        yield run


def abandoned(directory: Path, prefix: str) -> Run | None:
    """The latest run of ``prefix`` if it ended, or was killed, before its first checkpoint."""
    used = runs(directory, prefix)
    if used and not used[-1].checkpoints() and not is_live(used[-1]):
        return used[-1]
    return None


def is_live(run: Run) -> bool:
    """Whether some process holds ``run``; True also where the file system cannot tell."""
    return _is_locked(run.graph)


def _is_locked(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
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
    return [path for path in stale if _deleted(path)]


def _deleted(path: Path) -> bool:
    """Whether ``path`` could be deleted, locked meanwhile: a run that is being claimed is locked.

    Locked before it is deleted, so that nobody locks it between the question and the answer.
    """
    with suppress(BlockingIOError, FileNotFoundError), open(path, "rb") as file:
        if _lock(file):
            delete([path])
            return True
    return False


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
        r"-(graph\.meta|(best|(?P<epoch>[1-9][0-9]*)_(?P<step>[1-9][0-9]*))"
        r"(?P<suffix>\.ckpt|\.safetensors))"
    )
    # That of a graph which is being claimed may itself be a file that is being written.
    return re.compile(rf"\.{{1,2}}{name}(\.[0-9a-f]+\.tmp){{1,2}}" if temporary else name)


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


def _opened_and_locked(path: Path, mode: Literal["ab", "r+b"]) -> BinaryIO:
    """The file ``path`` open, in a mode that makes it when missing or does not, and locked.

    Raises:
      BlockingIOError: it is locked.
    """
    for _ in range(_TRIALS):
        file = open(path, mode)  # noqa: SIM115, it stays open
        try:
            _lock_soon(file)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # another file has the name now
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def _lock_soon(file: BinaryIO) -> bool:
    """``_lock``, once who only asks for the lock has let it go."""
    for _ in range(_TRIALS - 1):
        try:
            return _lock(file)
        except BlockingIOError:
            time.sleep(_PAUSE)
    return _lock(file)


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
