"""The table: each of our operators as the GE type that means it.

What reaches an emitter was legalized: types and shapes are ones that the GE type takes. Where the
prototype still refuses a type, the writer raises ``Refusal`` with the types it takes.
"""

from collections.abc import Callable, Mapping

import numpy as np

from fnckpt.ir.attributes import integer, ints, number
from fnckpt.ir.graph import Aval, CNode, Node
from fnckpt.ir.targets.air.codes import OF_DTYPE
from fnckpt.ir.targets.air.prototypes import prototype
from fnckpt.ir.targets.air.writer import Writer
from fnckpt.ir.targets.target import Refusal

Emitter = Callable[[CNode, Writer], None]

EMITTERS: dict[str, Emitter] = {}
CANNOT: Mapping[str, str] = {
    **dict.fromkeys(
        ("Range", "Sizes"), "AIR needs sizes that are numbers; export one file for each size"
    ),
    **dict.fromkeys(
        ("Cond", "Scan", "While"),
        "GE r1.1 loads one graph without cycles, which holds no branch and no loop; export to ONNX "
        "or MINDIR",
    ),
    **dict.fromkeys(
        ("Gru", "Lstm"), "it is made for ONNX alone; its steps written out are the same"
    ),
    "CachedAttention": "it is made for ONNX alone; an Attention and a Concat are the same",
    "ReduceL1": "it is made for ONNX alone; a ReduceSum of Abs is the same",
    "ReduceSumSquare": "it is made for ONNX alone; a ReduceSum of Square is the same",
    "Rotary": "it is made for ONNX alone; products and a Concat are the same",
    "SkipRmsNorm": "it is made for ONNX Runtime alone; a sum and an RmsNorm are the same",
}

INT32, FLOAT32 = np.dtype(np.int32), np.dtype(np.float32)


def emits(*ops: str) -> Callable[[Emitter], Emitter]:
    """Register the decorated function as the writer of ``ops``."""

    def register(emitter: Emitter) -> Emitter:
        for op in ops:
            assert op not in EMITTERS, op
            EMITTERS[op] = emitter
        return emitter

    return register


def takes(kind: str, node: Node, port: str = "x") -> bool:
    """Whether the port of the GE type ``kind`` takes the type of ``node``.

    So it is said of types that GE does not know at all: no rewrite helps them.
    """
    proto = prototype(kind)
    assert proto is not None
    dtypes, known = proto.dtypes_of(port), OF_DTYPE.get(node.aval.dtype)
    return known is None or dtypes is None or known.name in dtypes


ELEMENTWISE = {
    name: name
    for name in (
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Add", "BitwiseAnd",
        "BitwiseOr", "BitwiseXor", "Ceil", "Cos", "Cosh", "Equal", "Erf", "Erfc", "Exp", "Expm1",
        "Floor", "Greater", "GreaterEqual", "Identity", "IsFinite", "IsInf", "IsNan", "Less",
        "LessEqual", "Log", "Log1p", "LogicalAnd", "LogicalNot", "LogicalOr", "Maximum",
        "Minimum", "Mul", "Neg", "NextAfter", "NotEqual", "Pow", "Reciprocal", "Relu", "Rsqrt",
        "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Sqrt", "Square", "Sub", "Tan", "Tanh",
    )
} | {
    "BitwiseNot": "Invert",
    "Rem": "TruncateMod",
    "Round": "Rint",  # to nearest even; GE's Round is not promised to be
    "ShiftRightArithmetic": "RightShift",  # of signed integers, as legalized
    "ShiftRightLogical": "RightShift",  # of unsigned integers, as legalized
}  # fmt: skip


def _same(kind: str) -> Emitter:
    return lambda node, w: w.node(kind, node, *node.inputs)


for _op, _kind in ELEMENTWISE.items():
    if _op != "Add":
        emits(_op)(_same(_kind))


@emits("Div")
def emit_div(node: CNode, w: Writer) -> None:
    whole = node.aval.dtype.kind in "iu"
    w.node("TruncateDiv" if whole else "RealDiv", node, *node.inputs)


@emits("Gelu")
def emit_gelu(node: CNode, w: Writer) -> None:
    assert node.attrs["approximate"], "GE's Gelu is the form with tanh"
    w.node("Gelu", node, *node.inputs)


@emits("LeakyRelu")
def emit_leaky_relu(node: CNode, w: Writer) -> None:
    w.node("LeakyRelu", node, *node.inputs, negative_slope=number(node, "alpha"))


@emits("Elu")
def emit_elu(node: CNode, w: Writer) -> None:
    w.node("Elu", node, *node.inputs, alpha=number(node, "alpha"))


@emits("Select")
def emit_select(node: CNode, w: Writer) -> None:
    """SelectV2 broadcasts, Select is the older of the two and does not."""
    same = len({each.aval.shape for each in node.inputs}) == 1
    w.node("Select" if same else "SelectV2", node, *node.inputs)


@emits("Cast")
def emit_cast(node: CNode, w: Writer) -> None:
    """Between integers of one width the bits stay; Bitcast says so, Cast leaves overflow open."""
    (x,), dtype = node.inputs, node.aval.dtype
    if x.aval.dtype == dtype:
        w.node("Identity", node, x)
    elif (
        x.aval.dtype.kind in "iu" and dtype.kind in "iu" and x.aval.dtype.itemsize == dtype.itemsize
    ):
        w.node("Bitcast", node, x, type=dtype)
    else:
        if dtype not in OF_DTYPE:
            raise Refusal(f"GE r1.1 has no type for {dtype}; cast to float32 or float16")
        w.node("Cast", node, x, dst_type=OF_DTYPE[dtype].engine)


@emits("PopulationCount")
def emit_population_count(node: CNode, w: Writer) -> None:
    """The type's result is uint8 whatever the input."""
    if node.aval.dtype == np.uint8:
        w.node("PopulationCount", node, *node.inputs)
        return
    counted = Aval(node.aval.shape, np.dtype(np.uint8))
    count = w.step("PopulationCount", node, *node.inputs, aval=counted)
    w.node("Cast", node, count, dst_type=OF_DTYPE[node.aval.dtype].engine)


@emits("Reshape")
def emit_reshape(node: CNode, w: Writer) -> None:
    w.node("Reshape", node, *node.inputs, w.int32s(node, "shape", ints(node, "shape")))


@emits("Transpose")
def emit_transpose(node: CNode, w: Writer) -> None:
    (x,), perm = node.inputs, ints(node, "perm")
    if takes("TransposeD", x):
        w.node("TransposeD", node, x, perm=perm)
    else:
        w.node("Transpose", node, x, w.int32s(node, "perm", perm))


@emits("BroadcastTo")
def emit_broadcast_to(node: CNode, w: Writer) -> None:
    w.node("BroadcastToD", node, *node.inputs, shape=ints(node, "shape"))


@emits("Concat")
def emit_concat(node: CNode, w: Writer) -> None:
    axis, count = integer(node, "axis"), len(node.inputs)
    if takes("ConcatD", node):
        w.node("ConcatD", node, node.inputs, concat_dim=axis, N=count)
    else:
        w.node("ConcatV2", node, node.inputs, w.int32s(node, "concat_dim", axis), N=count)


@emits("Pad")
def emit_pad(node: CNode, w: Writer) -> None:
    (x, fill), pads = node.inputs, tuple(zip(ints(node, "low"), ints(node, "high"), strict=True))
    if _is_plain_zero(fill) and takes("PadD", x):
        w.node("PadD", node, x, paddings=pads)
        return
    paddings = w.constant(w.unused(f"{w.names[id(node)]}/paddings"), _matrix(pads))
    w.node("PadV2", node, x, paddings, fill)


def _matrix(pads: tuple[tuple[int, int], ...]) -> np.ndarray:
    return np.asarray(pads, np.int32).reshape(len(pads), 2)


def _is_plain_zero(node: Node) -> bool:
    value = known_value(node)
    return value is not None and not value.any() and not np.signbit(value).any()


def known_value(node: Node) -> np.ndarray | None:
    """The value of a constant or a weight."""
    return None if isinstance(node, CNode) else node.value


@emits("Slice")
def emit_slice(node: CNode, w: Writer) -> None:
    (x,) = node.inputs
    start, limit, strides = ints(node, "start"), ints(node, "limit"), ints(node, "strides")
    if all(step == 1 for step in strides):
        w.node("SliceD", node, x, offsets=start, size=node.aval.shape)
    elif takes("StridedSliceD", x):
        w.node("StridedSliceD", node, x, begin=start, end=limit, strides=strides)
    else:
        rows = {"begin": start, "end": limit, "strides": strides}
        w.node("StridedSlice", node, x, *(w.int32s(node, name, row) for name, row in rows.items()))


@emits("Reverse")
def emit_reverse(node: CNode, w: Writer) -> None:
    w.node("ReverseV2D", node, *node.inputs, axis=ints(node, "axes"))


@emits("Gather")
def emit_gather(node: CNode, w: Writer) -> None:
    (x, indices), axis = node.inputs, integer(node, "axis")
    if takes("GatherV2D", x):
        w.node("GatherV2D", node, x, indices, axis=axis)
    else:
        w.node("GatherV2", node, x, indices, w.int32s(node, "axis", axis))


@emits("GatherNd")
def emit_gather_nd(node: CNode, w: Writer) -> None:
    w.node("GatherNd", node, *node.inputs)


@emits("ScatterNd")
def emit_scatter_nd(node: CNode, w: Writer) -> None:
    """Only what stays after legalization: writing, and adding in the types that GE has."""
    kind = {"": "TensorScatterUpdate", "add": "TensorScatterAdd"}[str(node.attrs["reduction"])]
    w.node(kind, node, *node.inputs)


@emits("DynamicSlice")
def emit_dynamic_slice(node: CNode, w: Writer) -> None:
    w.node("Slice", node, *node.inputs, w.int32s(node, "size", ints(node, "sizes")))


@emits("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean", "ReduceAll", "ReduceAny")
def emit_reduce(node: CNode, w: Writer) -> None:
    (x,), axes, keep_dims = node.inputs, ints(node, "axes"), bool(node.attrs["keepdims"])
    if takes(f"{node.op}D", x):
        w.node(f"{node.op}D", node, x, axes=axes, keep_dims=keep_dims)
    else:
        w.node(node.op, node, x, w.int32s(node, "axes", axes), keep_dims=keep_dims)


@emits("ArgMax", "ArgMin")
def emit_arg(node: CNode, w: Writer) -> None:
    (x,), axis, dtype = node.inputs, integer(node, "axis"), node.aval.dtype
    if takes(f"{node.op}D", x) and dtype == INT32:
        w.node(f"{node.op}D", node, x, dimension=axis, dtype=dtype)
    else:
        kind = {"ArgMax": "ArgMaxV2", "ArgMin": "ArgMin"}[node.op]
        w.node(kind, node, x, w.int32s(node, "dimension", axis), dtype=dtype)


@emits("CumSum", "CumProd", "CumLogSumExp")
def emit_scan(node: CNode, w: Writer) -> None:
    kinds = {"CumSum": "CumsumD", "CumProd": "CumprodD", "CumLogSumExp": "CumulativeLogsumexpD"}
    axis, reverse = integer(node, "axis"), bool(node.attrs["reverse"])
    w.node(kinds[node.op], node, *node.inputs, axis=axis, reverse=reverse)


@emits("TopK")
def emit_top_k(node: CNode, w: Writer) -> None:
    w.node("TopK", node, *node.inputs, w.int32s(node, "k", integer(node, "k")))
