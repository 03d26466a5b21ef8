"""``inspect --stats`` and ``diff`` read what ``train`` writes, and their numbers are right."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints.pytree import save_checkpoint
from fnckpt.cli import main
from fnckpt.showing.diff import differences
from fnckpt.showing.inspect import statistics
from fnckpt.training.loop import train
from fnckpt.training.policy import CheckpointPolicy


def trained(directory: Path, metrics: Any, prefix: str, **options: Any) -> list[Path]:
    state = {"w": jnp.ones((2, 3)), "b": jnp.bfloat16(1), "n": 0}
    data = [np.float32(1), np.float32(2)]
    policy = CheckpointPolicy(1)
    train(
        lambda s, x: (s, metrics(x)), state, data,
        policy=policy, directory=directory, prefix=prefix, **options,
    )  # fmt: skip
    return sorted(directory.glob(f"{prefix}*.ckpt"))


METRICS = {
    "a loss": lambda x: {"loss": x, "ok": x > 1},
    "none": lambda x: None,
    "NaN": lambda x: x * jnp.nan,
}


@pytest.mark.parametrize("metrics", METRICS.values(), ids=METRICS)
def test_stats_and_diff_read_what_train_writes(metrics: Any, tmp_path: Path, capsys: Any):
    options: Any = {"eval_fn": lambda s: {"f": 1.0}, "best": "f", "crc": True}
    files = trained(tmp_path, metrics, "a", **options) + trained(tmp_path, metrics, "bc")
    for file in files:
        assert main(["inspect", "--stats", str(file)]) == 0
        assert main(["inspect", "--stats", "--tree", "--json", str(file)]) == 0
    for file in files[1:]:
        assert main(["diff", str(files[0]), str(file)]) == 1
    assert capsys.readouterr().err == ""


FIGURES = {
    "a text": ("abc", ("", "", "", "", "")),
    "nothing": (np.zeros(0, np.float32), ("", "", "", "", "0")),
    "numbers": (np.array([1, -3, np.nan], np.float32), ("-3", "1", "-1", "3.162", "1")),
    "complex": (np.array([3 + 4j, np.nan], np.complex64), ("", "", "3+4j", "5", "1")),
    "bools": (np.array([True, False]), ("0", "1", "0.5", "1", "0")),
}


@pytest.mark.parametrize("case", FIGURES.values(), ids=FIGURES)
def test_statistics_are_right_or_absent(case: Any, tmp_path: Path):
    value, figures = case
    path = save_checkpoint({"x": value}, tmp_path / "a.ckpt", portable=False)
    assert statistics(path).texts() == [("x", *figures)]


BIG = 1 << 60
DIFFERENCES = {
    "texts": ("digits", "other", "another text"),
    "texts of one length": ("abc", "abd", "another text"),
    "a text and a number": ("abc", 1.0, "another dtype or shape"),
    "integers that float64 cannot tell": (
        np.array([BIG, 1]),
        np.array([BIG + 1, 1]),
        "1 element, by up to 1",
    ),
    "integers of other signs": (
        np.array([-(1 << 63)], np.int64),
        np.array([(1 << 63) - 1], np.int64),
        "1 element, by up to 1.84e+19",
    ),
    "a NaN in one": (
        np.array([1, 2, 3], np.float32),
        np.array([np.nan, 2, 5], np.float32),
        "2 elements, by up to 2, 1 with NaN or an infinity",
    ),
    "only NaN in one": (
        np.array([1], np.float32),
        np.array([np.nan], np.float32),
        "1 element, 1 with NaN or an infinity",
    ),
    "the sign of zero": (
        np.array([0], np.float32),
        np.array([-0.0], np.float32),
        "1 element, by up to 0",
    ),
    "imaginary parts": (
        np.array([1], np.complex64),
        np.array([1 + 2j], np.complex64),
        "1 element, by up to 2",
    ),
    "bools": (np.array([True]), np.array([False]), "1 element, by up to 1"),
    "bfloat16": (jnp.bfloat16(1), jnp.bfloat16(3), "1 element, by up to 2"),
}


@pytest.mark.parametrize("case", DIFFERENCES.values(), ids=DIFFERENCES)
def test_differences_are_right(case: Any, tmp_path: Path):
    a, b, told = case
    for name, value in (("a", a), ("b", b)):
        save_checkpoint({"x": value}, tmp_path / f"{name}.ckpt", portable=False)
    ((_, _, _, found, *_),) = differences(tmp_path / "a.ckpt", tmp_path / "b.ckpt").rows
    assert found == told
    assert differences(tmp_path / "a.ckpt", tmp_path / "a.ckpt").rows == []


@pytest.mark.parametrize("name", ["b.ckpt", "b.safetensors", "b.npz", "b", "b.orbax"])
def test_each_format_of_checkpoints_is_shown_and_compared(name: str, tmp_path: Path, capsys: Any):
    tree = {"w": np.array([[1.0, 3.0]], np.float32), "n": np.array(7), "inner": {"b": np.ones(2)}}
    path = save_checkpoint(tree, tmp_path / "b.ckpt")
    other = tmp_path / name
    assert other == path or main(["convert", str(path), str(other)]) == 0
    for command in (["inspect"], ["inspect", "--stats", "--tree"], ["check"], ["diff", str(path)]):
        assert main([*command, str(other)]) == 0
    shown = capsys.readouterr()
    assert "w" in shown.out
    assert "hold the same" in shown.out
    assert shown.err == ""


def test_what_is_not_a_checkpoint_is_refused_with_what_is(tmp_path: Path, capsys: Any):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").touch()
    for path, told in (
        ("empty", "this directory, which Orbax did not write; it reads .ckpt, .safetensors, .npz"),
        ("a.txt", "files of this suffix; it reads .ckpt"),
        ("none", "No such file or directory"),
        ("none.npz", "No such file or directory"),
        ("none.orbax", "No such file or directory"),
    ):
        assert main(["inspect", str(tmp_path / path)]) == 2
        assert told in capsys.readouterr().err
