"""The managers of Orbax's two APIs, v0 and v1, as one interface for the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import orbax.checkpoint as ocp

Items = Mapping[str, Any]
"""What is in the directory of a step: name -> a tree of arrays."""


class Manager(Protocol):
    """What the engine asks of a manager. Steps count from 1; saving goes on in the background."""

    @property
    def directory(self) -> Path: ...

    def steps(self) -> list[int]: ...

    def reload(self) -> None:
        """Look again: others may have written into the directory."""
        ...

    def should_save(self, step: int) -> bool: ...

    def save(self, step: int, items: Items) -> bool:
        """Begin to save; False where the manager does not want this step."""
        ...

    def restore(self, step: int, name: str, like: Any) -> Any:
        """The item ``name``; ``like`` is a tree of arrays, None for whatever is there.

        Raises:
          KeyError, FileNotFoundError: the step has no such item.
        """
        ...

    def is_saving(self) -> bool: ...

    def wait(self) -> None:
        """Wait until what was saved is on the disk; raise the error of a save that failed."""
        ...


@dataclass(frozen=True)
class OfV0:
    """An ``orbax.checkpoint.CheckpointManager``."""

    inner: ocp.CheckpointManager

    @property
    def directory(self) -> Path:
        return Path(self.inner.directory)

    def steps(self) -> list[int]:
        return sorted(self.inner.all_steps())

    def reload(self) -> None:
        self.inner.reload()

    def should_save(self, step: int) -> bool:
        return self.inner.should_save(step)

    def save(self, step: int, items: Items) -> bool:
        args = {name: ocp.args.PyTreeSave(tree) for name, tree in items.items()}
        return self.inner.save(step, args=ocp.args.Composite(**args), force=True)

    def restore(self, step: int, name: str, like: Any) -> Any:
        kinds = None if like is None else ocp.checkpoint_utils.construct_restore_args(like)
        args = ocp.args.PyTreeRestore(item=like, restore_args=kinds)
        return self.inner.restore(step, args=ocp.args.Composite(**{name: args}))[name]

    def is_saving(self) -> bool:
        self.inner.check_for_errors()
        return self.inner.is_saving_in_progress()

    def wait(self) -> None:
        self.inner.wait_until_finished()


@runtime_checkable
class Checkpointer(Protocol):
    """The ``training.Checkpointer`` of Orbax's v1 API, wherever a version of Orbax puts it."""

    @property
    def directory(self) -> Any: ...
    @property
    def checkpoints(self) -> Any: ...
    def reload(self) -> None: ...
    def should_save(self, step: int) -> bool: ...
    def save_checkpointables_async(
        self, step: int, checkpointables: dict[str, Any], *, force: bool
    ) -> Any: ...
    def load_checkpointables(self, step: int, abstract_checkpointables: Any) -> Any: ...
    def is_saving_in_progress(self) -> bool: ...
    def wait(self) -> None: ...


@dataclass
class OfV1:
    """A ``Checkpointer`` of the v1 API."""

    inner: Checkpointer
    _saving: Any = None  # what Orbax gives for a save in the background

    @property
    def directory(self) -> Path:
        return Path(self.inner.directory)

    def steps(self) -> list[int]:
        return sorted(each.step for each in self.inner.checkpoints)

    def reload(self) -> None:
        self.inner.reload()

    def should_save(self, step: int) -> bool:
        return self.inner.should_save(step)

    def save(self, step: int, items: Items) -> bool:
        self._saving = self.inner.save_checkpointables_async(step, dict(items), force=True)
        return self._saving is not None

    def restore(self, step: int, name: str, like: Any) -> Any:
        return self.inner.load_checkpointables(step, {name: like})[name]

    def is_saving(self) -> bool:
        return self.inner.is_saving_in_progress()

    def wait(self) -> None:
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
        self.inner.wait()


def managed(given: object) -> Manager:
    """``given`` as the engine uses it.

    Raises:
      TypeError: it is not a manager of Orbax; says what it is.
    """
    if isinstance(given, ocp.CheckpointManager):
        return OfV0(given)
    if isinstance(given, Checkpointer):
        return OfV1(given)
    raise TypeError(
        "checkpointer: must be an orbax.checkpoint.CheckpointManager, or a training.Checkpointer "
        "of Orbax's v1 API (orbax-checkpoint 0.11.28 or newer), got a "
        f"{type(given).__module__}.{type(given).__qualname__}"
    )
