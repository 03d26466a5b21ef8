"""Several processes: what each of them holds, written side by side or gathered in the first.

In ``rank_<i>/`` lies what process i holds: arrays that it sees whole, and of those that are
sharded over processes the box that its shards tile, with ``fnckpt.part.<name>`` beside it: an
int64 array of the box's start, its stop and the global shape, a row each.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from fnckpt import checkpoint, snapshot, store
from fnckpt.checkpoint import RESERVED
from fnckpt.errors import CheckpointMismatch, FormatError
from fnckpt.restoring import is_key, wanted
from fnckpt.snapshot import Snapshot, is_shared

_PART = RESERVED + "part."
_PROCESSES = RESERVED + "processes"

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
    held: dict[str, Any] = {_PROCESSES: np.int64(jax.process_count())}
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
    checkpoint.check_leaves(
        ((name, leaf) for name, leaf in tree.items() if not is_shared(leaf)), portable=portable
    )
    gathered = _gathered(tree)
    failed = True
    try:
        checkpoint.write_leaves(((n, checkpoint.host(x)) for n, x in gathered), path, crc=crc)
        failed = False
    finally:
        for _ in gathered:
            pass
        greatest(int(failed))
    return path


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
    """One array in the files of several processes: each part with where it lies."""

    name: str
    shape: tuple[int, ...]
    parts: list[tuple[tuple[tuple[int, int], ...], np.ndarray]]

    def read(self, index: Index | None) -> np.ndarray:
        """The elements at ``index``; None is all.

        Raises:
          FormatError: the files that are here do not hold all of them.
        """
        bounds = _bounds(index or (slice(None),) * len(self.shape), self.shape)
        out = np.empty([b - a for a, b in bounds], self.parts[0][1].dtype)
        seen = np.zeros(out.shape, bool)
        for where, part in self.parts:
            common = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(bounds, where, strict=True)]
            if all(a < b for a, b in common):
                here = tuple(
                    slice(a - o, b - o) for (a, b), (o, _) in zip(common, bounds, strict=True)
                )
                there = tuple(
                    slice(a - o, b - o) for (a, b), (o, _) in zip(common, where, strict=True)
                )
                out[here], seen[here] = part[there], True
        if not seen.all():
            raise FormatError(
                f"{self.name}: parts of it are in the files of other processes, which are not "
                "here; resume with as many processes, or where all rank_<i> directories are seen"
            )
        return out


def newest(directory: Path, prefix: str, like: Any) -> Snapshot | None:
    """The newest checkpoint in ``rank_<i>`` directories that all processes find.

    Where this process sees the directories of all ranks, the number of processes and of devices
    may have changed; each leaf of ``like`` says where it goes. Else only this process's own
    file is read, which then must hold what it needs.

    Raises:
      CheckpointMismatch: it does not fit ``like``.
      FormatError: a part is missing.
    """
    places = _places(directory, prefix)
    if jax.process_count() > 1:
        places = _agreed(places)
    for number, file in reversed(places):
        paths = _paths(directory, prefix, number, file)
        try:
            sources = [checkpoint.load_checkpoint(path, mmap=True) for path in paths]
        except (FormatError, OSError) as error:
            warnings.warn(f"{error}; it is passed over", UserWarning, stacklevel=4)
            continue
        run = store.Run(paths[0].parent, prefix, number)
        return snapshot.rebuilt(run, snapshot.reserved(paths[0]), _restored(sources, like, paths))
    return None


def _places(directory: Path, prefix: str) -> list[tuple[int, store.Checkpoint]]:
    """The runs' numbers and places of the files in the first rank's or the own directory."""
    for own in (folder(directory, 0), folder(directory)):
        if own.is_dir():
            return [
                (run.number, file)
                for run in store.runs(own, prefix)
                for file in run.checkpoints()
                if _is_complete(directory, run, file)
            ]
    return []


def _is_complete(directory: Path, run: store.Run, file: store.Checkpoint) -> bool:
    """Whether all files of a checkpoint are there, as far as this process sees directories."""
    ranks = [each for each in directory.glob("rank_*") if each.is_dir()]
    return len(ranks) == 1 or all(
        path.exists() for path in _paths(directory, run.prefix, run.number, file)
    )


def _paths(directory: Path, prefix: str, number: int, file: store.Checkpoint) -> list[Path]:
    """The files of all ranks that saved; this process's own alone where it sees no other."""
    first = folder(directory, 0)
    path = store.Run(first if first.is_dir() else folder(directory), prefix, number).path(file)
    count = int(checkpoint.load_checkpoint(path, mmap=True)[_PROCESSES])
    seen = [folder(directory, rank) for rank in range(count) if folder(directory, rank).is_dir()]
    if len(seen) < count:
        seen = [folder(directory)]
    return [store.Run(each, prefix, number).path(file) for each in seen]


def _agreed(places: list[tuple[int, store.Checkpoint]]) -> list[tuple[int, store.Checkpoint]]:
    """Those of ``places`` up to the newest that the least advanced process has."""
    number, file = places[-1] if places else (0, store.Checkpoint(0, 0))
    row = np.array([number, file.epoch, file.step], np.int32)
    last = min(map(tuple, np.asarray(multihost_utils.process_allgather(row)).tolist()))
    return [(n, f) for n, f in places if (n, f.epoch, f.step) <= last]


def _restored(sources: list[dict[str, np.ndarray]], like: Any, paths: list[Path]) -> Any:
    own, faults, found = sources[0], [], []
    for name, leaf in checkpoint.leaves(like):
        if name not in own:
            faults.append(f"  {name}: missing in the file")
            continue
        target = wanted(leaf, name)
        parts = _parts(name, sources)
        shape = parts.shape if parts else own[name].shape
        if not target.accepts(own[name].dtype, shape):
            faults.append(f"  {name}: expected {target}, found {own[name].dtype} {shape}")
        elif not faults:
            found.append(_leaf(leaf, parts) if parts else target.restore(own[name]))
    if faults:
        told = f"{paths[0]}: the checkpoint does not fit the tree:"
        raise CheckpointMismatch("\n".join([told, *faults]))
    return jax.tree.unflatten(jax.tree.structure(like), found)


def _parts(name: str, sources: Iterable[dict[str, np.ndarray]]) -> _Parts | None:
    held = [(each[_PART + name], each[name]) for each in sources if _PART + name in each]
    if not held:
        return None
    parts = [
        (tuple(zip(row[0].tolist(), row[1].tolist(), strict=True)), part) for row, part in held
    ]
    return _Parts(name, tuple(held[0][0][2].tolist()), parts)


def _leaf(leaf: jax.Array, parts: _Parts) -> Any:
    """The array of ``parts`` where ``leaf`` is; each device's part alone is read."""
    if is_key(leaf) or leaf.weak_type or not leaf.committed:
        return wanted(leaf, parts.name).restore(parts.read(None))
    return jax.make_array_from_callback(parts.shape, leaf.sharding, parts.read)
