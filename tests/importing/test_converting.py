"""Graphs from format to format, compared by running both."""

from pathlib import Path

import numpy as np
import pytest

import fnckpt
from fnckpt.cli import main
from fnckpt.showing.ran import ran
from tests.importing.test_load import X, exported, net, weights


@pytest.mark.parametrize("suffix", [".air", ".mindir", ".onnx"])
def test_an_onnx_file_is_converted_and_computes_the_same(suffix: str, tmp_path: Path) -> None:
    file, target = exported(tmp_path), tmp_path / f"other{suffix}"
    assert main(["convert", str(file.path), str(target)]) == 0
    (found,) = fnckpt.run(target, X)
    np.testing.assert_allclose(found, net(weights(), X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("suffix", [".onnx", ".mindir"])
def test_an_air_file_is_converted_and_computes_the_same(suffix: str, tmp_path: Path) -> None:
    file = fnckpt.export(weights(), net, X, "AIR", file_name=tmp_path / "net")
    target = fnckpt.convert(file.path, tmp_path / f"other{suffix}")
    np.testing.assert_allclose(fnckpt.run(target, X)[0], net(weights(), X), rtol=1e-4, atol=1e-5)


def test_two_formats_are_compared_by_running_both(tmp_path: Path) -> None:
    file, same = exported(tmp_path), tmp_path / "same.air"
    fnckpt.convert(file, same)
    assert main(["diff", str(file.path), str(same)]) == 0
    other = fnckpt.export(
        weights(), lambda p, x: 2 * net(p, x), X, "AIR", file_name=tmp_path / "other"
    )
    assert main(["diff", str(file.path), str(other.path)]) == 1
    assert "by up to" in ran(file.path, other.path).texts()[0][-1]


def test_a_file_is_run_by_jax(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = exported(tmp_path)
    np.savez(tmp_path / "inputs.npz", x=X)
    assert main(["run", "--runtime", "jax", str(file.path), str(tmp_path / "inputs.npz")]) == 0
    assert "4x2" in capsys.readouterr().out


def test_options_of_the_format_are_passed_on(tmp_path: Path) -> None:
    target = tmp_path / "old.onnx"
    fnckpt.convert(exported(tmp_path), target, opset=17)
    assert fnckpt.load_graph(target).metadata["opset"] == "17"
    with pytest.raises(ValueError, match="without options"):
        fnckpt.convert(tmp_path / "a.npz", tmp_path / "b.ckpt", opset=17)


def test_what_is_no_graph_is_not_converted_to_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"graphs are converted from \.air, \.mindir, \.onnx"):
        fnckpt.convert(tmp_path / "a.npz", tmp_path / "b.onnx")
