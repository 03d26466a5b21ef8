"""Small files that would grow, hang, or lie: each is refused, or read in linear time."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
import orbax.checkpoint as ocp
import pytest
from onnx import TensorProto, helper

import fnckpt
from fnckpt.checkpoints.convert import convert
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.cli import main
from fnckpt.errors import FormatError
from fnckpt.ir.targets.foreign import elements
from fnckpt.ir.targets.mindir.view import attribute_of, read_model
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.picture.graph import graph
from fnckpt.proto.mind_ir_pb2 import AttributeProto
from fnckpt.showing.inspect import check_file, inspect_file, tree
from fnckpt.showing.serve import is_loopback, server
from fnckpt.visible import visible

X = ValueSummary("x", "float32", (1,))


Result = TypeVar("Result")


def timed(work: Callable[[], Result], seconds: float = 5.0) -> Result:
    start = time.process_time()
    result = work()
    assert time.process_time() - start < seconds
    return result


# ----- pictures


@pytest.mark.parametrize("name", ["", "a/b", "a/", "/", "a"])
def test_nodes_of_one_name_are_drawn(name: str) -> None:
    nodes = tuple(NodeSummary(name, "Relu", ("x",), (f"y{i}",)) for i in range(3))
    assert graph(Summary("", (X,), (), (), nodes)).count("Relu") >= 3


def test_a_chain_whose_nodes_all_read_the_input_is_drawn_in_linear_time() -> None:
    nodes = tuple(
        NodeSummary(f"n{i}", "Add", ("x", f"y{i - 1}" if i else "x"), (f"y{i}",))
        for i in range(4000)
    )
    timed(lambda: graph(Summary("", (X,), (), (), nodes)), 20)


def test_very_deep_modules_are_drawn() -> None:
    nodes = tuple(NodeSummary("a/" * i + "n", "Relu", ("x",), (f"y{i}",)) for i in range(1500))
    timed(lambda: graph(Summary("", (X,), (), (), nodes)), 20)


def test_a_name_of_many_parts_is_a_short_tree(tmp_path: Path) -> None:
    path = save_checkpoint(
        {".".join("p" * 50_000): np.ones(2)}, tmp_path / "a.ckpt", portable=False
    )
    assert len(timed(lambda: tree(path)).rows) < 100
    assert len(load_checkpoint(path)._repr_html_()) < 1_000_000


# ----- archives


def test_an_archive_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(
            member, {"descr": "|u1", "fortran_order": False, "shape": (400 << 20,)}
        )
        for _ in range(400):
            member.write(bytes(1 << 20))
    with pytest.raises(FormatError, match="bytes claim to unpack to"):
        convert(path, tmp_path / "a.ckpt")


def test_a_header_that_claims_terabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("w.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
        )
    with pytest.raises(FormatError, match="does not take 0 bytes"):
        convert(path, tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "array",
    [
        np.array(["2020-01-01"], "M8[D]"), np.array([b"ab"]), np.array([1.0], "g"),
        np.array([(1,)], [("a", "i4")]), np.array([1], "m8[s]"), np.zeros(2, "V3"),
    ],
)  # fmt: skip
def test_dtypes_that_no_checkpoint_has_are_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=array)
    with pytest.raises(FormatError, match="a checkpoint cannot hold the dtype"):
        convert(tmp_path / "a.npz", tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
         '"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', "overlaps another"),
        ('{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', "unused"),
        ('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', "end at byte 2 of 3"),
        ('{"\\ud800":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', "a lone surrogate"),
        ('{"a":{"dtype":"U8","shape":[0,281474976710655,281474976710655],"data_offsets":[0,0]}}',
         "is impossible"),
        ('{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},'
         '"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', "given twice"),
    ],
)  # fmt: skip
def test_a_safetensors_file_that_lies_is_refused(header: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"\x07\x00\x01")
    with pytest.raises(FormatError, match=re.escape(told)):
        convert(path, tmp_path / "a.ckpt")


def test_a_damaged_orbax_directory_is_refused(tmp_path: Path) -> None:
    source = save_checkpoint({"w": np.ones(3)}, tmp_path / "a.ckpt")
    whole = convert(source, tmp_path / "whole")
    for name in ("_METADATA", "manifest.ocdbt"):
        path = tmp_path / f"without{name}"
        subprocess.run(["cp", "-r", whole, path], check=True)
        (path / name).write_bytes(b"{}")
        with pytest.raises(
            FormatError, match=f"without{name}: a damaged Orbax checkpoint|no Orbax"
        ):
            convert(path, tmp_path / "b.ckpt")


@pytest.mark.parametrize("name", ["manifest.ocdbt", "_CHECKPOINT_METADATA"])
def test_orbax_logs_nothing_beside_the_one_line_of_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_checkpoint({"w": np.ones(3)}, tmp_path / "a.ckpt")
    path = convert(source, tmp_path / "tree")
    (path / name).write_bytes(b'{"a')
    logger, said = logging.getLogger("absl"), list[str]()
    monkeypatch.setattr(logger, "handle", lambda record: said.append(record.getMessage()))
    monkeypatch.setattr(logger, "disabled", False)
    with suppress(FormatError):
        inspect_file(path)
    assert said == []
    assert not logger.disabled


@pytest.mark.parametrize(("shape", "chunks"), [(1 << 40, 3), (1 << 40, 1 << 40), (3, 1 << 40)])
def test_an_orbax_array_that_claims_more_than_its_directory_is_refused(
    shape: int, chunks: int, tmp_path: Path
) -> None:
    """TensorStore would end this process."""
    path = tmp_path / "claims"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(path, {"a": np.arange(3.0)})
    header = path / "a" / ".zarray"
    claims = json.loads(header.read_text()) | {"shape": [shape], "chunks": [chunks]}
    header.write_text(json.dumps(claims))
    with pytest.raises(
        FormatError, match=r"claims: a damaged Orbax checkpoint: .* claim to unpack"
    ):
        convert(path, tmp_path / "b.ckpt")


# ----- graphs


def model(
    *nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()
) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    body = helper.make_graph(list(nodes), "g", [x], [y])
    ids = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    return helper.make_model(body, opset_imports=ids, functions=functions, ir_version=9)


def saved(made: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "a.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def calling(level: int, last: int) -> onnx.FunctionProto:
    """A function that calls the next twice."""
    ids = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    if level == last:
        nodes = [helper.make_node("Relu", ["x"], ["y"])]
    else:
        called = f"f{level + 1}"
        nodes = [helper.make_node(called, ["x"], ["z"], domain="f"),
                 helper.make_node(called, ["z"], ["y"], domain="f")]  # fmt: skip
    return helper.make_function("f", f"f{level}", ["x"], ["y"], nodes, ids)


@pytest.mark.parametrize("last", [40, 100])
def test_functions_within_functions_end(last: int, tmp_path: Path) -> None:
    functions = tuple(calling(level, last) for level in range(last + 1))
    path = saved(
        model(helper.make_node("f0", ["x"], ["y"], domain="f"), functions=functions), tmp_path
    )
    (problem,) = timed(lambda: check_file(path))
    assert re.search("functions call", problem)
    timed(lambda: inspect_file(path))


def test_a_function_that_calls_itself_is_refused(tmp_path: Path) -> None:
    ids = [helper.make_opsetid("f", 1)]
    node = helper.make_node("f0", ["x"], ["y"], domain="f")
    itself = helper.make_function("f", "f0", ["x"], ["y"], [node], ids)
    (problem,) = check_file(saved(model(node, functions=(itself,)), tmp_path))
    assert "without end" in problem


def external(**held: str) -> TensorProto:
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in held.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


LIES = {
    "too short": ({"location": "w.bin", "offset": "4", "length": "8"}, "ends at byte 12 of w.bin"),
    "no length": ({"location": "w.bin", "offset": "4"}, "ends at byte 12 of w.bin"),
    "a wrong length": ({"location": "w.bin", "length": "4"}, "has 4 bytes, FLOAT [2] 8"),
    "a negative offset": ({"location": "w.bin", "offset": "-4"}, "the offset of its data is no"),
    "no number": ({"location": "w.bin", "length": "8 "}, "the length of its data is no"),
    "a huge number": ({"location": "w.bin", "offset": "9" * 5000}, "the offset of its data is no"),
    "no location": ({"length": "8"}, "which has no name"),
    "outside": ({"location": "../w.bin"}, "outside the graph's directory"),
    "absolute": ({"location": "/dev/zero"}, "outside the graph's directory"),
    "a link": ({"location": "link.bin"}, "no such file in the directory"),
    "nothing": ({"location": "v.bin"}, "no such file in the directory"),
}


@pytest.mark.parametrize("where", ["initializer", "attribute"])
@pytest.mark.parametrize("lie", LIES)
def test_check_does_not_call_good_what_has_wrong_data_beside_it(
    lie: str, where: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "w.bin").write_bytes(bytes(8))
    (tmp_path / "w.bin").write_bytes(bytes(8))
    (folder / "link.bin").symlink_to("/etc/hostname")
    held, told = LIES[lie]
    add = helper.make_node("Add", ["x", "w"], ["y"])
    if where == "initializer":
        made = model(add)
        made.graph.initializer.append(external(**held))
    else:
        made = model(helper.make_node("Constant", [], ["w"], value=external(**held)), add)
    assert any(told in problem for problem in check_file(saved(made, folder)))


@pytest.mark.parametrize("size", [4, 12])
def test_check_counts_the_bytes_of_weights_in_the_file(size: int, tmp_path: Path) -> None:
    made = model(helper.make_node("Add", ["x", "w"], ["y"]))
    made.graph.initializer.append(
        TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT, raw_data=bytes(size))
    )
    (problem,) = check_file(saved(made, tmp_path))
    assert problem == f"w: raw_data has {size} bytes, FLOAT [2] has 8"


def test_types_that_are_no_tensors_are_shown(tmp_path: Path) -> None:
    made = model(helper.make_node("Relu", ["x"], ["y"]))
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    sequence = helper.make_sequence_type_proto(tensor)
    made.graph.input.append(helper.make_value_info("s", sequence))
    made.graph.input.append(helper.make_value_info("o", helper.make_optional_type_proto(sequence)))
    made.graph.input.append(helper.make_tensor_value_info("u", 99, [2]))
    rows = inspect_file(saved(made, tmp_path))[0].rows
    assert [row[1] for row in rows] == [
        "float32", "sequence(float32)", "optional(sequence(float32))", "unknown(99)",
    ]  # fmt: skip


def test_a_shape_whose_product_has_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    made = model(helper.make_node("Relu", ["x"], ["y"]))
    made.graph.initializer.append(
        TensorProto(name="w", dims=[2**62] * 1000, data_type=TensorProto.FLOAT)
    )
    path = saved(made, tmp_path)
    with pytest.raises(FormatError, match="the shape of 'w' is impossible"):
        inspect_file(path)
    assert "which is impossible for a tensor" in check_file(path)[0]
    assert elements((2**62,) * 1000) is None


def test_a_node_of_mindir_without_a_tensor_in_its_shape_is_not_good(tmp_path: Path) -> None:
    x = np.ones((2, 3), np.float32)
    path = fnckpt.export({}, lambda p, x: x + 1, x, "MINDIR", file_name=tmp_path / "a").path
    made = read_model(path)
    shape = attribute_of(made.graph.node[-1], "shape")
    assert shape is not None
    shape.type = AttributeProto.TENSORS
    del shape.tensors[:], shape.values[:]
    path.write_bytes(made.SerializeToString())
    assert any("its type is TENSORS, but it has no tensor" in each for each in check_file(path))


# ----- files that change


def test_a_pipe_called_like_a_checkpoint_is_refused_or_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.ckpt")
    with pytest.raises(OSError, match="is a pipe; only regular files are read"):
        load_checkpoint(tmp_path / "a.ckpt")
    policy = fnckpt.CheckpointPolicy()
    step = lambda s, b: (s + b, {"sum": s})  # noqa: E731
    fnckpt.train(step, 0.0, [1.0, 1.0], policy=policy, directory=tmp_path)
    os.mkfifo(tmp_path / "CKP-9_9.ckpt")
    with pytest.warns(UserWarning, match="is a pipe"):
        result = fnckpt.train(
            step, 0.0, [1.0, 1.0], epochs=2, policy=policy, directory=tmp_path, resume=True
        )
    assert float(result.state) == 4


@pytest.mark.parametrize(
    "damaged",
    [
        {"epoch": np.arange(3)}, {"epoch": -1}, {"saved": np.ones(5)}, {"seconds": np.nan},
        {"prefix": np.int64(3)}, {"global_step": 1.5}, {"history.ends": np.ones((2, 2))},
        {"data": np.arange(9, dtype=np.uint8)},
    ],
)  # fmt: skip
def test_a_checkpoint_with_damaged_entries_is_passed_over(
    damaged: dict[str, object], tmp_path: Path
) -> None:
    policy = fnckpt.CheckpointPolicy()
    step = lambda s, b: (s + b, {"sum": s})  # noqa: E731
    fnckpt.train(step, 0.0, [1.0, 1.0], policy=policy, directory=tmp_path)
    held = dict(load_checkpoint(tmp_path / "CKP-1_2.ckpt"))
    held["fnckpt.prefix"] = np.array("CKP")
    held |= {f"fnckpt.{name}": np.asarray(value) for name, value in damaged.items()}
    texts = {name: str(a) if a.dtype.kind == "U" else a for name, a in held.items()}
    save_checkpoint(texts, tmp_path / "CKP-1_2.ckpt")
    with pytest.warns(UserWarning, match=r"CKP-1_2\.ckpt: cannot be read and is skipped"):
        result = fnckpt.train(step, 0.0, [1.0, 1.0], policy=policy, directory=tmp_path, resume=True)
    assert float(result.state) == 2


CUT = """
import os, sys, threading
from pathlib import Path
import numpy as np
from fnckpt.checkpoints.convert import convert
from fnckpt.checkpoints.formats import safetensors
from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import FormatError
from fnckpt.showing.diff import differences
from fnckpt.showing.inspect import check_file, inspect_file, statistics
path = Path(sys.argv[1])
whole, stop = path.read_bytes(), threading.Event()
def change():
    while not stop.is_set():
        with open(path, "r+b") as file:
            file.truncate(len(whole) // 3)
            file.seek(0)
            file.write(whole)
thread = threading.Thread(target=change)
thread.start()
def read(path):
    for array in load_checkpoint(path).values():
        array.sum()
readers = [safetensors.read]
if path.suffix == ".ckpt":
    converted = lambda path: convert(path, path.with_suffix(".npz"))
    both = lambda path: differences(path, path)
    readers = [read, converted, both, inspect_file, check_file, statistics]
for round in range(60):
    try:
        readers[round % len(readers)](path)
    except FormatError:
        pass
stop.set()
thread.join()
print("alive")
"""


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_that_is_cut_off_while_it_is_read_is_an_error_at_most(
    suffix: str, tmp_path: Path
) -> None:
    arrays = {f"w{i}": np.full(1 << i, i, np.float32) for i in range(23)}
    path = save_checkpoint(arrays, tmp_path / "a.ckpt", crc=True)
    if suffix != ".ckpt":
        path = convert(path, tmp_path / f"a{suffix}")
    done = subprocess.run(
        [sys.executable, "-c", CUT, path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


# ----- names

HOSTILE = "w\x1b[31m\x1b]0;title\x07\u009b2J\u202e\nfnckpt: a.ckpt: good"


@pytest.mark.parametrize("command", [["inspect"], ["inspect", "--tree"], ["inspect", "--stats"]])
def test_names_reach_the_terminal_escaped(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_checkpoint({HOSTILE: np.ones(2)}, tmp_path / "a.ckpt")
    main([*command, str(path)])
    printed = capsys.readouterr().out
    assert not set(printed) & set("\x1b\x07\u009b\u202e")
    assert r"w\x1b[31m" in printed
    assert not any(line.startswith("fnckpt:") for line in printed.splitlines())


def test_names_reach_a_page_and_a_repr_escaped(tmp_path: Path) -> None:
    made = model(helper.make_node("Relu", ["x"], ["y"], name=HOSTILE))
    made.graph.node[0].name = HOSTILE
    path = saved(made, tmp_path)
    output = tmp_path / "page.html"
    assert main(["view", str(path), "-o", str(output)]) == 0
    arrays = load_checkpoint(save_checkpoint({HOSTILE: np.ones(2)}, tmp_path / "a.ckpt"))
    for shown in (output.read_text(), repr(arrays), arrays._repr_html_()):
        assert not set(shown) & set("\x1b\x07\u009b\u202e")


def test_what_is_shown_holds_no_character_that_is_none() -> None:
    assert visible(HOSTILE).isprintable()
    assert visible("模型 é b") == "模型 é b"
    assert visible("a\nb", lines=True) == "a\nb"


# ----- the server


def asked(port: int, host: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_server_answers_its_own_address_alone_and_errors_with_a_page(tmp_path: Path) -> None:
    path = saved(model(helper.make_node("Relu", ["x"], ["y"])), tmp_path)
    with server(path) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            port = serving.server_port
            assert asked(port, f"127.0.0.1:{port}")[0] == asked(port, "localhost")[0] == 200
            for host in ("example.com", f"example.com:{port}", "127.0.0.1.example.com", ""):
                status, text = asked(port, host)
                assert status == 403
                assert "Relu" not in text
            path.write_bytes(b"\xff")
            status, text = asked(port, "localhost")
            assert status == 500
            assert "not an ONNX file" in text
        finally:
            serving.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("localhost", True), ("LOCALHOST:80", True), ("127.0.0.1:8000", True), ("[::1]:80", True),
        ("localhost.example.com", False), ("127.0.0.1@example.com", False), ("[::2]", False),
    ],
)  # fmt: skip
def test_a_host_is_this_machine_or_not(host: str, own: bool) -> None:
    assert is_loopback(host) == own


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".onnx", "ONNX"), (".mindir", "MindIR"), (".air", "AIR")]
)
def test_a_text_file_is_not_a_graph(suffix: str, kind: str, tmp_path: Path) -> None:
    path = (tmp_path / "a").with_suffix(suffix)
    path.write_text("hello, world")
    for read in (fnckpt.load_graph, inspect_file, lambda path: fnckpt.run(path, [])):
        with pytest.raises(FormatError, match=f"a{suffix}: not an? {kind} file"):
            read(path)
