"""Every notebook runs from top to bottom in a fresh kernel."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NO_WHEEL = "ERROR: No matching distribution found"  # pip's words, where it is offline too
NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(autouse=True)
def _compiled_once(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels and the processes that they start share what XLA compiles."""
    cache = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(cache))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


@pytest.mark.filterwarnings("default::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_its_stored_outputs_hold_no_error(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "a cell was never run before it was stored"
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert "error" not in kinds
    try:
        NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    except CellExecutionError:
        if any(NO_WHEEL in str(output) for cell in code for output in cell.outputs):
            pytest.skip(f"{path.name} needs a package index, and pip reaches none")
        raise


def test_the_readme_links_every_notebook(root: Path) -> None:
    text = (root / "README.md").read_text()
    assert {path.name for path in NOTEBOOKS} == set(re.findall(r"notebooks/(\w+\.ipynb)", text))
    assert len(NOTEBOOKS) == 9
