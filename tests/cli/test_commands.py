"""The commands that export, run and compare, on real files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fnckpt
from fnckpt.cli import main
from fnckpt.cli.registry import COMMANDS

Captured = pytest.CaptureFixture[str]

NETS = """
def apply(params, x):
    return x @ params["kernel"] + params["bias"]
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    layer = {"kernel": np.ones((2, 3), np.float32), "bias": np.arange(3, dtype=np.float32)}
    return fnckpt.save_checkpoint({"params": layer, "step": np.int32(1)}, tmp_path / "a.ckpt")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_of_a_test.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(
    checkpoint: Path, file_format: str, name: str = "net", shape: str = "f32[4,2]"
) -> list[str]:
    words = ["export", "nets_of_a_test:apply", "--params", str(checkpoint), "--part", "params"]
    return [*words, "--input", shape, "--format", file_format, "-o", name]


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_function_is_exported_and_run_by_the_runtime_of_its_format(
    checkpoint: Path, folder: Path, file_format: str, capsys: Captured
) -> None:
    assert main(exported(checkpoint, file_format)) == 0
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(folder / "in.npz", x)
    model = f"net.{file_format.lower()}"
    assert main(["run", model, "in.npz", "-o", "out.npz"]) == 0
    assert "4x3" in capsys.readouterr().out
    with np.load(folder / "out.npz") as held:
        (found,) = (held[name] for name in held.files)
    np.testing.assert_allclose(found, x.sum(1, keepdims=True) + np.arange(3), rtol=1e-6)


def test_export_takes_a_type_and_fast_math(
    checkpoint: Path, folder: Path, capsys: Captured
) -> None:
    assert main([*exported(checkpoint, "ONNX"), "--dtype", "float16", "--fast-math"]) == 0
    assert "float16: 2 weights, 1 operators; in float32: 0 weights" in capsys.readouterr().out
    assert main([*exported(checkpoint, "ONNX"), "--dtype", "half"]) == 2
    assert "dtype must be one of float16, bfloat16 or None" in capsys.readouterr().err


@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR"])
def test_a_size_with_a_name_stays_open(
    checkpoint: Path, folder: Path, file_format: str, capsys: Captured
) -> None:
    assert main(exported(checkpoint, file_format, shape="f32[b, 2]")) == 0
    assert "float32[b,2]" in capsys.readouterr().out
    for size in (1, 3):
        np.savez(folder / "in.npz", np.zeros((size, 2), np.float32))
        assert main(["run", f"net.{file_format.lower()}", "in.npz"]) == 0
        assert f"{size}x3" in capsys.readouterr().out


def test_run_names_the_inputs_that_do_not_fit(
    checkpoint: Path, folder: Path, capsys: Captured
) -> None:
    main(exported(checkpoint, "ONNX"))
    np.savez(folder / "one.npz", np.zeros((3, 2), np.float32))
    np.savez(folder / "two.npz", np.zeros(1), np.zeros(1))
    capsys.readouterr()
    assert main(["run", "net.onnx", "one.npz"]) == 2
    assert "the input x: float32[4,2], given float32[3, 2]" in capsys.readouterr().err
    assert main(["run", "net.onnx", "two.npz"]) == 2
    assert "takes 1 inputs (x: float32[4,2]), 2 given" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nets_of_a_test", "--input", "f32[1]"], "a function is given as module:function"),
        (["no_such_module:f", "--input", "f32[1]"], "No module named 'no_such_module'"),
        (["nets_of_a_test:fly", "--input", "f32[1]"], "has no function fly"),
        (["nets_of_a_test:apply", "--input", "f32"], "give dtype and shape like f32"),
        (["nets_of_a_test:apply", "--input", "f31[2]"], "float31 is not a dtype"),
        (["nets_of_a_test:apply", "--input", "f32[b,+]"], "syntax error in symbolic shape"),
        (["nets_of_a_test:apply", "--input", "f32[1]", "--part", "x"], "have no x there"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    folder: Path, words: list[str], said: str, capsys: Captured
) -> None:
    assert main(["export", *words, "--format", "ONNX"]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1


def test_equal_checkpoints_are_0_and_others_1_with_what_differs(
    checkpoint: Path, tmp_path: Path, capsys: Captured
) -> None:
    layer = {"kernel": np.full((2, 3), 1.5, np.float32), "scale": np.ones(3, np.float32)}
    tree = {"params": layer, "step": np.int64(1)}
    other = fnckpt.save_checkpoint(tree, tmp_path / "b.ckpt")
    assert main(["diff", str(checkpoint), str(checkpoint)]) == 0
    capsys.readouterr()
    assert main(["diff", str(checkpoint), str(other), "--json"]) == 1
    (table,) = json.loads(capsys.readouterr().out)
    found = {row["what"]: row["difference"] for row in table["rows"]}
    assert found == {
        "params.kernel": "6 elements, by up to 0.5",
        "params.bias": "missing in b",
        "params.scale": "missing in a",
        "step": "another dtype or shape",
    }


def test_two_graphs_differ_by_values_and_operators(
    checkpoint: Path, folder: Path, capsys: Captured
) -> None:
    main(exported(checkpoint, "ONNX"))
    main(exported(checkpoint, "ONNX", "wide"))
    function = lambda p, x: x @ p["kernel"]  # noqa: E731
    kernel = {"kernel": np.ones((2, 3), np.float32)}
    fnckpt.export(kernel, function, np.ones((4, 2), np.float32), "ONNX", file_name="less")
    assert main(["diff", "net.onnx", "wide.onnx"]) == 0
    capsys.readouterr()
    assert main(["diff", "net.onnx", "less.onnx"]) == 1
    assert "parameter bias" in capsys.readouterr().out
    assert main(["diff", "net.onnx", str(checkpoint)]) == 2


def test_statistics_and_tree_show_numbers_and_sums(checkpoint: Path, capsys: Captured) -> None:
    assert main(["inspect", str(checkpoint), "--stats", "--tree", "--json"]) == 0
    tree, statistics = json.loads(capsys.readouterr().out)
    parts = {row["name"].strip(): (row["tensors"], row["bytes"]) for row in tree["rows"]}
    assert parts["params"] == (2, 36)
    assert parts["a.ckpt"] == (3, 40)
    figures = {row["name"]: row for row in statistics["rows"]}
    assert figures["params.bias"]["greatest"] == 2
    assert figures["params.bias"]["mean"] == 1


def test_a_name_in_brackets_is_shown_as_it_is(tmp_path: Path, capsys: Captured) -> None:
    path = fnckpt.save_checkpoint({"[bold]w[/]": np.ones(2)}, tmp_path / "a.ckpt")
    assert main(["inspect", str(path)]) == 0
    assert "[bold]w[/]" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(checkpoint: Path) -> None:
    command = f"{sys.executable} -m fnckpt inspect {checkpoint} | head -n 0"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_every_command_says_what_it_does(capsys: Captured) -> None:
    for name, command in COMMANDS.items():
        with pytest.raises(SystemExit) as left:
            main([name, "--help"])
        assert left.value.code == 0
        assert command.help.split()[0] in capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_complete_every_command(shell: str) -> None:
    command = [sys.executable, "-m", "shtab", f"--shell={shell}", "fnckpt.cli.parser"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a"), ("x", "a.b.c", "a.b")])
def test_an_array_with_the_name_of_a_part_is_refused(names: tuple[str, ...]) -> None:
    from fnckpt.cli.exports import nested

    with pytest.raises(ValueError, match=r"a nested dict cannot hold both names: a(\.b)? and a\.b"):
        nested(dict.fromkeys(names, 1))
    assert nested({"a.b": 1, "a.c": 2, "ab": 3}) == {"a": {"b": 1, "c": 2}, "ab": 3}
