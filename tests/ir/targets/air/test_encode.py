"""The fields of the file, by what MindSpore's converter writes and GE's loader wants."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.graph import Aval, FuncGraph, Node, Origin, Parameter
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.targets.air import TARGET, encode
from fnckpt.ir.targets.air.check import check
from fnckpt.ir.targets.air.evaluate import evaluate
from fnckpt.ir.targets.target import Refused, legalized
from fnckpt.proto.ge_ir_pb2 import GraphDef, ModelDef, OpDef, TensorDescriptor
from tests.ir.targets.air.models import content, given, graph_of, small_network, weight, write


def parsed(graph: FuncGraph) -> GraphDef:
    return ModelDef.FromString(content(graph)).graph[0]


def ops_of(graph: FuncGraph) -> dict[str, OpDef]:
    return {op.name: op for op in parsed(graph).op}


def relu_network() -> FuncGraph:
    """The example of the format's description: ``y = relu(x)``."""
    x = given("x", 2, 3)
    return FuncGraph("net", (x,), (apply("Relu", x),), ("act",))


def describe(desc: TensorDescriptor) -> dict[str, object]:
    return {
        "dtype": desc.dtype,
        "shape": list(desc.shape.dim),
        "layout": desc.layout,
        "has_out_attr": desc.has_out_attr,
        "device_type": desc.device_type,
        "real_dim_cnt": desc.real_dim_cnt,
        "attr": {key: value.WhichOneof("value") for key, value in desc.attr.items()},
    }


def test_the_model_has_the_seven_attributes_and_nothing_else() -> None:
    model = ModelDef.FromString(content(relu_network()))
    assert {key: value.WhichOneof("value") for key, value in model.attr.items()} == {
        "memory_size": "i", "p2p_memory_size": "i", "stream_num": "i", "event_num": "i",
        "label_num": "i", "weight_size": "i", "target_type": "s",
    }  # fmt: skip
    assert model.attr["target_type"].s == b"MINI"
    assert (model.name, model.version, model.custom_version) == ("", 0, "")


def test_the_example_of_the_format_is_written_field_by_field() -> None:
    graph = parsed(relu_network())
    assert (graph.name, list(graph.input), list(graph.output)) == ("net", [], ["act:0"])
    data, relu = graph.op
    port = {
        "dtype": 1, "shape": [2, 3], "layout": "NCHW", "has_out_attr": True, "device_type": "NPU",
        "real_dim_cnt": 2,
        "attr": {"origin_format": "s", "origin_shape": "list", "shape_range": "list_list_int"},
    }  # fmt: skip
    assert (data.name, data.type, list(data.input), data.id) == ("x", "Data", [""], 0)
    assert (relu.name, relu.type, list(relu.input), relu.id) == ("act", "Relu", ["x:0"], 1)
    assert data.attr["index"].WhichOneof("value") == "i"
    assert list(relu.is_input_const) == [False]
    assert list(relu.attr["is_input_const"].list.b) == [False]
    assert relu.attr["is_input_const"].list.val_type == 4
    for op in (data, relu):
        assert op.has_out_attr
        assert [describe(desc) for desc in (*op.input_desc, *op.output_desc)] == [port, port]
        assert list(op.attr["_input_name_key"].list.s) == [b"x"]
        assert list(op.attr["_output_name_key"].list.s) == [b"y"]
        assert list(op.attr["_input_name_value"].list.i) == [0]
        assert op.attr["_input_name_key"].list.val_type == 0


def test_a_weight_is_a_const_of_its_name_with_its_bytes() -> None:
    ops = ops_of(small_network())
    const = ops["params.Conv_0.kernel_const"]
    tensor = const.attr["value"].t
    expected = weight("w", 4, 3, 3, 3).value
    assert expected is not None
    assert tensor.data == expected.tobytes()
    assert describe(tensor.desc) == describe(const.output_desc[0])
    assert ops["Conv"].input[:2] == ["x:0", "params.Conv_0.kernel_const:0"]
    assert list(ops["Conv"].is_input_const) == [False, True, True]


def test_an_open_optional_port_is_an_empty_string_and_reserved() -> None:
    conv = ops_of(small_network())["Conv"]
    assert conv.input[3] == ""
    desc = conv.input_desc[3]
    assert (desc.dtype, list(desc.shape.dim), desc.layout) == (0, [], "FORMAT_RESERVED")
    assert list(conv.attr["_opt_input"].list.s) == [b"bias", b"offset_w"]


def test_attributes_at_their_defaults_are_left_out_but_for_data_format() -> None:
    ops = ops_of(small_network())
    own = {key for key in ops["Conv"].attr if not key.startswith("_")} - {"is_input_const"}
    assert own == {"strides", "pads", "data_format"}
    pool = {key for key in ops["MaxPool"].attr if not key.startswith("_")} - {"is_input_const"}
    assert pool == {"ksize", "strides", "data_format"}


def test_a_dynamic_input_is_counted_and_its_members_numbered() -> None:
    concat = ops_of(small_network())["Concat"]
    assert concat.attr["__dynamic_input_x_cnt"].i == 2
    assert concat.attr["N"].i == 2
    assert list(concat.attr["_input_name_key"].list.s) == [b"x0", b"x1"]


def test_a_type_in_an_attribute_has_the_engine_code() -> None:
    x = given("x", 4)
    node = apply(
        "ArgMax", apply("Cast", x, dtype=np.dtype(np.float16)), axis=0, dtype=np.dtype(np.int32)
    )
    ops = ops_of(graph_of((x,), node))
    assert ops["Cast"].attr["dst_type"].i == 1  # FLOAT16, which is 2 in the file
    assert ops["Cast"].output_desc[0].dtype == 2
    assert ops["y0"].attr["dtype"].dt == 3  # INT32, which is 7 in the file
    assert ops["y0"].output_desc[0].dtype == 7


def test_a_sum_of_a_product_and_a_vector_is_one_operator() -> None:
    x, w, b = given("x", 2, 3, 4), weight("w", 4, 5), weight("b", 5)
    product = apply("MatMul", x, w, transpose_a=False, transpose_b=False)
    assert kinds(graph_of((x,), apply("Add", b, product))) == ["Reshape", "MatMulV2", "Reshape"]


def test_a_product_with_another_user_keeps_its_sum_apart() -> None:
    x, w, b = given("x", 2, 4), weight("w", 4, 5), weight("b", 5)
    product = apply("MatMul", x, w, transpose_a=False, transpose_b=False)
    assert kinds(graph_of((x,), apply("Add", product, b), product)) == ["MatMulV2", "Add"]


def kinds(graph: FuncGraph) -> list[str]:
    return [op.type for op in parsed(graph).op if op.type not in ("Data", "Const")]


def test_a_repeated_result_an_input_and_a_weight_are_copied_to_be_results(tmp_path: Path) -> None:
    x, w = given("x", 3), weight("w", 3)
    y = apply("Neg", x)
    graph = graph_of((x,), y, y, x, w)
    assert kinds(graph) == ["Neg", "Identity", "Identity", "Identity"]
    path = write(graph, tmp_path)
    assert check(path) == []
    value = np.asarray([1, 2, 3], np.float32)
    assert w.value is not None
    for found, expected in zip(
        evaluate(path, [value]), (-value, -value, value, w.value), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_scopes_and_names_that_look_like_links_survive(tmp_path: Path) -> None:
    x = Parameter("in:0", Aval((2,), np.dtype(np.float32)))
    scope = Origin(scope="Net/Block_0:1")
    y = apply("Exp", apply("Neg", x, origin=scope), origin=scope)
    graph = FuncGraph("net", (x,), (y,), ("out:0",))
    assert [op.name for op in parsed(graph).op] == ["in:0", "Net/Block_0:1/Neg", "out:0"]
    path = write(graph, tmp_path)
    assert check(path) == []
    (found,) = evaluate(path, [np.zeros(2, np.float32)])
    np.testing.assert_array_equal(found, np.ones(2, np.float32))


def test_inputs_stand_in_order_also_where_nothing_uses_them() -> None:
    x, y, z = given("x", 2), given("y", 2), given("z", 2)
    data = [op for op in parsed(graph_of((x, y, z), apply("Neg", z))).op if op.type == "Data"]
    assert [(op.name, op.attr["index"].i) for op in data] == [("x", 0), ("y", 1), ("z", 2)]


def stored(value: np.ndarray, name: str) -> Parameter:
    return Parameter(name, Aval(value.shape, value.dtype), value)


def test_of_all_weights_at_most_one_is_copied_at_a_time() -> None:
    whole = [np.full((256, 1024), i, np.float32) for i in range(4)]
    weights = [stored(value if i % 2 else value.T, f"w{i}") for i, value in enumerate(whole)]
    graph = graph_of((), *(apply("Neg", each) for each in weights))
    encode(graph)  # the prototypes are read at the first use
    tracemalloc.start()
    written = sum(len(part) for part in encode(graph).parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert written > 4 * whole[0].nbytes
    assert peak < 1.5 * whole[0].nbytes


def test_a_transposed_weight_is_written_in_its_own_order(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    path = write(graph_of((), apply("Neg", stored(value, "w"))), tmp_path)
    (found,) = evaluate(path, [])
    np.testing.assert_array_equal(found, -value)


def test_more_than_two_gigabytes_are_refused_with_size_and_way_out() -> None:
    half = np.broadcast_to(np.float32(0), (1 << 14, 1 << 15))  # 2 GiB that take no memory
    parts = [half[: 1 << 13].view(), half[: 1 << 13].view()]
    assert sum(part.nbytes for part in parts) == 1 << 31
    nodes: list[Node] = [
        Parameter(f"w{i}", Aval(part.shape, part.dtype), part) for i, part in enumerate(parts)
    ]
    graph = graph_of((), *(apply("Neg", node) for node in nodes))
    with pytest.raises(
        ValueError, match=r"net: an AIR file holds at most 2147483647 bytes, .* 2147"
    ):
        encode(graph)


def test_types_without_a_prototype_are_refused_all_at_once_with_the_way_out() -> None:
    x = given("x", 3, dtype=np.dtype(np.uint64))
    y = given("y", 3, dtype=np.dtype(np.uint64))
    first, second = apply("Div", x, y), apply("Div", y, x)
    graph = legalized(graph_of((x, y), apply("Add", first, second)), TARGET)
    with pytest.raises(Refused) as refused:
        encode(graph)
    reasons = [reason for _, reason in refused.value.places]
    wanted = (
        "GE's TruncateDiv takes no uint64 as x1; cast to one of float16, float32, float64, int16, "
        "int32, int64, int8, uint16, uint8"
    )
    assert reasons == [wanted, wanted]


def test_a_type_that_the_file_has_no_code_for_is_refused() -> None:
    import ml_dtypes

    x = given("x", 3, dtype=np.dtype(ml_dtypes.bfloat16))
    with pytest.raises(Refused, match=r"GE r1\.1 has no type for bfloat16; compute in float32"):
        encode(graph_of((x,), apply("Neg", x)))


def test_a_window_beyond_the_limits_is_refused() -> None:
    x, k = given("x", 1, 1, 400, 4), constant(np.ones((1, 1, 3, 3), np.float32))
    conv = apply("Conv", x, k, strides=(64, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
    with pytest.raises(Refused, match=r"GE takes strides up to 63, found \(64, 1\)"):
        encode(graph_of((x,), conv))
