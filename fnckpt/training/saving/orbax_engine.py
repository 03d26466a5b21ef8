"""Orbax as the engine of ``train``: its manager keeps the checkpoints, for clusters and stores."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import all_leaves

from fnckpt.checkpoints.formats.orbax import holds
from fnckpt.checkpoints.formats.orbax_layout import is_tree, step_path
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.pytree import RESERVED, differences
from fnckpt.checkpoints.restoring import is_key, wanted
from fnckpt.errors import FormatError
from fnckpt.training.options import HistorySteps, OnCheckpoint
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import snapshot, store
from fnckpt.training.saving.engine import Moment, going_on
from fnckpt.training.saving.orbax_managers import Manager
from fnckpt.training.saving.snapshot import Place, Snapshot
from fnckpt.training.step import Step
from fnckpt.visible import visible

_STATE, _TRAIN = "state", "train"  # the items of a step's directory


def refuse_used(manager: Manager) -> None:
    """Raise where a new training would mix its steps with those of an older one.

    Raises:
      ValueError: the directory of ``manager`` has steps.
    """
    manager.reload()  # others may have written there since it was opened
    steps = manager.steps()
    if steps:
        raise ValueError(
            f"checkpointer: {manager.directory} holds steps up to {max(steps)} of an earlier run; "
            "give resume=True to go on from there, or a manager of another directory"
        )


@dataclass
class OrbaxEngine:
    """Saves into ``manager``: the item ``state`` is the tree, ``train`` what lies beside it.

    The state is stored as Orbax stores trees, keys as their data. ``policy`` says when to save;
    if it is None, the manager does. The manager says what to keep, and is not closed.
    """

    manager: Manager
    policy: CheckpointPolicy | None
    history_steps: HistorySteps
    on_checkpoint: OnCheckpoint | None
    _flight: Place | None = None
    _best: int = 0  # the step of the best state
    _steps: set[int] = field(default_factory=set)  # those that this training saved
    _told: bool = False
    _seconds: list[tuple[int, int, float]] = field(default_factory=list)

    def newest(self, like: Any) -> Snapshot | None:
        self.manager.reload()
        steps = self.manager.steps()
        if not steps:
            return None
        own = self._own(steps[-1])
        self._check_fits(steps[-1], _named(like))
        abstract = jax.tree.map(_stored, _named(like))
        restored = self.manager.restore(steps[-1], _STATE, abstract)
        flat = jax.tree.leaves(jax.tree.map(_as_like, _named(like), restored))
        state = jax.tree.unflatten(jax.tree.structure(like), flat)
        run = store.Run(self.manager.directory, "orbax")
        self._seconds = [(int(e), int(s), float(at)) for e, s, at in own["saved"]]
        return snapshot.rebuilt(run, own, state)

    def _check_fits(self, step: int, like: Any) -> None:
        """Compare dtypes too, which Orbax would convert; nothing is read but metadata.

        Raises:
          CheckpointMismatch: the state of ``step`` does not fit ``like``.
        """
        path = step_path(self.manager.directory, step)
        if not is_tree(path / _STATE):  # custom nodes without keys: Orbax writes no metadata
            return
        found = differences(path, like)
        if found:
            elsewhere = "give a manager of another directory"
            raise snapshot.another_state(path, found, elsewhere)

    def _own(self, step: int) -> dict[str, np.ndarray]:
        """What lies beside the state; as NumPy, since jax would make int64 into int32."""
        try:
            own = self.manager.restore(step, _TRAIN, None)
            return {name: np.asarray(value) for name, value in own.items()}
        except (KeyError, FileNotFoundError):
            path = step_path(self.manager.directory, step)
            raise FormatError(
                f"{path}: was not saved by train, the item {_TRAIN!r} is missing; load it with "
                f"fnckpt.load_checkpoint({str(path)!r}) and give its arrays as the state"
            ) from None

    def found(self, newest: Snapshot | None) -> str:
        if newest is None:
            return f"no step in {self.manager.directory}, starting afresh"
        return going_on(str(self.path(newest.place)), newest.place)

    def start(self, compiled: Step) -> None:
        """Refuse what Orbax cannot save, which would show when the first save is half done.

        Raises:
          ValueError: naming the leaves.
        """
        stored = leaves(jax.tree.map(_stored, _named(compiled.state)))
        faults = [
            f"  {visible(name)}: {leaf.dtype} {leaf.shape}"
            for name, leaf in stored
            if not holds(np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape))
        ]
        if faults:
            title = "state: Orbax cannot save arrays without elements, or of these dtypes:"
            raise ValueError("\n".join([title, *faults, "leave out checkpointer, or these leaves"]))

    def due(self, *, step: int, now: float, last_save: float) -> bool:
        if self.policy is None:
            return self.manager.should_save(step)
        return self.policy.should_save(step=step, now=now, last_save=last_save)

    def due_at_end(self, *, step: int, last_saved_step: int) -> bool:
        policy = self.policy or CheckpointPolicy()
        return policy.should_save_at_end(step=step, last_saved_step=last_saved_step)

    def save(self, moment: Moment) -> bool:
        self.wait()
        place = moment.place
        entries = snapshot.entries(
            {}, place, prefix="", saved=[], position=moment.position
        ) | snapshot.history(moment.recorded, snapshot.size_of(moment.state), self.history_steps)
        # As arrays: Orbax's v1 API knows no NumPy scalars.
        own = {name.removeprefix(RESERVED): np.asarray(entries[name]) for name in entries}
        del own["prefix"]
        rows = [*self._seconds, (place.epoch, place.step, place.seconds)]
        own["saved"] = np.array(rows, np.float64)
        items = {_STATE: jax.tree.map(_storable, _named(moment.state)), _TRAIN: own}
        if not self.manager.save(place.global_step, items):
            self._decline(place.global_step)
            return False
        self._flight, self._seconds = place, rows
        self._steps.add(place.global_step)
        return True

    def _decline(self, step: int) -> None:
        """Tell of a step that the manager does not save, the first time."""
        if not self._told:
            self._told = True
            text = (
                f"checkpointer: the Orbax manager of {self.manager.directory} declined to save "
                f"step {step}; its options say why (this is told once)"
            )
            warnings.warn(text, UserWarning, stacklevel=2)

    def save_best(self, moment: Moment) -> None:
        """The manager keeps what it was told to; what is not saved at its step is told later."""
        self._best = moment.place.global_step

    def has(self, place: Place) -> bool:
        return self._flight is None and place.global_step in self.manager.steps()

    def poll(self) -> None:
        if not self.manager.is_saving() and self._flight is not None:
            self.wait()

    def wait(self) -> None:
        flight, self._flight = self._flight, None
        self.manager.wait()
        if flight is not None and self.on_checkpoint is not None:
            self.on_checkpoint(self.path(flight))

    def close(self) -> None:
        self.manager.wait()

    def path(self, place: Place) -> Path:
        return step_path(self.manager.directory, place.global_step)

    def paths(self) -> list[Path]:
        return [step_path(self.manager.directory, step) for step in self.manager.steps()]

    def best(self, step: int) -> Path | None:
        if step in self.manager.steps():
            return step_path(self.manager.directory, step)
        if step == self._best and step not in self._steps:
            text = f"best: the best state, of step {step}, was not saved: no save was due there"
            warnings.warn(text, UserWarning, stacklevel=2)
        return None


def _named(state: Any) -> Any:
    """``state``, a lone array by a name: Orbax 0.11.36 takes one without for missing."""
    return {_STATE: state} if all_leaves((state,)) else state


def _storable(leaf: jax.Array) -> jax.Array:
    """``leaf`` as Orbax stores it, in memory that the next step does not use up."""
    return jax.random.key_data(leaf) if is_key(leaf) else jnp.copy(leaf)


def _stored(leaf: jax.Array) -> jax.Array | jax.ShapeDtypeStruct:
    """What is expected of the stored form of ``leaf``."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _as_like(leaf: jax.Array, restored: jax.Array) -> jax.Array:
    """The restored array as a key or weakly typed where ``leaf`` is, placed where it is."""
    if is_key(leaf) or leaf.weak_type or not leaf.committed:
        return wanted(leaf, "state").restore(np.asarray(restored))
    return restored
