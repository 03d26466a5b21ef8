"""The pages: every block of Python in them runs, and the site builds without a warning."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

from fnckpt.ir.lowering import RULES
from tests.conftest import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty directory, and the rules without those that a page registers."""
    monkeypatch.chdir(tmp_path)
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


@pytest.mark.usefixtures("_as_it_was")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    for block in Document.parse(str(page), PythonCodeBlockParser()).examples():
        block.evaluate()


def test_the_site_builds_without_a_warning(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path]
    environment = os.environ | {"PYTHONPATH": str(root), "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    assert "Train" in (tmp_path / "api" / "index.html").read_text()
