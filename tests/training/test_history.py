"""The recorder of metrics: whatever is asked of it, and when, it has all steps in order."""

import threading
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fnckpt.checkpoints.device_to_host import received, sent_together
from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.training.history import Recorded, Recorder
from fnckpt.training.loop import train
from fnckpt.training.policy import CheckpointPolicy

LOSS = [jax.block_until_ready(jnp.float32(number)) for number in range(400)]
Step = tuple[str, int]

steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([1, 2, 40, 300])),
        st.tuples(st.sampled_from(["end", "keep", "history", "restore", "newest"]), st.just(0)),
    ),
    max_size=80,
)


def losses(recorded: Recorded) -> list[float]:
    return recorded.entries().get("steps.loss", np.empty(0)).tolist()


@settings(deadline=None, max_examples=60)
@given(steps)
def test_all_steps_are_there_in_order_whenever_they_are_asked_for(steps: list[Step]) -> None:
    recorder, wanted, ends = Recorder(), list[float](), list[int]()
    kept: list[tuple[Recorded, list[float]]] = []
    for what, count in steps:
        for _ in range(count):
            recorder.add({"loss": LOSS[len(wanted) % len(LOSS)]})
            wanted.append(float(len(wanted) % len(LOSS)))
        if what == "end" and len(wanted) > max(ends, default=0):  # no epoch is empty
            recorder.end_epoch(len(wanted))
            ends.append(len(wanted))
        elif what == "keep":
            kept.append((recorder.recorded(), list(wanted)))
        elif what == "history" and wanted:
            assert recorder.history()["loss"].tolist() == wanted
        elif what == "restore":
            recorder = Recorder.restored(recorder.recorded().entries())
        elif what == "newest" and wanted:
            assert recorder.newest() == {"loss": wanted[-1]}
    for recorded, then in kept:  # also those that were never read until now
        assert losses(recorded) == then
    assert losses(recorder.recorded()) == wanted
    assert recorder.history().ends.tolist() == ends


def test_what_a_thread_reads_is_what_was_recorded_while_training_goes_on() -> None:
    recorder, found, threads = Recorder(), dict[int, list[float]](), list[threading.Thread]()

    def read(recorded: Recorded, count: int) -> None:
        found[count] = losses(recorded)

    for count in range(1, 400):
        recorder.add({"loss": LOSS[count]})
        thread = threading.Thread(target=read, args=(recorder.recorded(), count))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()
    assert found == {n: [float(i) for i in range(1, n + 1)] for n in range(1, 400)}


def test_the_metrics_on_the_device_are_few_however_short_the_epochs_are() -> None:
    recorder = Recorder()
    for count in range(1, 1000):
        recorder.add({"loss": LOSS[0]})
        recorder.end_epoch(count)
    assert sum(not block.is_read for block in recorder.blocks) <= 64
    assert len(recorder.blocks) <= 65
    assert recorder.history()["loss"].shape == (999,)


def test_a_step_without_metrics_is_recorded_as_nothing() -> None:
    recorder = Recorder()
    for _ in range(3):
        recorder.add(None)
    assert recorder.recorded().entries() == {}
    assert recorder.newest() == {}
    recorder.end_epoch(3)
    assert recorder.history().steps == {}


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 200])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "bool"])
def test_scalars_that_are_sent_together_arrive_in_order_and_dtype(count: int, dtype: str) -> None:
    values = [jnp.array(number % 7, dtype) for number in range(count)]
    parts = sent_together(values)
    assert len(parts) == -(-count // 64)
    wanted, found = np.array([np.asarray(value) for value in values]), received(parts, count)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 7), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=4),
)
@example(epochs=[1, 1], saves=[(2, 1), (2, 2)])
@example(epochs=[4, 4, 2], saves=[(6, 1), (7, 9)])
def test_the_means_of_epochs_are_those_of_all_steps_however_few_are_kept(
    epochs: list[int], saves: list[tuple[int, int]]
) -> None:
    """``saves``: after which step to save and to resume, and how many steps are kept."""
    recorder, whole, step, known = Recorder(), Recorder(), 0, 0
    for length in epochs:
        for _ in range(length):
            step, known = step + 1, known + 1
            for each in (recorder, whole):
                each.add({"loss": LOSS[step % len(LOSS)]})
            for at, most in saves:
                if at == step:
                    entries = recorder.recorded().entries(most)
                    known = min(most, known)
                    assert len(entries["steps.loss"]) == known
                    recorder = Recorder.restored(entries, step)
        for each in (recorder, whole):
            each.end_epoch(step)
    found, wanted = recorder.history(), whole.history()
    np.testing.assert_allclose(found.epochs["loss"], wanted.epochs["loss"], rtol=1e-12)
    recorded = ~np.isnan(found["loss"])
    assert (found["loss"][recorded] == wanted["loss"][recorded]).all()


@pytest.mark.parametrize(("history_steps", "kept"), [("auto", 1494), (None, 3000), (100, 100)])
def test_a_checkpoint_keeps_the_metrics_of_so_many_steps(
    history_steps: Literal["auto"] | int | None, kept: int, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {
        "policy": CheckpointPolicy(step=1500),
        "directory": tmp_path,
        "history_steps": history_steps,
    }
    step = lambda s, b: (s + b, s[0])  # noqa: E731
    state, batches = np.zeros(150_000, np.float32), [np.float32(1)] * 1500
    first = train(step, state, batches, epochs=2, **arguments)
    held = load_checkpoint(first.checkpoints[-1])
    assert len(held["fnckpt.history.steps.loss"]) == kept
    if history_steps == "auto":
        history = [a.nbytes for name, a in held.items() if name.startswith("fnckpt.history")]
        assert sum(history) <= 0.01 * state.nbytes
    resumed = train(step, state, batches, epochs=3, resume=True, **arguments)
    assert resumed.history["loss"].shape == (4500,)
    assert np.isnan(resumed.history["loss"]).sum() == 3000 - kept
    assert resumed.history.epochs["loss"].tolist() == [749.5, 2249.5, 3749.5]
    assert f"loss: first {3000 - kept}, last 4499" in str(resumed.history)


@pytest.mark.parametrize("given", [0, -1, 2.5, "all", True])
def test_history_steps_is_a_number_auto_or_none(given: Any) -> None:
    with pytest.raises(
        ValueError, match=r'history_steps: must be a number of steps from 1, "auto"'
    ):
        train(lambda s, b: (s, s), 0.0, [1.0], history_steps=given)


def test_a_history_is_gone_over_by_the_names_of_its_metrics() -> None:
    result = train(lambda s, b: (s, {"loss": b, "accuracy": b}), 0.0, [np.float32(1)])
    assert {name: result.history[name].tolist() for name in result.history} == {
        "accuracy": [1.0],
        "loss": [1.0],
    }
