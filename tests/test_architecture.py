"""docs/architecture.md is true."""

import re
from pathlib import Path

from fnckpt.ir.passes.pipeline import PASSES


def page(root: Path) -> str:
    return (root / "docs" / "architecture.md").read_text()


def contract(root: Path) -> list[str]:
    """The lines of the first contract of pyproject.toml, from the top."""
    found = re.search(r"^layers = \[\n(.*?)^\]", (root / "pyproject.toml").read_text(), re.S | re.M)
    assert found
    return [line.strip(' ,"') for line in found[1].splitlines()]


def rooms(root: Path) -> list[str]:
    """The folders of fnckpt that hold Python, with ir, without what git does not know."""
    found = {p.parent for top in ("fnckpt", "ir") for p in (root / top).rglob("*.py")}
    parts = (folder.relative_to(root).parts for folder in found)
    return sorted({part[1] if part[0] == "fnckpt" else "ir" for part in parts if len(part) > 1})


def test_every_room_has_its_paragraph_and_its_line_in_the_contract(root: Path) -> None:
    contract = re.search(
        r"^layers = \[\n(.*?)^\]", (root / "pyproject.toml").read_text(), re.S | re.M
    )
    assert contract
    lines = [line.strip(' ,"') for line in contract[1].splitlines()]
    layers = {name.strip() for line in lines for name in line.split("|")}
    for room in set(rooms(root)) - {"proto"}:
        assert f"**`{room}/`**" in page(root)
        assert room in layers


def test_the_picture_on_the_page_is_the_contract(root: Path) -> None:
    drawn = re.search(r"^```\n( cli .*?)```", page(root), re.S | re.M)
    contract = re.search(
        r"^layers = \[\n(.*?)^\]", (root / "pyproject.toml").read_text(), re.S | re.M
    )
    assert drawn
    assert contract
    names = [
        re.split(r"\s{3,}|$", line.strip().replace("  |  ", " | "))[0]
        for line in drawn[1].splitlines()
    ]
    layers = [line.strip(' ,"') for line in contract[1].splitlines()]
    assert [name for name in names if name] == [line for line in layers if line != "__main__"]


def test_every_file_of_a_room_that_the_page_names_exists(root: Path) -> None:
    files = {path.name for top in ("fnckpt", "ir") for path in (root / top).rglob("*.py")}
    ahead = {"control.py", "reading.py"}  # where the page says that something will live
    named = set(re.findall(r"`(?:[\w./]*/)?(\w+\.py)`", page(root)))
    assert len(named) > 30
    assert named - files - ahead == set()


def test_every_pass_is_on_the_page(root: Path) -> None:
    assert [name for name in PASSES if f"`{name}`" not in page(root)] == []
