"""``<prefix>-graph.meta`` is what MindSpore's own classes read."""

import json
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

import fnckpt
from fnckpt.demo import first_state, train_step
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.operators import constant
from fnckpt.ir.targets import anf
from fnckpt.showing.inspect import check_file, inspect_file
from fnckpt.training.saving.graph_meta import write_graph_meta
from tests.conftest import RunPython

BF16 = np.dtype(ml_dtypes.bfloat16)

PARSE = """
import json, sys
from mindspore.train import anf_ir_pb2 as anf
model = anf.ModelProto.FromString(open(sys.argv[1], "rb").read())
graph = model.graph
known = {p.name for p in graph.parameters} | {c.key for c in graph.const_vals}
unknown = []
for node in graph.node:
    unknown += [i.name for i in node.input if i.name not in known]
    known.add(node.name)
convolutions = [n for n in graph.node if n.op_type == "conv_general_dilated"]
first = convolutions[0].output_type.tensor_type
print(json.dumps({
    "ir_version": model.ir_version,
    "nodes": [n.name for n in graph.node[:3]],
    "ops": sorted({n.op_type for n in graph.node}),
    "scopes": sorted({n.scope for n in graph.node}),
    "parameters": len(graph.parameters),
    "constants": len(graph.const_vals),
    "unknown": unknown,
    "outputs_known": all(o.name in known for o in graph.outputs),
    "first": [anf.DataType.Name(first.elem_type), [d.size for d in first.shape.dim]],
    "edges": sorted({i.type for n in graph.node for i in n.input}),
    "strides": [v.int_val for a in convolutions[0].attribute if a.name == "window_strides"
                for v in a.value.values],
}))
"""


@pytest.fixture(scope="module")
def meta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("meta") / "digits-graph.meta"
    batch = {
        "image": jax.ShapeDtypeStruct((64, 8, 8, 1), "float32"),
        "label": jax.ShapeDtypeStruct((64,), "int32"),
    }
    write_graph_meta(jax.make_jaxpr(train_step)(first_state(), batch), path)
    return path


def test_mindspore_parses_the_train_step(meta: Path, run_python: RunPython) -> None:
    found = json.loads(run_python(PARSE, meta).splitlines()[-1])
    assert found["ir_version"] == 1
    assert found["nodes"] == ["1", "2", "3"]
    assert {"conv_general_dilated", "dot_general", "sqrt"} <= set(found["ops"])  # Adam's too
    assert "Default/jvp(DigitsNet)/Conv_0" in found["scopes"]
    assert found["parameters"] == len(jax.tree.leaves(first_state())) + 2
    assert found["constants"] > 0
    assert found["unknown"] == []
    assert found["outputs_known"]
    assert found["first"] == ["DT_FLOAT32", [64, 8, 8, 16]]
    assert found["edges"] == [0]
    assert found["strides"] == [1, 1]


def test_inspect_shows_the_primitives_of_a_meta_file(meta: Path) -> None:
    assert check_file(meta) == []
    nodes = inspect_file(meta)[-1]
    assert "conv_general_dilated" in [row[0] for row in nodes.rows]


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x08\x01"])
def test_what_is_no_meta_file_is_told(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x-graph.meta"
    path.write_bytes(content)
    assert check_file(path)[0].startswith("not an anf_ir ModelProto")


def test_a_file_of_unknown_suffix_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(b"TFL3")
    with pytest.raises(fnckpt.FormatError, match=r"it reads \.ckpt, .*\.meta, \.mindir, \.onnx"):
        inspect_file(path)


@pytest.mark.parametrize(
    ("value", "told"),
    [(np.array([1, 2], BF16), "bfloat16[2] 1, 2"), (np.zeros((0, 3), np.int8), "int8[0,3]"),
     (np.arange(100, dtype=np.int32), "int32[100] CRC-32 ec4a5b7c"),
     (np.zeros(100_000, bool), "bool[100000]")],
)  # fmt: skip
def test_a_constant_is_told_by_its_numbers_or_by_a_checksum(
    value: np.ndarray, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "a-graph.meta"
    node = constant(value)
    path.write_bytes(anf.encode(FuncGraph("step", (), (node,), ("result",))))
    assert anf.summarize(path).constants == {"cst1": told}
