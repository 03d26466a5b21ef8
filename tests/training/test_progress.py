"""What a person sees of a training: in a terminal, in a log, in a notebook, after Ctrl-C."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tqdm.std import tqdm

from fnckpt import CheckpointPolicy, train
from fnckpt.training import progress
from fnckpt.training.progress import Bar


def step(state, batch):
    return state + batch, {"loss": state}


def ones(epoch):
    """No length."""
    yield from [np.float32(1)] * 3


def shown(directory, data=ones, **options) -> str:
    screen = io.StringIO()
    given: dict[str, Any] = {"policy": CheckpointPolicy(1), "directory": directory, "epochs": 2}
    with redirect_stderr(screen):
        train(step, np.float32(0), data, **(given | options))
    return screen.getvalue()


LINE = (
    r"epoch {0}/2: 3 steps, \d+\.\d s, [\d.e+]+ step/s, "
    r"loss {1}, eval.error {2}, saved CKP-{0}_3.ckpt\n"
)


def test_a_resume_behind_the_last_step_of_an_epoch_tells_no_rate_of_nothing(tmp_path):
    class Stopped(Exception):
        pass

    def stop(step, state, metrics):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        shown(tmp_path, on_step=stop)
    line = shown(tmp_path, progress="lines", resume=True).splitlines()[1]
    assert line == "epoch 1/2: no step was left, loss 1, saved CKP-1_3.ckpt"


def test_one_step_is_told_as_one(tmp_path):
    text = shown(tmp_path, [np.float32(1)], progress="lines")
    assert re.match(r"epoch 1/2: 1 step, \d", text)


@pytest.mark.parametrize("kind", [True, "lines"])
def test_an_epoch_leaves_one_line(tmp_path, kind):
    text = shown(tmp_path, progress=kind, eval_fn=lambda state: {"error": state * 2})
    kept = [line.split("\r")[-1] + "\n" for line in text.split("\n") if "steps," in line]
    assert len(kept) == 2
    for line, expected in zip(kept, [(1, "1", "6"), (2, "4", "12")], strict=True):
        assert re.fullmatch(LINE.format(*expected), line)


def test_a_log_has_the_lines_and_nothing_else(tmp_path):
    text = shown(tmp_path, progress="lines")
    assert len(text.splitlines()) == 2
    assert not {"\r", "\x1b", "█"} & set(text)


def test_a_terminal_is_left_with_the_lines_alone(tmp_path):
    text = shown(tmp_path, progress=True)
    rows = [row.split("\r")[-1].strip() for row in text.split("\n")]
    assert [row for row in rows if row] == [row for row in rows if row.startswith("epoch")]
    assert len([row for row in rows if row]) == 2


def test_evaluations_are_in_the_bar(tmp_path):
    text = shown(tmp_path, progress=True, eval_fn=lambda s: {"error": s}, eval_every=2)
    assert re.search(r"epoch 1/2.*step.*loss.*eval\.error 2", text)


def test_the_total_is_known_from_the_second_epoch(tmp_path):
    text = shown(tmp_path, progress=True)
    bars = [part for part in re.split(r"[\r\n]", text) if part.startswith("epoch")]
    assert not any("/3" in bar for bar in bars if "epoch 1/2" in bar)
    assert any("3/3" in bar for bar in bars if "epoch 2/2" in bar)


def test_a_total_of_an_epoch_with_a_length_is_not_kept_for_one_without(tmp_path):
    text = shown(
        tmp_path, lambda epoch: [np.float32(1)] * 4 if epoch == 1 else ones(epoch), progress=True
    )
    assert "4/4" in text
    assert re.search(r"epoch 2/2: .*/4", text)  # the best guess


def test_the_rate_after_a_resume_counts_only_what_was_done_since():
    screen = io.StringIO()
    drawn = tqdm(unit="step", mininterval=0, file=screen)
    bar = Bar(2, drawn)
    bar.start_epoch(2, steps=200_000, done=100_000)
    time.sleep(0.05)
    for _ in range(3):
        bar.step(dict)
    bar.refresh({})
    assert drawn.n == 100_003
    assert drawn.format_dict["rate"] is None or drawn.format_dict["rate"] < 1000
    assert float(re.findall(r"([\d.]+)step/s", screen.getvalue())[-1]) < 1000


def test_a_notebook_gets_nothing_on_stderr_which_it_shows_red(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    out = io.StringIO()
    with redirect_stdout(out):
        assert shown(tmp_path) == ""
    assert "epoch 2/2: 3 steps" in out.getvalue()


def test_another_progress_is_refused(tmp_path):
    with pytest.raises(ValueError, match='progress: must be True, False, "lines" or None, got'):
        shown(tmp_path, progress="line")


# --------------------------------------------------------------------------------------- Ctrl-C


def sent(number, at=2):
    def data(epoch):
        for place in range(4):
            if place == at:
                os.kill(os.getpid(), number)
            yield np.float32(1)

    return data


def test_ctrl_c_names_the_file_and_how_to_go_on(tmp_path):
    with pytest.raises(KeyboardInterrupt) as raised:
        shown(tmp_path, sent(signal.SIGINT))
    file = tmp_path / "CKP-1_3.ckpt"
    assert str(raised.value) == (
        f"stopped by Ctrl-C in epoch 1 after step 3; saved {file}; "
        "the same call with resume=True goes on"
    )
    assert file.exists()


def test_ctrl_c_without_a_policy_says_that_nothing_is_saved(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 3; nothing is saved, train was given"):
        train(step, np.float32(0), sent(signal.SIGINT))


def test_sigterm_tells_the_same_in_a_log(tmp_path):
    screen = io.StringIO()
    with redirect_stderr(screen), pytest.raises(SystemExit) as raised:
        train(
            step,
            np.float32(0),
            sent(signal.SIGTERM),
            policy=CheckpointPolicy(1),
            directory=tmp_path,
            progress="lines",
        )
    assert raised.value.code == 143
    assert screen.getvalue().startswith("stopped by SIGTERM in epoch 1 after step 3; saved ")
    assert len(screen.getvalue().splitlines()) == 1


def test_the_last_line_of_a_script_that_is_interrupted_is_that_line(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, numpy as np, fnckpt\n"
        "data = (os.kill(os.getpid(), signal.SIGINT) or b for b in [np.float32(1)] * 3)\n"
        "fnckpt.train(lambda s, b: (s + b, {}), 0.0, data, directory='run',\n"
        "             policy=fnckpt.CheckpointPolicy(1))\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("KeyboardInterrupt: stopped by Ctrl-C in epoch 1 after step 1; saved ")
    assert "During handling" not in done.stderr


def test_a_history_prints_as_a_summary(tmp_path):
    result = train(
        step, np.float32(0), ones, epochs=2, eval_fn=lambda state: {"error": state}, progress=False
    )
    assert str(result.history) == (
        "History: 6 steps, 2 epochs, 2 evaluations\n"
        "  loss: first 0, last 5, from 0 to 5\n"
        "  eval.error: first 3, last 6, from 3 to 6"
    )
