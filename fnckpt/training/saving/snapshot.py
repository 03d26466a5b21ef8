"""What a training checkpoint holds beside the state, so that training can go on from it."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnckpt.checkpoints import differing, leaf_names, pytree, storable
from fnckpt.checkpoints.pytree import RESERVED
from fnckpt.errors import CheckpointMismatch, FormatError
from fnckpt.training import batches
from fnckpt.training.history import Recorded, Recorder
from fnckpt.training.options import HistorySteps
from fnckpt.training.past import SHARE
from fnckpt.training.saving import store
from fnckpt.training.saving.background import Saved


@dataclass(frozen=True)
class Place:
    """A moment between two steps of a training.

    Attributes:
      epoch: of the last step, from 1.
      step: of the last step within its epoch, from 1.
      global_step: the number of steps trained in all.
      seconds: of training so far, over all its processes.
    """

    epoch: int = 1
    step: int = 0
    global_step: int = 0
    seconds: float = 0.0

    @property
    def file(self) -> store.Checkpoint:
        """The name of a checkpoint that is saved here."""
        return store.Checkpoint(self.epoch, self.step)


Mark = tuple[int, int, int]
"""Number of the run, epoch and step: what of two checkpoints of a prefix says which is newer."""


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint that was read: all that training needs to go on."""

    run: store.Run
    place: Place
    state: Any
    recorder: Recorder
    saved: list[Saved]
    position: Any

    @property
    def mark(self) -> Mark:
        return self.run.number, self.place.epoch, self.place.step


def is_shared(leaf: Any) -> bool:
    """Whether other processes hold parts of ``leaf`` that this one lacks."""
    return isinstance(leaf, jax.Array) and not (
        leaf.is_fully_addressable or leaf.is_fully_replicated
    )


def check_names(state: Any, *, portable: bool = True, suffix: str = ".ckpt") -> None:
    """Refuse a state with leaves that have no name, or a name of ours.

    Args:
      suffix: of the files that will hold it.

    Raises:
      TypeError, ValueError: naming the leaves; also for dtypes that no checkpoint holds.
    """
    named = leaf_names.leaves(state)
    if not named:
        raise ValueError("state: has no leaf, there is nothing to train; give a tree of arrays")
    taken = [name for name, _ in named if name.startswith(RESERVED)]
    if taken:
        raise ValueError(
            f"state: names that begin with {RESERVED!r} are reserved, found {', '.join(taken)}; "
            "rename them"
        )
    storable.check_leaves(
        ((name, leaf) for name, leaf in named if not is_shared(leaf)),
        where="state",
        portable=portable,
    )
    if suffix == pytree.SAFETENSORS:
        pytree.check_safetensors(named, "state")


def entries(
    state: Any,
    place: Place,
    *,
    prefix: str,
    saved: Sequence[Saved],
    position: Any,
) -> dict[str, Any]:
    """What a checkpoint at ``place`` holds, by name, but for its ``history``.

    Args:
      saved: the earlier checkpoints of this run.
      position: of the data; see ``feed.Feed.position``.
    """
    named = dict(leaf_names.leaves(state))
    rows = [(each.file.epoch, each.file.step, each.at) for each in saved]
    own: dict[str, Any] = {
        "prefix": prefix,
        "epoch": np.int64(place.epoch),
        "step": np.int64(place.step),
        "global_step": np.int64(place.global_step),
        "seconds": np.float64(place.seconds),
        "saved": np.array([*rows, (place.epoch, place.step, place.seconds)], np.float64),
    }
    packed = batches.packed(position)
    if packed is not None:
        own["data"] = packed
    return named | {RESERVED + name: value for name, value in own.items()}


def size_of(state: Any) -> int:
    """The bytes of all leaves."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def history(recorded: Recorded, size: int, steps: HistorySteps) -> dict[str, np.ndarray]:
    """What a checkpoint holds of the metrics, by name. Waits for the device.

    Args:
      size: the bytes of the state.
      steps: of how many steps; see ``train(history_steps=...)``.
    """
    room, most = (size // SHARE, None) if steps == "auto" else (None, steps)
    entries = recorded.entries(most, room)
    return {f"{RESERVED}history.{name}": values for name, values in entries.items()}


def newest(
    directory: Path, prefix: str, like: Any, *, limit: Mark | None = None
) -> Snapshot | None:
    """The newest checkpoint of ``prefix`` that loads: of its latest run, the farthest.

    A damaged file is skipped with a UserWarning.

    Args:
      like: the state as it should come back.
      limit: what is newer does not count.

    Raises:
      CheckpointMismatch: it does not fit ``like``.
      FormatError: there are checkpoints, but none of them loads.
    """
    failed: list[Path] = []
    for run, file in listed(directory, prefix, limit):
        try:
            own = reserved(run.path(file))
        except (FormatError, OSError) as error:
            pass_over(run.path(file), error, failed)
            continue
        if str(own["prefix"]) == prefix:  # else it is run 1 of "a_2", not run 2 of "a"
            return _snapshot(run, run.path(file), own, like)
    refuse_all(failed, directory, prefix)
    return None


def listed(
    directory: Path, prefix: str, limit: Mark | None
) -> Iterator[tuple[store.Run, store.Checkpoint]]:
    """The checkpoints of ``prefix`` in ``directory`` up to ``limit``, the newest first."""
    for run in reversed(store.runs(directory, prefix)):
        for file in reversed(run.checkpoints()):
            if limit is None or (run.number, file.epoch, file.step) <= limit:
                yield run, file


def pass_over(path: Path, error: Exception, failed: list[Path]) -> None:
    """Warn of a file that does not load, and note it in ``failed``."""
    failed.append(path)
    told = f"{path}: cannot be read and is skipped: {error}"
    warnings.warn(told, UserWarning, stacklevel=8)  # the call of train


def refuse_all(failed: list[Path], directory: Path, prefix: str) -> None:
    """Raise FormatError where files ``failed``: to start afresh would be a surprise."""
    if failed:
        raise FormatError(
            f"{directory}: none of the {len(failed)} checkpoints of {prefix!r} can be read, the "
            f"newest is {failed[0].name}; move them away to start afresh"
        )


def reserved(path: Path) -> dict[str, np.ndarray]:
    """The entries of ``path`` that are not state, without the beginning of their names."""
    with pytree.opened(path, verify=True, mapped=False) as file:
        own = {
            name.removeprefix(RESERVED): file.array(entry)
            for name, entry in file.entries.items()
            if name.startswith(RESERVED)
        }
    missing = {"prefix", "epoch", "step", "global_step", "seconds", "saved"} - own.keys()
    if missing:
        raise FormatError(
            f"{path}: was not saved by train, {RESERVED}{min(missing)} is missing; load it with "
            "fnckpt.load_checkpoint and give its arrays as the state"
        )
    check_reserved(path, own)
    return own


def check_reserved(path: Path, own: Mapping[str, np.ndarray]) -> None:
    """The ``reserved`` entries are what ``entries`` and ``history`` write.

    Raises:
      FormatError: naming the first that is not.
    """
    kinds = {"prefix": "U", "seconds": "f"} | dict.fromkeys(("epoch", "step", "global_step"), "i")
    for name, array in own.items():
        if name in kinds:
            fits = array.shape == () and array.dtype.kind == kinds[name]
            fits = fits and (array.dtype.kind == "U" or 0 <= array < 1 << 62)
        elif name == "saved":
            fits = array.ndim == 2 and array.shape[1] == 3 and array.dtype.kind == "f"
            fits = fits and bool(np.isfinite(array).all())
        elif name == "data":
            fits = array.ndim == 1 and array.dtype == np.uint8 and batches.is_packed(array)
        elif name in ("history.ends", "history.evaluated"):
            fits = array.ndim == 1 and array.dtype.kind == "i"
        elif name.startswith("history.open."):
            fits = array.shape == () and array.dtype.kind == "f"
        else:
            fits = not name.startswith("history.") or array.ndim == 1
        if not fits:
            raise FormatError(
                f"{path}: the entry {RESERVED}{name} is damaged, found {array.dtype}"
                f"{list(array.shape)}"
            )


def _snapshot(run: store.Run, path: Path, own: Mapping[str, np.ndarray], like: Any) -> Snapshot:
    template = dict(leaf_names.leaves(like)) | {
        RESERVED + name: value for name, value in own.items()
    }
    template[RESERVED + "prefix"] = ""
    try:
        restored = pytree.load_checkpoint(path, like=template)
    except CheckpointMismatch as error:
        raise _another_state(path, template, error) from None
    leaves = [restored[name] for name, _ in leaf_names.leaves(like)]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return rebuilt(run, own, state, run.checkpoints())


def _another_state(path: Path, template: object, error: CheckpointMismatch) -> CheckpointMismatch:
    """What to tell who resumes with a state that is not the one that was saved."""
    found = pytree.differences(path, template)
    return another_state(path, found) if found else error  # a number that does not fit its leaf


def another_state(
    path: Path,
    found: pytree.Differences,
    elsewhere: str = "leave out resume, or give another prefix",
) -> CheckpointMismatch:
    """What to tell who resumes from ``path`` with a state from which it differs.

    Args:
      elsewhere: how to begin another training.
    """
    call = f"fnckpt.load_checkpoint({str(path)!r}, like=state, strict=False)"
    ways = [
        "To go on with this training, give a state like the one that was saved.",
        f"To begin another training with the weights that fit, load them and {elsewhere}: "
        f"state = {call}",
    ]
    return CheckpointMismatch(differing.told(path, found, ways, tree="state"))


def rebuilt(
    run: store.Run,
    own: Mapping[str, np.ndarray],
    state: Any,
    files: Iterable[store.Checkpoint] = (),
) -> Snapshot:
    """The snapshot of a restored ``state``, from the ``reserved`` entries beside it.

    Args:
      files: of the run, which say in what format each place was saved.
    """
    named = {(file.epoch, file.step): file for file in files}
    history = {
        name.removeprefix("history."): value
        for name, value in own.items()
        if name.startswith("history.")
    }
    return Snapshot(
        run=run,
        place=Place(
            int(own["epoch"]), int(own["step"]), int(own["global_step"]), float(own["seconds"])
        ),
        state=state,
        recorder=Recorder.restored(history, int(own["global_step"])),
        saved=[
            Saved(named.get((e, s), store.Checkpoint(int(e), int(s))), float(at))
            for e, s, at in own["saved"]
        ],
        position=batches.unpacked(own.get("data")),
    )
