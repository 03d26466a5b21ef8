"""From our operators to MindSpore's primitives: a row for each, or the reason why there is none."""

from collections.abc import Callable

import numpy as np

from fnckpt.ir.graph import Attr, Aval, CNode, Node
from fnckpt.ir.targets.mindir.writer import Writer
from fnckpt.ir.targets.target import Refusal

Emitter = Callable[[CNode, Writer], None]

EMITTERS: dict[str, Emitter] = {}

SAME = {
    "Abs": "Abs", "Acos": "ACos", "Acosh": "Acosh", "Add": "Add", "Asin": "Asin",
    "Asinh": "Asinh", "Atan": "Atan", "Atan2": "Atan2", "Atanh": "Atanh",
    "BitwiseAnd": "BitwiseAnd", "BitwiseNot": "Invert", "BitwiseOr": "BitwiseOr", "BitwiseXor": "BitwiseXor",
    "Ceil": "Ceil", "Cos": "Cos", "Cosh": "Cosh", "Digamma": "Digamma", "Div": "Div", "Equal": "Equal",
    "Erf": "Erf", "ErfInv": "Erfinv", "Erfc": "Erfc", "Exp": "Exp", "Expm1": "Expm1",
    "Floor": "Floor", "GatherNd": "GatherNd", "Greater": "Greater",
    "GreaterEqual": "GreaterEqual", "Identity": "Identity", "IsFinite": "IsFinite", "IsInf": "IsInf",
    "IsNan": "IsNan", "Less": "Less", "LessEqual": "LessEqual", "Lgamma": "Lgamma",
    "Log": "Log", "Log1p": "Log1p", "LogicalAnd": "LogicalAnd", "LogicalNot": "LogicalNot",
    "LogicalOr": "LogicalOr", "LogicalXor": "LogicalXor", "Maximum": "Maximum",
    "Minimum": "Minimum", "Mul": "Mul", "Neg": "Neg", "NextAfter": "NextAfter",
    "NotEqual": "NotEqual", "PopulationCount": "PopulationCount", "Pow": "Pow", "Reciprocal": "Reciprocal", "Relu": "ReLU", "Rem": "TruncateMod",
    "Rsqrt": "Rsqrt", "Select": "Select", "ShiftLeft": "LeftShift", "ShiftRightLogical": "RightShift", "ShiftRightArithmetic": "RightShift",
    "Sigmoid": "Sigmoid", "Sign": "Sign", "Silu": "SiLU", "Sin": "Sin", "Sinh": "Sinh", "Softplus": "Softplus",
    "Sqrt": "Sqrt", "Square": "Square", "Sub": "Sub", "Tan": "Tan", "Tanh": "Tanh",
}  # fmt: skip

CANNOT: dict[str, str] = {}


def emits(*ops: str) -> Callable[[Emitter], Emitter]:
    """Register the decorated function as what writes ``ops``."""

    def register(emitter: Emitter) -> Emitter:
        for op in ops:
            if op in EMITTERS:
                raise ValueError(f"{op} is already written by {EMITTERS[op].__qualname__}")
            EMITTERS[op] = emitter
        return emitter

    return register


def ints(value: Attr) -> tuple[int, ...]:
    """A tuple attribute of integers."""
    assert isinstance(value, tuple)
    return tuple(int(str(v)) for v in value)


def pairs(value: Attr) -> tuple[tuple[int, int], ...]:
    """A tuple attribute of (before, after)."""
    assert isinstance(value, tuple)
    return tuple((low, high) for low, high in map(ints, value))


def integer(value: Attr) -> int:
    """An integer attribute."""
    return int(str(value))


@emits(*SAME)
def emit_same(node: CNode, w: Writer) -> None:
    w.node(SAME[node.op], node, *node.inputs)


@emits("Round")
def emit_round(node: CNode, w: Writer) -> None:
    w.node("Rint", node, *node.inputs)


@emits("Cast")
def emit_cast(node: CNode, w: Writer) -> None:
    w.node("Cast", node, *node.inputs, dst_type=node.aval.dtype)


@emits("Gelu")
def emit_gelu(node: CNode, w: Writer) -> None:
    w.node("GeLU", node, *node.inputs)


@emits("Elu")
def emit_elu(node: CNode, w: Writer) -> None:
    w.node("Elu", node, *node.inputs, alpha=1.0)


@emits("Reshape", "BroadcastTo")
def emit_shape(node: CNode, w: Writer) -> None:
    w.node(node.op, node, *node.inputs, shape=ints(node.attrs["shape"]))


@emits("Transpose")
def emit_transpose(node: CNode, w: Writer) -> None:
    w.node("Transpose", node, *node.inputs, perm=ints(node.attrs["perm"]))


@emits("Concat")
def emit_concat(node: CNode, w: Writer) -> None:
    w.node("Concat", node, w.tuple(node, node.inputs), axis=integer(node.attrs["axis"]))


@emits("Pad")
def emit_pad(node: CNode, w: Writer) -> None:
    """PadV3 counts from the last axis."""
    x, fill = node.inputs
    low, high = ints(node.attrs["low"]), ints(node.attrs["high"])
    pads = tuple(n for pair in zip(low[::-1], high[::-1], strict=True) for n in pair)
    w.node(
        "PadV3", node, x, w.value(pads), fill, mode="constant", paddings_contiguous=True
    )


@emits("Slice")
def emit_slice(node: CNode, w: Writer) -> None:
    w.node(
        "StridedSlice", node, *node.inputs, begin=ints(node.attrs["start"]),
        end=ints(node.attrs["limit"]), strides=ints(node.attrs["strides"]), begin_mask=0,
        end_mask=0, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=0,
    )  # fmt: skip


@emits("Reverse")
def emit_reverse(node: CNode, w: Writer) -> None:
    w.node("ReverseV2", node, *node.inputs, axis=ints(node.attrs["axes"]))


@emits("Gather")
def emit_gather(node: CNode, w: Writer) -> None:
    w.node("Gather", node, *node.inputs, axis=integer(node.attrs["axis"]), batch_dims=0)


@emits("GatherElements")
def emit_gather_elements(node: CNode, w: Writer) -> None:
    """The axis stands between the tensors."""
    x, indices = node.inputs
    w.node("GatherD", node, x, w.value(integer(node.attrs["axis"])), indices)


SCATTERS = {"": "Update", "add": "Add", "mul": "Mul", "min": "Min", "max": "Max"}


@emits("ScatterNd")
def emit_scatter_nd(node: CNode, w: Writer) -> None:
    w.node(f"TensorScatter{SCATTERS[str(node.attrs['reduction'])]}", node, *node.inputs)


@emits("ReduceAll", "ReduceAny", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")
def emit_reduction(node: CNode, w: Writer) -> None:
    axes, keepdims = ints(node.attrs["axes"]), bool(node.attrs["keepdims"])
    w.node(node.op, node, *node.inputs, axis=axes, keep_dims=keepdims)


@emits("ReduceSum")
def emit_reduce_sum(node: CNode, w: Writer) -> None:
    axes, keepdims = ints(node.attrs["axes"]), bool(node.attrs["keepdims"])
    w.node("ReduceSum", node, *node.inputs, axis=axes, keep_dims=keepdims, skip_mode=True)


@emits("ArgMax", "ArgMin")
def emit_arg(node: CNode, w: Writer) -> None:
    op = {"ArgMax": "Argmax", "ArgMin": "Argmin"}[node.op]
    w.node(op, node, *node.inputs, axis=integer(node.attrs["axis"]), output_type=node.aval.dtype)


@emits("CumSum", "CumProd")
def emit_scan(node: CNode, w: Writer) -> None:
    axis, reverse = integer(node.attrs["axis"]), bool(node.attrs["reverse"])
    w.node(node.op, node, *node.inputs, axis=axis, exclusive=False, reverse=reverse)


@emits("CumMax", "CumMin")
def emit_extreme_scan(node: CNode, w: Writer) -> None:
    op = {"CumMax": "Cummax", "CumMin": "Cummin"}[node.op]
    places = Aval(node.aval.shape, np.dtype(np.int64))
    both = w.step(op, node, [node.aval, places], *node.inputs, axis=integer(node.attrs["axis"]))
    w.node("TupleGetItem", node, both, w.value(0))


@emits("CumLogSumExp")
def emit_cum_log_sum_exp(node: CNode, w: Writer) -> None:
    axis = w.scalar(integer(node.attrs["axis"]), np.dtype(np.int64))
    reverse = bool(node.attrs["reverse"])
    w.node("CumulativeLogsumexp", node, *node.inputs, axis, exclusive=False, reverse=reverse)


@emits("TopK")
def emit_top_k(node: CNode, w: Writer) -> None:
    w.node("TopK", node, *node.inputs, w.value(integer(node.attrs["k"])), sorted=True)


@emits("TupleGetItem")
def emit_item(node: CNode, w: Writer) -> None:
    w.node("TupleGetItem", node, *node.inputs, w.value(integer(node.attrs["index"])))


@emits("MatMul")
def emit_matmul(node: CNode, w: Writer) -> None:
    op = "MatMul" if len(node.aval.shape) == 2 else "BatchMatMul"
    transposed = {name: bool(node.attrs[name]) for name in ("transpose_a", "transpose_b")}
    w.node(op, node, *node.inputs, **transposed)


@emits("Conv")
def emit_conv(node: CNode, w: Writer) -> None:
    x, kernel, *bias = node.inputs
    arguments = conv_arguments(node, kernel.aval)
    op = {2: "Conv2D", 3: "Conv3D"}[len(x.aval.shape) - 2]
    if not bias:
        w.node(op, node, x, kernel, **arguments)
        return
    product = w.step(op, node, node.aval, x, kernel, **arguments)
    w.node("BiasAdd", node, product, *bias, format="NCHW")


def conv_arguments(node: CNode, kernel: Aval) -> dict[str, bool | int | str | tuple[int, ...]]:
    """The attributes of Conv2D and Conv3D; axes of batch and channel have stride 1."""
    pads = tuple(n for pair in pairs(node.attrs["pads"]) for n in pair)
    strides = (1, 1, *ints(node.attrs["strides"]))
    dilation = (1, 1, *ints(node.attrs["dilation"]))
    groups = integer(node.attrs["groups"])
    shared = {
        "out_channel": kernel.shape[0], "kernel_size": kernel.shape[2:], "mode": 1,
        "pad_mode": "pad", "pad": pads, "pad_list": pads, "group": groups, "groups": groups,
    }  # fmt: skip
    if len(kernel.shape) == 4:
        return shared | {"stride": strides, "dilation": dilation, "format": "NCHW"}
    return shared | {
        "strides": strides, "dilations": dilation, "stride": 1, "dilation": 1, "offset_x": 0,
        "format": "NCDHW",
    }  # fmt: skip


@emits("MaxPool", "AvgPool")
def emit_pool(node: CNode, w: Writer) -> None:
    """Padding is SAME or none."""
    (x,) = node.inputs
    window, strides = ints(node.attrs["window"]), ints(node.attrs["strides"])
    mode = "SAME" if any(map(any, pairs(node.attrs["pads"]))) else "VALID"
    if node.op == "AvgPool":
        w.node("AvgPool", node, x, kernel_size=window, strides=strides, pad_mode=mode, format="NCHW")
        return
    whole = {"kernel_size": (1, 1, *window), "strides": (1, 1, *strides)}
    w.node("MaxPool", node, x, **whole, pad_mode=mode, format="NCHW")


@emits("BatchNorm")
def emit_batch_norm(node: CNode, w: Writer) -> None:
    vectors = [value.aval for value in node.inputs[1:]]
    epsilon = float(str(node.attrs["epsilon"]))
    several = w.step(
        "BatchNorm", node, [node.aval, *vectors], *node.inputs, is_training=False,
        epsilon=epsilon, momentum=0.1, format="NCHW",
    )  # fmt: skip
    w.node("TupleGetItem", node, several, w.value(0))


@emits("LayerNorm")
def emit_layer_norm(node: CNode, w: Writer) -> None:
    moment = Aval((*node.aval.shape[:-1], 1), node.aval.dtype)
    several = w.step(
        "LayerNorm", node, [node.aval, moment, moment], *node.inputs, begin_norm_axis=-1,
        begin_params_axis=-1, epsilon=float(str(node.attrs["epsilon"])),
    )  # fmt: skip
    w.node("TupleGetItem", node, several, w.value(0))


@emits("Softmax")
def emit_softmax(node: CNode, w: Writer) -> None:
    w.node("Softmax", node, *node.inputs, axis=(integer(node.attrs["axis"]),))


@emits("LogSoftmax")
def emit_log_softmax(node: CNode, w: Writer) -> None:
    w.node("LogSoftmax", node, *node.inputs, axis=integer(node.attrs["axis"]))
