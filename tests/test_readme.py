"""The README's example runs as it stands."""

import re
from pathlib import Path

from tests.conftest import RunPython


def test_the_example_trains_and_exports(root: Path, tmp_path: Path, run_python: RunPython) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    printed = run_python(example, cwd=tmp_path)
    assert "format     MINDIR" in printed
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"net-graph.meta", "net-2_20.ckpt", "net-3_10.ckpt", "net-3_20.ckpt"} <= written
    assert "net.mindir" in written


def test_every_link_of_the_readme_leads_somewhere(root: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (root / "README.md").read_text())
    assert [link for link in links if not (root / link).exists()] == []
