"""Writing checkpoints beside the training: one at a time, in order, no error lost."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fnckpt.checkpoints import pytree
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import store
from fnckpt.training.saving.copies import Copies

Entries = Mapping[str, Any]


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
      asynchronous: write on a thread, from a copy of the tree, whose memory the next save uses
        again.
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
    write: Callable[[Entries, Path], Path] | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "fnckpt"))
    _flight: Future[Path] | None = None
    _copies: Copies = field(default_factory=Copies)

    def save(self, tree: Entries, saved: Saved, more: Callable[[], Entries] = dict) -> None:
        """Save ``tree``; the caller may overwrite its arrays as soon as this returns.

        Args:
          tree: leaves by name.
          more: makes further entries of the file, where and when it is written.

        Raises:
          OSError: this save (when not asynchronous) or an earlier one failed.
        """
        self.wait()
        if self.asynchronous:
            self._flight = self._pool.submit(self._write, self._copies.copy(tree), saved, more)
        else:
            self.done(self._write(tree, saved, more))

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

    def _write(self, tree: Entries, saved: Saved, more: Callable[[], Entries]) -> Path:
        """Write a file and, once it is durable, delete those that the policy gives up."""
        path, whole = self.run.path(saved.file), {**tree, **more()}
        if self.write is None:
            pytree.save_checkpoint(whole, path, crc=self.crc)
        else:
            self.write(whole, path)
        present = set(self.run.checkpoints())  # a file that the user deleted counts no more
        kept = [earlier for earlier in self.saved if earlier.file in present - {saved.file}]
        kept.append(saved)
        given_up = [kept[at] for at in self.policy.to_delete([each.at for each in kept])]
        store.delete([self.run.path(each.file) for each in given_up])
        self.saved = [each for each in kept if each not in given_up]
        return path
