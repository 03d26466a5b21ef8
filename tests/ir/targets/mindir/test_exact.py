"""NaN, infinities, -0.0 and ties come out as our operators mean them."""

from collections.abc import Iterator

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import Attr, CNode, FuncGraph, Node, Parameter, aval_of
from fnckpt.ir.operators import apply, constant, infer, item
from fnckpt.ir.targets.mindir import TARGET
from fnckpt.ir.targets.target import legalized
from fnckpt.proto import mind_ir_pb2 as mind_ir
from tests.ir.targets.mindir.judge import Judged, judge

NAN, INF = np.nan, np.inf
ROWS = [
    [1, NAN, 2, NAN], [NAN, 1, 0, -INF], [-INF, -INF, -INF, -INF], [INF, 3, INF, NAN],
    [1, 1, 0, 1], [-0.0, 0.0, -0.0, 0.0], [INF, -INF, 1, 2], [2, 2, 3, 3],
]  # fmt: skip
Case = tuple[FuncGraph, tuple[np.ndarray, ...]]


def graph_of(inputs: tuple[np.ndarray, ...], op: str, **attrs: Attr) -> Case:
    """The graph that applies ``op`` to parameters like ``inputs``."""
    parameters = tuple(Parameter(f"x{i}", aval_of(x)) for i, x in enumerate(inputs))
    node = CNode(op, parameters, attrs, infer(op, parameters, attrs))
    outputs = [node] if len(node.results) == 1 else [item(node, 0), item(node, 1)]
    names = tuple(f"y{i}" for i in range(len(outputs)))
    return FuncGraph(op, parameters, tuple(outputs), names), inputs


def along(axis: int, dtype: np.dtype) -> Iterator[tuple[str, dict[str, Attr]]]:
    """The operators that work along one axis."""
    for op in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceMean"):
        yield op, {"axes": (axis,), "keepdims": axis == 0}
    for op in ("CumMax", "CumMin", "CumSum", "CumProd", "CumLogSumExp"):
        yield op, {"axis": axis, "reverse": axis == 0}
    for op in ("ArgMax", "ArgMin"):
        yield op, {"axis": axis, "dtype": dtype}
    for op in ("Softmax", "LogSoftmax"):
        yield op, {"axis": axis}


def cases() -> Iterator[tuple[str, Case]]:
    """Every case with its name."""
    for name in ("float32", "float64", "float16"):
        x = np.array(ROWS).astype(name)
        for axis, index in ((0, np.dtype(np.int64)), (1, np.dtype(np.int32))):
            for op, attrs in along(axis, index):
                yield f"{op} {name} axis {axis}", graph_of((x,), op, **attrs)
        yield f"TopK {name}", graph_of((x,), "TopK", k=3)
        yield f"Relu {name}", graph_of((x,), "Relu")
        for op in ("Maximum", "Minimum", "Div"):
            yield f"{op} {name}", graph_of((x, np.roll(x, 1, 1)), op)
        image = np.tile(x[None, None], (1, 2, 1, 2))
        window: dict[str, Attr] = {"window": (2, 2), "strides": (1, 1), "pads": ((0, 1), (0, 0))}
        yield f"MaxPool {name}", graph_of((image,), "MaxPool", **window)
        start, added = np.array([1, NAN, 2, 3], name), np.array([NAN, 1, 2, NAN], name)
        places = np.array([[0], [1], [0], [2]], np.int32)
        for reduction in ("add", "mul", "min", "max"):
            inputs = (start, places, added)
            yield (
                f"ScatterNd {reduction} {name}",
                graph_of(inputs, "ScatterNd", reduction=reduction),
            )
    ties = np.random.default_rng(0).integers(0, 9, (3, 2000))
    for name in ("float32", "int32", "uint8"):
        yield f"TopK ties {name}", graph_of((ties.astype(name),), "TopK", k=50)


CASES = dict(cases())


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judged]:
    """What MindSpore makes of every case, in one process."""
    folder = tmp_path_factory.mktemp("exact")
    names = {id: f"{number:04}" for number, id in enumerate(CASES)}
    for id, (graph, _) in CASES.items():
        with open(folder / f"{names[id]}.mindir", "wb") as file:
            file.writelines(TARGET.encode(legalized(graph, TARGET)).parts)
    found = judge(folder, {names[id]: inputs for id, (_, inputs) in CASES.items()})
    return {id: found[name] for id, name in names.items()}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of NaN in the expected numbers
@pytest.mark.parametrize("id", CASES)
def test_the_runtime_gives_what_the_operator_means(id: str, judged: dict[str, Judged]) -> None:
    graph, inputs = CASES[id]
    assert judged[id].error == ""
    for found, wanted in zip(judged[id].outputs, evaluate(graph, inputs), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        tolerance = {"float16": 2e-3, "float32": 1e-5}.get(found.dtype.name, 1e-9)
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def ops_of(output: Node, *inputs: Parameter) -> list[str]:
    """The primitives that are written for a graph of one output."""
    graph = FuncGraph("net", inputs, (output,), ("y",))
    parts = TARGET.encode(legalized(graph, TARGET)).parts
    model = mind_ir.ModelProto.FromString(b"".join(map(bytes, parts)))
    return [primitive.op_type for primitive in model.primitives]


def after_a_product(op: str, attrs: dict[str, Attr], *bias: float) -> list[str]:
    """What is written for ``op`` of a matrix product, with the numbers of ``bias`` added."""
    x = Parameter("x", aval_of(np.ones((2, 3), np.float32)))
    weight = constant(np.ones((3, 4), np.float32))
    added = [constant(np.array(bias, np.float32))] if bias else []
    kind = "Gemm" if bias else "MatMul"
    product: CNode = apply(kind, x, weight, *added, transpose_a=False, transpose_b=False)
    found = ops_of(CNode(op, (product,), attrs, infer(op, (product,), attrs)), x)
    return [each for each in found if each not in ("MatMul", "BiasAdd")]


@pytest.mark.parametrize(
    ("op", "written", "attrs"),
    [
        ("Relu", ["ReLU"], {}),
        ("Softmax", ["Softmax"], {"axis": 1}),
        ("LogSoftmax", ["LogSoftmax"], {"axis": 1}),
        ("ReduceMax", ["ReduceMax"], {"axes": (1,), "keepdims": False}),
        ("Gelu", ["Square", "Mul", "Add", "Sigmoid"], {"approximate": True}),
        ("Gelu", ["Mul", "Erf", "Add"], {"approximate": False}),
    ],
)
def test_what_follows_a_product_has_no_guard_against_nan(
    op: str, written: list[str], attrs: dict[str, Attr]
) -> None:
    assert after_a_product(op, attrs) == written
    assert after_a_product(op, attrs, 1, 2, 3, 4) == written


def test_an_infinite_bias_is_looked_for_behind_its_product() -> None:
    assert after_a_product("Relu", {}, 1, 2, 3, np.inf) == ["Maximum"]
