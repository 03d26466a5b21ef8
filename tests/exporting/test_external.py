"""Weights in a file beside the graph: what over 2 GB must be, and smaller ones may."""

import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import fnckpt
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.showing.inspect import check_file
from tests.conftest import RunPython
from tests.networks.test_networks import assert_equal_numbers, expected
from tests.networks.zoo import ZOO

FORMATS = ("ONNX", "MINDIR")
X = np.ones((1, 64), np.float32)


def product(params: dict[str, np.ndarray], x: jax.Array) -> jax.Array:
    return x @ params["w"]


def exported(value: float, file_format: str, folder: Path) -> fnckpt.ExportResult:
    params = {"w": np.full((64, 64), value, np.float32)}
    return fnckpt.export(
        params, product, X, file_format, file_name=folder / "net", external_data=True
    )


def names(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def data_file(folder: Path) -> Path:
    (found,) = (path for path in folder.rglob("*data*") if path.is_file())
    return found


def number(result: fnckpt.ExportResult) -> float:
    (y,) = RUNTIMES[result.file_format][1](result, [X])
    return float(y[0, 0])


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", ["linen_resnet", "nnx_vit"])
def test_the_runtime_finds_the_weights_beside_the_graph(
    name: str, file_format: str, tmp_path: Path
) -> None:
    params, apply_fn, inputs = ZOO[name]()
    model = fnckpt.export(
        params, apply_fn, inputs, file_format, file_name=tmp_path / name, external_data=True
    )
    assert check_file(model.path) == []
    assert model.bytes == sum((tmp_path / each).stat().st_size for each in names(tmp_path))
    assert_equal_numbers(RUNTIMES[file_format][1](model, inputs), expected(name))


def test_the_files_are_called_as_the_documentation_says(tmp_path: Path) -> None:
    exported(1, "ONNX", tmp_path)
    digest = data_file(tmp_path).name.split(".")[2]
    assert names(tmp_path) == ["net.onnx", f"net.onnx.{digest}.data"]
    data_file(tmp_path).unlink()
    result = exported(1, "MINDIR", tmp_path)
    assert result.path.name == "net_graph.mindir"
    assert f"net_variables/data_{digest}" in names(tmp_path)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_new_export_takes_away_the_weights_of_the_older_one_alone(
    file_format: str, tmp_path: Path
) -> None:
    first = exported(1, file_format, tmp_path)
    old = data_file(tmp_path)
    kept = old.with_name(f"{old.name}.mine")
    kept.write_bytes(b"of the user")
    again = exported(1, file_format, tmp_path)
    assert old.exists()
    assert number(first) == number(again) == 64
    assert number(exported(2, file_format, tmp_path)) == 128
    assert not old.exists()
    assert kept.exists()


FULL = """
import resource, signal, sys
import subprocess
import sys
import time
from pathlib import Path
from tests.exporting.test_external import exported, names, number
file_format, folder = sys.argv[1], Path(sys.argv[2])
first = exported(1, file_format, folder)
before = names(folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limit[1]))
try:
    exported(2, file_format, folder)
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
assert names(folder) == before, names(folder)
print(number(first))
"""


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_disk_that_is_full_leaves_the_older_export_whole(
    file_format: str, tmp_path: Path, run_python: RunPython
) -> None:
    said = run_python(FULL, file_format, tmp_path).splitlines()
    assert "File too large" in said[0]
    assert said[-1] == "64.0"


@pytest.mark.parametrize("file_format", FORMATS)
def test_check_names_weights_that_are_not_there_or_cut_off(
    file_format: str, tmp_path: Path
) -> None:
    model = exported(1, file_format, tmp_path)
    data = data_file(tmp_path)
    whole = data.stat().st_size
    data.write_bytes(data.read_bytes()[:-1])
    (problem,) = check_file(model.path)
    assert f"ends at byte {whole}" in problem
    assert f"which has {whole - 1}" in problem
    data.unlink()
    (problem,) = check_file(model.path)
    assert data.name in problem


@pytest.mark.parametrize("file_format", FORMATS)
def test_check_names_weights_outside_the_directory(file_format: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    model = exported(1, file_format, tmp_path / "in")
    content = model.path.read_bytes()
    location = data_file(tmp_path).relative_to(tmp_path / "in").as_posix().encode()
    assert content.count(location) == 1
    model.path.write_bytes(content.replace(location, b"../" + location[3:]))
    (problem,) = check_file(model.path)
    assert "outside" in problem or "contains '..'" in problem


LARGE = """
import sys, threading, time
from functools import reduce
import numpy as np
import fnckpt
from fnckpt.showing.inspect import check_file
from fnckpt.exporting.runtimes import RUNTIMES

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) << 10

SIZE = 11000  # five matrices of 484 MB that nobody has touched but for one number
params = [np.zeros((SIZE, SIZE), np.float32) for _ in range(5)]
for w in params:
    w[0, 0] = 2
x = np.ones((1, SIZE), np.float32)
peak, done = anonymous(), threading.Event()
before = peak
def watch():
    global peak
    while not done.wait(0.01):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
net = lambda params, x: reduce(lambda y, w: y @ w, params, x)
model = fnckpt.export(params, net, x, sys.argv[1], file_name=sys.argv[2] + "/net")
done.set()
watcher.join()
assert peak - before < 256 << 20, peak - before
assert model.bytes > 1 << 31
assert check_file(model.path) == []
(y,) = RUNTIMES[sys.argv[1]][1](model.path, [x])
print(y[0, 0], y.sum())
"""


@pytest.mark.parametrize("file_format", FORMATS)
def test_over_2_gb_are_written_without_a_copy_in_memory_and_run(
    file_format: str, tmp_path: Path, run_python: RunPython
) -> None:
    said = run_python(LARGE, file_format, tmp_path)
    for path in tmp_path.rglob("*data*"):
        if path.is_file():
            path.unlink()
    assert said.split() == ["32.0", "32.0"]


BESIDE = """
import sys, time
import subprocess
import sys
import time
from pathlib import Path
from tests.exporting.test_external import exported
value, file_format, folder, start = float(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4]
exported(value, file_format, folder / "warm")
while time.time() < float(start): pass
for i in range(15):
    exported(value + i, file_format, folder / "net")
"""


@pytest.mark.parametrize("file_format", FORMATS)
def test_exports_to_one_name_at_once_leave_a_graph_with_its_weights(
    file_format: str, tmp_path: Path
) -> None:
    for each in ("warm", "net"):
        (tmp_path / each).mkdir()
    start = str(time.time() + 15)
    children = [
        subprocess.Popen([sys.executable, "-c", BESIDE, value, file_format, tmp_path, start])
        for value in ("100", "200")
    ]
    assert [child.wait() for child in children] == [0, 0]
    name = {"ONNX": "net.onnx", "MINDIR": "net_graph.mindir"}[file_format]
    model = tmp_path / "net" / name
    assert check_file(model) == []
    assert len(list((tmp_path / "net").rglob("*data*"))) == 1
