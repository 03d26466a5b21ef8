"""Which checkpoints a directory holds, for who wants to load one."""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from fnckpt.checkpoints.differing import RESERVED
from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import CheckpointMismatch, FormatError
from fnckpt.training.saving import store

_PREFIX = f"{RESERVED}prefix"
_NAME = re.compile(r"(?P<stem>.+)-(best|[1-9][0-9]*_[1-9][0-9]*)\.(ckpt|safetensors)", re.DOTALL)
_NUMBERED = re.compile(r"(?P<prefix>.+)_(?:[2-9]|[1-9][0-9]+)", re.DOTALL)


def checkpoints(directory: str | os.PathLike[str], prefix: str | None = None) -> list[Path]:
    """The checkpoints of ``prefix`` that are in ``directory``, in the order of training.

    Those of the first run come first, and of each run those with fewer steps. The best states
    (``best_checkpoint``) are not among them. Of several processes each has its own directory,
    ``rank_<i>`` in that of the training.

    Args:
      directory: as ``train`` was given it; one that does not exist holds none.
      prefix: as ``train`` was given it; None where the directory has those of one prefix.

    Raises:
      ValueError: ``prefix`` is None, and there are checkpoints of several.

    Examples:
      >>> import tempfile
      >>> from fnckpt import CheckpointPolicy, train
      >>> with tempfile.TemporaryDirectory() as run:
      ...     saving = {"policy": CheckpointPolicy(step=1), "directory": run}
      ...     result = train(lambda s, x: (s + x, {}), 0.0, [1.0, 2.0], **saving)
      ...     [path.name for path in checkpoints(run)], latest_checkpoint(run).name
      (['CKP-1_1.ckpt', 'CKP-1_2.ckpt'], 'CKP-1_2.ckpt')
    """
    return [run.path(file) for run in _runs(Path(directory), prefix) for file in run.checkpoints()]


def latest_checkpoint(directory: str | os.PathLike[str], prefix: str | None = None) -> Path | None:
    """The last of ``checkpoints`` that can be read, which ``train(resume=True)`` goes on from.

    A damaged file is skipped with a UserWarning.

    Args:
      directory, prefix: as in ``checkpoints``.

    Returns:
      Its path; None if there is none.

    Raises:
      ValueError: as ``checkpoints``.
    """
    for path in reversed(checkpoints(directory, prefix)):
        try:
            _prefix_in(path)
        except (FormatError, OSError) as error:
            told = f"{path}: cannot be read and is skipped: {error}"
            warnings.warn(told, UserWarning, stacklevel=2)
        else:
            return path
    return None


def best_checkpoint(directory: str | os.PathLike[str], prefix: str | None = None) -> Path | None:
    """The best state that ``train(best=...)`` has kept in ``directory``, of the latest run.

    Args:
      directory, prefix: as in ``checkpoints``.

    Returns:
      The path of ``<prefix>-best.ckpt`` (or ``.safetensors``); None if there is none.

    Raises:
      ValueError: as ``checkpoints``.
    """
    for run in reversed(_runs(Path(directory), prefix)):
        found = [run.best(suffix) for suffix in store.SUFFIXES if run.best(suffix).exists()]
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
    return None


def _runs(directory: Path, prefix: str | None) -> list[store.Run]:
    """The runs of ``prefix``, the oldest first, without those of another that looks the same."""
    if not directory.is_dir():
        return []
    if prefix is None:
        prefix = _only_prefix(directory)
        if prefix is None:
            return []
    runs = store.runs(directory, prefix)
    return [run for run in runs if _owner(_files(run)) in (None, prefix)]


def _files(run: store.Run) -> Iterator[Path]:
    yield from map(run.path, reversed(run.checkpoints()))
    yield from filter(Path.exists, map(run.best, store.SUFFIXES))


def _only_prefix(directory: Path) -> str | None:
    """The prefix of the checkpoints in ``directory``; None if there are none."""
    held: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match:
            held.setdefault(match["stem"], []).append(path)
    prefixes = {_owner(iter(paths)) or _by_name(stem, held) for stem, paths in held.items()}
    if len(prefixes) > 1:
        found = ", ".join(map(repr, sorted(prefixes)))
        raise ValueError(f"{directory}: has checkpoints of several prefixes ({found}); give prefix")
    return prefixes.pop() if prefixes else None


def _by_name(stem: str, stems: dict[str, list[Path]]) -> str:
    """The prefix of files that do not tell: ``a_2`` is a later run of ``a`` where ``a`` is."""
    numbered = _NUMBERED.fullmatch(stem)
    return numbered["prefix"] if numbered and numbered["prefix"] in stems else stem


def _owner(paths: Iterator[Path]) -> str | None:
    """The prefix that the first readable file was saved under; None where none tells."""
    for path in paths:
        try:
            return _prefix_in(path)
        except (FormatError, OSError):
            continue
    return None


def _prefix_in(path: Path) -> str | None:
    """What ``path`` says of its prefix; None where ``train`` did not save it."""
    try:
        return str(load_checkpoint(path, only=_PREFIX, verify=False)[_PREFIX])
    except CheckpointMismatch:
        return None
