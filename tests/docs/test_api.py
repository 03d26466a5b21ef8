"""The page of the API, the guides and the package name the same things."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import fnckpt
from tests.conftest import ROOT

GUIDES = [
    ROOT / "README.md",
    *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / n for n in ("architecture.md",)}),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
IMPORTED = re.compile(r"^from (fnckpt(?:\.\w+)*) import ([\w, ]+)$", re.M)
CALLED = re.compile(r"(?<![\w./-])fnckpt\.(\w+)(?=\(|`)")
KEYS = {"complex", "dtypes", "part"}  # entries of files, whose names begin like attributes


def listed() -> set[str]:
    """What docs/api.md names, without the package."""
    page = (ROOT / "docs" / "api.md").read_text()
    return {name.removeprefix("fnckpt.") for name in re.findall(r"^::: (\S+)$", page, re.M)}


def text_of(page: Path) -> str:
    """A page; of a notebook, what people wrote into its cells."""
    if page.suffix != ".ipynb":
        return page.read_text()
    return "\n".join("".join(cell["source"]) for cell in json.loads(page.read_text())["cells"])


def used_in(text: str) -> set[str]:
    """The names of fnckpt that a text imports or calls, without the package."""
    found = set(CALLED.findall(text)) - KEYS
    for module, names in IMPORTED.findall(text):
        inner = module.removeprefix("fnckpt").lstrip(".")
        found |= {".".join(filter(None, (inner, n.strip()))) for n in names.split(",")}
    return found


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_a_guide_uses_only_what_the_page_of_the_api_lists(guide: Path) -> None:
    assert used_in(text_of(guide)) - listed() == set()


def test_the_page_lists_every_public_name() -> None:
    assert set(fnckpt.__all__) - {"__version__"} - listed() == set()


def test_everything_on_the_page_is_public_or_of_a_module_that_the_guides_use() -> None:
    outside = {name for name in listed() if "." not in name} - set(fnckpt.__all__)
    assert outside == set()
    for name in listed():
        module, _, attribute = f"fnckpt.{name}".rpartition(".")
        assert hasattr(import_module(module), attribute)
