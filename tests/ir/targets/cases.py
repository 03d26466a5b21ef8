"""Every operator with the dtypes it is meaningful for, as graphs of one node.

A case is small: edge values, a dimension of size one, rank 0 where the operator has it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from fnckpt.ir.graph import Attr, CNode, FuncGraph, Node, Parameter, aval_of
from fnckpt.ir.operators import constant, infer, item
from fnckpt.ir.operators.elementwise import BINARY, COMPARE, UNARY
from fnckpt.ir.operators.reduction import REDUCTIONS, SCANS

FLOATS = ("float32", "float16", "float64", "bfloat16")
INTEGERS = tuple(f"{sign}int{n}" for n in (8, 16, 32, 64) for sign in ("", "u"))
NUMBERS = (*FLOATS, *INTEGERS)
EVERY = (*NUMBERS, "bool")


@dataclass(frozen=True)
class OperatorCase:
    """A graph, and what it is run on; ``id`` is ``<operator> <dtype> <what else>``."""

    id: str
    op: str
    graph: FuncGraph
    inputs: tuple[np.ndarray, ...]


def dtype(name: str) -> np.dtype:
    """The dtype of that name."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def edges(name: str) -> np.ndarray:
    """The values at which kernels differ."""
    kind = dtype(name)
    if kind.kind == "b":
        return np.array([True, False, True, False])
    if kind.kind in "iu":
        info = np.iinfo(kind)
        low = [-1, -2, -7, info.min] if kind.kind == "i" else []
        return np.array([0, 1, 2, 3, 5, 7, 100, info.max, info.max - 1, *low], kind)
    finite = [0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2.5, 0.3, -0.3, 0.9, 3, -3, 10, -10, 30, -30]
    return np.array([*finite, np.inf, -np.inf, np.nan], kind)


def numbers(name: str, *shape: int) -> np.ndarray:
    """Moderate numbers, always the same, none of them twice where the dtype has enough."""
    size = int(np.prod(shape))
    kind = dtype(name)
    order = np.random.default_rng(7).permutation(size)
    if kind.kind == "b":
        return (order % 3 == 0).reshape(shape)
    if kind.kind in "iu":
        return (order % 100 - (40 if kind.kind == "i" else 0)).astype(kind).reshape(shape)
    return ((order - size / 3) / 7).astype(kind).reshape(shape)


def graph_of(outputs: Sequence[Node], inputs: Sequence[Parameter], name: str = "g") -> FuncGraph:
    """A graph with outputs ``out0``, ``out1``, ..."""
    names = tuple(f"out{i}" for i in range(len(outputs)))
    return FuncGraph(name, tuple(inputs), tuple(outputs), names)


def case(id: str, op: str, *inputs: np.ndarray | np.generic, **attrs: Attr) -> OperatorCase:
    """``op`` applied to ``inputs``, all of them inputs of the graph."""
    arrays = [np.asarray(x) for x in inputs]
    given = [Parameter(f"x{i}", aval_of(x)) for i, x in enumerate(arrays)]
    return made(id, given, arrays, lambda *nodes: CNode(op, nodes, attrs, infer(op, nodes, attrs)))


def made(
    id: str,
    given: Sequence[Parameter],
    inputs: Sequence[np.ndarray],
    build: Callable[..., CNode],
) -> OperatorCase:
    """The graph of ``build``, whose operator is the case's; all results are outputs."""
    node = build(*given)
    outputs = [item(node, i) for i in range(len(node.results))] if len(node.results) > 1 else [node]
    return OperatorCase(id, node.op, graph_of(outputs, given), tuple(inputs))


FLOAT_ONLY = frozenset(
    {
        "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Cbrt", "Cos", "Cosh",
        "Digamma", "Erf", "ErfInv", "Erfc", "Exp", "Expm1", "Lgamma", "Log", "Log1p", "NextAfter",
        "Reciprocal", "Round", "Rsqrt", "Sigmoid", "Silu", "Sin", "Sinh", "Softplus", "Sqrt", "Tan",
        "Tanh",
    }
)  # fmt: skip
INTEGER_ONLY = frozenset(
    {
        "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "PopulationCount", "ShiftLeft",
        "ShiftRightArithmetic", "ShiftRightLogical",
    }
)  # fmt: skip
LOGICAL = frozenset({"LogicalNot", "LogicalAnd", "LogicalOr", "LogicalXor"})
NOT_BOOL = frozenset(
    {"Div", "Neg", "Pow", "Rem", "Sign", "Square", "Sub", "Ceil", "Floor", "Round"}
)


def dtypes_of(op: str) -> tuple[str, ...]:
    """The dtypes that an elementwise operator is meaningful for."""
    if op in FLOAT_ONLY:
        return FLOATS
    if op in INTEGER_ONLY:
        return (*INTEGERS, "bool") if op.startswith("Bitwise") else INTEGERS
    if op in LOGICAL:
        return ("bool",)
    return NUMBERS if op in NOT_BOOL else EVERY


def elementwise() -> Iterator[OperatorCase]:
    """One and two inputs."""
    for op in (*UNARY, "IsFinite", "IsInf", "IsNan"):
        for name in dtypes_of(op):
            x = edges(name)
            if op == "Lgamma":  # numpy's meaning of minus infinity is not XLA's
                x = x[x != -np.inf]
            yield case(f"{op} {name}", op, x)
        yield case(f"{op} {dtypes_of(op)[0]} scalar", op, numbers(dtypes_of(op)[0], 2)[1])
    for op in (*BINARY, *COMPARE):
        for name in dtypes_of(op):
            x = edges(name)
            y = x
            if op in ("Div", "Rem") and name == "int64":  # what a double holds exactly
                x = y = np.clip(x, -(2**53), 2**53)
            yield case(f"{op} {name}", op, x[:, None], y[None, :])
        x = numbers(dtypes_of(op)[0], 2, 3)
        yield case(f"{op} {dtypes_of(op)[0]} scalar", op, x, np.abs(x)[0, 0])


def activations() -> Iterator[OperatorCase]:
    """With attributes."""
    for name in FLOATS:
        x = edges(name)
        yield case(f"Gelu {name} tanh", "Gelu", x[np.isfinite(x)], approximate=True)
        yield case(f"Gelu {name} erf", "Gelu", x[np.isfinite(x)], approximate=False)
        yield case(f"LeakyRelu {name}", "LeakyRelu", x, alpha=0.1)
        yield case(f"Clip {name}", "Clip", x, low=-0.5, high=6.0)
        yield case(f"Elu {name}", "Elu", x, alpha=1.0)
        for op in ("HardSigmoid", "HardSwish", "Mish"):
            yield case(f"{op} {name}", op, x)
        yield case(f"Elu {name} half", "Elu", x, alpha=0.5)
    yield case("Clip int32", "Clip", edges("int32"), low=-2, high=5)
    for name in EVERY:
        x = edges(name)
        condition = (np.arange(x.size) % 3 == 0)[:, None]
        yield case(f"Select {name}", "Select", condition, x, x[:, None].copy())
        yield case(f"Select {name} scalar", "Select", condition[:, 0], x, x[0])
        for other in EVERY:
            yield case(f"Cast {name} {other}", "Cast", x, dtype=dtype(other))


def moves() -> Iterator[OperatorCase]:
    """Operators of ir/operators/shape.py."""
    for name in EVERY:
        x = numbers(name, 2, 3, 4)
        fill = numbers(name, 2)[1]
        yield case(f"Reshape {name}", "Reshape", x, shape=(4, 1, 6))
        yield case(f"Reshape {name} scalar", "Reshape", numbers(name, 1), shape=())
        yield case(f"Transpose {name}", "Transpose", x, perm=(2, 0, 1))
        yield case(f"BroadcastTo {name}", "BroadcastTo", numbers(name, 3, 1), shape=(2, 3, 4))
        yield case(f"BroadcastTo {name} scalar", "BroadcastTo", fill, shape=(2, 3))
        yield case(f"Concat {name}", "Concat", x, numbers(name, 2, 1, 4), x, axis=1)
        yield case(f"Concat {name} one", "Concat", x, axis=0)
        yield case(f"Pad {name}", "Pad", x, fill, low=(1, 0, 2), high=(0, 1, 0))
        yield case(f"Slice {name}", "Slice", x, start=(0, 1, 0), limit=(2, 3, 4), strides=(1, 1, 2))
        yield case(f"Reverse {name}", "Reverse", x, axes=(0, 2))
    x = numbers("float32", 2, 3, 1, 2, 1, 2)
    yield case("Transpose float32 rank 6", "Transpose", x, perm=(5, 0, 4, 1, 3, 2))
    yield case("Pad float32 rank 6", "Pad", x, np.float32(1), low=(1,) * 6, high=(0,) * 6)
    deep, whole = numbers("float32", 2, 1, 3, 1, 2, 1, 2, 1, 2, 1), (2, 1, 3, 1, 2, 1, 2, 1, 2, 1)
    yield case("Slice float32 rank 10", "Slice", deep, start=(0, 0, 1, *(0,) * 7), limit=whole,
               strides=(1,) * 10)  # fmt: skip
    yield case("Reverse float32 rank 10", "Reverse", deep, axes=(0, 2, 4))
    yield case("BroadcastTo float32 rank 10", "BroadcastTo", numbers("float32", 2, 1, 1, 3),
               shape=(1, 1, 2, 2, 1, 1, 2, 2, 2, 3))  # fmt: skip
    yield case("Slice float32 none", "Slice", x[0], start=(0,) * 5, limit=(3, 1, 2, 1, 2),
               strides=(1,) * 5)  # fmt: skip
    yield case("Reverse float32 nothing", "Reverse", x, axes=())


def reductions() -> Iterator[OperatorCase]:
    """Operators of ir/operators/reduction.py."""
    for op in REDUCTIONS:
        names = ("bool",) if op in ("ReduceAll", "ReduceAny") else NUMBERS
        if op in ("ReduceMax", "ReduceMin"):
            names = EVERY
        if op in ("ReduceLogSumExp", "ReduceMean"):
            names = FLOATS
        for name in names:
            x = numbers(name, 2, 3, 4)
            x = x if op != "ReduceProd" else (x % 7 < 3).astype(x.dtype) + x.dtype.type(1)
            yield case(f"{op} {name}", op, x, axes=(1,), keepdims=False)
            yield case(f"{op} {name} keep", op, x, axes=(0, 2), keepdims=True)
            yield case(f"{op} {name} all", op, x, axes=(0, 1, 2), keepdims=False)
            yield case(f"{op} {name} none", op, x, axes=(), keepdims=False)
        if "float32" in names:
            y = edges("float32").reshape(7, 3)
            yield case(f"{op} float32 edges", op, y, axes=(1,), keepdims=False)
    for op in ("ArgMax", "ArgMin"):
        for name in EVERY:
            x = numbers(name, 3, 4, 2)
            yield case(f"{op} {name}", op, x, axis=1, dtype=np.dtype(np.int32))
            yield case(f"{op} {name} int64", op, x, axis=2, dtype=np.dtype(np.int64))
            ties = numbers(name, 2, 1, 4)[[0, 0, 1, 0]]
            yield case(f"{op} {name} ties", op, ties, axis=0, dtype=np.dtype(np.int32))
        y = edges("float32").reshape(3, 7)
        yield case(f"{op} float32 NaN", op, y, axis=1, dtype=np.dtype(np.int32))
        yield case(f"{op} float32 vector", op, y[0], axis=0, dtype=np.dtype(np.int32))
        yield case(f"{op} float32 uint8", op, y[0], axis=0, dtype=np.dtype(np.uint8))


def scans() -> Iterator[OperatorCase]:
    """Cumulative operators, and those of several results: Split and TopK."""
    for op in SCANS:
        names = FLOATS if op == "CumLogSumExp" else NUMBERS
        for name in names:
            x = numbers(name, 3, 5, 2)
            x = x if op != "CumProd" else (x % 3 + 1).astype(x.dtype)
            yield case(f"{op} {name}", op, x, axis=1, reverse=False)
            yield case(f"{op} {name} reverse", op, x, axis=2, reverse=True)
        y = edges("float32").reshape(3, 7)
        yield case(f"{op} float32 edges", op, y, axis=1, reverse=False)
        yield case(f"{op} float32 vector", op, numbers("float32", 6), axis=0, reverse=False)
    for name in EVERY:
        x = numbers(name, 3, 7)
        yield case(f"Split {name}", "Split", x, axis=1, sizes=(2, 4, 1))
        yield case(f"TopK {name}", "TopK", x, k=3)
        yield case(f"TopK {name} ties", "TopK", np.concatenate([x, x], 1), k=5)
    yield case("TopK float32 NaN", "TopK", edges("float32"), k=5)
    yield case("TopK float32 all", "TopK", numbers("float32", 2, 4), k=4)


def places() -> Iterator[OperatorCase]:
    """Operators of ir/operators/index.py."""
    rows = np.array([[0, 2], [3, 1], [1, 1]])
    for name in EVERY:
        x = numbers(name, 4, 3, 2)
        at = np.array([[0, 3], [2, 2]], np.int32)
        yield case(f"Gather {name}", "Gather", x, at, axis=0)
        yield case(f"Gather {name} inner", "Gather", x, at[0, :1] % 3, axis=1)
        yield case(f"GatherNd {name}", "GatherNd", x, rows.astype(np.int32))
        spread = (np.arange(16).reshape(4, 2, 2) % 3).astype(np.int32)
        yield case(f"GatherElements {name}", "GatherElements", x, spread, axis=1)
        kinds = ("", "min", "max") if name == "bool" else ("", "add", "mul", "min", "max")
        for kind in kinds:
            twice = rows if kind == "" else rows[[0, 1, 1]]
            updates = numbers(name, 3, 2)
            yield case(f"ScatterNd {name} {kind or 'write'}", "ScatterNd", x,
                       twice.astype(np.int32), updates, reduction=kind)  # fmt: skip
        starts = np.array([1, 0, 1], np.int32)
        yield case(f"DynamicSlice {name}", "DynamicSlice", x, starts, sizes=(2, 3, 1))
        update = numbers(name, 2, 3, 1)
        yield case(f"DynamicUpdateSlice {name}", "DynamicUpdateSlice", x, update, starts)
    x = numbers("float32", 4, 3)
    for name in INTEGERS:
        at = np.array([3, 0], dtype(name))
        yield case(f"Gather float32 by {name}", "Gather", x, at, axis=0)
        yield case(f"GatherNd float32 by {name}", "GatherNd", x, at[:, None])
        spread = np.repeat(at[:, None], 3, 1)
        yield case(f"GatherElements float32 by {name}", "GatherElements", x, spread, axis=0)
        yield case(f"ScatterNd float32 by {name}", "ScatterNd", x, at[:, None],
                   numbers("float32", 2, 3), reduction="")  # fmt: skip
        yield case(f"DynamicSlice float32 by {name}", "DynamicSlice", x, at % 2, sizes=(2, 3))
    yield case("Gather float32 scalar", "Gather", x, np.int32(2), axis=0)
    yield case("GatherNd float32 whole", "GatherNd", x, np.array([2], np.int32))


def products() -> Iterator[OperatorCase]:
    """Matrix products."""
    for name in NUMBERS:
        a, b = numbers(name, 3, 4), numbers(name, 4, 5)
        for left, right in ((False, False), (True, False), (False, True), (True, True)):
            x, y = a.T.copy() if left else a, b.T.copy() if right else b
            turned = {"transpose_a": left, "transpose_b": right}
            yield case(f"MatMul {name} {int(left)}{int(right)}", "MatMul", x, y, **turned)
        plain = {"transpose_a": False, "transpose_b": False}
        if name in FLOATS:
            yield case(
                f"Gemm {name}",
                "Gemm",
                numbers(name, 3, 4),
                numbers(name, 4, 5),
                numbers(name, 5),
                **plain,
            )
        yield case(f"MatMul {name} batch", "MatMul", numbers(name, 2, 3, 4), numbers(name, 2, 4, 5),
                   **plain)  # fmt: skip
        yield case(f"MatMul {name} broadcast", "MatMul", numbers(name, 2, 1, 3, 4),
                   numbers(name, 3, 4, 5), **plain)  # fmt: skip
        yield case(f"MatMul {name} rows", "MatMul", numbers(name, 2, 3, 4), b, **plain)


CONVOLUTIONS: tuple[tuple[str, int, int, dict[str, Attr]], ...] = (
    ("plain", 2, 1, {}),
    ("strided", 2, 1, {"strides": (2, 1), "pads": ((1, 0), (0, 2))}),
    ("groups", 2, 2, {"pads": ((1, 1), (1, 1))}),
    ("depthwise", 2, 4, {}),
    ("dilated", 2, 1, {"dilation": (2, 1), "pads": ((2, 2), (0, 0))}),
    ("1-D", 1, 1, {"strides": (2,), "pads": ((1, 0),)}),
    ("3-D", 3, 1, {"strides": (2, 1, 1), "pads": ((1, 0), (0, 1), (1, 1))}),
    ("3-D groups", 3, 2, {"dilation": (1, 2, 1)}),
)


def convolutions() -> Iterator[OperatorCase]:
    """Conv and ConvTranspose, with and without a bias."""
    for name in FLOATS:
        for what, spatial, groups, changed in CONVOLUTIONS:
            attrs: dict[str, Attr] = {
                "strides": (1,) * spatial, "pads": ((0, 0),) * spatial,
                "dilation": (1,) * spatial, "groups": groups, **changed,
            }  # fmt: skip
            x = numbers(name, 2, 4, *(7, 6, 5)[:spatial]) / np.asarray(16, dtype(name))
            w = numbers(name, 8, 4 // groups, *(3, 2, 2)[:spatial]) / np.asarray(16, dtype(name))
            yield case(f"Conv {name} {what}", "Conv", x, w, **attrs)
            yield case(f"Conv {name} {what} bias", "Conv", x, w, numbers(name, 8), **attrs)
            w = numbers(name, 4, 6 // groups, *(3, 2, 2)[:spatial]) / np.asarray(16, dtype(name))
            if groups < 4:
                yield case(f"ConvTranspose {name} {what}", "ConvTranspose", x, w, **attrs)
    attrs = {"strides": (2, 2), "dilation": (1, 1), "groups": 1}
    x, w = numbers("float32", 1, 2, 4, 5), numbers("float32", 2, 3, 3, 3)
    for pads in (((-1, -1), (-1, 0)), ((1, -1), (2, 1)), ((0, 1), (0, 1))):
        id = f"ConvTranspose float32 {pads}"
        yield case(id, "ConvTranspose", x, w, pads=pads, **attrs)


def pools() -> Iterator[OperatorCase]:
    """Pooling in one to three axes."""
    windows: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]], ...] = (
        ((2, 2), (2, 2), ((0, 0), (0, 0))),
        ((3, 2), (2, 1), ((1, 1), (0, 1))),
        ((3, 3), (2, 2), ((1, 1), (0, 1))),
        ((3, 5), (2, 2), ((1, 1), (2, 1))),
        ((3,), (2,), ((1, 0),)),
        ((2, 2, 3), (1, 2, 2), ((0, 1), (0, 0), (1, 1))),
        ((7, 6), (1, 1), ((0, 0), (0, 0))),
    )
    for name in FLOATS:
        for window, strides, pads in windows:
            x = numbers(name, 2, 3, *(7, 6, 5)[: len(window)])
            shared: dict[str, Attr] = {"window": window, "strides": strides, "pads": pads}
            yield case(f"MaxPool {name} {window}", "MaxPool", x, **shared)
            for counted in (False, True):
                yield case(f"AvgPool {name} {window} {counted}", "AvgPool", x,
                           count_padding=counted, **shared)  # fmt: skip
    for name in ("int32", "int8"):
        x = numbers(name, 2, 3, 6, 4)
        yield case(f"MaxPool {name}", "MaxPool", x, window=(2, 2), strides=(2, 2),
                   pads=((1, 1), (0, 0)))  # fmt: skip


def normalizations() -> Iterator[OperatorCase]:
    """BatchNorm, LayerNorm, RmsNorm, and the softmaxes."""
    for name in FLOATS:
        kind = dtype(name)
        for shape, axis in (((2, 3, 4, 5), 1), ((2, 3), 1), ((2, 3, 4), 1), ((2, 4, 3), 2)):
            vectors = [(numbers(name, 3) + np.asarray(n, kind)).astype(kind) for n in (1, 0, 0)]
            x, variance = numbers(name, *shape), np.array([0.5, 1, 2], kind)
            yield case(f"BatchNorm {name} {shape} {axis}", "BatchNorm", x, *vectors, variance,
                       axis=axis, epsilon=1e-3)  # fmt: skip
        x = numbers(name, 2, 3, 8)
        for axes in ((2, 3), (1, 3), (0,)):
            yield case(f"Standardize {name} {axes}", "Standardize", numbers(name, 2, 3, 4, 2),
                       axes=axes, epsilon=1e-3)  # fmt: skip
        yield case(f"Standardize {name} of one image", "Standardize", numbers(name, 1, 6, 4, 2),
                   axes=(1,), epsilon=1e-3)  # fmt: skip
        yield case(f"InstanceNorm {name}", "InstanceNorm", numbers(name, 2, 3, 4),
                   numbers(name, 3), numbers(name, 3), epsilon=1e-3)  # fmt: skip
        yield case(f"LayerNorm {name}", "LayerNorm", x, numbers(name, 8), numbers(name, 8),
                   epsilon=1e-5)  # fmt: skip
        for axis in (2, 1):
            yield case(f"RmsNorm {name} {axis}", "RmsNorm", x, numbers(name, x.shape[axis]),
                       axis=axis, epsilon=1e-3)  # fmt: skip
        yield case(f"RmsNorm {name} alone", "RmsNorm", x, np.ones(8, kind), axis=2, epsilon=1e-3)
        for op in ("Softmax", "LogSoftmax"):
            yield case(f"{op} {name}", op, x, axis=2)
            yield case(f"{op} {name} first", op, x, axis=0)
            yield case(f"{op} {name} vector", op, numbers(name, 5), axis=0)
    masked = np.array([[0, -np.inf, 1], [-1e30, -1e30, 2]], np.float32)
    yield case("Softmax float32 masked", "Softmax", masked, axis=1)


def attentions() -> Iterator[OperatorCase]:
    """As many heads of keys as of queries, or fewer, with masks and without."""
    for name in FLOATS:
        q, k, v = numbers(name, 2, 3, 8), numbers(name, 2, 5, 8), numbers(name, 2, 5, 12)
        shared = {"scale": 0.5, "heads": (4, 4)}
        yield case(f"Attention {name}", "Attention", q, k, v, **shared)
        mask = numbers(name, 4, 3, 5)
        yield case(f"Attention {name} masked", "Attention", q, k, v, mask, **shared)
        yield case(f"Attention {name} grouped", "Attention", q, k[..., :4], v[..., :6],
                   scale=0.5, heads=(4, 2))  # fmt: skip


def zero_sized() -> Iterator[OperatorCase]:
    """Nothing to compute."""
    none = np.zeros((0, 3), np.float32)
    yield case("Add float32 nothing", "Add", none, none)
    yield case("Reshape float32 nothing", "Reshape", none, shape=(3, 0))
    yield case("ReduceSum float32 nothing", "ReduceSum", none, axes=(0,), keepdims=False)
    start, strides = (0, 1), (1, 1)
    yield case("Slice float32 nothing", "Slice", none, start=start, limit=(0, 3), strides=strides)
    yield case("Slice float32 scalar", "Slice", np.float32(2), start=(), limit=(), strides=())
    yield case("Concat float32 nothing", "Concat", none, np.ones((2, 3), np.float32), axis=0)


FAMILIES: dict[str, Callable[[], Iterator[OperatorCase]]] = {
    "elementwise": elementwise,
    "activations": activations,
    "moves": moves,
    "reductions": reductions,
    "scans": scans,
    "places": places,
    "products": products,
    "convolutions": convolutions,
    "pools": pools,
    "normalizations": normalizations,
    "attentions": attentions,
    "zero sized": zero_sized,
}

__all__ = ["FAMILIES", "OperatorCase", "case", "constant", "edges", "graph_of", "made", "numbers"]
