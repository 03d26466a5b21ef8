"""Every row of the table of faults: what the checker says of a good file with one thing wrong."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnckpt.errors import FormatError
from fnckpt.ir.targets.air.check import check, problems_of, warnings
from fnckpt.ir.targets.air.read import model_of
from fnckpt.proto.ge_ir_pb2 import AttrDef, DataType, GraphDef, ModelDef, OpDef
from tests.ir.targets.air.models import content, small_network

Mutation = Callable[[ModelDef], bytes | None]

GOOD = content(small_network())


def op(model: ModelDef, name: str) -> OpDef:
    return next(each for each in model.graph[0].op if each.name == name)


def of_type(model: ModelDef, kind: str) -> OpDef:
    return next(each for each in model.graph[0].op if each.type == kind)


def const_bytes_short(model: ModelDef) -> None:
    tensor = op(model, "params.Conv_0.kernel_const").attr["value"].t
    tensor.data = tensor.data[:-4]


def explicit_netoutput(model: ModelDef) -> None:
    graph = model.graph[0]
    last = graph.op.add(name="net_output", type="NetOutput", has_out_attr=True)
    for link in graph.output:
        last.input.append(link)
        producer, _, index = link.rpartition(":")
        last.input_desc.append(op(model, producer).output_desc[int(index)])
    del graph.output[:]


def cycle(model: ModelDef) -> None:
    conv, relu = of_type(model, "Conv2D"), of_type(model, "Relu")
    conv.input[0] = f"{relu.name}:0"
    conv.input_desc[0].CopyFrom(relu.output_desc[0])


def swapped_data(model: ModelDef) -> None:
    graph = model.graph[0]
    first, second = OpDef(), OpDef()
    first.CopyFrom(graph.op[0])
    second.CopyFrom(graph.op[1])
    graph.op[0].CopyFrom(second)
    graph.op[1].CopyFrom(first)


def shuffled(model: ModelDef) -> None:
    graph = model.graph[0]
    ops = [OpDef.FromString(each.SerializeToString()) for each in graph.op]
    del graph.op[:]
    graph.op.extend([*ops[:2], *reversed(ops[2:])])


def unused_const(model: ModelDef) -> None:
    spare = model.graph[0].op.add()
    spare.CopyFrom(op(model, "params.Conv_0.bias_const"))
    spare.name = "spare_const"


def no_val_type(model: ModelDef) -> None:
    of_type(model, "Conv2D").attr["strides"].list.ClearField("val_type")


def no_port_names(model: ModelDef) -> None:
    for each in model.graph[0].op:
        for key in [key for key in each.attr if key.startswith(("_input_name", "_output_name"))]:
            del each.attr[key]


def descs_without_out_attr(model: ModelDef) -> None:
    for each in model.graph[0].op:
        for desc in (*each.input_desc, *each.output_desc):
            desc.has_out_attr = False


def ops_without_out_attr(model: ModelDef) -> None:
    for each in model.graph[0].op:
        each.has_out_attr = False


def swapped_port_names(model: ModelDef) -> None:
    values = of_type(model, "MatMulV2").attr["_input_name_value"].list.i
    values[0], values[1] = values[1], values[0]


def list_of_wrong_kind(model: ModelDef) -> None:
    value = of_type(model, "Conv2D").attr["strides"].list
    value.ClearField("i")
    value.f.extend([1, 1, 1, 1])


def dtype_not_allowed(model: ModelDef) -> None:
    """DOUBLE from the input through the convolution."""
    for each in model.graph[0].op:
        for desc in (*each.input_desc, *each.output_desc):
            if desc.dtype == DataType.DT_FLOAT:
                desc.dtype = DataType.DT_DOUBLE
        if each.type == "Const" and each.attr["value"].t.desc.dtype == DataType.DT_FLOAT:
            tensor = each.attr["value"].t
            tensor.desc.dtype = DataType.DT_DOUBLE
            tensor.data *= 2


def engine_code_as_dtype(model: ModelDef) -> None:
    """The engine's FLOAT is 0, which in the file says that there is no type."""
    for each in model.graph[0].op:
        for desc in (*each.input_desc, *each.output_desc):
            if desc.dtype == DataType.DT_FLOAT:
                desc.dtype = DataType.DT_UNDEFINED


def misspelled(model: ModelDef) -> None:
    of_type(model, "Conv2D").attr["group"].i = 1


def too_many_inputs(model: ModelDef) -> None:
    relu = of_type(model, "Relu")
    relu.input.append(relu.input[0])
    relu.input_desc.append(relu.input_desc[0])
    relu.is_input_const.append(False)


def too_few_inputs(model: ModelDef) -> None:
    product = of_type(model, "Mul")
    del product.input[1:]
    del product.input_desc[1:]
    del product.is_input_const[1:]


def newer_op(model: ModelDef) -> None:
    of_type(model, "Relu").type = "HardSwish"


def second_graph(model: ModelDef) -> None:
    model.graph.add().CopyFrom(model.graph[0])


def required_input_empty(model: ModelDef) -> None:
    of_type(model, "Relu").input[0] = ""
    del of_type(model, "Relu").is_input_const[:]


def const_desc_differs(model: ModelDef) -> None:
    op(model, "params.Conv_0.bias_const").attr["value"].t.desc.shape.dim[0] = 2


def set_(change: Callable[[ModelDef], object]) -> Mutation:
    """A change whose result is of no interest."""

    def mutate(model: ModelDef) -> None:
        change(model)

    return mutate


def relu_input(link: str) -> Mutation:
    return set_(lambda m: of_type(m, "Relu").input.__setitem__(0, link))


def add_output(link: str) -> Mutation:
    return set_(lambda m: m.graph[0].output.append(link))


def conv_attr(name: str, value: AttrDef | None) -> Mutation:
    def mutate(model: ModelDef) -> None:
        if value is None:
            del of_type(model, "Conv2D").attr[name]
        else:
            of_type(model, "Conv2D").attr[name].CopyFrom(value)

    return mutate


REJECTED: dict[str, tuple[Mutation, str]] = {
    "attr wrong type": (conv_attr("groups", AttrDef(f=1.0)), "Conv: .*groups is Int, .*'f'"),
    "bad layout": (
        set_(lambda m: setattr(of_type(m, "Conv2D").input_desc[0], "layout", "NCWH")),
        "Conv: input 0: GE has no layout 'NCWH'",
    ),
    "const bytes short": (const_bytes_short, "kernel_const: .*432 bytes, found 428"),
    "const desc differs": (const_desc_differs, r"bias_const: its value is FLOAT\[2\], its output"),
    "const without value": (
        set_(lambda m: op(m, "params.Conv_0.bias_const").attr.pop("value")),
        "bias_const: a Const needs the attribute value",
    ),
    "cycle": (cycle, "is on a cycle or after one"),
    "dangling input": (relu_input("nowhere:0"), "Relu: the input x: .*'nowhere', which is not"),
    "data order differs": (swapped_data, "scale: index is 1, but it is Data number 0"),
    "data without index": (
        set_(lambda m: op(m, "x").attr.pop("index")),
        "^x: a Data operator needs the attribute index"
    ),
    "dtype mismatch on edge": (
        set_(lambda m: setattr(of_type(m, "Relu").input_desc[0], "dtype", DataType.DT_FLOAT16)),
        r"Relu: the input x: its type is FLOAT16.*gives FLOAT\[",
    ),
    "dtype not allowed": (dtype_not_allowed, "Conv: x: Conv2D takes no DOUBLE"),
    "duplicate data index": (
        set_(lambda m: setattr(op(m, "scale").attr["index"], "i", 0)),
        "scale: index 0 is also that of x"
    ),
    "duplicate name": (
        set_(lambda m: setattr(of_type(m, "Relu"),
        "name", "Conv")), "Conv: 2 operators have this name"
    ),
    "engine enum used as dtype": (engine_code_as_dtype, "x: the type code 0 is none of the file's"),
    "input desc missing": (
        set_(lambda m: of_type(m, "Relu").input_desc.pop()), "Relu: has 1 inputs and 0 types"
    ),
    "input index out of range": (
        relu_input("Conv:1"), "Relu: .*'Conv:1' is result 1 of an operator",
    ),
    "input without index": (relu_input("Conv"), "Relu: the input x: 'Conv' is not of the form"),
    "list attr wrong kind": (list_of_wrong_kind, r"Conv: the attribute strides is ListInt, found"),
    "missing required attr": (
        conv_attr("strides", None), "Conv: the attribute strides of Conv2D is",
    ),
    "newer only op": (newer_op, "Relu: the type HardSwish is newer than r1.1"),
    "no outputs": (set_(lambda m: m.graph[0].ClearField("output")), "the graph has no output"),
    "ops without out attr": (ops_without_out_attr, "Conv: has_out_attr is false"),
    "output index out of range": (add_output("Relu:3"), "Relu: .*'Relu:3' is result 3 of"),
    "output listed twice": (add_output("y0:0"), "y0: the output 'y0:0' is listed 2 times"),
    "output unknown node": (add_output("nowhere:0"), "nowhere: the graph's output .*not there"),
    "port name lengths differ": (
        set_(lambda m: of_type(m, "MatMulV2").attr["_input_name_value"].list.i.pop()),
        "_input_name_key has 4 items, _input_name_value 3",
    ),
    "required input empty": (required_input_empty, "Relu: the input x is required"),
    "second graph": (second_graph, "a file holds one graph, found 2"),
    "shape mismatch on edge": (
        set_(lambda m: of_type(m, "Relu").input_desc[0].shape.dim.__setitem__(0, 7)),
        r"Relu: the input x: its type is FLOAT\[7, 4, 8, 8\]",
    ),
    "swapped port names": (swapped_port_names, "the names of its inputs are .*expected"),
    "too few inputs": (too_few_inputs, "Mul: Mul takes 2 inputs, found 1"),
    "too many inputs": (too_many_inputs, "Relu: Relu takes 1 inputs, found 2"),
    "unknown op": (
        set_(lambda m: setattr(of_type(m, "Relu"),
        "type", "Reluu")), "Relu: the type 'Reluu' is not a GE"
    ),
    # and what the table of the loader's faults does not have
    "output shape is not what GE infers": (
        set_(lambda m: of_type(m, "SoftmaxV2").output_desc[0].shape.dim.__setitem__(1, 12)),
        r"y0: output 0 of SoftmaxV2 is FLOAT\[2, 11\], declared FLOAT\[2, 12\]",
    ),
    "dynamic inputs miscounted": (
        set_(lambda m: setattr(of_type(m, "ConcatD").attr["__dynamic_input_x_cnt"], "i", 3)),
        "Concat: ConcatD takes 3 inputs, found 2",
    ),
    "dynamic inputs not counted": (
        set_(lambda m: of_type(m, "ConcatD").attr.pop("__dynamic_input_x_cnt")),
        "Concat: needs the attribute __dynamic_input_x_cnt",
    ),
    "N is not the number of inputs": (
        set_(lambda m: setattr(of_type(m, "ConcatD").attr["N"], "i", 3)), "Concat: ConcatD: N is 3"
    ),
    "pads too many": (
        conv_attr("pads", AttrDef(list=AttrDef.ListValue(i=[1, 1, 1], val_type="VT_LIST_INT"))),
        "Conv: Conv2D: pads has 4 numbers",
    ),
    "stride beyond the limit": (
        set_(lambda m: of_type(m, "Conv2D").attr["strides"].list.i.__setitem__(2, 64)),
        "Conv: Conv2D: strides are 1 to 63",
    ),
    "data_format is not the layout": (
        conv_attr("data_format", AttrDef(s=b"NHWC")), "Conv: Conv2D: data_format is NCHW"
    ),
    "groups do not fit": (conv_attr("groups", AttrDef(i=2)), "Conv: Conv2D: x .*do not fit in 2"),
    "bias of another length": (
        set_(lambda m: setattr(of_type(m, "MatMulV2").attr["transpose_x2"], "b", True)),
        "MatMulV2: .*cannot be multiplied",
    ),
    "cast to an unknown type": (
        set_(lambda m: setattr(of_type(m, "Cast").attr["dst_type"], "i", 77)),
        "dst_type 77 is not an engine"
    ),
    "cast to the file's code": (
        set_(lambda m: setattr(of_type(m, "Cast").attr["dst_type"], "i", DataType.DT_FLOAT)),
        r"output 0 of Cast is FLOAT16\[2, 3\], declared FLOAT\[2, 3\]",
    ),
    "reshape to other elements": (
        set_(lambda m: setattr(op(m, "Reshape/shape").attr["value"].t, "data", bytes(8))),
        "Reshape: Reshape: FLOAT.* has not the elements of",
    ),
    "axis outside": (
        set_(lambda m: of_type(m, "SoftmaxV2").attr["axes"].list.i.__setitem__(0, 5)),
        "y0: SoftmaxV2: axis 5 is not one of 2",
    ),
    "constness misstated": (
        set_(lambda m: of_type(m, "MatMulV2").is_input_const.__setitem__(0, True)),
        "is_input_const is .True, True, True., its inputs are .False",
    ),
    "an output type missing": (
        set_(lambda m: of_type(m, "TopK").output_desc.pop()), "TopK: TopK has 2 outputs, found 1"
    ),
    "a size is unknown": (
        set_(lambda m: of_type(m, "Relu").output_desc[0].shape.dim.__setitem__(0, -1)),
        "Relu: output 0: the shape .* is not static",
    ),
    "control edge from nowhere": (
        set_(lambda m: of_type(m, "Relu").input.append("nowhere:-1")), "Relu: the control edge"
    ),
}  # fmt: skip

NO_FILE: dict[str, bytes] = {
    "empty file": b"",
    "graphdef instead of modeldef": ModelDef.FromString(GOOD).graph[0].SerializeToString(),
    "no graph": ModelDef(name="x").SerializeToString(),
    "text file": b"this is not a model\n" * 20,
    "truncated half": GOOD[: len(GOOD) // 2],
    "truncated last byte": GOOD[:-1],
}

WARNED: dict[str, tuple[Mutation, str]] = {
    "descs without out attr": (descs_without_out_attr, "Conv: input 0: has_out_attr .* is false"),
    "misspelled optional attr": (misspelled, "Conv: Conv2D has no attribute group: GE ignores it"),
    "no port names": (no_port_names, "Conv: the names of its inputs are missing"),
    "no val type": (no_val_type, "Conv: the list strides has no val_type"),
    "unused const": (unused_const, "spare_const: a Const that nothing uses"),
}

ACCEPTED: dict[str, Mutation] = {
    "none": set_(lambda m: None),
    "explicit netoutput": explicit_netoutput,
    "ops shuffled": shuffled,
}


def written(mutation: Mutation, directory: Path) -> Path:
    model = ModelDef.FromString(GOOD)
    mutation(model)
    path = directory / "net.air"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("name", REJECTED)
def test_a_faulty_file_is_rejected_by_name_and_fault(name: str, tmp_path: Path) -> None:
    mutation, expected = REJECTED[name]
    found = check(written(mutation, tmp_path))
    assert found
    assert any(matches(expected, line) for line in found), found


def matches(expected: str, line: str) -> bool:
    return re.search(expected, line) is not None


@pytest.mark.parametrize("name", NO_FILE)
def test_what_is_no_air_file_raises(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.air"
    path.write_bytes(NO_FILE[name])
    with pytest.raises(FormatError, match=r"net\.air: "):
        check(path)


@pytest.mark.parametrize("name", WARNED)
def test_what_is_unusual_but_right_is_a_warning(name: str, tmp_path: Path) -> None:
    mutation, expected = WARNED[name]
    path = written(mutation, tmp_path)
    assert check(path) == []
    assert any(matches(expected, line) for line in warnings(path)), warnings(path)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_good_file_has_neither_fault_nor_warning(name: str, tmp_path: Path) -> None:
    path = written(ACCEPTED[name], tmp_path)
    assert check(path) == []
    assert warnings(path) == []


def test_the_table_has_every_fault_of_the_loader() -> None:
    assert len(REJECTED) + len(NO_FILE) >= 40 + 12
    assert len(WARNED) == 5


def test_a_graph_instead_of_a_model_says_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "net.air"
    path.write_bytes(GraphDef(name="net").SerializeToString())
    with pytest.raises(FormatError, match="holds one graph, found none"):
        check(path)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=3))
def test_any_damage_is_reported_or_refused(damage: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, value in damage:
        content[place] = value
    with suppress(FormatError):
        problems_of(model_of(bytes(content), "net.air"))


SIZES = st.lists(st.sampled_from([0, 1, 2, 3, -1, 1 << 62]), max_size=5)
VALUES = st.sampled_from(
    [
        AttrDef(),
        AttrDef(i=-99),
        AttrDef(i=3),
        AttrDef(f=1.5),
        AttrDef(s=b"\xff"),
        AttrDef(dt=13),
        AttrDef(list=AttrDef.ListValue()),
        AttrDef(list=AttrDef.ListValue(i=[-5, 0, 70], val_type="VT_LIST_INT")),
        AttrDef(list_list_int=AttrDef.ListListInt()),
    ]
)
CODES = [DataType.DT_UNDEFINED, DataType.DT_FLOAT16, DataType.DT_STRING, DataType.DT_QINT8]


def edit(model: ModelDef, random: Random, value: AttrDef, sizes: list[int]) -> None:
    """One of the faults of the tables above, at any place."""
    op = random.choice(model.graph[0].op)
    descs = [*op.input_desc, *op.output_desc]
    match random.randrange(6):
        case 0:
            op.attr[random.choice(sorted(op.attr))].CopyFrom(value)
        case 1:
            del op.attr[random.choice(sorted(op.attr))]
        case 2 if descs:
            random.choice(descs).shape.dim[:] = sizes
        case 3 if descs:
            random.choice(descs).dtype = random.choice(CODES)
        case 4 if op.input:
            op.input[-1] = random.choice(["", "x", ":0", "x:0:0", "Relu:0", "Relu:-1"])
        case _:
            op.type = random.choice(["TopK", "ConcatD", "Const", "If", "Bitcast", "SplitD"])


@settings(max_examples=300, deadline=None)
@given(st.randoms(), st.lists(st.tuples(VALUES, SIZES), min_size=1, max_size=4))
def test_any_edit_is_reported_or_harmless(
    random: Random, edits: list[tuple[AttrDef, list[int]]]
) -> None:
    model = ModelDef.FromString(GOOD)
    for value, sizes in edits:
        edit(model, random, value, sizes)
    problems_of(model_of(model.SerializeToString(), "net.air"))
