"""What is built from the sources: nothing is missing, and nothing lies outside ``fnckpt/``."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

SOURCES = ("fnckpt", "ir", "proto")
LINKS = {"fnckpt/ir": "../ir", "fnckpt/proto": "../proto"}


def installed_name(source: str) -> str:
    """Where the file ``source`` of the clone is in site-packages."""
    return source if source.startswith("fnckpt/") else f"fnckpt/{source}"


@pytest.fixture(scope="module")
def listed(root: Path) -> list[str]:
    """The files of the clone that git has or would take, relative to its root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    names = sorted(set(output.split("\0")) - {""})
    return [name for name in names if os.path.lexists(root / name)]


@pytest.fixture(scope="module")
def wheel(root: Path, listed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that is built from the sdist of a copy of the clone."""
    clone = tmp_path_factory.mktemp("clone")
    for name in listed:
        copy = clone / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_symlink():
            copy.symlink_to(os.readlink(root / name))
        else:
            copy.write_bytes((root / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", clone / "dist", clone],
        check=True,
        capture_output=True,
    )
    (built,) = (clone / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv that has the wheel, and our own site-packages behind it."""
    venv = tmp_path_factory.mktemp("venv")
    python = venv / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install = ["install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
    (site_packages,) = venv.glob("lib/python3*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "dependencies.pth").write_text("\n".join(ours))
    return python


def test_the_wheel_holds_the_listed_sources_and_nothing_else(wheel, listed):
    with zipfile.ZipFile(wheel) as file:
        built = {name for name in file.namelist() if ".dist-info/" not in name}
    sources = {name for name in listed if name.split("/")[0] in SOURCES} - set(LINKS)
    assert built == {installed_name(name) for name in sources}


def test_the_wheel_carries_the_licence_and_what_is_not_python(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "fnckpt/py.typed" in names
    assert "fnckpt/ir/targets/air/prototypes.json.gz" in names


def test_the_sdist_holds_what_builds_the_wheel_and_its_papers(wheel, listed):
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    papers = {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
    built = {installed_name(name) for name in listed if name.split("/")[0] in SOURCES}
    inside = {installed_name(name) for name in names if name.split("/")[0] in SOURCES}
    assert papers <= names
    assert inside >= built - set(LINKS)
    assert not {name.split("/")[0] for name in names} & {"tests", "notebooks", "benchmarks"}


def test_both_archives_are_fit_for_an_index(wheel):
    command = [sys.executable, "-m", "twine", "check", "--strict", *wheel.parent.iterdir()]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout
    assert child.stdout.count("PASSED") == 2


def test_the_version_is_written_in_one_place_and_has_a_place_in_the_changelog(root, wheel):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert wheel.name.startswith(f"fnckpt-{project['version']}-")
    assert f"## [{project['version']}]" in (root / "CHANGELOG.md").read_text()
    sources = [file for folder in SOURCES for file in (root / folder).rglob("*.py")]
    assert [file for file in sources if f'"{project["version"]}"' in file.read_text()] == []


def test_every_module_of_an_installed_wheel_can_be_imported_from_elsewhere(
    wheel, installed, tmp_path
):
    with zipfile.ZipFile(wheel) as file:
        sources = [Path(name) for name in file.namelist() if name.endswith(".py")]
    modules = {
        ".".join(source.with_suffix("").parts).removesuffix(".__init__") for source in sources
    }
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    )
    names = sorted(modules - {"fnckpt.__main__"})
    child = subprocess.run(
        [installed, "-c", code, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    elsewhere = [file for file in child.stdout.split() if str(installed.parent.parent) not in file]
    assert not elsewhere


def test_an_installed_wheel_has_the_command(installed, tmp_path):
    command = [installed.parent / "fnckpt", "--help"]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert "usage: fnckpt" in child.stdout


def test_an_installed_wheel_trains_exports_and_runs_the_demo(installed, tmp_path):
    command = [installed.parent / "fnckpt", "demo", "--epochs", "1"]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    written = {file.name for file in (tmp_path / "demo_output").iterdir()}
    assert {"digits-1_22.ckpt", "digits.onnx", "digits.mindir", "digits.air"} <= written
    assert [
        runtime for runtime in ("onnxruntime", "mindspore") if runtime not in child.stdout
    ] == []
