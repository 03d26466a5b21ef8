"""Nothing that was asked for is dropped without a word, and a resume says what it found."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy


def fit(**options: Any) -> TrainResult:
    return train(lambda s, x: (s + x, {"loss": x}), 0.0, [np.float32(1)] * 9, **options)


IGNORED = {
    "seconds": (
        {"policy": CheckpointPolicy(seconds=600)},
        "policy: seconds=600 is ignored, because step is 1: every step is saved; give step=None",
    ),
    "keep_per_n_minutes": (
        {"policy": CheckpointPolicy(step=3, keep_per_n_minutes=2)},
        "policy: keep_per_n_minutes=2 is ignored, because keep_max is 5: .* give keep_max=None",
    ),
    "directory": ({"directory": "run"}, "directory: ignored, because without a policy"),
    "prefix": ({"prefix": "digits"}, r"prefix: .* give policy=fnckpt.CheckpointPolicy\(\) too"),
    "both": ({"prefix": "digits", "directory": "run"}, "directory, prefix: ignored"),
    "crc": ({"crc": True}, "crc: ignored"),
    "history_steps": ({"history_steps": 9}, "history_steps: ignored, because without a policy"),
    "a rescue": (
        {"save_on_error": True, "on_checkpoint": print},
        "save_on_error, on_checkpoint: ignored, because without a policy",
    ),
    "a mode": ({"best_mode": "max"}, "best_mode: ignored, because best is None; give best="),
    "async_save": ({"async_save": False, "gather": True}, "gather, async_save: ignored"),
}


@pytest.mark.parametrize("case", IGNORED.values(), ids=IGNORED)
def test_a_setting_that_does_not_count_is_told(case: Any, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    options, message = case
    with pytest.warns(UserWarning, match=message) as caught:
        fit(**options)
    (warning,) = caught
    assert warning.filename == __file__


@pytest.mark.parametrize(
    "policy",
    [
        CheckpointPolicy(),
        CheckpointPolicy(None, 600),
        CheckpointPolicy(0, 600, None, 3),
        CheckpointPolicy(keep_max=None, keep_per_n_minutes=3),
        CheckpointPolicy(10, 600),  # who gives both knows that steps win
    ],
)
def test_settings_that_count_are_not(policy: CheckpointPolicy, tmp_path: Path):
    fit(policy=policy, directory=tmp_path, prefix="digits")


def test_a_resume_that_only_reads_needs_the_directory(tmp_path: Path):
    fit(policy=CheckpointPolicy(), directory=tmp_path)
    fit(directory=tmp_path, resume=True)


# ------------------------------------------------------------------------------------- resuming


def test_a_resume_names_the_checkpoint_and_its_place(tmp_path: Path, capsys: Any):
    fit(policy=CheckpointPolicy(), directory=tmp_path, prefix="digits", epochs=2)
    assert capsys.readouterr() == ("", "")
    options: Any = {"policy": CheckpointPolicy(), "directory": tmp_path, "prefix": "digits"}
    fit(**options, epochs=3, resume=True)
    text = "going on from digits-2_9.ckpt (epoch 2, step 9)\n"
    assert capsys.readouterr() == ("", text)
    fit(**options, epochs=2, resume=True)
    told = capsys.readouterr().err.splitlines()
    assert told[1:] == ["epochs=2 were trained before, nothing is left; give more epochs to go on"]
    fit(**options, epochs=4, resume=True, progress=False)
    assert capsys.readouterr() == ("", "")
    fit(**options, epochs=5, resume=True, progress=True)
    lines = re.split(r"[\r\n]", capsys.readouterr().err)
    assert "going on from digits-4_9.ckpt (epoch 4, step 9)" in [line.strip() for line in lines]


def test_a_resume_that_finds_nothing_says_so(tmp_path: Path, capsys: Any, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    fit(policy=CheckpointPolicy(), directory="run", prefix="CPK", resume=True)
    assert capsys.readouterr().err == "no checkpoint of 'CPK' in run/, starting afresh\n"
    fit(policy=CheckpointPolicy(), directory="run", prefix="CKP", resume=True)
    assert capsys.readouterr().err == (
        "no checkpoint of 'CKP' in run/, starting afresh; there are some of CPK\n"
    )


def test_in_a_notebook_the_line_is_not_red(tmp_path: Path, capsys: Any, monkeypatch: Any):
    monkeypatch.setattr("fnckpt.training.progress.in_notebook", lambda: True)
    from fnckpt.training.progress import say

    say("going on", None)
    assert capsys.readouterr() == ("going on\n", "")
