"""Pictures of graphs: what they hold, and that a hostile name stays a name."""

import re
import shutil
import subprocess
import threading
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import fnckpt
from fnckpt.cli import main
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.picture.drawing import drawing_of
from fnckpt.picture.graph import graph
from fnckpt.picture.layout import HEIGHT, layout
from fnckpt.picture.svg import svg
from fnckpt.showing.page import page
from fnckpt.showing.serve import server
from tests.networks.zoo import ZOO

FORMATS = ("ONNX", "MINDIR", "AIR")


def exported(name: str, file_format: str, folder: Path) -> Path:
    params, function, inputs = ZOO[name]()
    return fnckpt.export(params, function, inputs, file_format, file_name=folder / name).path


def chain(count: int) -> Summary:
    """A network of ``count`` operators in modules of ten."""
    names = [f"net/block_{i // 10}/op_{i}" for i in range(count)]
    nodes = [
        NodeSummary(name, "Relu", (names[i - 1] if i else "x",), (name,))
        for i, name in enumerate(names)
    ]
    x, y = ValueSummary("x", "float32", (1,)), ValueSummary(names[-1], "float32", (1,))
    return Summary("fnckpt", (x,), (y,), (), tuple(nodes))


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", ["linen_cnn", "linen_resnet", "linen_transformer"])
def test_a_page_shows_every_operator_and_is_well_formed(
    name: str, file_format: str, tmp_path: Path
) -> None:
    path = exported(name, file_format, tmp_path)
    shown = page(path)
    drawings = re.findall("<svg.*?</svg>", shown, re.DOTALL)
    for drawing in drawings:
        ET.fromstring(drawing)
    for node in target(file_format).summarize(path).nodes:
        assert node.op in shown
    assert "http" not in shown.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_box_tells_the_shape_of_its_result(file_format: str, tmp_path: Path) -> None:
    summary = target(file_format).summarize(exported("linen_cnn", file_format, tmp_path))
    hovers = [box.hover for box in drawing_of(summary).boxes]
    assert any("[3,10]" in hover for hover in hovers)


def test_modules_are_boxes_that_open(tmp_path: Path) -> None:
    summary = target("ONNX").summarize(exported("linen_resnet", "ONNX", tmp_path))
    labels = [box.label for box in drawing_of(summary).boxes]
    assert [label for label in labels if label.startswith("Block")] == [
        "Block_0 (5)", "Block_1 (6)", "Block_2 (6)",
    ]  # fmt: skip
    assert graph(summary).count("<details>") == 4  # and the first convolution


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_box_covers_another_and_edges_go_down(name: str, tmp_path: Path) -> None:
    drawing = drawing_of(target("ONNX").summarize(exported(name, "ONNX", tmp_path)))
    placed = layout(drawing)
    spots = list(zip(placed.centres, placed.widths, strict=True))
    for i, ((x, y), width) in enumerate(spots):
        for (other, level), size in spots[:i]:
            assert abs(y - level) >= HEIGHT or abs(x - other) >= (width + size) / 2
    for a, b in drawing.edges:
        if a < b:
            assert placed.centres[a][1] < placed.centres[b][1]


def test_a_thousand_operators_stay_a_small_page() -> None:
    summary = chain(1000)
    drawing = drawing_of(summary)
    assert len(drawing.boxes) == 102
    assert len(graph(summary)) < 2_000_000


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    node = NodeSummary(evil, evil, ("x",), (evil,))
    x = ValueSummary("x", "float32", (1,))
    shown = svg(drawing_of(Summary(evil, (x,), (), (), (node,))))
    assert "<script" not in shown
    path = fnckpt.save_checkpoint({evil: np.ones(2, np.float32)}, tmp_path / "a.ckpt")
    assert "<script" not in page(path)


def test_the_page_is_served_on_this_machine_alone(tmp_path: Path) -> None:
    path = exported("linen_cnn", "ONNX", tmp_path)
    with server(path) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        assert serving.server_address[0] == "127.0.0.1"
        url = f"http://127.0.0.1:{serving.server_port}/"
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert answer.read().decode() == page(path)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        serving.shutdown()


def test_view_writes_the_page_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported("linen_mlp", "AIR", tmp_path)
    assert main(["view", str(path)]) == 0
    assert capsys.readouterr().out.strip() == f"{path}.html"
    assert Path(f"{path}.html").read_text() == page(path)


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine; apt install chromium")
def test_chromium_draws_the_page(tmp_path: Path) -> None:
    path = exported("linen_resnet", "ONNX", tmp_path)
    (tmp_path / "page.html").write_text(page(path))
    picture = tmp_path / "page.png"
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1000,1400",
        f"--user-data-dir={tmp_path}", f"--screenshot={picture}", f"file://{tmp_path}/page.html",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    assert picture.stat().st_size > 10_000
