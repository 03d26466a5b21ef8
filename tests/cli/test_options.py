"""Options, exit codes, streams and JSON of the command line."""

import argparse
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fnckpt
from fnckpt import extras
from fnckpt.cli import main
from fnckpt.cli.diffing import SAME
from fnckpt.cli.registry import COMMANDS
from fnckpt.exporting.export import export
from fnckpt.ir.targets import TARGETS, target

Captured = pytest.CaptureFixture[str]

NETS = """
import jax.numpy as jnp
import numpy as np
from flax import nnx

model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))


def alone(x):
    return {"scores": model(x)}


def apply(params, x):
    return x @ params["w"]


def wrong_shapes(params, x):
    return x @ jnp.ones((7, 7))


def raises(params, x):
    raise KeyError("no such layer")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets_with_options.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "nets_with_options", raising=False)
    return tmp_path


def exported(*words: str, function: str = "alone", shape: str = "f32[b,4]") -> list[str]:
    return ["export", f"nets_with_options:{function}", "--input", shape, *words]


def said_by(words: list[str], capsys: Captured) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(words)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# What an option of `export` is called on the command line, where that is another name.
ON_THE_COMMAND_LINE = {
    "params": "--params",
    "apply_fn": "function",
    "sample_input": "--input",
    "more": "--input",
    "file_format": "--format",
    "file_name": "--output",
    "metadata": "--no-metadata",
}


def test_every_option_of_export_is_on_the_command_line() -> None:
    named = [n for n in inspect.signature(export).parameters if n != "options"]
    for name in TARGETS:
        named += list(inspect.signature(target(name).encode).parameters)[2:]
    part = argparse.ArgumentParser()
    COMMANDS["export"].configure(part)
    words = {word.strip(",[]") for word in part.format_help().split()}
    wanted = [ON_THE_COMMAND_LINE.get(n, "--" + n.replace("_", "-")) for n in named]
    assert [word for word in wanted if word not in words] == []


def test_the_options_of_export_reach_the_file(folder: Path, capsys: Captured) -> None:
    words = ["-o", "net.onnx", "--input-names", "image", "--output-names", "digits", "--json"]
    words += ["--opset", "21", "--no-metadata", "--keep-params", "--no-optimize", "--report"]
    code, out, _ = said_by(exported(*words, "--verify", "1e-3", "--max-unroll", "3"), capsys)
    assert code == 0
    found = json.loads(out)
    assert found["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["b", 4]}]
    assert found["outputs"] == [{"name": "digits", "dtype": "float32", "shape": ["b", 3]}]
    assert (found["file"], found["report"], found["format"]) == ("net.onnx", "net.onnx.md", "ONNX")
    assert found["nodes"] == found["traced_nodes"] == 3
    assert found["errors"]["digits"] < 1e-6
    assert b"metadata" not in Path("net.onnx").read_bytes()
    assert said_by(exported("-o", "net.mindir", "--optimize", "simplify,fuse"), capsys)[0] == 0
    assert said_by(exported("-o", "net.onnx", "--external-data"), capsys)[0] == 0


def test_a_module_or_a_function_without_parameters_needs_none(
    folder: Path, capsys: Captured
) -> None:
    for function in ("model", "alone"):
        words = exported("--format", "onnx", "-o", "net", "--verify", function=function)
        assert said_by(words, capsys)[0] == 0


@pytest.mark.parametrize(
    ("function", "line", "said"),
    [
        ("wrong_shapes", "return x @ jnp.ones((7, 7))", "TypeError: dot_general requires"),
        ("raises", 'raise KeyError("no such layer")', "KeyError: 'no such layer'"),
        ("apply", 'return x @ params["w"]', "KeyError: 'w'"),
    ],
)
def test_an_error_of_the_users_function_is_one_line_with_its_place(
    folder: Path, function: str, line: str, said: str, capsys: Captured
) -> None:
    words = exported("--format", "ONNX", function=function, shape="f32[2,4]")
    code, out, err = said_by(words, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    number = [text.strip() for text in NETS.splitlines()].index(line) + 1
    place = f"{folder}/nets_with_options.py:{number} in {function}: {line}"
    assert err.startswith(f"fnckpt: nets_with_options:{function}: {place}: {said}")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("os.path:join", "os.path:join: expected str"),
        ("types:SimpleNamespace", "types:SimpleNamespace: apply_fn must be .* got the class"),
        (
            "builtins:repr",
            "builtins:repr: .*returns what is not an array; .* the result: a builtins",
        ),
    ],
)
def test_what_cannot_be_called_so_is_told_in_one_line(
    function: str, told: str, capsys: Captured
) -> None:
    assert main(["export", function, "--input", "f32[2]", "-o", "a.onnx"]) == 2
    said = capsys.readouterr().err
    assert re.match(f"fnckpt: {told}", said)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f(: pass", "broken.py:1: SyntaxError: invalid syntax"),
        ("import not_there_at_all", "broken.py:1 in <module>: import not_there_at_all: ModuleNot"),
        ("\n1 / 0", "broken.py:2 in <module>: 1 / 0: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "it ends the process with 3"),
    ],
)
def test_an_error_of_the_users_module_is_one_line_with_its_place(
    folder: Path, source: str, said: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "broken.py").write_text(source)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    words = ["export", "broken:f", "--input", "f32[1]", "--format", "ONNX"]
    code, out, err = said_by(words, capsys)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


READING = [["inspect"], ["check"], ["diff", "{0}"], ["run", "in.npz"], ["view"], ["serve-view"]]


@pytest.mark.parametrize("words", READING, ids=lambda words: words[0])
@pytest.mark.parametrize("file", ["none.onnx", "a.txt", "a_directory.onnx", "bad.onnx"])
def test_a_fault_of_a_file_is_the_same_for_every_command(
    folder: Path, file: str, words: list[str], capsys: Captured
) -> None:
    np.savez("in.npz", np.zeros(1, np.float32))
    Path("a.txt").write_text("text")
    Path("bad.onnx").write_bytes(b"\xffbad")
    Path("a_directory.onnx").mkdir()
    command, *rest = words
    code, out, err = said_by([command, file, *(word.format(file) for word in rest)], capsys)
    if (command, file) == ("check", "bad.onnx"):  # what it was asked
        assert (code, err) == (1, "")
        return
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("fnckpt: ")
    assert file in err


@pytest.mark.parametrize(
    "words",
    [
        exported("-o", "nowhere/net.onnx"),
        ["view", "net.onnx", "-o", "nowhere/net.html"],
        ["run", "net.onnx", "in.npz", "-o", "nowhere/out.npz"],
        ["convert", "in.npz", "nowhere/out.ckpt"],
    ],
    ids=lambda words: words[0],
)
def test_a_missing_directory_is_named(folder: Path, words: list[str], capsys: Captured) -> None:
    np.savez("in.npz", x=np.zeros((2, 4), np.float32))
    assert main(exported("-o", "net.onnx")) == 0
    code, _, err = said_by(words, capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert "no directory nowhere; make it first" in err
    assert ".tmp" not in err


def test_a_directory_in_the_files_place_is_named(folder: Path, capsys: Captured) -> None:
    Path("net.onnx").mkdir()
    code, _, err = said_by(exported("-o", "net.onnx"), capsys)
    assert code == 2
    assert ".tmp" not in err
    assert [path.name for path in folder.glob(".*")] == []


def test_alone_it_lists_the_commands(capsys: Captured) -> None:
    code, out, _ = said_by([], capsys)
    assert code == 0
    assert [name for name in COMMANDS if name not in out] == []


def test_it_tells_its_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"fnckpt {fnckpt.__version__}\n"


def test_ctrl_c_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(path: Path) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("fnckpt.showing.inspect.check_file", interrupted)
    assert main(["check", "a.onnx"]) == 130
    assert capsys.readouterr().err == "fnckpt: stopped by Ctrl-C\n"


def test_json_has_numbers_lists_and_the_same_keys_for_every_file(
    folder: Path, capsys: Captured
) -> None:
    keys = []
    for file_format in ("ONNX", "MINDIR", "AIR"):
        words = exported("--format", file_format, "-o", "net", shape="f32[2,4]")
        assert main(words) == 0
        _, out, _ = said_by(["inspect", f"net.{file_format.lower()}", "--json"], capsys)
        tables = {table["name"]: table for table in json.loads(out)}
        assert tables["inputs"]["rows"] == [{"name": "x", "dtype": "float32", "shape": [2, 4]}]
        assert tables["costs"]["flops"] == sum(row["flops"] for row in tables["costs"]["rows"])
        assert isinstance(tables["parameters"]["bytes"], int)
        assert all(isinstance(row["count"], int) for row in tables["nodes"]["rows"])
        keys.append({name: sorted(table) for name, table in tables.items()})
    assert keys[0] == keys[1] == keys[2]
    np.savez("in.npz", np.ones((2, 4), np.float32))
    (outputs,) = json.loads(said_by(["run", "net.onnx", "in.npz", "--json"], capsys)[1])
    assert outputs["rows"][0]["shape"] == [2, 3]
    assert all(isinstance(value, float) for value in outputs["rows"][0]["first_elements"])
    assert json.loads(said_by(["check", "net.onnx", "--json"], capsys)[1])["problems"] == []


def test_json_of_a_checkpoint_and_of_a_difference_has_numbers(
    folder: Path, capsys: Captured
) -> None:
    one = {"w": np.ones((2, 3), np.float32), "s": np.int32(1), "none": np.zeros(0, np.float32)}
    fnckpt.save_checkpoint(one, "a.ckpt")
    fnckpt.save_checkpoint(one | {"w": np.full((2, 3), np.inf, np.float32)}, "b.ckpt")
    (table,) = json.loads(said_by(["inspect", "a.ckpt", "--json"], capsys)[1])
    assert (table["name"], table["count"], table["bytes"]) == ("tensors", 3, 28)
    rows = {row["name"]: row for row in table["rows"]}
    assert (rows["w"]["shape"], rows["s"]["shape"], rows["w"]["bytes"]) == ([2, 3], [], 24)
    code, out, _ = said_by(["diff", "a.ckpt", "b.ckpt", "--json"], capsys)
    ((row,),) = (table["rows"] for table in json.loads(out))
    assert (code, row["what"], row["elements"]) == (1, "w", 6)
    assert row["largest"] is None  # JSON has no infinity
    (table,) = json.loads(said_by(["inspect", "a.ckpt", "--stats", "--json"], capsys)[1])
    assert {row["name"]: row["least"] for row in table["rows"]} == {"w": 1, "s": 1, "none": None}


def test_json_has_every_row_and_a_table_the_first_ones(folder: Path, capsys: Captured) -> None:
    weights = {f"w{i:03}": np.full(2, i, np.float32) for i in range(250)}
    fnckpt.export(
        weights, lambda p, x: [x + w for w in p.values()], np.ones(2, np.float32), "AIR",
        file_name="many",
    )  # fmt: skip
    tables = json.loads(said_by(["inspect", "many.air", "--json"], capsys)[1])
    assert {t["name"]: len(t["rows"]) for t in tables}["outputs"] == 250
    assert "..." in said_by(["inspect", "many.air"], capsys)[1]


def test_a_table_in_a_pipe_is_a_line_a_row(folder: Path) -> None:
    name = "a" * 150
    fnckpt.save_checkpoint({name: np.ones(2, np.float32)}, "a.ckpt")
    command = [sys.executable, "-m", "fnckpt", "inspect", "a.ckpt"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = (line for line in done.stdout.splitlines() if name in line)
    assert row.split() == [name, "float32", "2", "8"]


def test_a_meta_file_is_drawn_and_compared(folder: Path, capsys: Captured) -> None:
    def step(state: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return state + batch, {"loss": (state * batch).sum()}

    def other(state: np.ndarray, batch: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return state - batch, {"loss": (state * batch).sum()}

    policy = fnckpt.CheckpointPolicy()
    for prefix, function in (("a", step), ("b", other)):
        batches = [np.ones(2, np.float32)]
        fnckpt.train(
            function, np.ones(2, np.float32), batches, policy=policy, directory=".", prefix=prefix
        )
    assert main(["view", "a-graph.meta"]) == 0
    page = Path("a-graph.meta.html").read_text()
    assert "<svg" in page
    assert "add" in page
    assert said_by(["diff", "a-graph.meta", "a-graph.meta"], capsys)[0] == 0
    code, out, _ = said_by(["diff", "a-graph.meta", "b-graph.meta"], capsys)
    assert code == 1
    assert "operator sub" in out


def test_graphs_that_differ_in_numbers_alone_are_told_apart(folder: Path, capsys: Captured) -> None:
    sample = np.ones(2, np.float32), np.int32(1)
    for name, factor in (("a", 1), ("b", 2)):
        weights = {"w": np.full(2, factor, np.float32)}
        fnckpt.export(weights, lambda p, x, n: p["w"] * x * n, sample, "AIR", file_name=name)
    code, out, _ = said_by(["diff", "a.air", "a.air"], capsys)
    assert (code, out) == (0, f"a.air and a.air {SAME[True, False]}\n")
    code, out, _ = said_by(["diff", "a.air", "b.air"], capsys)
    assert code == 1
    assert "1 of 1 outputs differ" in out


STEPS: dict[str, tuple[Callable[..., Any], Callable[..., Any], str]] = {
    "an attribute": (lambda s, b: s + b.sum(0), lambda s, b: s + b.sum(1), "axes of reduce_sum 1"),
    "a literal": (lambda s, b: s * 0.5 + b[0], lambda s, b: s * 0.25 + b[0], "float32[] 0.25"),
}


@pytest.mark.parametrize("what", STEPS)
def test_steps_that_differ_in_their_numbers_alone_are_told_apart(
    what: str, folder: Path, capsys: Captured
) -> None:
    *functions, told = STEPS[what]
    policy, state = fnckpt.CheckpointPolicy(), np.ones(2, np.float32)
    for prefix, function in zip(("a", "b"), functions, strict=True):
        step = lambda s, batch, function=function: (function(s, batch), {})  # noqa: E731
        batches = [np.ones((2, 2), np.float32)]
        fnckpt.train(step, state, batches, policy=policy, directory=".", prefix=prefix)
    code, out, _ = said_by(["diff", "a-graph.meta", "b-graph.meta"], capsys)
    assert code == 1
    assert told in out


def test_every_missing_library_is_named_with_the_command_that_installs_it(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    fnckpt.save_checkpoint({"w": np.ones(2, np.float32)}, "a.ckpt")
    absent = {"cryptography", "rich", "sklearn", "onnxruntime"}
    monkeypatch.setattr(extras, "is_installed", lambda module: module not in absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fnckpt\[crypto\]'"):
        fnckpt.save_checkpoint({"w": np.ones(2)}, "b.ckpt", enc_key=bytes(16))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fnckpt\[crypto\]'"):
        fnckpt.load_checkpoint("a.ckpt", dec_key=bytes(16))
    for words, extra in ((["inspect", "a.ckpt"], "cli"), (["demo"], "demo")):
        code, _, err = said_by(words, capsys)
        assert (code, err.count("\n")) == (2, 1)
        assert f"pip install 'fnckpt[{extra}]'" in err


def test_a_library_that_is_missed_by_surprise_is_named_with_its_command(
    folder: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(path: Path) -> ModuleType:
        raise ModuleNotFoundError("No module named 'safetensors'", name="safetensors.numpy")

    monkeypatch.setattr("fnckpt.showing.inspect.check_file", missing)
    assert main(["check", "a.onnx"]) == 2
    assert "pip install 'fnckpt[safetensors]'" in capsys.readouterr().err


def test_the_table_of_the_demo_fits_80_columns_where_nothing_is_installed(
    capsys: Captured,
) -> None:
    from fnckpt.demo import NOT_INSTALLED, Row
    from fnckpt.showing.tables import print_table

    rows = [
        Row("digits-12_22.ckpt", 79_061, None, "JAX, restored", 0.9889, None),
        *(Row(f"digits.{n.lower()}", 133_254, 114, NOT_INSTALLED, None, None) for n in TARGETS),
    ]
    header = ("file", "bytes", "nodes", "runtime", "accuracy", "max error")
    print_table(header, [row.cells() for row in rows])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_params_are_read_from_every_format_of_checkpoints(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("named.py").write_text("def net(params, x):\n    return x @ params['layer']['w']\n")
    fnckpt.save_checkpoint({"layer": {"w": np.ones((4, 3), np.float32)}}, "p.ckpt")
    for name in ("p.npz", "p.safetensors"):
        fnckpt.convert("p.ckpt", name)
    for name in ("p.npz", "p.ckpt", "p.safetensors"):
        call = ["export", "named:net", "--params", name, "--input", "f32[2,4]", "-o", "named.onnx"]
        assert main(call) == 0, capsys.readouterr().err
        assert "layer.w" in said_by(["inspect", "named.onnx"], capsys)[1]
