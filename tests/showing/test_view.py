"""Pictures of graphs: what they hold, and that a hostile name stays a name."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fnckpt
from fnckpt.cli import main
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.picture.boxes import Box, Drawing, Edge
from fnckpt.picture.drawing import drawing_of
from fnckpt.picture.graph import graph
from fnckpt.picture.layout import layout, spread
from fnckpt.picture.svg import svg
from fnckpt.showing.page import page, policy
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
    assert len(drawings) == 1
    for node in target(file_format).summarize(path).nodes:
        assert f"operator: {node.op}\n" in shown
    assert "http" not in re.sub("http://www.w3.org/2000/svg|http-equiv", "", shown)


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
    assert graph(summary).count('aria-expanded="false"') == 4  # and the first convolution


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_box_covers_another_and_edges_go_down(name: str, tmp_path: Path) -> None:
    drawing = drawing_of(target("ONNX").summarize(exported(name, "ONNX", tmp_path)))
    placed = layout(drawing)
    spots = list(zip(placed.rows, placed.middles, placed.widths, strict=True))
    for i, (row, x, width) in enumerate(spots):
        for level, other, size in spots[:i]:
            assert row != level or abs(x - other) >= (width + size) / 2
    up = [e for e in drawing.edges if placed.rows[e.start] >= placed.rows[e.end]]
    feeds: dict[int, list[int]] = {}
    for edge in drawing.edges:
        feeds.setdefault(edge.end, []).append(edge.start)
    if up:  # modules that feed each other, as the vmap of an attention
        with pytest.raises(CycleError):
            TopologicalSorter(feeds).prepare()


def test_a_thousand_operators_stay_a_small_page() -> None:
    summary = chain(1000)
    drawing = drawing_of(summary)
    assert len(drawing.boxes) == 102
    assert len(graph(summary)) < 2_000_000


def values(names: list[str]) -> tuple[ValueSummary, ...]:
    return tuple(ValueSummary(name, "float32", (1,)) for name in names)


def test_a_place_in_a_list_is_a_part_of_its_module_s_name() -> None:
    names = [f"blocks/{at}/{layer}/Conv" for at in (0, 1) for layer in ("first", "second")]
    nodes = [NodeSummary(n, "Conv", (x,), (n,)) for n, x in zip(names, ["x", *names], strict=False)]
    summary = Summary("fnckpt", values(["x"]), values(names[-1:]), (), tuple(nodes))
    labels = [box.label for box in drawing_of(summary).boxes]
    assert labels == ["x", "blocks/0 (2)", "blocks/1 (2)", "Conv"]


def test_outputs_without_parts_keep_those_with_parts_in_their_box() -> None:
    names = [str(i) for i in range(10)]
    nodes = [NodeSummary(f"net/{n}", "Relu", ("state.w",), (n,)) for n in names]
    given = values([f"state.{n}" for n in "abcdefghijw"])
    summary = Summary("fnckpt", given, values([*names, "state.a"]), (), tuple(nodes))
    labels = [box.label for box in drawing_of(summary).boxes]
    assert (labels[0], labels[-1]) == ("state (11)", "outputs (11)")


def test_what_a_circle_feeds_stands_below_it() -> None:
    """The update is the first in the file, for its first operator needs nothing."""
    boxes = tuple(Box(label, "module", "") for label in ("update", "a", "b"))
    edges = [(1, 2), (2, 1), (2, 0)]
    placed = layout(Drawing(boxes, tuple(Edge(start, end) for start, end in edges)))
    assert placed.rows[0] > max(placed.rows[1:])


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
            assert answer.headers["Content-Security-Policy"] == policy()
        serving.shutdown()


def test_view_writes_the_page_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = exported("linen_mlp", "AIR", tmp_path)
    assert main(["view", str(path)]) == 0
    assert capsys.readouterr().out.strip() == f"{path}.html"
    assert Path(f"{path}.html").read_text() == page(path)


def test_a_residual_block_shows_one_value_that_enters_and_goes_two_ways(tmp_path: Path) -> None:
    summary = target("ONNX").summarize(exported("linen_resnet", "ONNX", tmp_path))
    block = next(b for b in drawing_of(summary).boxes if b.label.startswith("Block_0"))
    assert block.inside is not None
    boxes, edges = block.inside.boxes, block.inside.edges
    assert [box.kind for box in boxes].count("entry") == 1
    assert [boxes[e.end].label for e in edges if boxes[e.start].kind == "entry"] == [
        "Conv_0: Conv", "Add",
    ]  # fmt: skip
    assert [boxes[e.start].op for e in edges if boxes[e.end].kind == "exit"] == ["Relu"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_hovering_a_convolution_tells_its_attributes(file_format: str, tmp_path: Path) -> None:
    summary = target(file_format).summarize(exported("linen_resnet", file_format, tmp_path))
    hovers = [box.hover for box in every_box(drawing_of(summary)) if "conv" in box.op.lower()]
    assert hovers
    assert all(re.search(r"^strides? = \[.*2", text, re.MULTILINE) for text in hovers[:1])


def every_box(drawing: Drawing) -> Iterator[Box]:
    for box in drawing.boxes:
        yield box
        yield from every_box(box.inside) if box.inside else ()


def flat(count: int) -> Summary:
    """A chain of operators without names, in no module."""
    nodes = [NodeSummary("", "Relu", (f"v{i}",), (f"v{i + 1}",)) for i in range(count)]
    ends = ValueSummary("v0", "float32", (1,)), ValueSummary(f"v{count}", "float32", (1,))
    return Summary("", (ends[0],), (ends[1],), (), tuple(nodes))


@pytest.mark.parametrize("make", [chain, flat])
def test_four_thousand_operators_are_drawn_in_seconds(make: Callable[[int], Summary]) -> None:
    begun = time.process_time()
    text = graph(make(4000))
    assert time.process_time() - begun < 10
    assert len(text) < 8_000_000


def test_a_value_that_all_use_costs_no_more_than_its_uses() -> None:
    nodes = [NodeSummary("", "Add", (f"v{i}", "v0"), (f"v{i + 1}",)) for i in range(900)]
    placed = layout(drawing_of(Summary("", (), (), (), tuple(nodes))))
    assert sum(len(way.lanes) for way in placed.ways) < 900 * 41


ODD = {
    "no names": ("", ""),
    "one name twice": ("a/b", "a/b"),
    "a name of 50,000 parts": ("a/" * 50_000 + "b", "a/" * 50_000 + "c"),
    "modules in modules without end": tuple("m/" * i + "x" for i in range(300)),
    "slashes alone": ("/", "//", "///"),
}


@pytest.mark.parametrize("names", ODD.values(), ids=ODD)
@pytest.mark.parametrize("circle", [False, True])
def test_odd_names_and_circles_are_drawn(names: tuple[str, ...], circle: bool) -> None:
    last = len(names) - 1
    nodes = [
        NodeSummary(name, "Relu", (f"v{i or (last + 1 if circle else 0)}",), (f"v{i + 1}",))
        for i, name in enumerate(names)
    ]
    x = ValueSummary("v0", "float32", (1,))
    text = svg(drawing_of(Summary("", (x,), (), (), tuple(nodes))))
    ET.fromstring(text)
    assert text.count("operator: Relu") == len(names)
    assert len(text) < 2_000_000


def test_what_runs_in_a_node_opens_like_a_module_and_shows_what_it_takes_from_outside() -> None:
    inner = NodeSummary("inner/Add", "Add", ("i", "outer"), ("sum",))
    value = ValueSummary("i", "float32", (2,))
    body = Summary("", (value,), (ValueSummary("sum", "float32", (2,)),), (), (inner,))
    nodes = (
        NodeSummary("Relu", "Relu", ("x",), ("outer",)),
        NodeSummary("Loop", "Loop", ("x",), ("y",), (), (("body", body),)),
        NodeSummary("If", "If", ("y",), ("z",), (), (("then_branch", body), ("else_branch", body))),
    )
    x = ValueSummary("x", "float32", (2,))
    drawing = drawing_of(Summary("", (x,), (), (), nodes))
    _, relu, loop, branch = drawing.boxes
    assert loop.inside
    assert branch.inside
    assert [box.label for box in loop.inside.boxes] == ["outer", "i", "inner: Add", "sum"]
    assert [box.label for box in branch.inside.boxes] == ["then_branch", "else_branch"]
    fed = [drawing.boxes[edge.end] for edge in drawing.edges if drawing.boxes[edge.start] is relu]
    assert fed == [loop, branch]


def test_a_loop_of_an_onnx_file_opens(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x, bool c) => (float[2] y) {
      y = If (c) <then_branch = t () => (float[2] a) { a = Relu (x) },
                  else_branch = e () => (float[2] b) { b = Neg (x) }>
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "if.onnx")
    drawing = drawing_of(target("ONNX").summarize(tmp_path / "if.onnx"))
    assert {"Relu", "Neg"} <= {box.op for box in every_box(drawing)}


def test_the_graph_of_a_train_step_is_drawn_with_its_modules(tmp_path: Path) -> None:
    net: Any = nn.Dense(3)
    params = net.init(jax.random.key(0), np.ones((1, 2), np.float32))

    def step(params: Any, x: np.ndarray) -> tuple[Any, dict[str, jax.Array]]:
        loss, grads = jax.value_and_grad(lambda p: net.apply(p, x).sum())(params)
        return jax.tree.map(lambda p, g: p - g, params, grads), {"loss": loss}

    policy = fnckpt.CheckpointPolicy()
    data = [np.ones((1, 2), np.float32)]
    fnckpt.train(step, params, data, policy=policy, directory=tmp_path, prefix="a")
    shown = page(tmp_path / "a-graph.meta")
    assert "jvp(Dense)" in shown
    assert "operator: dot_general\ndimension_numbers = [((1,), (0,)), ((), ())]" in shown


@pytest.mark.parametrize("sign", ["\x1b[2J", "\x9b0m", "\n", "\u202e", "\udc80", "\0"])
def test_signs_that_a_terminal_or_page_obeys_are_shown_escaped(sign: str) -> None:
    node = NodeSummary(f"a{sign}b", f"op{sign}", ("x",), (f"y{sign}",))
    text = svg(drawing_of(Summary("", (), (), (), (node,))))
    assert "op" + sign not in text
    ET.fromstring(text.encode())


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.5, 4), st.floats(1, 30)), max_size=9))
def test_places_in_a_row_keep_their_order_and_their_distance(
    places: list[tuple[float, float, float]],
) -> None:
    found = spread(*map(list, zip(*places, strict=True))) if places else []
    for (x, y), (a, b) in zip(pairwise(found), pairwise(places), strict=True):
        assert y - x >= (a[2] + b[2]) / 2 - 1e-6


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
browsed = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on this machine; apt install chromium"
)


def browse(shown: str, folder: Path, *options: str) -> str:
    """What Chromium prints of a page; it reaches no network."""
    (folder / "page.html").write_text(shown)
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--window-size=1200,900", f"--user-data-dir={folder / 'browser'}", *options,
        f"file://{folder}/page.html",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100)
    return done.stdout


@browsed
def test_chromium_draws_the_page(tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    shown = page(exported("linen_resnet", "ONNX", tmp_path))
    browse(shown, tmp_path, f"--screenshot={picture}")
    assert picture.stat().st_size > 10_000


# Put in by the test beside the page's own script, which the page's policy must let run.
DRIVER = """
const said = {}, q = (each) => [...document.querySelectorAll(each)];
const press = (box, key) => box.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const state = () => JSON.stringify(q(".box, svg path").map(
  (each) => [each.getAttribute("transform"), each.getAttribute("d")]));
const covered = () => q(".level").filter((level) => level.getBoundingClientRect().width).some(
  (level) => { const spots = [...level.children].slice(1).map((each) =>
    each.querySelector(":scope > rect").getBoundingClientRect());
    return spots.some((a, i) => spots.slice(0, i).some((b) => a.left < b.right - 1 &&
      b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)); });
const before = state(), block = q(".box").find((each) => /Block_1|jvp/.test(each.textContent));
block.focus();
press(block, "Enter");
said.open = block.getAttribute("aria-expanded");
said.inside = [...block.querySelectorAll(":scope > .level > .box")].map(
  (each) => each.getBoundingClientRect().width > 0);
said.details = document.getElementById("details").textContent;
press(block, "Escape");
said.same = state() === before;
q("[data-key=o]")[0].click();
said.covered = covered();
said.all = q("[aria-expanded=false]").length;
q("[data-key=c]")[0].click();
press(document.body, "o");
said.anywhere = q("[aria-expanded=false]").length;
press(document.body, "c");
said.back = state() === before;
const view = document.querySelector("svg > g"), old = view.getAttribute("transform");
press(document.querySelector("svg"), "+");
said.zoomed = view.getAttribute("transform") !== old;
document.body.dataset.said = JSON.stringify(said);
"""


@browsed
@pytest.mark.parametrize("name", ["linen_resnet", "linen_transformer"])
def test_keys_open_modules_in_place_and_close_them_as_they_were(name: str, tmp_path: Path) -> None:
    shown = page(exported(name, "ONNX", tmp_path)).replace("Attention_1", "Block_1")
    digest = base64.b64encode(hashlib.sha256(DRIVER.encode()).digest()).decode()
    allowed = shown.replace("script-src ", f"script-src 'sha256-{digest}' ")
    driven = allowed.replace("</body>", f"<script>{DRIVER}</script></body>")
    found = re.search('data-said="(.*?)"', browse(driven, tmp_path, "--dump-dom"))
    assert found
    said = json.loads(unescape(found[1]))
    assert all(said.pop("inside"))
    assert "Block_1" in said.pop("details")
    assert said == {
        "open": "true", "same": True, "covered": False, "all": 0, "anywhere": 0, "back": True,
        "zoomed": True,
    }  # fmt: skip
