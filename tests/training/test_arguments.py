"""What ``train`` refuses, and how it says so; nothing is written then."""

import inspect
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.errors import CheckpointMismatch
from fnckpt.training.loop import train
from fnckpt.training.policy import CheckpointPolicy

STATE = {"w": np.zeros((2, 3), np.float32), "n": 0}
DATA = [np.float32(1), np.float32(2)]


def good(state: Any, batch: Any) -> tuple[Any, Any]:
    return {"w": state["w"] + batch, "n": state["n"] + 1}, {"loss": batch}


@dataclass(frozen=True)
class Refused:
    name: str
    error: type[Exception]
    message: str
    step: Callable[[Any, Any], Any] = good
    state: Any = None
    data: Any = None
    options: Any = None


def returns(state: Any = None, metrics: Any = 0.0) -> Callable[[Any, Any], Any]:
    return lambda old, batch: (old if state is None else old | state, metrics)


REFUSED = [
    Refused(
        "another shape",
        TypeError,
        r"differs from the state it was given; return one of the same .*\n"
        r"  w: expected float32\[2, 3\], returned float32\[3, 2\]",
        step=lambda s, b: (s | {"w": s["w"].T}, 0.0),
    ),
    Refused(
        "another dtype",
        TypeError,
        r"  w: expected float32\[2, 3\], returned bfloat16\[2, 3\]",
        step=lambda s, b: (s | {"w": s["w"].astype(jnp.bfloat16)}, 0.0),
    ),
    Refused(
        "a leaf too many and one too few, both named",
        TypeError,
        r"  n: int32\[\], not returned\n  m: returned int32\[\], not expected",
        step=lambda s, b: ({"w": s["w"], "m": s["n"]}, 0.0),
    ),
    Refused(
        "another structure with the same names",
        TypeError,
        r"expected PyTreeDef\(\{'0': \*\}\)\n  returned PyTreeDef\(\(\*,\)\)",
        step=lambda s, b: ((s["0"],), 0.0),
        state={"0": np.zeros(3)},
    ),
    Refused(
        "only a state",
        TypeError,
        r"step_fn: must return \(state, metrics\), returned a dict",
        step=lambda s, b: s,
    ),
    Refused(
        "metrics that are no scalars",
        TypeError,
        r"step_fn: metrics must be scalars of real .*; reduce them, .*\n  a\.b: float32\[2, 3\]",
        step=lambda s, b: (s, {"a": {"b": s["w"]}, "c": b}),
    ),
    Refused(
        "metrics that no checkpoint holds",
        TypeError,
        r"metrics must be .* real numbers.*\n  a: complex64\[\]\n  b: float8_e4m3fn\[\]\n-",
        step=lambda s, b: (s, {"a": b + 1j, "b": b.astype(jnp.float8_e4m3fn), "c": b}),
    ),
    Refused(
        "a state with a text",
        TypeError,
        r"state: leaves that are not arrays; .*\n  name: a builtins\.str",
        state={"name": "x", "w": 1.0},
    ),
    Refused("a state without leaves", ValueError, "state: has no leaf", state={"a": None}),
    Refused(
        "a state with our names",
        ValueError,
        r"state: names that begin with 'fnckpt\.' are reserved, found fnckpt\.epoch",
        state={"fnckpt": {"epoch": 1.0}},
    ),
    Refused(
        "a complex state",
        TypeError,
        r"state: leaves that cannot be saved:\n  w: .*complex64",
        state={"w": np.zeros(2, np.complex64)},
    ),
    Refused(
        "batches with texts",
        TypeError,
        r"batch: leaves that are not arrays; data must give trees of arrays:\s+y: a numpy\.ndarray",
        data=[{"x": np.ones(2), "y": np.array(["cat", "dog"])}],
    ),
    Refused(
        "a dictionary of arrays for an iterable of batches",
        TypeError,
        r"batch: leaves that are not arrays; .*:\n  batch: a builtins\.str",
        data={"x": np.ones(2)},
    ),
    Refused("no data", ValueError, "data: epoch 1 has no batch; give data that is", data=[]),
    Refused(
        "no iterable",
        TypeError,
        "data: must be an iterable or a callable epoch -> iterable, got a int",
        data=3,
    ),
    Refused(
        "a generator for two epochs",
        ValueError,
        r"data: a generator can be read only once, 2 epochs were asked for; give a list",
        data=(x for x in DATA),
        options={"epochs": 2},
    ),
    Refused(
        "a function without the epoch",
        TypeError,
        r"data: a function is called with the number of the epoch, this one cannot be \(too many "
        r"positional arguments\); give lambda epoch",
        data=lambda: DATA,
    ),
    Refused(
        "a function that gives a number",
        TypeError,
        "data: must give an iterable for epoch 1, it gave a int",
        data=lambda epoch: 5,
    ),
    Refused("no epoch", ValueError, "epochs: must be at least 1, got 0", options={"epochs": 0}),
    Refused("epochs of float", TypeError, "epochs: must be an int, got", options={"epochs": 2.0}),
    Refused("epochs of bool", TypeError, "epochs: must be an int, got", options={"epochs": True}),
    Refused(
        "a policy of int",
        TypeError,
        "policy: must be a CheckpointPolicy or None, got a int",
        options={"policy": 5},
    ),
    Refused("a bad prefix", ValueError, "contains '/'", options={"prefix": "a/b"}),
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_a_mistake_is_told_before_anything_is_written(refused: Refused, tmp_path: Path):
    options = {"policy": CheckpointPolicy(), "directory": tmp_path} | (refused.options or {})
    state = STATE if refused.state is None else refused.state
    data = DATA if refused.data is None else refused.data
    with pytest.raises(refused.error, match=refused.message):
        train(refused.step, state, data, **options)
    assert os.listdir(tmp_path) == []


def test_a_generator_serves_one_epoch():
    assert int(train(good, STATE, (x for x in DATA)).state["n"]) == 2


def test_a_callable_that_gives_one_generator_twice_is_told_in_the_second_epoch():
    generator = (x for x in DATA)
    with pytest.raises(ValueError, match="data: epoch 2 has no batch"):
        train(good, STATE, lambda epoch: generator, epochs=2)


def test_a_callable_is_given_the_epochs_from_1():
    asked: list[int] = []

    def data(epoch: int) -> list[np.float32]:
        asked.append(epoch)
        return DATA

    train(good, STATE, data, epochs=3)
    assert asked == [1, 2, 3]


def test_a_file_where_the_directory_should_be_is_told_before_the_first_step(tmp_path: Path):
    (tmp_path / "file").touch()
    ran: list[int] = []
    with pytest.raises(OSError, match=r"cannot write into .*; nothing was trained"):
        train(
            good,
            STATE,
            DATA,
            policy=CheckpointPolicy(),
            directory=tmp_path / "file",
            on_step=lambda *told: ran.append(1),
        )
    assert ran == []


def test_without_a_policy_nothing_is_written_and_no_directory_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="directory, prefix: ignored"):
        result = train(good, STATE, DATA, prefix="/", directory="")
    assert result.checkpoints == []
    assert os.listdir(tmp_path) == []


def test_no_directory_is_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = train(good, STATE, DATA, policy=CheckpointPolicy(2))
    assert result.checkpoints == [tmp_path / "CKP-1_2.ckpt"]


def test_resuming_another_state_names_the_leaves(tmp_path: Path):
    train(good, STATE, DATA, policy=CheckpointPolicy(), directory=tmp_path)
    other = {"w": np.zeros((5, 3), np.float32), "n": 0}
    with pytest.raises(CheckpointMismatch, match=r"w: expected float32 \(5, 3\), found float32"):
        train(good, other, DATA, policy=CheckpointPolicy(), directory=tmp_path, resume=True)


def test_resuming_on_shorter_data_is_told(tmp_path: Path):
    options: Any = {"policy": CheckpointPolicy(), "directory": tmp_path}
    train(good, STATE, DATA, **options)
    for path in tmp_path.glob("*1_2.ckpt"):
        path.rename(tmp_path / "CKP-9_9.bak")
    shorter = [[], DATA]
    with pytest.raises(ValueError, match="data: epoch 1 has 0 batches, the checkpoint was saved"):
        train(good, STATE, lambda epoch: shorter[epoch - 1], epochs=2, resume=True, **options)


@pytest.mark.parametrize("value", [0, 0.0, True, np.int32(3), np.float64(1), jnp.full((3,), 1.0)])
def test_a_state_of_any_scalar_or_weak_array_is_compiled_once(value: Any):
    traces: list[int] = []

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        traces.append(1)
        return {"v": state["v"]}, {"loss": batch}

    train(step, {"v": value}, DATA, epochs=3)
    assert len(traces) == 1


@pytest.mark.parametrize(
    "step",
    [
        lambda s, b: (s * 0 + b, b),  # weak before, strong after
        lambda s, b: (1.0, b),  # the other way round
    ],
)
def test_a_weak_type_that_changes_is_settled_before_the_first_compilation(step: Any):
    traces: list[int] = []

    def counted(state: Any, batch: Any) -> tuple[Any, Any]:
        traces.append(1)
        return step(state, batch)

    train(counted, 0.0, DATA, epochs=3)
    assert len(traces) <= 2  # the first was thrown away, and never compiled


def test_the_clock_is_one_that_nobody_sets():
    """The wall clock jumps: by hand, by NTP."""
    assert inspect.signature(train).parameters["clock"].default is time.monotonic
