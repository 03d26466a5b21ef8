"""A training under way: its epochs and steps, what is saved and what is told."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import jax

from fnckpt.training import interrupts, metrics
from fnckpt.training.batches import Feed
from fnckpt.training.history import Recorder
from fnckpt.training.options import Callbacks, Evaluation
from fnckpt.training.progress import Bar, Progress, chosen, say
from fnckpt.training.result import Best, TrainResult
from fnckpt.training.saving import processes
from fnckpt.training.saving.engine import Engine, Moment
from fnckpt.training.saving.snapshot import Place
from fnckpt.training.step import StepFn, compile_step
from fnckpt.training.stopping import Noted, Resumable, StopTraining, heed


@contextmanager
def _noted(error: BaseException) -> Iterator[None]:
    """Tell of a save that fails after ``error`` in a note to it."""
    try:
        yield
    except OSError as other:
        error.add_note(f"fnckpt: and then a checkpoint could not be saved: {other}")


@dataclass
class Training:
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
