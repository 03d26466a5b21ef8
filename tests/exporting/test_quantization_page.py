"""The page on quantization: its blocks run, and what it says came out still comes out."""

import re
from pathlib import Path

from tests.conftest import RunPython

LINE = re.compile(r"^(\S+\.onnx) +([\d,]+) +([\d.]+)% +(\S+)$", re.MULTILINE)


def test_the_blocks_of_the_page_give_the_numbers_of_the_page(
    root: Path, tmp_path: Path, run_python: RunPython
) -> None:
    page = (root / "docs" / "quantization.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    printed = {row[0]: row[1:] for row in LINE.findall(run_python("\n".join(blocks), cwd=tmp_path))}
    told = {row[0]: row[1:] for row in LINE.findall(page)}
    assert list(printed) == list(told)
    assert len(told) == 7
    for name, (size, accuracy, error) in printed.items():
        there = float(size.replace(",", "")) / float(told[name][0].replace(",", ""))
        assert 0.98 < there < 1.02
        assert abs(float(accuracy) - float(told[name][1])) < 1.5
        assert float(error) < 5 * max(float(told[name][2]), 1e-6)
