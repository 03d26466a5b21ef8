"""What every test may use."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before anything imports jax; children inherit it

ROOT = Path(__file__).parent.parent

RunPython = Callable[..., str]


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
