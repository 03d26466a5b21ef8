"""The command line: what it prints, and its exit codes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fnckpt
from fnckpt.cli import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    tree = {"params": {"w": np.ones((2, 3), np.float32)}, "step": np.int32(1)}
    return fnckpt.save_checkpoint(tree, tmp_path / "a.ckpt")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    params = {"w": np.ones((2, 3), np.float32)}
    sample = np.ones((1, 2), np.float32)
    return fnckpt.export(
        params, lambda p, x: x @ p["w"], sample, "ONNX", file_name=tmp_path / "a"
    ).path


def test_inspect_shows_every_tensor_of_a_checkpoint(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(checkpoint)]) == 0
    printed = capsys.readouterr().out
    assert "2 tensors, 28 bytes" in printed
    assert "params.w" in printed


def test_inspect_shows_the_nodes_and_parameters_of_a_model(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(model)]) == 0
    printed = capsys.readouterr().out
    assert "MatMul" in printed
    assert "1 nodes, by fnckpt" in printed


def test_check_is_0_for_a_good_file_and_1_for_a_damaged_one(
    checkpoint: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (checkpoint, model):
        assert main(["check", str(path)]) == 0
        assert f"{path}: good" in capsys.readouterr().out
        path.write_bytes(path.read_bytes()[:-3])
        assert main(["check", str(path)]) == 1
        assert str(path) in capsys.readouterr().out


def test_convert_goes_through_every_format_and_comes_back_with_every_bit(
    checkpoint: Path, tmp_path: Path
) -> None:
    paths = [checkpoint, *(tmp_path / name for name in ("b.npz", "c.safetensors", "d", "e.ckpt"))]
    for source, destination in pairwise(paths):
        assert main(["convert", str(source), str(destination)]) == 0
    assert paths[-1].read_bytes() == checkpoint.read_bytes()


def test_a_missing_file_is_one_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path / "none.ckpt")]) == 2
    assert capsys.readouterr().err.startswith("fnckpt: ")


def test_a_wrong_call_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fly"])
    assert caught.value.code == 2
