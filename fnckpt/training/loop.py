"""``train``: its arguments, checked, and a training made of them."""

import os
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import jax

from fnckpt.training.batches import Data, Feed
from fnckpt.training.options import (
    Callbacks,
    Checkpointer,
    Evaluation,
    HistorySteps,
    OnCheckpoint,
    OnEpoch,
    OnStep,
    Saving,
)
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.progress import Progress, make_bar
from fnckpt.training.result import TrainResult
from fnckpt.training.saving import snapshot
from fnckpt.training.saving.engine import Engine, FileEngine
from fnckpt.training.step import Batch, Metrics, State, StepFn, owned
from fnckpt.training.stopping import Noted
from fnckpt.training.under_way import Training

if TYPE_CHECKING:  # importing it takes seconds
    import orbax.checkpoint as ocp

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
    training = Training(
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
