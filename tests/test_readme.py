"""What the READMEs say to do works: its Python, then its commands, in an empty directory."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

READMES = ("README.md", "README.zh.md")
WRITTEN = {
    *("net-graph.meta", "net-4_20.ckpt", "net-5_10.ckpt", "net-5_20.ckpt"),
    *("net.onnx", "net.mindir", "net.air", "net.onnx.html"),
    *("nnx-best.ckpt", "nnx-5_20.ckpt", "nnx.onnx", "nnx.mindir", "nnx.air"),
}


@pytest.mark.parametrize("name", READMES)
def test_a_newcomer_trains_resumes_exports_looks_and_runs(
    name: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in Document.parse(str(root / name), PythonCodeBlockParser()).examples():
        block.evaluate()
    said = capsys.readouterr().out
    assert [f for f in ("ONNX", "MINDIR", "AIR") if f"format     {f}" not in said] == []
    commands = re.findall(r"^fnckpt (.* run/.*)$", (root / name).read_text(), re.MULTILINE)
    outputs = [printed(command) for command in commands]
    assert "params.w" in outputs[0]
    assert all("output" in output for output in outputs[2:])
    assert {path.name for path in (tmp_path / "run").iterdir()} >= WRITTEN


def printed(command: str) -> str:
    """What ``fnckpt COMMAND`` prints."""
    words = [sys.executable, "-m", "fnckpt", *shlex.split(command, comments=True)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", READMES)
def test_every_link_of_the_readme_leads_somewhere(name: str, root: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (root / name).read_text())
    assert [link for link in links if not (root / link).exists()] == []


def test_the_chinese_readme_has_the_sections_tables_code_and_notebooks_of_the_english_one(
    root: Path,
) -> None:
    texts = [(root / name).read_text() for name in READMES]
    for pattern in (r"^## ", r"^\|", r"^```\w*$"):
        english, chinese = (re.findall(pattern, text, re.MULTILINE) for text in texts)
        assert english == chinese
    english, chinese = (set(re.findall(r"notebooks/\w+\.ipynb", text)) for text in texts)
    assert english == chinese
