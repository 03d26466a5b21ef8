"""docs/architecture.md is true."""

import re
from importlib.util import find_spec
from pathlib import Path

from fnckpt.ir.passes.pipeline import PASSES


def page(root: Path) -> str:
    return (root / "docs" / "architecture.md").read_text()


def test_every_module_that_the_page_names_exists(root: Path) -> None:
    names = re.findall(r"`(fnckpt(?:\.\w+)+)`", page(root))
    assert len(names) > 20
    assert [name for name in names if not is_there(name)] == []


def is_there(name: str) -> bool:
    return find_spec(name) is not None


def test_every_pass_is_on_the_page(root: Path) -> None:
    assert [name for name in PASSES if f"`{name}`" not in page(root)] == []
