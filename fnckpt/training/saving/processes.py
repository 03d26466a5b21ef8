"""Several processes: what each of them holds, written side by side or gathered in the first.

In ``rank_<i>/`` lies what process i holds: arrays that it sees whole, and of those that are
sharded over processes the box that its shards tile, with ``fnckpt.part.<name>`` beside it: an
int64 array of the box's start, its stop and the global shape, a row each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fnckpt.checkpoints import leaf_names, pytree, storable
from fnckpt.checkpoints.formats.ckpt import Contents
from fnckpt.checkpoints.pytree import RESERVED
from fnckpt.checkpoints.restoring import is_key, wanted
from fnckpt.errors import CheckpointMismatch, FnckptError, FormatError
from fnckpt.training.saving import snapshot, store
from fnckpt.training.saving.snapshot import Mark, Snapshot, is_shared

_PART = RESERVED + "part."
_PROCESSES = "processes"
_NONE, _FAILED = (0, 0, 0), (-1, 0, 0)  # marks of a process that found no checkpoint, or an error

Index = tuple[slice, ...]


def folder(directory: Path, process: int | None = None) -> Path:
    """The directory of a process, this one if None.

    >>> folder(Path("out"), 3).as_posix()
    'out/rank_3'
    """
    return directory / f"rank_{jax.process_index() if process is None else process}"


def writes(gather: bool) -> bool:
    """Whether this process writes files: all do, or only the first of those that gather."""
    return not gather or jax.process_index() == 0


def greatest(number: int) -> int:
    """The greatest of the numbers that the processes give; all of them must call this."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


# ------------------------------------------------------------------------------------------ saving


def local(tree: Mapping[str, Any]) -> dict[str, Any]:
    """``tree`` with what this process holds of arrays that are sharded over processes.

    Raises:
      TypeError: the shards here do not tile a box.
    """
    held: dict[str, Any] = {RESERVED + _PROCESSES: np.int64(jax.process_count())}
    for name, leaf in tree.items():
        if not is_shared(leaf):
            held[name] = leaf
            continue
        data = jax.random.key_data(leaf) if is_key(leaf) else leaf
        held[name], held[_PART + name] = _box(data, name)
    return held


def _box(leaf: jax.Array, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The box that the shards here tile, copied to the host, and its row of bounds."""
    shards = {_bounds(shard.index, leaf.shape): shard for shard in leaf.addressable_shards}
    start = np.min([[a for a, _ in bounds] for bounds in shards], axis=0)
    stop = np.max([[b for _, b in bounds] for bounds in shards], axis=0)
    if sum(shard.data.size for shard in shards.values()) != np.prod(stop - start):
        raise TypeError(
            f"state: {name}: the shards of process {jax.process_index()} do not tile a box, its "
            f"sharding is {leaf.sharding}; save with gather=True"
        )
    box = np.empty(stop - start, leaf.dtype)
    for bounds, shard in shards.items():
        place = tuple(slice(a - at, b - at) for (a, b), at in zip(bounds, start, strict=True))
        box[place] = np.asarray(shard.data)
    return box, np.array([start, stop, leaf.shape], np.int64)


def _bounds(index: Index, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(each.indices(size)[:2] for each, size in zip(index, shape, strict=True))


def write_gathered(tree: Mapping[str, Any], path: Path, *, crc: bool, portable: bool) -> Path:
    """Write ``tree`` whole, gathering leaf by leaf; the other processes ``lend`` theirs.

    An error here is told to them only after all was gathered: they would wait for ever.
    """
    storable.check_leaves(
        ((name, leaf) for name, leaf in tree.items() if not is_shared(leaf)), portable=portable
    )
    gathered = _gathered(tree)
    failed = True
    try:
        pytree.write_leaves(map(_on_host, gathered), path, crc=crc)
        failed = False
    finally:
        for _ in gathered:
            pass
        greatest(int(failed))
    return path


def _on_host(named: tuple[str, Any]) -> tuple[str, np.ndarray]:
    """A function, since a loop would hold one leaf while the next is gathered."""
    return named[0], storable.host(named[1])


def lend(tree: Mapping[str, Any]) -> None:
    """Take part in the first process's ``write_gathered``.

    Raises:
      OSError: it could not write.
    """
    for _ in _gathered(tree):
        pass
    if greatest(0):
        raise OSError("a checkpoint could not be saved by process 0; see its error")


def _gathered(tree: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, leaf in tree.items():
        if not is_shared(leaf):
            if jax.process_index() == 0:
                yield name, leaf
            continue
        data = jax.random.key_data(leaf) if is_key(leaf) else leaf
        yield name, multihost_utils.process_allgather(data, tiled=True)


# --------------------------------------------------------------------------------------- restoring


@dataclass(frozen=True)
class _Parts:
    """One array in the files of several processes: where each part lies, and what reads it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    parts: list[tuple[tuple[tuple[int, int], ...], Callable[[], np.ndarray]]]

    def read(self, index: Index | None) -> np.ndarray:
        """The elements at ``index``; None is all.

        Raises:
          FormatError: the files that are here do not hold all of them, or one was cut meanwhile.
        """
        bounds = _bounds(index or (slice(None),) * len(self.shape), self.shape)
        out = np.empty([b - a for a, b in bounds], self.dtype)
        seen = np.zeros(out.shape, bool)
        for where, read in self.parts:
            common = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, where, strict=True)]
            if all(a < b for a, b in common):
                here = tuple(
                    slice(a - o, b - o) for (a, b), (o, _) in zip(common, bounds, strict=True)
                )
                there = tuple(
                    slice(a - o, b - o) for (a, b), (o, _) in zip(common, where, strict=True)
                )
                out[here], seen[here] = read()[there], True
        if not seen.all():
            raise FormatError(
                f"{self.name}: parts of it are in the files of other processes, which are not "
                "here; resume with as many processes, or where all rank_<i> directories are seen"
            )
        return out


def newest(
    directory: Path, prefix: str, like: Any, *, limit: Mark | None = None
) -> Snapshot | None:
    """The newest checkpoint in ``rank_<i>`` directories that this process can read.

    Where this process sees the directories of all ranks, the number of processes and of devices
    may have changed; each leaf of ``like`` says where it goes. Else only this process's own
    file is read, which then must hold what it needs. A checkpoint that some rank was killed
    before it saved does not count.

    Args:
      limit: what is newer does not count.

    Raises:
      CheckpointMismatch: it does not fit ``like``.
      FormatError: a part is missing; there are checkpoints, but none of them loads.
    """
    first = folder(directory, 0)
    first = first if first.is_dir() else folder(directory)
    if not first.is_dir():
        return None
    failed: list[Path] = []
    for run, file in snapshot.listed(first, prefix, limit):
        try:
            own = snapshot.reserved(run.path(file))
            paths = _paths(directory, run, file, own)
        except (FormatError, OSError) as error:
            snapshot.pass_over(run.path(file), error, failed)
            continue
        if str(own["prefix"]) != prefix or not paths:
            continue
        with ExitStack() as stack:
            try:
                sources = [stack.enter_context(_opened(path)) for path in paths]
            except (FormatError, OSError) as error:
                snapshot.pass_over(run.path(file), error, failed)
                continue
            state = _restored(sources, like)
            return snapshot.rebuilt(run, own, state, run.checkpoints())
    snapshot.refuse_all(failed, first, prefix)
    return None


def _opened(path: Path) -> AbstractContextManager[Contents]:
    """Read, not mapped: a file that is cut off meanwhile is an error, not the process's end."""
    return pytree.opened(path, verify=True, mapped=False)


def _paths(
    directory: Path, run: store.Run, file: store.Checkpoint, own: Mapping[str, np.ndarray]
) -> list[Path]:
    """The files of all ranks that saved; this process's own alone where it sees no other; none
    where one of them is missing.

    Args:
      own: what ``run``, in the first directory, has beside the state.
    """
    if _PROCESSES not in own:
        raise FormatError(f"{run.path(file)}: was not saved by one of several processes")
    folders = [folder(directory, rank) for rank in range(int(own[_PROCESSES]))]
    if not all(each.is_dir() for each in folders):
        folders = [folder(directory)]
    paths = [replace(run, directory=each).path(file) for each in folders]
    return paths if all(path.exists() for path in paths) else []


def agreed(read: Callable[[Mark | None], Snapshot | None]) -> Snapshot | None:
    """The newest checkpoint that every process can read; all of them must call this.

    Args:
      read: the newest that this process can read, up to a limit.

    Raises:
      FnckptError, OSError: ``read`` failed, in this process or, as a FormatError, in another.
    """
    if jax.process_count() == 1:
        return read(None)
    limit: Mark | None = None
    while True:
        try:
            found = read(limit)
        except (FnckptError, OSError):
            _gathered_marks(_FAILED)
            raise
        marks = _gathered_marks(found.mark if found else _NONE)
        if min(marks) == _FAILED:
            raise FormatError(
                f"process {marks.index(_FAILED)} cannot resume, see its error; no process does"
            )
        if min(marks) == max(marks):
            return found
        limit = min(marks)


def _gathered_marks(mark: Mark) -> list[Mark]:
    rows = multihost_utils.process_allgather(np.array(mark, np.int32))
    return [(number, epoch, step) for number, epoch, step in np.asarray(rows).tolist()]


def _restored(sources: Sequence[Contents], like: Any) -> Any:
    own, faults, found = sources[0], [], []
    for name, leaf in leaf_names.leaves(like):
        if name not in own.entries:
            faults.append(f"  {name}: missing in the file")
            continue
        target = wanted(leaf, name)
        entry = own.entries[name]
        parts = _parts(name, sources)
        shape = parts.shape if parts else entry.shape
        if not target.accepts(entry.dtype, shape):
            faults.append(f"  {name}: expected {target}, found {entry.dtype} {shape}")
        elif not faults:
            found.append(_leaf(leaf, parts) if parts else target.restore(own.array(entry)))
    if faults:
        told = f"{own.source}: the checkpoint does not fit the tree:"
        raise CheckpointMismatch("\n".join([told, *faults]))
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _parts(name: str, sources: Iterable[Contents]) -> _Parts | None:
    held = [each for each in sources if _PART + name in each.entries]
    if not held:
        return None
    rows = [each.array(each.entries[_PART + name]) for each in held]
    parts = [
        (tuple(zip(row[0].tolist(), row[1].tolist(), strict=True)), _reader(each, name))
        for row, each in zip(rows, held, strict=True)
    ]
    return _Parts(name, tuple(rows[0][2].tolist()), held[0].entries[name].dtype, parts)


def _reader(source: Contents, name: str) -> Callable[[], np.ndarray]:
    """Reads a part once, however many devices take from it; it is let go with its leaf."""
    return cache(lambda: source.array(source.entries[name]))


def _leaf(leaf: jax.Array, parts: _Parts) -> Any:
    """The array of ``parts`` where ``leaf`` is; the parts that its devices hold alone are read."""
    if is_key(leaf) or leaf.weak_type or not leaf.committed:
        return wanted(leaf, parts.name).restore(parts.read(None))
    return jax.make_array_from_callback(parts.shape, leaf.sharding, parts.read)
