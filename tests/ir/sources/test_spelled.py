"""What our writers put in place of one operator comes back as that operator, and nothing else."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import NOWHERE, Attr, Aval, CNode, Constant, FuncGraph, Node, Parameter
from fnckpt.ir.operators import apply, items
from fnckpt.ir.sources import reader
from fnckpt.ir.sources.source import Writer
from fnckpt.ir.sources.spelled import respelled, template_of
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import legalized

WRITERS = {
    "ONNX": Writer("ONNX", (("opset", 20),)),
    "MINDIR": Writer("MINDIR", (("mindspore", "2.3"),)),
    "AIR": Writer("AIR"),
}
FLOAT32, INT32, UINT32 = np.dtype(np.float32), np.dtype(np.int32), np.dtype(np.uint32)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
ALONG: dict[str, Attr] = {"axes": (1,), "keepdims": False}

# An operator that the format lacks, or computes otherwise: its name, attributes, types of inputs.
SPELLED: dict[str, list[tuple[str, dict[str, Attr], tuple[np.dtype, ...]]]] = {
    "ONNX": [
        ("ArgMax", {"axis": 1, "dtype": np.dtype(np.int64)}, (FLOAT32,)),
        ("Atan2", {}, (FLOAT32, FLOAT32)),
        ("Cast", {"dtype": INT32}, (FLOAT32,)),
        ("Cbrt", {}, (FLOAT32,)),
        ("Digamma", {}, (FLOAT32,)),
        ("Div", {}, (INT32, INT32)),
        ("ErfInv", {}, (FLOAT32,)),
        ("Erfc", {}, (FLOAT32,)),
        ("Expm1", {}, (FLOAT32,)),
        ("IsFinite", {}, (FLOAT32,)),
        ("Lgamma", {}, (FLOAT32,)),
        ("Log1p", {}, (FLOAT32,)),
        ("PopulationCount", {}, (INT32,)),
        ("ReduceMax", ALONG, (FLOAT32,)),
        ("ReduceSum", ALONG, (INT32,)),
        ("Rem", {}, (INT32, INT32)),
        ("Rsqrt", {}, (FLOAT32,)),
        ("ShiftLeft", {}, (INT32, INT32)),
        ("Silu", {}, (FLOAT32,)),
    ],
    "MINDIR": [
        ("Cast", {"dtype": INT32}, (BFLOAT16,)),
        ("Div", {}, (FLOAT32, FLOAT32)),
        ("ErfInv", {}, (FLOAT32,)),
        ("Expm1", {}, (FLOAT32,)),
        ("Log", {}, (FLOAT32,)),
        ("Log1p", {}, (FLOAT32,)),
        ("Maximum", {}, (FLOAT32, FLOAT32)),
        ("ReduceMax", ALONG, (FLOAT32,)),
        ("ReduceMin", ALONG, (FLOAT32,)),
        ("Rem", {}, (INT32, INT32)),
        ("ShiftRightLogical", {}, (INT32, INT32)),
        ("Sign", {}, (FLOAT32,)),
        ("Tanh", {}, (FLOAT32,)),
    ],
    "AIR": [
        ("Cbrt", {}, (FLOAT32,)),
        ("Digamma", {}, (FLOAT32,)),
        ("Div", {}, (INT32, INT32)),
        ("Lgamma", {}, (FLOAT32,)),
        ("Rem", {}, (INT32, INT32)),
        ("ShiftLeft", {}, (INT32, INT32)),
    ],
}  # fmt: skip
CASES = [(name, *row) for name, rows in SPELLED.items() for row in rows]


def alone(op: str, attrs: dict[str, Attr], inputs: Sequence[Node]) -> FuncGraph:
    node = items(apply(op, *inputs, origin=NOWHERE, **attrs))[0]
    given = tuple(each for each in inputs if isinstance(each, Parameter))
    return FuncGraph("alone", given, (node,), ("y",))


def come_back(graph: FuncGraph, file_format: str) -> FuncGraph:
    """A graph as it is read from the file that it is written to."""
    goal = target(file_format)
    data = b"".join(map(bytes, goal.encode(legalized(graph, goal)).parts))
    source = reader(file_format)(memoryview(data), "file", None)
    return source.build([each.aval.shape for each in graph.inputs], {}).graph


def ops(graph: FuncGraph) -> list[str]:
    return [node.op for node in graph.cnodes()]


@pytest.mark.parametrize(
    ("file_format", "op", "attrs", "dtypes"), CASES, ids=[f"{c[0]} {c[1]}" for c in CASES]
)
def test_an_operator_is_itself_again(
    file_format: str, op: str, attrs: dict[str, Attr], dtypes: tuple[np.dtype, ...]
) -> None:
    inputs = [Parameter(f"x{i}", Aval((4, 5), dtype)) for i, dtype in enumerate(dtypes)]
    back = come_back(alone(op, attrs, inputs), file_format)
    assert len(ops(back)) > 1
    assert ops(respelled(back, WRITERS[file_format])) == [op]


def test_so_it_is_between_others_whatever_the_shapes() -> None:
    x, y = (Parameter(n, Aval(s, FLOAT32)) for n, s in (("x", (3, 1)), ("y", (1, 4))))
    node = apply("Tanh", apply("Div", apply("Exp", x), apply("Log1p", y)))
    graph = FuncGraph("several", (x, y), (node, node.inputs[0]), ("a", "b"))
    back = respelled(come_back(graph, "MINDIR"), WRITERS["MINDIR"])
    assert sorted(ops(back)) == ["Div", "Exp", "Log1p", "Tanh"]
    given = [np.linspace(-1, 2, 3, dtype=np.float32)[:, None], np.ones((1, 4), np.float32)]
    for found, wanted in zip(evaluate(back, given), evaluate(graph, given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def other_number(graph: FuncGraph) -> FuncGraph:
    """The same with 2 in place of each 1."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        if isinstance(node, CNode):
            inputs = tuple(new[id(each)] for each in node.inputs)
            new[id(node)] = CNode(node.op, inputs, node.attrs, node.results)
        elif isinstance(node, Constant) and node.value.size == 1 and node.value.item() == 1:
            new[id(node)] = Constant(node.value * 2)
        else:
            new[id(node)] = node
    outputs = tuple(new[id(each)] for each in graph.outputs)
    return FuncGraph(graph.name, graph.inputs, outputs, graph.output_names)


@pytest.mark.parametrize("op", ["Expm1", "Log1p"])
def test_what_differs_in_one_number_stays(op: str) -> None:
    back = come_back(alone(op, {}, [Parameter("x", Aval((3,), FLOAT32))]), "ONNX")
    changed = other_number(back)
    assert op not in ops(respelled(changed, WRITERS["ONNX"]))
    assert op in ops(respelled(back, WRITERS["ONNX"]))


def test_places_that_only_gathers_read_come_back() -> None:
    x, rows = Parameter("x", Aval((6,), FLOAT32)), Parameter("rows", Aval((6, 2), FLOAT32))
    values, places = items(apply("TopK", x, k=3))
    read = [apply("Gather", each, places, axis=0) for each in (rows, apply("Exp", x))]
    graph = FuncGraph("best", (x, rows), (values, *read), ("a", "b", "c"))
    back = respelled(come_back(graph, "ONNX"), WRITERS["ONNX"])
    assert ops(back).count("TopK") == 1
    given = [np.array([2, np.nan, -0.0, 0.0, 7, 1], np.float32), np.eye(6, 2, dtype=np.float32)]
    for found, wanted in zip(evaluate(back, given), evaluate(graph, given), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_what_is_read_twice_in_a_spelling_is_one_value() -> None:
    x, y = (Parameter(name, Aval((3,), FLOAT32)) for name in "xy")
    node = apply("Mul", x, apply("Sigmoid", y))
    graph = FuncGraph("not a silu", (x, y), (node,), ("z",))
    assert ops(respelled(graph, WRITERS["ONNX"])) == ["Sigmoid", "Mul"]


@pytest.mark.parametrize("number", [7, 0xFFFFFFFF])
def test_a_constant_in_a_spelling_is_cast_where_the_graph_is_read(number: int) -> None:
    x = Parameter("x", Aval((3,), UINT32))
    graph = alone("Add", {}, [Constant(np.asarray(number, UINT32)), x])
    back = come_back(graph, "AIR")
    assert ops(back) == ["Cast", "Add", "Cast"]  # the constant is one of int32
    again = respelled(back, WRITERS["AIR"])
    assert ops(again) == ["Add"]
    given = [np.array([0, 1, 0x80000000], UINT32)]
    np.testing.assert_array_equal(evaluate(again, given)[0], evaluate(graph, given)[0])


def test_what_the_format_has_needs_no_template() -> None:
    assert template_of(WRITERS["ONNX"], "Exp", (), (Aval((3,), FLOAT32),)) is None
    assert template_of(WRITERS["ONNX"], "Exp", (), (Aval((3,), np.dtype("S1")),)) is None
