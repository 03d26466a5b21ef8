"""A training that ends before its last epoch ends normally: saved, with its result."""

from typing import Any

import numpy as np
import pytest

import fnckpt
from fnckpt import STOP, CheckpointPolicy, EarlyStopping, StopTraining, train


def step(state, batch):
    return state + batch, {"loss": state}


def fit(directory, **options):
    given: dict[str, Any] = {"policy": CheckpointPolicy(1000), "directory": directory, "epochs": 9}
    return train(step, np.float32(0), [np.float32(1)] * 4, **(given | options))


def answer(*, after, raised, seen=None):
    """A callback for all three places that wants to stop at its call number ``after``."""
    calls = [] if seen is None else seen

    def callback(*_):
        calls.append(1)
        if len(calls) == after:
            if raised:
                raise StopTraining
            return STOP
        return None

    return callback


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize(
    ("where", "after", "trained", "saved"),
    [("on_step", 6, 6, "CKP-2_2.ckpt"), ("on_epoch", 2, 8, "CKP-2_4.ckpt")],
)
def test_a_callback_stops_after_its_step(tmp_path, where, after, trained, saved, raised):
    result = fit(tmp_path, **{where: answer(after=after, raised=raised)})
    assert float(result.state) == trained == len(result.history["loss"])
    assert [path.name for path in result.checkpoints] == [saved]
    assert float(fit(tmp_path, resume=True, epochs=3).state) == 12  # and can go on


@pytest.mark.parametrize("raised", [False, True])
@pytest.mark.parametrize("later", [False, True])
def test_a_checkpoint_s_callback_stops_and_the_last_step_is_saved(tmp_path, raised, later):
    seen: list[int] = []
    call = answer(after=2, raised=raised, seen=seen)
    options = {"policy": CheckpointPolicy(2), "async_save": later, "on_checkpoint": call}
    result = fit(tmp_path, **options)
    assert int(result.state) in (4, 5, 6)
    last = result.checkpoints[-1]
    assert float(fnckpt.load_checkpoint(last, np.float32(0))) == float(result.state)
    assert len(seen) == len(result.checkpoints)


def test_an_evaluation_and_the_data_may_stop_too(tmp_path):
    def two(epoch):
        yield np.float32(1)
        yield np.float32(1)
        raise StopTraining

    assert float(train(step, np.float32(0), two).state) == 2

    def evaluate(state):
        raise StopTraining

    assert float(fit(tmp_path, eval_fn=evaluate, eval_every=3).state) == 3


def test_any_other_answer_is_ignored(tmp_path):
    assert float(fit(tmp_path, epochs=1, on_step=lambda *_: "STOP").state) == 4


# ------------------------------------------------------------------------------ early stopping


@pytest.mark.parametrize(
    ("measured", "options", "epochs"),
    [
        ([3, 2, 1, 1, 1, 9], {"patience": 2}, 5),
        ([1, 2, 3, 3, 2, 9], {"patience": 2, "mode": "max"}, 5),
        ([3, 4, 2, 4, 4, 4], {"patience": 3}, 6),
        ([3, 2.95, 2.9, 1, 1], {"patience": 2, "min_delta": 0.2}, 3),
        ([np.nan, np.nan, 1, 1, 1], {"patience": 2}, 2),
        ([2, np.nan, 1, np.nan, np.nan], {"patience": 2}, 5),
    ],
)
def test_it_stops_after_patience_epochs_without_an_improvement(tmp_path, measured, options, epochs):
    values = iter(measured)
    stop = EarlyStopping("error", **options)
    result = fit(tmp_path, eval_fn=lambda _: {"error": next(values)}, on_epoch=stop)
    assert len(result.history.ends) == epochs
    assert [path.name for path in result.checkpoints] == [f"CKP-{epochs}_4.ckpt"]


def test_a_resumed_training_counts_the_epochs_before_it(tmp_path):
    measured = [3, 2, 2, 2, 2, 2, 2, 2]
    whole = iter(measured)
    expected = fit(
        tmp_path / "whole",
        eval_fn=lambda _: {"error": next(whole)},
        on_epoch=EarlyStopping("error", patience=4),
    )
    values = iter(measured)
    for epochs, resume in ((3, False), (9, True)):
        result = fit(
            tmp_path,
            eval_fn=lambda _: {"error": next(values)},
            on_epoch=EarlyStopping("error", patience=4),
            epochs=epochs,
            resume=resume,
        )
    assert len(expected.history.ends) == len(result.history.ends) == 6


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ((1,), TypeError, "metric: must be a name, got 1"),
        (("a", 0), ValueError, "patience: must be at least 1, got 0"),
        (("a", 1.5), TypeError, "patience: must be an int, got 1.5"),
        (("a", 1, "least"), ValueError, 'mode: must be "min" or "max", got \'least\''),
        (("a", 1, "min", -1), ValueError, "min_delta: must be at least 0"),
    ],
)
def test_arguments_are_checked(arguments, error, told):
    with pytest.raises(error, match=told):
        EarlyStopping(*arguments)


def test_a_metric_that_does_not_exist_is_named(tmp_path):
    told = "there is no metric 'accuracy', an epoch has loss"
    with pytest.raises(ValueError, match=told):
        fit(tmp_path, on_epoch=EarlyStopping("accuracy"))
    assert repr(STOP) == "fnckpt.STOP"
