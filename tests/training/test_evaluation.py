"""Evaluation: when it happens, which state is the best, what becomes of its file."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import FnckptError
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy

DATA = [np.float32(1)] * 6


def step(total: Any, batch: Any) -> tuple[Any, Any]:
    return total + batch, {"loss": batch}


def distance(total: Any) -> dict[str, Any]:
    """The best of all states is 5."""
    return {"far": jnp.abs(total - 5)}


def fit(directory: Path, **options: Any) -> TrainResult:
    given = {"policy": CheckpointPolicy(2, keep_max=1), "directory": directory, "epochs": 2}
    return train(step, np.float32(0), DATA, **(given | options))


def test_it_is_evaluated_every_so_many_steps_over_all_epochs(tmp_path: Path):
    history = fit(tmp_path, eval_fn=distance, eval_every=4).history
    assert history.evaluated.tolist() == [4, 8, 12]
    assert history.evaluations["far"].tolist() == [1, 3, 7]
    assert history.epochs["eval.far"].tolist() == [1, 7]


def test_an_epoch_without_an_evaluation_has_nan(tmp_path: Path):
    history = fit(tmp_path, eval_fn=distance, eval_every=9).history
    assert np.isnan(history.epochs["eval.far"]).tolist() == [True, False]


@pytest.mark.parametrize(("mode", "at", "value"), [("min", 5, 0), ("max", 12, 7)])
def test_the_best_state_is_kept_in_a_file_that_the_policy_leaves(tmp_path, mode, at, value):
    result = fit(tmp_path, eval_fn=distance, eval_every=1, best="far", best_mode=mode)
    assert result.best is not None
    assert (result.best.step, result.best.value) == (at, value)
    assert result.best.path == tmp_path / "CKP-best.ckpt"
    assert load_checkpoint(tmp_path / "CKP-best.ckpt")[""] == at
    assert [path.name for path in result.checkpoints] == ["CKP-2_6.ckpt"]
    assert f"best: far {value} at step {at}, CKP-best.ckpt" in repr(result)


def test_a_worse_state_after_a_resumption_does_not_replace_the_best(tmp_path: Path):
    options: Any = {"eval_fn": distance, "eval_every": 1, "best": "far"}
    fit(tmp_path, epochs=1, **options)
    result = fit(tmp_path, epochs=3, resume=True, **options)
    assert result.best is not None
    assert (result.best.step, result.best.value) == (5, 0)
    assert load_checkpoint(tmp_path / "CKP-best.ckpt")[""] == 5
    assert result.history.evaluated.tolist() == list(range(1, 19))


def test_without_checkpoints_the_best_is_told_and_has_no_file():
    result = train(step, np.float32(0), DATA, eval_fn=distance, eval_every=1, best="far")
    assert result.best is not None
    assert (result.best.step, result.best.path) == (5, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_every": 0, "eval_fn": distance}, "eval_every: must be at least 1, got 0"),
        ({"eval_every": 2}, "eval_every: there is nothing to evaluate; give eval_fn"),
        ({"best": "far"}, "best: there is nothing to evaluate; give eval_fn"),
        ({"best_mode": "low"}, 'best_mode: must be "min" or "max", got \'low\''),
        ({"best": "near", "eval_fn": distance}, "best: eval_fn gives no 'near', it gives far"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, **options)


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.ones(3), r"float32\[3\]"), (1j, r"complex64\[\]"), ("low", r"a builtins\.str")],
)
def test_what_eval_fn_gives_is_named_if_it_is_not_a_number(value: Any, told: str):
    with pytest.raises(TypeError, match=rf"eval_fn: metrics must be .*\n  far: {told}"):
        train(step, np.float32(0), DATA, eval_fn=lambda state: {"far": value})


def test_what_mindspore_cannot_read_is_refused_unless_asked_for(tmp_path: Path):
    def float8(state: Any, batch: Any) -> tuple[Any, Any]:
        return state, batch

    state = jnp.ones(3, jnp.float8_e4m3fn)
    options: Any = {"policy": CheckpointPolicy(1), "directory": tmp_path}
    with pytest.raises((TypeError, FnckptError), match="portable=False"):
        train(float8, state, DATA, **options)
    train(float8, state, DATA, portable=False, **options)
    result = train(float8, state, DATA, epochs=2, portable=False, resume=True, **options)
    assert result.state.dtype == jnp.float8_e4m3fn
