"""What every test may use."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before anything imports jax; children inherit it

ROOT = Path(__file__).parent.parent

RunPython = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--each", type=int, default=1, metavar="N",
        help="of the tests that compare cases in every runtime, only each N-th, others each day",
    )  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the part of the conformance tests that ``--each`` asks for."""
    each: int = config.option.each
    today = date.today().toordinal()
    cases = [item for item in items if "conformance" in item.path.parts]
    left_out = {id(item) for at, item in enumerate(cases) if at % each != today % each}
    config.hook.pytest_deselected(items=[item for item in items if id(item) in left_out])
    items[:] = [item for item in items if id(item) not in left_out]


def pytest_collection_finish() -> None:
    """The garbage collector need not look at thousands of cases again: a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """``run_python(code, *arguments, cwd=ROOT)``: what ``code`` prints in a child process.

    For MindSpore, which may end the whole process on a bad file, and for tests of imports.
    """

    def run(code: str, *arguments: object, cwd: Path = ROOT) -> str:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        child = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        assert child.returncode == 0, f"the child ended with {child.returncode}:\n{child.stderr}"
        return child.stdout

    return run


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the clone."""
    return ROOT
