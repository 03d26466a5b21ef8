"""A training that goes on with other metrics keeps all of them, NaN for steps without one."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.training.history import Recorder
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy

NAN = float("nan")


def fit(directory: Path, metrics: Any, epochs: int, **options: Any) -> TrainResult:
    """Two steps an epoch, whose batches are 1 and 2; ``metrics`` are made from the batch."""
    given = {"policy": CheckpointPolicy(1), "directory": directory, "resume": epochs > 1}
    data = [np.float32(1), np.float32(2)]
    return train(lambda s, x: (s + x, metrics(x)), 0.0, data, epochs=epochs, **(given | options))


def whole(x: Any) -> Any:
    return x.astype(jnp.int32)


CHANGES = {
    "one removed": (
        lambda x: {"loss": x, "acc": -x},
        lambda x: {"loss": x},
        {"loss": [1, 2, 1, 2], "acc": [-1, -2, NAN, NAN]},
    ),
    "one added": (
        lambda x: {"loss": x},
        lambda x: {"loss": x, "acc": -x},
        {"loss": [1, 2, 1, 2], "acc": [NAN, NAN, -1, -2]},
    ),
    "one renamed": (
        lambda x: {"loss": x},
        lambda x: {"cost": x},
        {"loss": [1, 2, NAN, NAN], "cost": [NAN, NAN, 1, 2]},
    ),
    "none before": (lambda x: None, lambda x: {"n": x}, {"n": [NAN, NAN, 1, 2]}),
    "none any more": (lambda x: {"n": x}, lambda x: None, {"n": [1, 2, NAN, NAN]}),
    "integers have no NaN": (
        lambda x: {"n": whole(x), "loss": x},
        lambda x: {"loss": x},
        {"n": [1, 2, NAN, NAN], "loss": [1, 2, 1, 2]},
    ),
    "bools have no NaN": (
        lambda x: {"ok": x > 1, "loss": x},
        lambda x: {"loss": x},
        {"ok": [0, 1, NAN, NAN], "loss": [1, 2, 1, 2]},
    ),
    "bfloat16 has": (
        lambda x: {"n": x.astype(jnp.bfloat16), "loss": x},
        lambda x: {"loss": x},
        {"n": [1, 2, NAN, NAN], "loss": [1, 2, 1, 2]},
    ),
    "another dtype, which NumPy does not join": (
        lambda x: {"n": x.astype(jnp.bfloat16)},
        lambda x: {"n": x.astype(jnp.float16)},
        {"n": [1, 2, 1, 2]},
    ),
    "another dtype": (
        lambda x: {"n": whole(x)},
        lambda x: {"n": x / 2},
        {"n": [1, 2, 0.5, 1]},
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_metrics_before_and_after_a_resume_are_kept(change: Any, tmp_path: Path):
    before, after, wanted = change
    fit(tmp_path, before, 1)
    found = fit(tmp_path, after, 2).history
    assert found.steps.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found.steps[name].astype(np.float64), values)
    assert found.trained == 4
    again = fit(tmp_path, after, 3).history  # what was saved was right, too
    assert again.trained == 6
    for name, values in wanted.items():
        last = values[2:] if name in dict(after_names(after)) else [NAN, NAN]
        np.testing.assert_array_equal(again.steps[name].astype(np.float64), [*values, *last])
        np.testing.assert_array_equal(
            again.epochs[name], np.mean(np.reshape([*values, *last], (3, 2)), 1)
        )


def after_names(metrics: Any) -> dict[str, Any]:
    return metrics(jnp.float32(1)) or {}


def test_evaluations_added_and_removed_are_kept(tmp_path: Path):
    fit(tmp_path, lambda x: x, 1, eval_every=1, eval_fn=lambda s: {"a": 1.0})
    found = fit(tmp_path, lambda x: x, 2, eval_every=1, eval_fn=lambda s: {"b": 2.0}).history
    np.testing.assert_array_equal(found.evaluations["a"], [1, 1, NAN, NAN])
    np.testing.assert_array_equal(found.evaluations["b"], [NAN, NAN, 2, 2])


def test_a_file_whose_metrics_began_late_has_them_at_the_end():
    recorder = Recorder.restored({"steps.loss": np.array([3.0, 4.0])}, 4)
    np.testing.assert_array_equal(recorder.history()["loss"], [NAN, NAN, 3, 4])


# ------------------------------------------------------------------- what a result says of itself


def told(result: TrainResult) -> dict[str, str]:
    lines = [line.strip().partition(": ") for line in repr(result).splitlines()[1:]]
    return {name: text for name, _, text in lines}


def test_steps_without_metrics_are_counted(tmp_path: Path):
    assert told(fit(tmp_path, lambda x: None, 1))["trained"].startswith("2 steps, 1 epochs")


def test_an_epoch_without_an_evaluation_shows_none(tmp_path: Path):
    def shown(every: int) -> str | None:
        evaluated: Any = {"eval_fn": lambda s: {"f": 0.5}, "eval_every": every, "resume": False}
        return told(fit(tmp_path, lambda x: x, 4, **evaluated)).get("eval.f")

    assert shown(9) is None
    assert shown(4) == "0.5 in epoch 2, 0.5 in the last"
    assert shown(6) == "0.5 in epoch 3"


def test_a_metric_is_shown_for_the_epochs_that_have_it(tmp_path: Path):
    fit(tmp_path, lambda x: {"loss": x}, 1)
    fit(tmp_path, lambda x: {"loss": x, "acc": -x}, 2)
    found = told(fit(tmp_path, lambda x: {"loss": x}, 3))
    assert found["loss"] == "1.5 in epoch 1, 1.5 in the last"
    assert found["acc"] == "-1.5 in epoch 2"


def test_a_loss_that_went_wrong_is_shown_as_nan(tmp_path: Path):
    fit(tmp_path, lambda x: {"loss": x}, 1)
    result = fit(tmp_path, lambda x: {"loss": x * NAN}, 2)
    assert told(result)["loss"] == "1.5 in epoch 1, nan in the last"
