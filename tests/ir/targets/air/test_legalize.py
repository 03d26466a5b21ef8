"""What an operator becomes where GE lacks it, its type or its shape: the types, and the numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fnckpt.ir.evaluate import evaluate as reference
from fnckpt.ir.graph import NOWHERE, Attr, FuncGraph, Node
from fnckpt.ir.operators import apply, constant, item
from fnckpt.ir.targets.air import TARGET
from fnckpt.ir.targets.air.check import check, warnings
from fnckpt.ir.targets.air.evaluate import evaluate
from fnckpt.ir.targets.target import legalized
from fnckpt.ir.verify import verify
from fnckpt.proto.ge_ir_pb2 import ModelDef
from tests.ir.targets.air.models import given, graph_of, write

Build = Callable[..., Node | tuple[Node, ...]]

RANDOM = np.random.default_rng(0)
TOLERANCE = {2: 5e-3, 4: 1e-5, 8: 1e-9}


def values(dtype: str, *shape: int) -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return RANDOM.integers(0, 2, shape).astype(bool)
    if kind == "f":
        return RANDOM.uniform(-3, 3, shape).astype(dtype)
    return RANDOM.integers(0 if kind == "u" else -30, 30, shape).astype(dtype)


def edges(dtype: str) -> np.ndarray:
    """The ends of a type and what is special in it."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray([True, False])
    if kind == "f":
        return np.asarray([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 0.5, -0.5, 2.5, 1e-3], dtype)
    info = np.iinfo(dtype)
    return np.asarray([info.min, info.max, 0, 1, 2, 7, info.max // 2, info.min + 1], dtype)


def graph(build: Build, arrays: tuple[np.ndarray, ...]) -> FuncGraph:
    inputs = tuple(given(f"x{i}", *a.shape, dtype=a.dtype) for i, a in enumerate(arrays))
    results = build(*inputs)
    return graph_of(inputs, *(results if isinstance(results, tuple) else (results,)))


def agree(build: Build, arrays: tuple[np.ndarray, ...], directory: Path) -> str:
    """The types of the file, which is checked, computed and compared with the reference."""
    meant = graph(build, arrays)
    expected = reference(meant, arrays)
    verify(legalized(meant, TARGET))
    path = write(meant, directory)
    assert check(path) == []
    assert not [line for line in warnings(path) if "not checked" in line]
    for results in (reference(legalized(meant, TARGET), arrays), evaluate(path, arrays)):
        for found, right in zip(results, expected, strict=True):
            close(found, right)
    ops = ModelDef.FromString(path.read_bytes()).graph[0].op
    return " ".join(op.type for op in ops if op.type not in ("Data", "Const"))


def close(found: np.ndarray, right: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (right.dtype, right.shape)
    if right.dtype.kind != "f":
        np.testing.assert_array_equal(found, right)
        return
    finite = np.isfinite(right)
    np.testing.assert_array_equal(found[~finite], right[~finite])
    if finite.any():
        far = np.abs(found[finite].astype(np.float64) - right[finite]).max()
        size = max(1.0, float(np.abs(right[finite].astype(np.float64)).max()))
        assert far <= TOLERANCE[right.dtype.itemsize] * size


def op(name: str, **attrs: Attr) -> Build:
    return lambda *inputs: apply(name, *inputs, origin=NOWHERE, **attrs)


def product_and_bias(a: Node, b: Node, c: Node) -> Node:
    return apply("Add", apply("MatMul", a, b, transpose_a=False, transpose_b=False), c)


def heads_and_bias(a: Node, b: Node, c: Node) -> Node:
    """As attention's projections: ``[..., heads, size]``."""
    product = apply("MatMul", a, b, transpose_a=False, transpose_b=False)
    shape = (*product.aval.shape[:-1], *c.aval.shape)
    return apply("Add", apply("Reshape", product, shape=shape), c)


def conv(rank: int, op_name: str = "Conv", stride: int = 1, pad: int = 0, groups: int = 1) -> Build:
    return op(
        op_name,
        strides=(stride,) * rank,
        pads=((pad, pad),) * rank,
        dilation=(1,) * rank,
        groups=groups,
    )


def pool(name: str, *window: int, pad: int = 0, **attrs: bool) -> Build:
    rank = len(window)
    return op(name, window=window, strides=(1,) * rank, pads=((pad, pad),) * rank, **attrs)


f = np.float32
STACK, MATRIX = values("float32", 2, 3, 4), values("float32", 4, 5)
VECTORS = tuple(np.abs(values("float32", 3)) + f(0.5) for _ in range(4))

BECOMES: dict[str, tuple[Build, tuple[np.ndarray, ...], str]] = {
    "gelu with tanh is Gelu": (
        op("Gelu", approximate=True), (values("float32", 9),), "Gelu"
    ),
    "gelu with erf is composed": (
        op("Gelu", approximate=False), (values("float32", 9),), "Mul Mul Erfc Mul"
    ),
    "silu": (op("Silu"), (values("float32", 9),), "Sigmoid Mul"),
    "cbrt": (op("Cbrt"), (values("float32", 9),), "Sign Abs Pow Mul"),
    "layer norm": (
        op("LayerNorm", epsilon=1e-6), (STACK, values("float32", 4), values("float32", 4)),
        "LayerNorm",
    ),
    "softmax": (op("Softmax", axis=1), (STACK,), "SoftmaxV2"),
    "log softmax": (op("LogSoftmax", axis=0), (STACK,), "LogSoftmaxV2"),
    "product": (op("MatMul", transpose_a=False, transpose_b=True),
                (values("float32", 3, 4), values("float32", 5, 4)), "MatMulV2"),
    "product with bias": (
        product_and_bias, (values("float32", 3, 4), MATRIX, values("float32", 5)), "MatMulV2"
    ),
    "stacked product with bias": (
        product_and_bias, (STACK, MATRIX, values("float32", 5)), "Reshape MatMulV2 Reshape"
    ),
    "product split into heads with a bias of each": (
        heads_and_bias, (STACK, values("float32", 4, 6), values("float32", 2, 3)),
        "Reshape Reshape MatMulV2 Reshape",
    ),
    "two products in a row": (
        lambda a, b, c, d: product_and_bias(product_and_bias(a, b, c), b, d),
        (STACK, values("float32", 4, 4), values("float32", 4), values("float32", 4)),
        "Reshape MatMulV2 MatMulV2 Reshape",
    ),
    "product with a bias of one row": (
        product_and_bias, (values("float32", 3, 4), MATRIX, values("float32", 1, 5)),
        "Reshape MatMulV2",
    ),
    "stacks of matrices": (
        op("MatMul", transpose_a=False, transpose_b=False), (STACK, values("float32", 2, 4, 5)),
        "BatchMatMul",
    ),
    "stacks that broadcast": (
        op("MatMul", transpose_a=False, transpose_b=False),
        (values("float32", 2, 1, 3, 4), values("float32", 5, 4, 6)),
        "BroadcastToD BroadcastToD BatchMatMul",
    ),
    "product of int8": (
        op("MatMul", transpose_a=False, transpose_b=False),
        (values("int8", 3, 4), values("int8", 4, 5)), "Cast Cast MatMulV2 Cast",
    ),
    "product of uint32": (
        op("MatMul", transpose_a=False, transpose_b=False),
        (values("uint32", 3, 4), values("uint32", 4, 5)), "Bitcast Bitcast MatMulV2 Bitcast",
    ),
    "product of double": (
        op("MatMul", transpose_a=False, transpose_b=False),
        (values("float64", 3, 4), values("float64", 4, 5)),
        "Reshape Transpose Reshape Mul ReduceSum",
    ),
    "convolution": (conv(2, pad=1), (values("float32", 2, 4, 5, 5), values("float32", 6, 4, 3, 3)),
                    "Conv2D"),
    "depthwise convolution": (
        conv(2, groups=4), (values("float32", 2, 4, 5, 5), values("float32", 8, 1, 3, 3)), "Conv2D"
    ),
    "convolution of a line": (
        conv(1, pad=1), (values("float32", 2, 4, 5), values("float32", 6, 4, 3)),
        "Reshape Reshape Conv2D Reshape",
    ),
    "convolution of a volume in half": (
        conv(3), (values("float16", 1, 2, 4, 4, 4), values("float16", 3, 2, 2, 2, 2)), "Conv3D"
    ),
    "transposed convolution": (
        conv(2, "ConvTranspose", stride=2),
        (values("float32", 2, 4, 5, 5), values("float32", 4, 3, 3, 3)), "Conv2DBackpropInput",
    ),
    "padding beyond the limit": (
        op("Conv", strides=(1, 1), pads=((0, 0), (256, 0)), dilation=(1, 1), groups=1),
        (values("float32", 1, 1, 3, 3), values("float32", 1, 1, 2, 2)), "PadD Conv2D",
    ),
    "max pooling": (pool("MaxPool", 2, 2), (values("float32", 1, 2, 5, 5),), "MaxPoolV3"),
    "average pooling": (
        pool("AvgPool", 2, 2, pad=1, count_padding=False), (values("float32", 1, 2, 5, 5),),
        "AvgPoolV2",
    ),
    "pooling of a line": (
        pool("MaxPool", 2), (values("float32", 1, 2, 5),), "Reshape MaxPoolV3 Reshape"
    ),
    "pooling of all of a large image": (
        pool("AvgPool", 20, 30, count_padding=True), (values("float32", 1, 2, 20, 30),),
        "ReduceMeanD",
    ),
    "pooling by a large window": (
        pool("AvgPool", 20, 20, count_padding=False), (values("float32", 1, 2, 22, 25),),
        "AvgPoolV2 AvgPoolV2",
    ),
    "normalization": (
        op("BatchNorm", axis=1, epsilon=1e-5), (values("float32", 2, 3, 4, 4), *VECTORS),
        "BatchNorm",
    ),
    "normalization of rows": (
        op("BatchNorm", axis=1, epsilon=1e-5), (values("float32", 2, 3), *VECTORS),
        "Reshape BatchNorm Reshape",
    ),
    "normalization of the last axis": (
        op("BatchNorm", axis=2, epsilon=1e-5), (values("float32", 2, 4, 3), *VECTORS),
        "Reshape Sub Reshape Reshape Add Rsqrt Mul Mul Reshape Add",
    ),
    "sum in float": (op("ReduceSum", axes=(1,), keepdims=True), (STACK,), "ReduceSumD"),
    "sum of int64": (
        op("ReduceSum", axes=(1,), keepdims=False), (values("int64", 3, 4),), "ReduceSum"
    ),
    "sum over no axis": (
        lambda x: apply("Neg", apply("ReduceSum", x, axes=(), keepdims=False)), (STACK,), "Neg"
    ),
    "greatest of booleans": (
        op("ReduceMax", axes=(0,), keepdims=False), (values("bool", 3, 4),), "ReduceAnyD"
    ),
    "moving booleans": (
        op("Transpose", perm=(1, 0)), (values("bool", 3, 4),), "Cast TransposeD NotEqual"
    ),
    "choosing booleans": (
        op("Select"), tuple(values("bool", 3) for _ in range(3)), "Cast Cast Select NotEqual"
    ),
    "choosing with broadcasting": (
        op("Select"), (values("bool", 4), MATRIX[:, :1], MATRIX[:, :4]), "SelectV2"
    ),
    "number to boolean": (
        op("Cast", dtype=np.dtype(bool)), (edges("float32"),), "NotEqual"
    ),
    "sum of uint64": (op("Add"), (edges("uint64"), edges("uint64")), "Bitcast Bitcast Add Bitcast"),
    "greater of uint64": (op("Maximum"), (edges("uint64"), edges("uint64")[::-1].copy()),
                          "Greater Select"),
    "greater of int8": (op("Maximum"), (edges("int8"), edges("int8")), "Cast Cast Maximum Cast"),
    "division by what may be 0": (
        op("Div"), (edges("int32"), edges("int32")), "NotEqual SelectV2 TruncateDiv SelectV2"
    ),
    "division by a constant": (
        lambda x: apply("Div", x, constant(np.int32(-3))), (edges("int32"),), "TruncateDiv"
    ),
    "shift left by a constant": (
        lambda x: apply("ShiftLeft", x, constant(np.int32(3))), (edges("int32"),), "Mul"
    ),
    "logical shift of signed": (
        lambda x: apply("ShiftRightLogical", x, constant(np.int32(3))), (edges("int32"),),
        "Bitcast RightShift Bitcast",
    ),
    "cumulative maximum": (
        op("CumMax", axis=0, reverse=False), (values("float32", 5),),
        "SliceD SliceD ConcatD Maximum SliceD SliceD ConcatD Maximum SliceD SliceD ConcatD Maximum",
    ),
    "elements by index": (
        op("GatherElements", axis=1),
        (values("float32", 3, 4), np.asarray([[0], [3], [1]], np.int32)),
        "Reshape Add GatherV2D",
    ),
    "update of whole rows": (
        op("DynamicUpdateSlice"),
        (values("float32", 3, 4), values("float32", 1, 4), np.asarray([2, 0], np.int32)),
        "SliceD Add TensorScatterUpdate",
    ),
    "scatter with sums": (
        op("ScatterNd", reduction="add"),
        (values("float32", 3, 4), np.asarray([[0], [2], [2]], np.int32), values("float32", 3, 4)),
        "TensorScatterAdd",
    ),
    "scatter with maxima": (
        op("ScatterNd", reduction="max"),
        (values("float32", 3, 4), np.asarray([[0], [2], [2]], np.int32), values("float32", 3, 4)),
        "Mul ReduceSum Reshape Equal Reshape SelectV2 ReduceMaxD Maximum",
    ),
    "both results of TopK": (
        lambda x: (item(node := apply("TopK", x, k=2), 0), item(node, 1)), (values("bool", 3, 4),),
        "Cast TopK NotEqual",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BECOMES)
def test_an_operator_becomes_these_types_and_keeps_its_meaning(name: str, tmp_path: Path) -> None:
    build, arrays, kinds = BECOMES[name]
    assert agree(build, arrays, tmp_path) == kinds


INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
ON_INTEGERS = (
    "Abs", "Add", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterEqual", "Less", "LessEqual", "Maximum", "Minimum", "Mul", "Neg", "NotEqual",
    "PopulationCount", "Relu", "Rem", "ShiftLeft", "ShiftRightArithmetic", "ShiftRightLogical",
    "Sign", "Square", "Sub",
)  # fmt: skip
ONE_INPUT = {"Abs", "BitwiseNot", "Neg", "PopulationCount", "Relu", "Sign", "Square"}


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ON_INTEGERS)
def test_integers_of_every_width_keep_their_wrapping(name: str, dtype: str, tmp_path: Path) -> None:
    x = edges(dtype)
    if name in ONE_INPUT:
        agree(op(name), (x,), tmp_path)
    elif dtype == "uint64" and name in ("Div", "Rem"):
        with pytest.raises(Exception, match="takes no uint64 as x1; cast to one of"):
            agree(op(name), (x[:, None], x[None]), tmp_path)
    else:
        agree(op(name), (x[:, None], x[None]), tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", *INTEGERS, "bool"])
@pytest.mark.parametrize("index", INTEGERS)
def test_every_type_moves_by_indices_of_every_type(dtype: str, index: str, tmp_path: Path) -> None:
    x, at = values(dtype, 3, 4), np.asarray([[0, 1], [2, 2]], index)
    agree(op("Gather", axis=1), (x, at), tmp_path)
    agree(op("GatherNd"), (x, at), tmp_path)
    agree(op("GatherElements", axis=0), (x, np.asarray([[0, 1, 2, 0]], index)), tmp_path)
    agree(op("DynamicSlice", sizes=(2, 3)), (x, np.asarray([1, 1], index)), tmp_path)
    agree(op("DynamicUpdateSlice"), (x, values(dtype, 2, 1), at[0]), tmp_path)
    agree(op("ScatterNd", reduction=""), (x, at, values(dtype, 2)), tmp_path)


SPECIAL = {
    "Lgamma": [-2.5, -0.3, 0.2, 0.5, 1, 1.5, 2, 7.25, 1e3, np.inf, np.nan, 0, -3],
    "Digamma": [-2.5, -0.3, 0.2, 0.5, 1, 1.4616, 2, 7.25, 1e3, np.inf, np.nan, -3],
    "ErfInv": [-1, -0.9999, -0.5, -1e-4, 0, 1e-4, 0.3, 0.99, 0.99999, 1, 1.5, np.nan],
    "Cbrt": [-8, -1e-30, 0, 1e-30, 27, 1e30, np.inf, -np.inf, np.nan],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_a_composed_function_is_exact_enough_at_its_edges(
    name: str, dtype: str, tmp_path: Path
) -> None:
    agree(op(name), (np.asarray(SPECIAL[name], dtype),), tmp_path)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("pads", [(0, 0), (-1, 0), (0, 1), (-1, -1), (2, 3)])
@pytest.mark.parametrize(("stride", "dilation", "groups"), [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
def test_transposed_convolution_has_every_padding(
    rank: int, pads: tuple[int, int], stride: int, dilation: int, groups: int, tmp_path: Path
) -> None:
    x = values("float32", 2, 4, *(5, 4, 3)[:rank])
    kernel = values("float32", 4, 6 // groups, *(3, 2, 2)[:rank])
    meant = op(
        "ConvTranspose",
        strides=(stride,) * rank,
        pads=(pads,) * rank,
        dilation=(dilation,) * rank,
        groups=groups,
    )
    agree(meant, (x, kernel), tmp_path)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("stride", "pad", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 2, 2)])
def test_convolution_of_every_rank(
    rank: int, stride: int, pad: int, dilation: int, groups: int, tmp_path: Path
) -> None:
    x = values("float32", 2, 4, *(7, 8, 6)[:rank])
    kernel, bias = values("float32", 8, 4 // groups, *(3, 2, 2)[:rank]), values("float32", 8)
    meant = op(
        "Conv",
        strides=(stride,) * rank,
        pads=((pad, 0),) * rank,
        dilation=(dilation,) * rank,
        groups=groups,
    )
    agree(meant, (x, kernel, bias), tmp_path)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("counted", [True, False])
def test_pooling_of_every_rank(rank: int, counted: bool, tmp_path: Path) -> None:
    x = values("float32", 2, 3, *(7, 8, 6)[:rank])
    window = {"window": (3,) * rank, "strides": (2,) * rank, "pads": ((0, 1),) * rank}
    agree(op("MaxPool", **window), (x,), tmp_path)
    agree(op("AvgPool", **window, count_padding=counted), (x,), tmp_path)


def test_legalized_graphs_stay_as_they_are() -> None:
    for build, arrays, _ in BECOMES.values():
        once = legalized(graph(build, arrays), TARGET)
        assert legalized(once, TARGET) is once
