"""A model may lie in a folder that somebody else has filled."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import fnckpt
from fnckpt.exporting import runtimes

NAMES = ("numpy", "mindspore", "sys", "json", "random", "typing_extensions")


@pytest.mark.parametrize("variable", [None, "", ".", f".:{Path(__file__).parent}"])
def test_a_module_beside_the_model_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    x = np.ones((2, 3), np.float32)
    model = fnckpt.export({}, lambda params, x: x + 1, x, "MINDIR", file_name=tmp_path / "net")
    folder = tmp_path / "downloaded"
    folder.mkdir()
    shutil.copy(model, folder)
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n1 / 0\n")
    monkeypatch.chdir(folder)
    if variable is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", variable)
    (found,) = runtimes.run_mindir("net.mindir", [x])
    assert found.tolist() == (x + 1).tolist()
    assert not (tmp_path / "ran").exists()


def test_every_child_of_the_package_is_isolated(root: Path) -> None:
    starts = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("fnckpt", "ir")
        for path in (root / folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if "sys.executable" in line and '"-P"' not in line and '"-I"' not in line
    ]
    assert starts == []
