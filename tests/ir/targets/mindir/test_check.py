"""check() takes what MindSpore takes, and names what it would stumble over."""

import cProfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fnckpt.errors import FormatError
from fnckpt.ir.graph import FuncGraph, Parameter, aval_of
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.targets.mindir import TARGET, check
from fnckpt.ir.targets.target import legalized
from fnckpt.proto.mind_ir_pb2 import AttributeProto, ModelProto, NodeProto, PrimitiveProto

X = np.zeros((2, 3), np.float32)
W = np.ones((3, 4), np.float32)


def network() -> FuncGraph:
    """``relu(x @ w + 1)`` and its softmax."""
    x, w = Parameter("x", aval_of(X)), Parameter("params.w", aval_of(W), W)
    product = apply("MatMul", x, w, transpose_a=False, transpose_b=False)
    y = apply("Relu", apply("Add", product, constant(np.ones(4, np.float32))))
    return FuncGraph("net", (x,), (y, apply("Softmax", y, axis=1)), ("y", "p"))


def model() -> ModelProto:
    """The message of the network."""
    parts = TARGET.encode(legalized(network(), TARGET)).parts
    return ModelProto.FromString(b"".join(parts))


def problems(changed: ModelProto, folder: Path) -> list[str]:
    """What check() says of a message."""
    path = folder / "net.mindir"
    path.write_bytes(changed.SerializeToString())
    return check(path)


def node(model: ModelProto, kind: str) -> NodeProto:
    """The first node of that kind."""
    return next(n for n in model.graph.node if kind in n.op_type)


def drop_producer(m: ModelProto) -> None:
    m.ClearField("producer_name")


def raise_version(m: ModelProto) -> None:
    m.mind_ir_version = 4


def misname_input(m: ModelProto) -> None:
    node(m, "MatMul").input[0] = "nothing"


def turn_order(m: ModelProto) -> None:
    moved = NodeProto()
    moved.CopyFrom(node(m, "ReLU"))
    m.graph.node.remove(node(m, "ReLU"))
    m.graph.node.append(moved)


def name_twice(m: ModelProto) -> None:
    node(m, "Add").output[0] = "params.w"


def shorten_weight(m: ModelProto) -> None:
    m.graph.parameter[0].raw_data = b"1234"


def unknown_dtype(m: ModelProto) -> None:
    m.graph.input[0].tensor[0].data_type = 77


def drop_primitive(m: ModelProto) -> None:
    m.primitives.remove(next(p for p in m.primitives if p.op_type == "Add"))


def change_kind(m: ModelProto) -> None:
    found = next(p for p in m.primitives if p.op_type == "MatMul")
    found.prim_type = PrimitiveProto.PRIMITIVE


def drop_arguments(m: ModelProto) -> None:
    del node(m, "MatMul").input[2:]


def empty_constant(m: ModelProto) -> None:
    node(m, "Constant").attribute[0].ClearField("i")


def number_in_the_wrong_field(m: ModelProto) -> None:
    for each in m.graph.node:
        for attribute in each.attribute:
            if attribute.type == AttributeProto.TUPLE and each.op_type == "Constant":
                attribute.values[0].ClearField("ints")
                attribute.values[0].i = 1


def change_output(m: ModelProto) -> None:
    m.graph.output[0].name = "nothing"


def change_output_type(m: ModelProto) -> None:
    m.graph.output[0].attr_info.values[0].tensors[0].dims[0] = 9


def two_outputs(m: ModelProto) -> None:
    m.graph.output.add(name="y")


MUTATIONS: dict[Callable[[ModelProto], None], str] = {
    drop_producer: "model: producer_name is missing",
    raise_version: "mind_ir_version is 4, MindSpore 2.10 reads 3",
    misname_input: "its input nothing is nowhere in the file",
    turn_order: "comes after it",
    name_twice: "params.w: 2 values have this name",
    shorten_weight: "parameter params.w: raw_data has 4 bytes, float32[3,4] has 48",
    unknown_dtype: "input x: data_type is 77",
    drop_primitive: "there is no such primitive",
    change_kind: "MatMul is a PRIMITIVE_FUNCTION in MindSpore 2.10",
    drop_arguments: "MatMul has 2 inputs, it takes tensors and transpose_a, transpose_b",
    empty_constant: "but the field i is missing",
    number_in_the_wrong_field: "a number in a tuple must be alone in the field ints",
    change_output: "output nothing: no value has this name",
    change_output_type: "float32[9,4]",
    two_outputs: "graph: it has 2 outputs",
}


def test_a_written_file_has_no_problems(tmp_path: Path) -> None:
    assert problems(model(), tmp_path) == []


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda f: f.__name__)
def test_each_fault_is_named(mutate: Callable[[ModelProto], None], tmp_path: Path) -> None:
    changed = model()
    mutate(changed)
    found = problems(changed, tmp_path)
    assert any(MUTATIONS[mutate] in line for line in found), found
    assert all("\n" not in line for line in found)


def test_the_work_of_a_check_grows_with_the_functions_and_no_faster(tmp_path: Path) -> None:
    def calls(count: int) -> int:
        changed = model()
        for number in range(count):
            inside = changed.functions.add(name=f"function_{number}")
            for node in range(4):
                inside.node.add(op_type="Constant", output=[f"value_{number}_{node}"])
        profile = cProfile.Profile()
        profile.enable()
        problems(changed, tmp_path)
        profile.disable()
        return sum(entry.callcount for entry in profile.getstats())

    assert calls(160) < 5 * calls(40)


def test_what_is_no_mindir_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.mindir"
    path.write_bytes(b"\xff\xff not a message")
    with pytest.raises(FormatError, match="not a MindIR file"):
        check(path)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="holds no graph"):
        TARGET.summarize(path)


@given(st.data())
def test_a_damaged_file_is_checked_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(model().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.mindir"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert isinstance(check(path), list)
        TARGET.summarize(path)
    except FormatError:
        pass


def test_the_summary_shows_inputs_results_weights_and_operators(tmp_path: Path) -> None:
    path = tmp_path / "net.mindir"
    path.write_bytes(model().SerializeToString())
    summary = TARGET.summarize(path)
    assert list(map(str, summary.inputs)) == ["x: float32[2,3]"]
    assert [(v.dtype, v.shape) for v in summary.outputs] == [("float32", (2, 4))] * 2
    assert list(map(str, summary.parameters)) == ["params.w: float32[3,4]"]
    assert {n.op for n in summary.nodes} >= {"MatMul", "Add", "Softmax"}
    assert summary.producer.startswith("fnckpt")
