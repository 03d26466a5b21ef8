"""The decisions alone: properties, and what a policy refuses to be."""

from dataclasses import FrozenInstanceError, fields
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnckpt.training.policy import CheckpointPolicy

settings = st.none() | st.integers(0, 40)
policies = st.builds(CheckpointPolicy, settings, settings, settings, settings)
gaps = st.lists(st.floats(0, 600), max_size=40)


def times(gaps: list[float]) -> list[float]:
    now, when = 0.0, []
    for gap in gaps:
        now += gap
        when.append(now)
    return when


def drive(policy: CheckpointPolicy, when: list[float]) -> tuple[list[int], list[list[int]]]:
    """The steps that are saved, and the files (by step) that are left after each step."""
    saved: list[int] = []
    files: list[int] = []
    left: list[list[int]] = []
    for step, now in enumerate(when, start=1):
        if policy.should_save(step=step, now=now, last_save=when[saved[-1] - 1] if saved else 0.0):
            saved.append(step)
            files = [*files, step]
            gone = policy.to_delete([when[file - 1] for file in files])
            files = [file for at, file in enumerate(files) if at not in gone]
        left.append(files)
    return saved, left


def test_the_defaults_are_the_tutorials():
    assert CheckpointPolicy() == CheckpointPolicy(1, 0, 5, 0)
    assert [field.name for field in fields(CheckpointPolicy)] == [
        "step",
        "seconds",
        "keep_max",
        "keep_per_n_minutes",
    ]


def test_a_policy_is_a_value():
    policy = CheckpointPolicy(32, keep_max=10)
    assert {policy: 1}[CheckpointPolicy(step=32, keep_max=10)] == 1
    with pytest.raises(FrozenInstanceError):
        setattr(policy, "step", 3)  # noqa: B010 - as an assignment, pyright would refuse it


@pytest.mark.parametrize("field", ["step", "seconds", "keep_max", "keep_per_n_minutes"])
@pytest.mark.parametrize("value", [True, 1.0, "1", [1], float("nan")])
def test_a_field_that_is_no_int_is_refused_by_name(field: str, value: Any):
    message = rf"CheckpointPolicy\.{field}: must be an int or None, got .*; give a whole number"
    with pytest.raises(TypeError, match=message):
        CheckpointPolicy(**{field: value})


@pytest.mark.parametrize("field", ["step", "seconds", "keep_max", "keep_per_n_minutes"])
def test_a_negative_field_is_refused_by_name(field: str):
    with pytest.raises(ValueError, match=rf"CheckpointPolicy\.{field}: must be at least 0, got -1"):
        CheckpointPolicy(**{field: -1})


@given(policies, gaps)
def test_the_newest_file_is_never_deleted_and_the_oldest_go_first(policy, gaps):
    when = times(gaps)
    deleted = policy.to_delete(when)
    assert deleted == sorted(set(deleted))
    assert all(0 <= at < len(when) - 1 for at in deleted)
    if policy.keep_max:
        assert deleted == list(range(len(deleted)))


@given(policies, gaps)
def test_deleting_is_done_once(policy, gaps):
    when = times(gaps)
    gone = policy.to_delete(when)
    assert policy.to_delete([at for i, at in enumerate(when) if i not in gone]) == []


@given(policies, gaps)
def test_never_more_than_keep_max_files(policy, gaps):
    _, left = drive(policy, times(gaps))
    if policy.keep_max:
        assert all(len(files) <= policy.keep_max for files in left)
    elif not policy.keep_per_n_minutes:
        assert all(len(files) <= 1 for files in left)


@given(policies, gaps)
def test_the_step_strategy_saves_every_nth_step_whatever_the_clock_says(policy, gaps):
    saved, _ = drive(policy, times(gaps))
    if policy.step:
        assert saved == list(range(policy.step, len(gaps) + 1, policy.step))
    elif not policy.seconds:
        assert saved == []


@given(st.integers(1, 300), gaps)
def test_the_time_strategy_saves_as_soon_as_the_seconds_have_passed(seconds, gaps):
    when = times(gaps)
    saved, _ = drive(CheckpointPolicy(None, seconds), when)
    last = 0.0
    for step, now in enumerate(when, start=1):
        assert (step in saved) == (now - last > seconds)
        last = now if step in saved else last


@given(st.integers(1, 9), gaps)
def test_every_n_minutes_a_file_is_kept_for_good_and_besides_those_only_the_newest(minutes, gaps):
    when = times(gaps)
    _, left = drive(CheckpointPolicy(1, keep_max=None, keep_per_n_minutes=minutes), when)
    for number, files in enumerate(left, start=1):
        *kept, newest = files
        assert newest == number
        for one, two in pairwise(kept):
            assert when[two - 1] - when[one - 1] >= 60 * minutes
        for other in range(1, number):  # no file that went could have been kept
            near = [file for file in kept if abs(when[file - 1] - when[other - 1]) < 60 * minutes]
            assert other in kept or near


@given(policies, gaps, st.floats(-1e9, 1e9))
def test_only_differences_of_time_count(policy, gaps, origin):
    when = [float(round(at)) for at in times(gaps)]
    moved = [at + round(origin) for at in when]
    assert policy.to_delete(when) == policy.to_delete(moved)


@given(policies, st.integers(0, 99), st.integers(0, 99))
def test_the_last_step_is_saved_at_the_end_unless_it_was(policy, step, last):
    due = policy.should_save_at_end(step=step, last_saved_step=last)
    assert due == (bool(policy.step or policy.seconds) and step != last)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (CheckpointPolicy(), ("after every step, and at the end", "the newest 5")),
        (CheckpointPolicy(step=32, keep_max=2), ("after every 32 steps", "the newest 2")),
        (
            CheckpointPolicy(step=0, seconds=60, keep_max=0, keep_per_n_minutes=5),
            ("more than 60 seconds have passed", "one of every 5 minutes, and the newest"),
        ),
        (CheckpointPolicy(step=None, keep_max=None), ("nothing", "the newest alone")),
    ],
)
def test_in_a_notebook_a_policy_says_what_it_does(
    policy: CheckpointPolicy, words: tuple[str, str]
) -> None:
    shown = policy._repr_html_()
    assert all(word in shown for word in words)
