"""What keeps checkpoints for the loop: ``.ckpt`` files here, Orbax in ``orbax_engine``."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from fnckpt.checkpoints import pytree
from fnckpt.training.history import Recorded
from fnckpt.training.options import OnCheckpoint, Saving
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import processes, snapshot, store
from fnckpt.training.saving.background import Saved, Saver
from fnckpt.training.saving.copies import on_host
from fnckpt.training.saving.graph_meta import write_graph_meta
from fnckpt.training.saving.snapshot import Mark, Place, Snapshot
from fnckpt.training.step import Step


@dataclass(frozen=True)
class Moment:
    """All that a checkpoint holds: the state after a step, and what lies beside it."""

    state: Any
    place: Place
    recorded: Recorded
    position: Any


def going_on(name: str, place: Place) -> str:
    """What is told of the checkpoint ``name`` that a training goes on from."""
    return f"going on from {name} (epoch {place.epoch}, step {place.step})"


class Engine(Protocol):
    """Decides when to save and keeps what is saved; one for each training."""

    def newest(self, like: Any) -> Snapshot | None:
        """The checkpoint to go on from; None if there is none."""
        ...

    def found(self, newest: Snapshot | None) -> str:
        """What ``newest`` gave, in words: the checkpoint and its place, or where there is none."""
        ...

    def start(self, compiled: Step) -> None:
        """Get ready to save, once the step is compiled."""
        ...

    def due(self, *, step: int, now: float, last_save: float) -> bool: ...

    def due_at_end(self, *, step: int, last_saved_step: int) -> bool: ...

    def save(self, moment: Moment) -> bool:
        """Save; may return before the disk has it, but not before ``state`` may be used up.

        False where what keeps the checkpoints does not want this one, which it tells.
        """
        ...

    def save_best(self, moment: Moment) -> None:
        """Save beside the others a state that nothing but a better one replaces."""
        ...

    def has(self, place: Place) -> bool:
        """Whether what was saved at ``place`` is safe."""
        ...

    def poll(self) -> None:
        """Raise the error of a save that has failed; does not wait."""
        ...

    def wait(self) -> None:
        """Wait until all that was saved is safe."""
        ...

    def close(self) -> None: ...

    def path(self, place: Place) -> Path:
        """Where the checkpoint of ``place`` is or would be."""
        ...

    def paths(self) -> list[Path]:
        """The checkpoints of this training, oldest first."""
        ...

    def best(self, step: int) -> Path | None:
        """Where the best state, that after ``step`` steps in all, is kept; None if nowhere."""
        ...


@dataclass
class FileEngine:
    """``.ckpt`` files under a policy: of one process, of each process, or gathered in the first."""

    options: Saving
    on_checkpoint: OnCheckpoint | None
    _found: Snapshot | None = None
    _run: store.Run | None = None
    _saver: Saver | None = None
    _resources: ExitStack = field(default_factory=ExitStack)
    _root: Path = field(init=False)
    _folder: Path = field(init=False)

    def __post_init__(self) -> None:
        store.check_prefix(self.options.prefix)
        self._root = store.open_directory(self.options.directory)
        self._folder = (
            store.open_directory(processes.folder(self._root)) if self._by_rank else self._root
        )

    @property
    def _by_rank(self) -> bool:
        return jax.process_count() > 1 and not self.options.gather

    def newest(self, like: Any) -> Snapshot | None:
        options = self.options

        def read(limit: Mark | None) -> Snapshot | None:
            whole = snapshot.newest(self._root, options.prefix, like, limit=limit)
            parts = processes.newest(self._root, options.prefix, like, limit=limit)
            found = [each for each in (whole, parts) if each is not None]
            return max(found, key=lambda each: each.place.global_step, default=None)

        found = self._found = processes.agreed(read)
        if found is not None:
            self._run = store.Run(self._folder, options.prefix, found.run.number)
        else:
            self._run = store.abandoned(self._folder, options.prefix)
        return found

    def found(self, newest: Snapshot | None) -> str:
        if newest is not None:
            return going_on(self.path(newest.place).name, newest.place)
        where = os.path.join(os.fspath(self.options.directory or "."), "")
        others = store.prefixes(self._folder)
        told = f"no checkpoint of {self.options.prefix!r} in {where}, starting afresh"
        return f"{told}; there are some of {', '.join(others)}" if others else told

    def start(self, compiled: Step) -> None:
        if self.options.policy is None:
            return
        if not processes.writes(self.options.gather):
            return

        def write_graph(path: Path) -> None:
            write_graph_meta(compiled.graph, path, names=compiled.names)

        store.remove_stale(self._folder, self.options.prefix)
        enter = self._resources.enter_context
        if self._found is not None and self._run is not None:
            enter(store.hold(run := self._run, write_graph))
        else:
            run = enter(store.taken(self._run, self._folder, self.options.prefix, write_graph))
        self._run, self._saver = run, self._open(run, self.options.policy)
        self._resources.callback(self._saver.close)

    def _open(self, run: store.Run, policy: CheckpointPolicy) -> Saver:
        return Saver(
            run,
            policy,
            self.options.asynchronous and not self._gathers,
            self.options.crc,
            self._durable,
            self._found.saved if self._found else [],
            self._write,
        )

    @property
    def _gathers(self) -> bool:
        return jax.process_count() > 1 and self.options.gather

    def due(self, *, step: int, now: float, last_save: float) -> bool:
        policy = self.options.policy
        if policy is None:
            return False
        due = policy.should_save(step=step, now=now, last_save=last_save)
        return due if policy.step else bool(processes.greatest(int(due)))  # clocks differ

    def due_at_end(self, *, step: int, last_saved_step: int) -> bool:
        policy = self.options.policy
        return policy is not None and policy.should_save_at_end(
            step=step, last_saved_step=last_saved_step
        )

    def save(self, moment: Moment) -> bool:
        tree = self._tree(moment)
        if self._saver is not None:
            saved = Saved(self._file(moment.place), moment.place.seconds)
            self._saver.save(tree, saved, self._history(moment))
        else:
            processes.lend(tree)
        return True

    def save_best(self, moment: Moment) -> None:
        self.wait()
        tree = self._tree(moment)
        if self._saver is not None:
            state = tree if self._gathers else on_host(tree)
            self._write(
                {**state, **self._history(moment)()},
                self._saver.run.best(self.options.suffix),
            )
        elif self.options.policy is not None:
            processes.lend(tree)

    def _history(self, moment: Moment) -> Callable[[], dict[str, np.ndarray]]:
        """What is known of the metrics at ``moment``, for a thread that may wait."""
        size = snapshot.size_of(moment.state)
        return partial(snapshot.history, moment.recorded, size, self.options.history_steps)

    def _tree(self, moment: Moment) -> dict[str, Any]:
        self.wait()  # its list of files is complete only then
        tree = snapshot.entries(
            moment.state,
            moment.place,
            prefix=self.options.prefix,
            saved=self._saver.saved if self._saver else [],
            position=moment.position,
        )
        return processes.local(tree) if self._by_rank else tree

    def _write(self, tree: Mapping[str, Any], path: Path) -> Path:
        options = self.options
        if self._gathers:
            return processes.write_gathered(tree, path, crc=options.crc, portable=options.portable)
        return pytree.save_checkpoint(tree, path, crc=options.crc, portable=options.portable)

    def has(self, place: Place) -> bool:
        saved = self._saver.saved if self._saver else []
        return (place.epoch, place.step) in [(s.file.epoch, s.file.step) for s in saved]

    def poll(self) -> None:
        if self._saver is not None:
            self._saver.poll()

    def wait(self) -> None:
        if self._saver is not None:
            self._saver.wait()

    def close(self) -> None:
        self._resources.close()

    def path(self, place: Place) -> Path:
        run = self._run or store.Run(self._folder, self.options.prefix)
        found = self._found
        if found is not None and place == found.place and found.saved:
            return run.path(found.saved[-1].file)  # perhaps of the other format
        return run.path(self._file(place))

    def _file(self, place: Place) -> store.Checkpoint:
        return replace(place.file, suffix=self.options.suffix)

    def paths(self) -> list[Path]:
        run = self._run
        if self._saver is not None:
            paths = self._saver.paths()
        elif self._found is not None:
            paths = [self._found.run.path(each.file) for each in self._found.saved]
        else:
            paths = [run.path(file) for file in run.checkpoints()] if run else []
        return [path for path in paths if path.exists()]

    def best(self, step: int) -> Path | None:
        run, suffix = self._run, self.options.suffix
        return run.best(suffix) if run and run.best(suffix).exists() else None

    def _durable(self, path: Path) -> None:
        if self.on_checkpoint is not None:
            self.on_checkpoint(path)
