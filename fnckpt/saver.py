"""Writing checkpoints beside the training: one at a time, in order, no error lost."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fnckpt import checkpoint, store
from fnckpt.policy import CheckpointPolicy
from fnckpt.restoring import is_key


@dataclass(frozen=True)
class Saved:
    """A checkpoint of this run: its place in training, and the second at which it was saved."""

    file: store.Checkpoint
    at: float


@dataclass
class Saver:
    """Writes the checkpoints of ``run`` and deletes what the policy gives up.

    One save is in flight at most. Its error is raised by the next ``poll``, ``save`` or ``wait``.

    Args:
      run: whose names to use.
      policy: says which files to delete, once the new one is durable.
      asynchronous: write on a thread, from a copy of the tree on the host, whose memory the next
        save uses again.
      crc: write MindSpore's CRC trailer.
      done: called with each path once its file is durable, by the thread that calls ``poll``,
        ``save`` or ``wait``.
      saved: the files of this run, oldest first.
      write: writes a tree to a path; ``save_checkpoint`` with ``crc`` if None.
    """

    run: store.Run
    policy: CheckpointPolicy
    asynchronous: bool
    crc: bool
    done: Callable[[Path], None]
    saved: list[Saved] = field(default_factory=list)
    write: Callable[[Mapping[str, Any], Path], Path] | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "fnckpt"))
    _flight: Future[Path] | None = None
    _room: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, tree: Mapping[str, Any], saved: Saved) -> None:
        """Save ``tree``; the caller may overwrite its arrays as soon as this returns.

        Raises:
          OSError: this save (when not asynchronous) or an earlier one failed.
        """
        self.wait()
        if self.asynchronous:
            self._flight = self._pool.submit(self._write, on_host(tree, self._room), saved)
        else:
            self.done(self._write(tree, saved))

    def poll(self) -> None:
        """Note the save in flight if it has ended; does not wait."""
        if self._flight is not None and self._flight.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the save in flight, if any."""
        if self._flight is not None:
            flight, self._flight = self._flight, None
            self.done(flight.result())

    def close(self) -> None:
        """Let the thread end, after the save in flight."""
        self._pool.shutdown()

    def paths(self) -> list[Path]:
        """The checkpoints of this run that are on disk, oldest first."""
        return [self.run.path(saved.file) for saved in self.saved]

    def _write(self, tree: Mapping[str, Any], saved: Saved) -> Path:
        """Write a file and, once it is durable, delete those that the policy gives up."""
        path = self.run.path(saved.file)
        if self.write is None:
            checkpoint.save_checkpoint(tree, path, crc=self.crc)
        else:
            self.write(tree, path)
        present = set(self.run.checkpoints())  # a file that the user deleted counts no more
        kept = [earlier for earlier in self.saved if earlier.file in present - {saved.file}]
        kept.append(saved)
        given_up = [kept[at] for at in self.policy.to_delete([each.at for each in kept])]
        store.delete([self.run.path(each.file) for each in given_up])
        self.saved = [each for each in kept if each not in given_up]
        return path


def on_host(tree: Mapping[str, Any], room: dict[str, np.ndarray] | None = None) -> dict[str, Any]:
    """A copy of the arrays of ``tree`` that no later computation touches.

    ``np.asarray`` of a JAX array on the CPU is a view of the buffer that the next step, to which
    the state is donated, would overwrite.

    Args:
      tree: leaves by name.
      room: arrays of an earlier copy that nobody reads any more. What has the same name, shape
        and dtype is copied into them; afterwards they are those of this copy.
    """
    room = {} if room is None else room
    for leaf in tree.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    for name in room.keys() - tree.keys():
        del room[name]
    return {name: _copy(name, leaf, room) for name, leaf in tree.items()}


def _copy(name: str, leaf: Any, room: dict[str, np.ndarray]) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    if isinstance(leaf, jax.Array) and is_key(leaf):
        return leaf.copy()
    held = room.get(name)
    if held is None or held.shape != leaf.shape or held.dtype != leaf.dtype:
        room[name] = np.array(leaf)
    else:
        np.copyto(held, np.asarray(leaf))
    return room[name]
