"""The recorder of metrics: whatever is asked of it, and when, it has all steps in order."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnckpt.checkpoints.device_to_host import received, sent_together
from fnckpt.training.history import Recorded, Recorder

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
