"""The training loop: a compiled step over the data, checkpoints beside it."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from fnckpt import interrupts, snapshot, store
from fnckpt.feed import Data, Feed
from fnckpt.history import Recorder, scalars
from fnckpt.meta import write_graph_meta
from fnckpt.policy import CheckpointPolicy
from fnckpt.progress import Bar, chosen, make_bar
from fnckpt.result import TrainResult
from fnckpt.saver import Saved, Saver
from fnckpt.snapshot import Place
from fnckpt.step import Step, StepFn, compile_step, owned

__all__ = ["TrainResult", "train"]


def train(
    step_fn: StepFn,
    state: Any,
    data: Data,
    *,
    epochs: int = 1,
    policy: CheckpointPolicy | None = None,
    directory: str | os.PathLike[str] | None = None,
    prefix: str = "CKP",
    resume: bool = False,
    progress: bool | None = None,
    async_save: bool = True,
    crc: bool = False,
    save_on_error: bool = False,
    eval_fn: Callable[[Any], Any] | None = None,
    on_step: Callable[[int, Any, Any], object] | None = None,
    on_epoch: Callable[[int, Any, Mapping[str, float]], object] | None = None,
    on_checkpoint: Callable[[Path], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train ``state`` with ``step_fn`` over ``data``, saving checkpoints as ``policy`` says.

    Ctrl-C and SIGTERM are put off until the step is finished; the state is saved where there is a
    policy, and then KeyboardInterrupt or SystemExit(143) is raised. A second Ctrl-C stops at once.

    Args:
      step_fn: a pure function ``(state, batch) -> (state, metrics)``, compiled once by
        ``jax.jit`` with the state donated. ``metrics`` is a tree of scalars, or one scalar.
      state: any pytree of arrays and numbers. It is copied, so that it can be used afterwards.
      data: an iterable, iterated anew every epoch, or a callable ``epoch -> iterable`` (epochs
        count from 1). A batch is any pytree of arrays.
      epochs: how many times to go over the data, those before a resumption included.
      policy: None trains without checkpoints.
      directory: where the files go, made when missing; None is the current directory.
      prefix: what their names begin with. A later run with a used prefix writes ``<prefix>_<N>-``.
      resume: continue from the newest valid checkpoint of ``prefix``, bit for bit as if never
        interrupted; start afresh where there is none. The same ``data`` is needed: the batches
        that were trained on are read over, unless data or its iterator has ``state_dict`` and
        ``load_state_dict`` (or ``get_state`` and ``set_state``).
      progress: show a bar; None: in a terminal or a notebook only.
      async_save: write files beside the training; at most one save is in flight, and its error is
        raised at the next step or at the end. False waits for each file.
      crc: end each file with a CRC-32, which ``resume`` checks.
      save_on_error: when ``step_fn``, ``data`` or a callback raises, save the last good state. The
        state is not donated then, and every step is waited for.
      eval_fn: ``state -> metrics``, called after every epoch; see ``History.epochs``.
      on_step: ``(global step, state, metrics)`` after every step. The state must not be kept, the
        next step uses it up; reading metrics waits for the device.
      on_epoch: ``(epoch, state, the epoch's means)`` after every epoch.
      on_checkpoint: ``(path)`` when a file is on the disk.
      clock: seconds that never go back.

    Raises:
      TypeError, ValueError: of the arguments; of what ``step_fn`` returns; of data that is empty
        or can be read only once. Before anything is trained, where that is possible.
      OSError: the directory is not writable, or a save failed. Earlier checkpoints are intact.
      CheckpointMismatch: ``resume`` found a checkpoint that does not fit ``state``.
      FormatError: ``resume`` found only damaged ones.

    >>> result = train(lambda s, x: (s + x, {"sum": s}), 0.0, [1.0, 2.0, 3.0], epochs=2)
    >>> float(result.state), result.history["sum"].tolist()
    (12.0, [0.0, 1.0, 3.0, 6.0, 7.0, 9.0])
    """
    _check(epochs, policy)
    writes = policy is not None or resume
    if writes:
        store.check_prefix(prefix)
    folder = store.open_directory(directory) if writes else Path()
    training = _Training(
        step_fn=step_fn,
        state=owned(state),
        feed=Feed(data),
        epochs=epochs,
        policy=policy,
        folder=folder,
        prefix=prefix,
        async_save=async_save,
        crc=crc,
        save_on_error=save_on_error,
        eval_fn=eval_fn,
        on_step=on_step,
        on_epoch=on_epoch,
        on_checkpoint=on_checkpoint,
        clock=clock,
        bar=make_bar(epochs, progress),
    )
    snapshot.check_names(training.state)
    training.resume(resume)
    training.feed.check(epochs - training.epoch + 1)
    training.run()
    return training.result()


def _check(epochs: object, policy: object) -> None:
    if type(epochs) is not int:
        raise TypeError(f"epochs: must be an int, got {epochs!r} of type {type(epochs).__name__}")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, got {epochs}")
    if not (policy is None or isinstance(policy, CheckpointPolicy)):
        raise TypeError(
            f"policy: must be a CheckpointPolicy or None, got a {type(policy).__qualname__}"
        )


@contextmanager
def _noted(error: BaseException) -> Iterator[None]:
    """Tell of a save that fails after ``error`` in a note to it."""
    try:
        yield
    except OSError as other:
        error.add_note(f"fnckpt: and then a checkpoint could not be saved: {other}")


@dataclass
class _Training:
    """A training under way; ``epoch``, ``step`` and ``global_step`` are of its last step."""

    step_fn: StepFn
    state: Any
    feed: Feed
    epochs: int
    policy: CheckpointPolicy | None
    folder: Path
    prefix: str
    async_save: bool
    crc: bool
    save_on_error: bool
    eval_fn: Callable[[Any], Any] | None
    on_step: Callable[[int, Any, Any], object] | None
    on_epoch: Callable[[int, Any, Mapping[str, float]], object] | None
    on_checkpoint: Callable[[Path], object] | None
    clock: Callable[[], float]
    bar: Bar

    epoch: int = 1
    step: int = 0
    global_step: int = 0
    zero: float = 0.0  # what the clock shows when no second has been trained
    last_save: float = 0.0  # seconds of training
    last_saved_step: int = 0
    position: Any = None
    found: store.Run | None = None
    recorder: Recorder = field(default_factory=Recorder)
    saved: list[Saved] = field(default_factory=list)
    saver: Saver | None = None
    resources: ExitStack = field(default_factory=ExitStack)

    # --- beginning

    def resume(self, wanted: bool) -> None:
        """Take over the newest checkpoint, if ``wanted`` and there is one; start the clock."""
        found = snapshot.newest(self.folder, self.prefix, self.state) if wanted else None
        if found is None:
            self.zero = self.clock()
            self.found = store.abandoned(self.folder, self.prefix) if wanted else None
            return
        self.state, self.recorder, self.saved = found.state, found.recorder, found.saved
        self.found, self.position = found.run, found.position
        self.epoch, self.step = found.place.epoch, found.place.step
        self.global_step = self.last_saved_step = found.place.global_step
        self.last_save = found.place.seconds
        self.zero = self.clock() - found.place.seconds
        if len(self.recorder.ends) == self.epoch:  # saved after the end of the epoch
            self.epoch, self.step, self.position = self.epoch + 1, 0, None

    def _start(self, batch: Any) -> StepFn:
        """Compile the step for the first batch, then make the files of this run."""
        compiled = compile_step(self.step_fn, self.state, batch, donated=not self.save_on_error)
        self.state = compiled.state
        if self.policy is not None:
            self.saver = self._open_run(compiled, self.policy)
        return compiled.run

    def _open_run(self, compiled: Step, policy: CheckpointPolicy) -> Saver:
        def write_graph(path: Path) -> None:
            write_graph_meta(compiled.graph, path, names=compiled.names)

        store.remove_stale(self.folder, self.prefix)
        run = self.found or store.claim(self.folder, self.prefix, write_graph)
        if not run.graph.exists():
            write_graph(run.graph)
        self.resources.enter_context(store.hold(run))
        saver = Saver(run, policy, self.async_save, self.crc, self._durable, self.saved)
        self.resources.callback(saver.close)
        return saver

    # --- the loop

    def run(self) -> None:
        """Train to the end, or to a signal; what is in flight is awaited in any case."""
        with interrupts.put_off() as signals, self.resources:
            try:
                self._epochs(signals)
                self._finish()
            except BaseException as error:
                self._fail(error)
                raise
            finally:
                self.bar.close()

    def _epochs(self, signals: interrupts.Interrupts) -> None:
        step: StepFn | None = None
        while self.epoch <= self.epochs:
            batches = self.feed.batches(self.epoch, skip=self.step, position=self.position)
            if self.step:  # reading over what was trained on is no training
                self.zero = self.clock() - self.last_save
            self.position = None
            self.bar.start_epoch(self.epoch, steps=self.feed.steps(), done=self.step)
            for batch in batches:
                step = step or self._start(batch)
                self._step(step, batch)
                if signals.pending is not None:
                    return
            self._end_epoch()
            if self.epoch == self.epochs or signals.pending is not None:
                return
            self.epoch, self.step = self.epoch + 1, 0

    def _step(self, step: StepFn, batch: Any) -> None:
        state, metrics = step(self.state, batch)
        if self.save_on_error:  # an error of the device must show before the good state is dropped
            jax.block_until_ready(state)
        self.state = state
        self.step += 1
        self.global_step += 1
        self.recorder.add(metrics)
        if self.saver is not None:
            self.saver.poll()
            now = self.clock() - self.zero
            if self.saver.policy.should_save(
                step=self.global_step, now=now, last_save=self.last_save
            ):
                self._save(self.saver, now)
        if self.on_step is not None:
            self.on_step(self.global_step, self.state, metrics)
        self.bar.step(self._shown)

    def _end_epoch(self) -> None:
        found = scalars(self.eval_fn(self.state)) if self.eval_fn else {}
        evaluation = {f"eval.{name}": float(value) for name, value in found.items()}
        self.recorder.end_epoch(self.global_step, evaluation)
        self.bar.refresh(self._shown())
        if self.on_epoch is not None:
            self.on_epoch(self.epoch, self.state, self.recorder.last_epoch())

    # --- saving

    def _save(self, saver: Saver, now: float) -> None:
        saver.wait()
        place = Place(self.epoch, self.step, self.global_step, now)
        tree = snapshot.entries(
            self.state,
            place,
            prefix=self.prefix,
            recorder=self.recorder,
            saved=saver.saved,
            position=self.feed.position(),
        )
        saver.save(tree, Saved(place.file, now))
        self.last_save, self.last_saved_step = now, self.global_step

    def _finish(self) -> None:
        """Save the last step unless that was done, and wait until it is on the disk."""
        if self.saver is None:
            return
        if self.saver.policy.should_save_at_end(
            step=self.global_step, last_saved_step=self.last_saved_step
        ):
            self._save(self.saver, self.clock() - self.zero)
        self.saver.wait()

    def _fail(self, error: BaseException) -> None:
        """Wait for the save in flight and, where asked for, save the last good state."""
        if self.saver is None:
            return
        with _noted(error):
            self.saver.wait()
        if self.save_on_error and isinstance(error, Exception):
            with _noted(error):
                self._rescue(self.saver, error)

    def _rescue(self, saver: Saver, error: Exception) -> None:
        here = Place(self.epoch, self.step).file
        if here not in [saved.file for saved in saver.saved]:
            self.last_saved_step = 0  # a save that failed may have claimed this step
        self._finish()
        if here in [saved.file for saved in saver.saved]:
            error.add_note(f"fnckpt: the state before this error is in {saver.run.path(here)}")

    def _durable(self, path: Path) -> None:
        if self.on_checkpoint is not None:
            self.on_checkpoint(path)

    # --- telling

    def _shown(self) -> dict[str, object]:
        shown: dict[str, object] = dict(chosen(self.recorder.newest()))
        if self.saver is not None and self.saver.saved:
            shown["saved"] = self.saver.run.path(self.saver.saved[-1].file).name
        return shown

    def result(self) -> TrainResult:
        paths = [self.found.path(saved.file) for saved in self.saved] if self.found else []
        if self.saver is not None:
            paths = self.saver.paths()
        return TrainResult(
            state=self.state,
            history=self.recorder.history(),
            checkpoints=[path for path in paths if path.exists()],
            seconds=self.clock() - self.zero,
        )
