"""The training loop: a compiled step over the data, checkpoints beside it."""

import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import jax

from fnckpt.training import interrupts, metrics
from fnckpt.training.batches import Data, Feed
from fnckpt.training.history import Recorder
from fnckpt.training.options import (
    Callbacks,
    Evaluation,
    HistorySteps,
    OnCheckpoint,
    OnEpoch,
    OnStep,
    Saving,
)
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.progress import Bar, Progress, chosen, make_bar, say
from fnckpt.training.result import Best, TrainResult
from fnckpt.training.saving import processes, snapshot
from fnckpt.training.saving.engine import Engine, FileEngine, Moment
from fnckpt.training.saving.snapshot import Place
from fnckpt.training.step import Batch, Metrics, State, StepFn, compile_step, owned
from fnckpt.training.stopping import Noted, Resumable, StopTraining, heed

if TYPE_CHECKING:  # importing it takes seconds
    import orbax.checkpoint as ocp
    from orbax.checkpoint.experimental.v1.training import Checkpointer

__all__ = ["TrainResult", "train"]


def train(
    step_fn: StepFn[State, Batch, Metrics],
    state: State,
    data: Data[Batch],
    *,
    epochs: int = 1,
    policy: CheckpointPolicy | None = None,
    directory: str | os.PathLike[str] | None = None,
    prefix: str = "CKP",
    resume: bool = False,
    progress: Progress = None,
    async_save: bool = True,
    crc: bool = False,
    portable: bool = True,
    gather: bool = False,
    checkpoint_format: Literal["ckpt", "safetensors"] = "ckpt",
    history_steps: HistorySteps = "auto",
    checkpointer: "ocp.CheckpointManager | Checkpointer | None" = None,
    save_on_error: bool = False,
    eval_fn: Callable[[State], object] | None = None,
    eval_every: int | None = None,
    best: str | None = None,
    best_mode: Literal["min", "max"] = "min",
    on_step: OnStep[State, Metrics] | None = None,
    on_epoch: OnEpoch[State] | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult[State]:
    """Train ``state`` with ``step_fn`` over ``data``, saving checkpoints as ``policy`` says.

    After Ctrl-C or SIGTERM, the current step is finished. If there is a policy, the state is saved.
    Then KeyboardInterrupt or SystemExit(143) is raised. A second Ctrl-C stops at once.

    Args:
      step_fn: a pure function ``(state, batch) -> (state, metrics)``, compiled once by
        ``jax.jit`` with the state donated. ``metrics`` is a tree of scalars, or one scalar.
      state: any pytree of arrays and numbers. It is copied, so that it can be used afterwards.
      data: an iterable, iterated anew every epoch, or a callable ``epoch -> iterable`` (epochs
        count from 1). A batch is any pytree of arrays.
      epochs: how many times to go over the data, including the epochs before a resume.
      policy: None trains without checkpoints.
      directory: where the files go. A missing directory is created; None is the current
        directory. If there are several processes, each writes into its own ``rank_<i>/`` there.
      prefix: the file names start with it. If the prefix was used before, the run writes
        ``<prefix>_<N>-``.
      resume: continue from the newest valid checkpoint of ``prefix``, with the same numbers as
        without an interruption. If there is none, start from the beginning. A line on stderr
        (stdout in a notebook) says which, unless ``progress`` is False. The data must be the same:
        batches that were already trained on are skipped. If data or its iterator has
        ``state_dict`` and ``load_state_dict`` (or ``get_state`` and ``set_state``), it is moved to
        its position instead.
      progress: True shows a bar, and a line for each epoch, which stays; ``"lines"`` only the
        lines, for logs. None: True in a terminal or a notebook, else False. It goes to stderr, in a
        notebook to stdout.
      async_save: write files in the background. At most one save is active at a time. If it fails,
        the error is raised at the next step or at the end. False waits for each file.
      crc: end each file with a CRC-32, which ``resume`` checks.
      portable: refuse a state that MindSpore cannot load (float8, complex ...) before anything is
        trained. False saves it for fnckpt alone.
      gather: if there are several processes, the first one gathers the arrays leaf by leaf and
        writes complete files into ``directory``. All wait for it. To resume, all must be able to
        read it.
      checkpoint_format: ``"safetensors"`` writes ``<prefix>-<epoch>_<step>.safetensors`` instead of
        ``.ckpt``; ``resume`` continues from either.
      history_steps: a checkpoint keeps the metrics of this many newest steps. ``"auto"``: as many
        as fit into 1 % of the state's bytes, or into 4 KiB; None: all. Means of epochs and
        evaluations are always kept. After a resume, the history has NaN for steps that were not
        kept.
      checkpointer: an ``orbax.checkpoint.CheckpointManager``, or a ``training.Checkpointer`` of
        Orbax's v1 API, which then keeps the checkpoints.
        ``policy`` decides when to save; if it is None, the manager decides. The manager always
        decides what to keep, and where. The options of our own files are not allowed. Without
        ``resume``, its directory must have no steps. If it does not save a step, a UserWarning
        says so.
      save_on_error: if ``step_fn``, ``data`` or a callback raises, save the last good state. Then
        the state is not donated, and ``train`` waits for every step.
      eval_fn: ``state -> metrics``, called after every epoch; see ``History.evaluations``.
      eval_every: call it after every so many steps, counted over all epochs, instead.
      best: the metric of ``eval_fn`` that decides which state is the best. ``TrainResult.best`` has
        its value. If there is a policy, the state is saved as ``<prefix>-best.ckpt``, which no
        policy deletes.
      best_mode: "min" or "max": which value of the metric is the best.
      on_step: ``(global step, state, metrics)`` after every step. Copy the state to keep it,
        because the next step overwrites it. Both are on the device; only reading them waits.
      on_epoch: ``(epoch, state, means)`` after every epoch: floats, evaluations included.
      on_checkpoint: ``(path)`` when a checkpoint is on the disk, at the next step at the latest.
        A callback that returns ``fnckpt.STOP``, or raises ``StopTraining``, ends the training
        normally: the last step is saved, and the result is returned. ``EarlyStopping`` is one for
        ``on_epoch``.
      clock: seconds that never go back.

    Raises:
      TypeError, ValueError: of the arguments; of what ``step_fn`` returns; of data that is empty
        or can be read only once. Before anything is trained, where that is possible.
      UserWarning: (a warning) an argument that does not count, such as ``directory`` without a
        policy, or ``seconds`` while ``step`` is set.
      OSError: the directory is not writable, or a save failed. Earlier checkpoints are intact.
      CheckpointMismatch: ``resume`` found a checkpoint that does not fit ``state``.
      FormatError: ``resume`` found only damaged ones.

    Examples:
      >>> result = train(lambda s, x: (s + x, {"sum": s}), 0.0, [1.0, 2.0, 3.0], epochs=2)
      >>> float(result.state), result.history["sum"].tolist()
      (12.0, [0.0, 1.0, 3.0, 6.0, 7.0, 9.0])
    """
    _check_epochs(epochs)
    saving = Saving(
        policy=policy,
        directory=directory,
        prefix=prefix,
        asynchronous=async_save,
        crc=crc,
        portable=portable,
        gather=gather,
        format=checkpoint_format,
        history_steps=history_steps,
    )
    evaluation = Evaluation(measure=eval_fn, every=eval_every, best=best, mode=best_mode)
    noted = Noted(on_checkpoint) if on_checkpoint is not None else None
    callbacks = Callbacks(on_step=on_step, on_epoch=on_epoch, on_checkpoint=noted)
    _check_gather(saving, save_on_error)
    beside = [
        name
        for name, given in (("save_on_error", save_on_error), ("on_checkpoint", noted))
        if given
    ]
    ignored = saving.ignored(manager=checkpointer is not None, resume=resume, beside=beside)
    for line in [*ignored, *evaluation.ignored()]:
        warnings.warn(line, UserWarning, stacklevel=2)
    engine = _engine(saving, checkpointer, noted, resume=resume)
    training = _Training(
        step_fn=step_fn,
        state=owned(state),
        feed=Feed(data),
        epochs=epochs,
        engine=engine,
        evaluation=evaluation,
        callbacks=callbacks,
        save_on_error=save_on_error,
        clock=clock,
        bar=make_bar(epochs, progress),
    )
    snapshot.check_names(training.state, portable=portable, suffix=saving.suffix)
    training.resume(resume, progress)
    training.feed.check(epochs - training.epoch + 1)
    training.run()
    return training.result()


def _check_epochs(epochs: object) -> None:
    if type(epochs) is not int:
        raise TypeError(f"epochs: must be an int, got {epochs!r} of type {type(epochs).__name__}")
    if epochs < 1:
        raise ValueError(f"epochs: must be at least 1, got {epochs}")


def _check_gather(saving: Saving, save_on_error: bool) -> None:
    if saving.gather and save_on_error and jax.process_count() > 1:
        raise ValueError(
            "save_on_error: a process that fails cannot gather from those that do not know of it; "
            "leave out gather, or save_on_error"
        )


def _engine(
    saving: Saving,
    manager: "ocp.CheckpointManager | Checkpointer | None",
    on_checkpoint: OnCheckpoint | None,
    *,
    resume: bool,
) -> Engine | None:
    """What keeps the checkpoints; None if there are none."""
    if manager is not None:
        from fnckpt.training.saving.orbax_engine import OrbaxEngine, refuse_used
        from fnckpt.training.saving.orbax_managers import managed

        keeper = managed(manager)
        if saving.of_files():
            raise ValueError(
                f"checkpointer: the Orbax manager says where and how, but {saving.of_files()} of "
                "our own files was given too; leave it out, or leave out checkpointer"
            )
        if not resume:
            refuse_used(keeper)
        return OrbaxEngine(keeper, saving.policy, saving.history_steps, on_checkpoint)
    if saving.policy is None and not resume:
        return None
    return FileEngine(saving, on_checkpoint)


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
    engine: Engine | None
    evaluation: Evaluation
    callbacks: Callbacks
    save_on_error: bool
    clock: Callable[[], float]
    bar: Bar

    epoch: int = 1
    step: int = 0
    global_step: int = 0
    zero: float = 0.0  # what the clock shows when no second has been trained
    last_save: float = 0.0  # seconds of training
    last_saved_step: int = 0
    position: Any = None
    recorder: Recorder = field(default_factory=Recorder)
    saved: str | None = None  # the name of the newest checkpoint
    is_whole: bool = False  # whether the last step is saved, or need not be

    # --- beginning

    def resume(self, wanted: bool, progress: Progress) -> None:
        """Take over the newest checkpoint, if ``wanted`` and there is one; start the clock.

        What was found is told, unless ``progress`` is False.
        """
        found = self.engine.newest(self.state) if wanted and self.engine else None
        if wanted and self.engine and jax.process_index() == 0:
            say(self.engine.found(found), progress)
        if found is None or self.engine is None:
            self.zero = self.clock()
            return
        self.saved = self.engine.path(found.place).name
        self.state, self.recorder, self.position = found.state, found.recorder, found.position
        self.epoch, self.step = found.place.epoch, found.place.step
        self.global_step = self.last_saved_step = found.place.global_step
        self.last_save = found.place.seconds
        self.zero = self.clock() - found.place.seconds
        if len(self.recorder.ends) == self.epoch:  # saved after the end of the epoch
            self.epoch, self.step, self.position = self.epoch + 1, 0, None
        if self.epoch > self.epochs and jax.process_index() == 0:
            text = "were trained before, nothing is left; give more epochs to go on"
            say(f"epochs={self.epochs} {text}", progress)
        if isinstance(self.callbacks.on_epoch, Resumable):
            self.callbacks.on_epoch.resume(self.recorder.history())

    def _start(self, batch: Any) -> StepFn:
        """Compile the step for the first batch, then make the files of this run."""
        compiled = compile_step(self.step_fn, self.state, batch, donated=not self.save_on_error)
        self.state = compiled.state
        if self.engine is not None:
            self.engine.start(compiled)
        return compiled.run

    # --- the loop

    def run(self) -> None:
        """Train to the end, or to a signal, which is told in one line."""
        signals = interrupts.Interrupts()
        try:
            with interrupts.put_off() as signals:
                self._run(signals)
        except (KeyboardInterrupt, SystemExit) as end:
            if not self.is_whole or signals.pending is None:
                raise
            told = self._told_of_signal(signals.pending)
            if isinstance(end, SystemExit):  # of which Python tells nothing
                self.bar.line(told)
                raise
            raise KeyboardInterrupt(told) from None

    def _run(self, signals: interrupts.Interrupts) -> None:
        """Train; what is in flight is awaited in any case."""
        try:
            with suppress(StopTraining):
                self._epochs(signals)
            self._finish()
            self.is_whole = True
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            self.bar.close()
            if self.engine is not None:
                self.engine.close()

    def _epochs(self, signals: interrupts.Interrupts) -> None:
        step: StepFn | None = None
        several = jax.process_count() > 1

        def stop() -> bool:  # of several processes none may leave before the others
            return not several and signals.pending is not None

        while self.epoch <= self.epochs:
            batches = self.feed.batches(
                self.epoch, skip=self.step, position=self.position, stop=stop
            )
            if self.step and stop():
                return
            if self.step:  # reading over what was trained on is no training
                self.zero = self.clock() - self.last_save
            self.position = None
            self.bar.start_epoch(self.epoch, steps=self._steps_expected(), done=self.step)
            self.bar.refresh(self._shown())
            for batch in batches:
                step = step or self._start(batch)
                self._step(step, batch)
                if several and self.last_saved_step == self.global_step:
                    signals.agree(processes.greatest)
                elif several:  # others may not have heard of it
                    continue
                if signals.pending is not None:
                    return
            self._end_epoch()
            if several:
                signals.agree(processes.greatest)
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
        if self.evaluation.due(self.global_step):
            self._evaluate()
        if self.engine is not None:
            self._save_if_due(self.engine)
        if self.callbacks.on_step is not None:
            heed(self.callbacks.on_step(self.global_step, self.state, metrics))
        self.bar.step(self._shown)
        if isinstance(self.callbacks.on_checkpoint, Noted):
            self.callbacks.on_checkpoint.check()

    def _end_epoch(self) -> None:
        if self.evaluation.every is None and self.evaluation.measure is not None:
            self._evaluate()
        self.recorder.end_epoch(self.global_step)
        if self.bar.has_lines:
            self.bar.end_epoch(self.recorder.last_epoch() | self._newest_file())
        if self.callbacks.on_epoch is not None:
            heed(self.callbacks.on_epoch(self.epoch, self.state, self.recorder.last_epoch()))

    def _evaluate(self) -> None:
        """Measure the state; save it where it is the best so far."""
        asked = self.evaluation
        assert asked.measure is not None
        measured = metrics.measured(asked.measure, self.state)
        if asked.best is not None and asked.best not in measured:
            raise ValueError(
                f"best: eval_fn gives no {asked.best!r}, it gives {', '.join(sorted(measured))}"
            )
        self.recorder.evaluate(self.global_step, measured)
        best = self._best()
        if best is not None and best[0] == self.global_step and self.engine is not None:
            self.engine.save_best(self._moment(self.clock() - self.zero))

    def _best(self) -> tuple[int, float] | None:
        if self.evaluation.best is None:
            return None
        return self.recorder.best(self.evaluation.best, greatest=self.evaluation.mode == "max")

    # --- saving

    def _save_if_due(self, engine: Engine) -> None:
        engine.poll()
        now = self.clock() - self.zero
        if engine.due(step=self.global_step, now=now, last_save=self.last_save):
            self._save(engine, now)

    def _save(self, engine: Engine, now: float) -> None:
        moment = self._moment(now)
        if not engine.save(moment):
            return
        self.last_save, self.last_saved_step = now, self.global_step
        self.saved = engine.path(moment.place).name

    def _moment(self, now: float) -> Moment:
        place = Place(self.epoch, self.step, self.global_step, now)
        return Moment(self.state, place, self.recorder.recorded(), self.feed.position())

    def _finish(self) -> None:
        """Save the last step unless that was done, and wait until it is on the disk."""
        if self.engine is None:
            return
        if self.engine.due_at_end(step=self.global_step, last_saved_step=self.last_saved_step):
            self._save(self.engine, self.clock() - self.zero)
        self.engine.wait()

    def _fail(self, error: BaseException) -> None:
        """Wait for the save in flight and, where asked for, save the last good state."""
        if self.engine is None:
            return
        with _noted(error):
            self.engine.wait()
        if self.save_on_error and isinstance(error, Exception):
            with _noted(error):
                self._rescue(self.engine, error)

    def _rescue(self, engine: Engine, error: Exception) -> None:
        here = Place(self.epoch, self.step, self.global_step)
        if not engine.has(here):
            self.last_saved_step = 0  # a save that failed may have claimed this step
        self._finish()
        if engine.has(here):
            error.add_note(f"fnckpt: the state before this error is in {engine.path(here)}")

    # --- telling

    def _shown(self) -> dict[str, object]:
        """What stands behind the bar: the newest metrics, evaluations and file."""
        measured = {f"eval.{k}": float(v[-1]) for k, v in self.recorder.evaluations.items()}
        return chosen(self.recorder.newest()) | chosen(measured) | self._newest_file()

    def _newest_file(self) -> dict[str, object]:
        return {"saved": self.saved} if self.saved else {}

    def _steps_expected(self) -> int | None:
        """The steps of this epoch: of the data's length, or as many as the last epoch had."""
        ends = [0, *self.recorder.ends]
        before = ends[-1] - ends[-2] if len(ends) > 1 else None
        return self.feed.steps() or before

    def _told_of_signal(self, number: signal.Signals) -> str:
        """One line: where the training stopped, what is saved, how to go on."""
        name = "Ctrl-C" if number == signal.SIGINT else number.name
        where = f"stopped by {name} in epoch {self.epoch} after step {self.step}"
        if self.engine is None or self.saved is None:
            return f"{where}; nothing is saved, train was given no policy that saves"
        file = self.engine.path(Place(self.epoch, self.step)).parent / self.saved
        return f"{where}; saved {file}; the same call with resume=True goes on"

    def result(self) -> TrainResult:
        best, metric = self._best(), self.evaluation.best or ""
        path = self.engine.best(best[0]) if self.engine and best else None
        return TrainResult(
            state=self.state,
            history=self.recorder.history(),
            checkpoints=self.engine.paths() if self.engine else [],
            seconds=self.clock() - self.zero,
            best=Best(metric, best[1], best[0], path) if best else None,
        )
