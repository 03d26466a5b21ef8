"""From our operators to MindSpore's primitives: a row for each that has one of its own."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.attributes import sizes
from fnckpt.ir.graph import Aval, CNode
from fnckpt.ir.sizes import is_known, is_symbolic
from fnckpt.ir.targets.mindir.registry import emits, integer, ints, pairs, real
from fnckpt.ir.targets.mindir.sizes import named, size, vector
from fnckpt.ir.targets.mindir.writer import Argument, Writer

SAME = {
    "Abs": "Abs", "Acos": "ACos", "Acosh": "Acosh", "Add": "Add", "Asin": "Asin", "Asinh": "Asinh",
    "Atan": "Atan", "Atan2": "Atan2", "Atanh": "Atanh", "BitwiseAnd": "BitwiseAnd",
    "BitwiseNot": "Invert", "BitwiseOr": "BitwiseOr", "BitwiseXor": "BitwiseXor", "Ceil": "Ceil",
    "Cos": "Cos", "Cosh": "Cosh", "Digamma": "Digamma", "Equal": "Equal", "Erf": "Erf",
    "ErfInv": "Erfinv", "Erfc": "Erfc", "Floor": "Floor",
    "GatherNd": "GatherNd", "Greater": "Greater", "GreaterEqual": "GreaterEqual",
    "IsFinite": "IsFinite", "IsInf": "IsInf", "IsNan": "IsNan", "Less": "Less",
    "LessEqual": "LessEqual", "Lgamma": "Lgamma",
    "LogicalAnd": "LogicalAnd", "LogicalNot": "LogicalNot", "LogicalOr": "LogicalOr",
    "LogicalXor": "LogicalXor", "Maximum": "Maximum", "Minimum": "Minimum", "Mul": "Mul",
    "Neg": "Neg", "NotEqual": "NotEqual", "Pow": "Pow", "Reciprocal": "Reciprocal",
    "Rem": "TruncateMod", "Round": "Rint", "Rsqrt": "Rsqrt", "Select": "Select",
    "ShiftLeft": "LeftShift", "ShiftRightArithmetic": "RightShift", "Sigmoid": "Sigmoid",
    "Silu": "SiLU", "Sin": "Sin", "Sinh": "Sinh", "Sqrt": "Sqrt", "Square": "Square", "Sub": "Sub",
    "Tan": "Tan",
}  # fmt: skip


@emits(*SAME)
def emit_same(node: CNode, w: Writer) -> None:
    w.node(SAME[node.op], node, *node.inputs)


@emits("Reshape")
def emit_reshape(node: CNode, w: Writer) -> None:
    w.node("Reshape", node, *node.inputs, shape=new_shape(w, node.aval.shape))


def new_shape(w: Writer, shape: Sequence[int]) -> Argument:
    """What Reshape takes: one size may be what is left."""
    if sum(map(is_symbolic, shape)) == 1 and 0 not in shape:
        return tuple(-1 if is_symbolic(size) else size for size in shape)
    return vector(w, shape)


@emits("Sizes")
def emit_sizes(node: CNode, w: Writer) -> None:
    w.node("TupleToTensor", node, named(w, sizes(node, "sizes")), dtype=node.aval.dtype)


@emits("Range")
def emit_range(node: CNode, w: Writer) -> None:
    """It counts in int64; the last argument is the most that it may count to."""
    end = size(w, node.aval.shape[0])
    wide = Aval(node.aval.shape, np.dtype(np.int64))
    most = w.value(np.iinfo(np.int32).max)
    count = w.step("Range", node, wide, w.value(0), end, w.value(1), most)
    w.node("Cast", node, count, dst_type=node.aval.dtype)


@emits("BroadcastTo")
def emit_broadcast(node: CNode, w: Writer) -> None:
    """Where arguments are attributes, ``shape`` is the name of the result's type; Tile has none."""
    (x,), shape = node.inputs, node.aval.shape
    if w.dialect.arguments:
        w.node("BroadcastTo", node, x, shape=vector(w, shape))
        return
    ones = (*(1,) * (len(shape) - len(x.aval.shape)), *x.aval.shape)
    whole = w.step("Reshape", node, Aval(ones, x.aval.dtype), x, shape=new_shape(w, ones))
    times = tuple(1 if n == size else size for n, size in zip(ones, shape, strict=True))
    w.node("Tile", node, whole, multiples=vector(w, times))


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
    low, high = sizes(node, "low"), sizes(node, "high")
    pads = tuple(n for pair in zip(low[::-1], high[::-1], strict=True) for n in pair)
    w.node("PadV3", node, x, named(w, pads), fill, mode="constant", paddings_contiguous=True)


@emits("Slice")
def emit_slice(node: CNode, w: Writer) -> None:
    """A symbolic place is counted from the end; the bits of ``end_mask`` are axes to their end."""
    shape = node.inputs[0].aval.shape
    begin = [_place(at, size) for at, size in zip(sizes(node, "start"), shape, strict=True)]
    limits = sizes(node, "limit")
    end = [_place(at, size) for at, size in zip(limits, shape, strict=True)]
    whole = [is_symbolic(at) and at == size for at, size in zip(limits, shape, strict=True)]
    w.node(
        "StridedSlice", node, *node.inputs, begin=vector(w, begin), end=vector(w, end),
        strides=ints(node.attrs["strides"]), begin_mask=0,
        end_mask=sum(1 << axis for axis, bit in enumerate(whole) if bit), ellipsis_mask=0,
        new_axis_mask=0, shrink_axis_mask=0,
    )  # fmt: skip


def _place(at: int, size: int) -> int:
    """Where on an axis: a number if it can be one, counted from the start or from the end."""
    return at - size if is_symbolic(at) and is_known(at - size) else at


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


@emits("ReduceAll", "ReduceAny", "ReduceMean", "ReduceProd")
def emit_reduction(node: CNode, w: Writer) -> None:
    axes, keepdims = ints(node.attrs["axes"]), bool(node.attrs["keepdims"])
    w.node(node.op, node, *node.inputs, axis=axes, keep_dims=keepdims)


@emits("ReduceSum")
def emit_reduce_sum(node: CNode, w: Writer) -> None:
    axes, keepdims = ints(node.attrs["axes"]), bool(node.attrs["keepdims"])
    w.node("ReduceSum", node, *node.inputs, axis=axes, keep_dims=keepdims, skip_mode=False)


@emits("CumSum", "CumProd")
def emit_scan(node: CNode, w: Writer) -> None:
    axis, reverse = integer(node.attrs["axis"]), bool(node.attrs["reverse"])
    w.node(node.op, node, *node.inputs, axis=axis, exclusive=False, reverse=reverse)


@emits("TupleGetItem")
def emit_item(node: CNode, w: Writer) -> None:
    w.node("TupleGetItem", node, *node.inputs, w.value(integer(node.attrs["index"])))


@emits("MatMul")
def emit_matmul(node: CNode, w: Writer) -> None:
    op = "MatMul" if len(node.aval.shape) == 2 else "BatchMatMul"
    transposed = {name: bool(node.attrs[name]) for name in ("transpose_a", "transpose_b")}
    w.node(op, node, *node.inputs, **transposed)


@emits("Gemm")
def emit_gemm(node: CNode, w: Writer) -> None:
    *matrices, bias = node.inputs
    transposed = {name: bool(node.attrs[name]) for name in ("transpose_a", "transpose_b")}
    product = w.step("MatMul", node, node.aval, *matrices, **transposed)
    w.node("BiasAdd", node, product, bias, format="NCHW")


@emits("Conv")
def emit_conv(node: CNode, w: Writer) -> None:
    x, kernel, *bias = node.inputs
    op = {2: "Conv2D", 3: "Conv3D"}[len(x.aval.shape) - 2]
    if not bias:
        w.node(op, node, x, kernel, **conv_arguments(node, kernel.aval))
        return
    product = w.step(op, node, node.aval, x, kernel, **conv_arguments(node, kernel.aval))
    w.node("BiasAdd", node, product, *bias, format="NCHW")


def conv_arguments(node: CNode, kernel: Aval) -> dict[str, Argument]:
    """The attributes of Conv2D and Conv3D; the axes of batch and channel have stride 1."""
    pads = tuple(n for pair in pairs(node.attrs["pads"]) for n in pair)
    strides = (1, 1, *ints(node.attrs["strides"]))
    dilation = (1, 1, *ints(node.attrs["dilation"]))
    groups = integer(node.attrs["groups"])
    shared: dict[str, Argument] = {
        "out_channel": kernel.shape[0], "kernel_size": kernel.shape[2:], "mode": 1,
        "pad_mode": "pad", "pad": pads, "pad_list": pads, "group": groups, "groups": groups,
    }  # fmt: skip
    if len(kernel.shape) == 4:
        return {**shared, "stride": strides, "dilation": dilation, "format": "NCHW"}
    return {
        **shared, "strides": strides, "dilations": dilation, "stride": 1, "dilation": 1,
        "offset_x": 0, "format": "NCDHW",
    }  # fmt: skip


@emits("ConvTranspose")
def emit_conv_transpose(node: CNode, w: Writer) -> None:
    """The gradient of the convolution that the pads, cut from the result, belong to."""
    x, kernel = node.inputs
    pads = tuple(-n for pair in pairs(node.attrs["pads"]) for n in pair)
    groups = integer(node.attrs["groups"])
    w.node(
        "Conv2DTranspose", node, x, kernel, named(w, node.aval.shape),
        out_channel=kernel.aval.shape[0], kernel_size=kernel.aval.shape[2:], mode=1,
        pad_mode="PAD", pad=pads, pad_list=pads, stride=(1, 1, *ints(node.attrs["strides"])),
        dilation=(1, 1, *ints(node.attrs["dilation"])), group=groups, groups=groups, format="NCHW",
    )  # fmt: skip


@emits("AvgPool")
def emit_avg_pool(node: CNode, w: Writer) -> None:
    """Padding is SAME, which counts no padding, or none."""
    window, strides = ints(node.attrs["window"]), ints(node.attrs["strides"])
    mode = pad_mode(node)
    if not w.dialect.arguments:
        window, strides = (1, 1, *window), (1, 1, *strides)
    sizes: dict[str, Argument] = {"kernel_size": window, "strides": strides}
    w.node("AvgPool", node, *node.inputs, **sizes, pad_mode=mode, format="NCHW")


def pad_mode(node: CNode) -> str:
    """What MindSpore calls the padding of a pool after ``legalize``."""
    return "SAME" if any(map(any, pairs(node.attrs["pads"]))) else "VALID"


@emits("BatchNorm")
def emit_batch_norm(node: CNode, w: Writer) -> None:
    vectors = [value.aval for value in node.inputs[1:]]
    several = w.step(
        "BatchNorm", node, [node.aval, *vectors], *node.inputs, is_training=False,
        epsilon=real(node.attrs["epsilon"]), momentum=0.1, format="NCHW",
    )  # fmt: skip
    w.node("TupleGetItem", node, several, w.value(0))


@emits("LayerNorm")
def emit_layer_norm(node: CNode, w: Writer) -> None:
    moment = Aval((*node.aval.shape[:-1], 1), node.aval.dtype)
    several = w.step(
        "LayerNorm", node, [node.aval, moment, moment], *node.inputs, begin_norm_axis=-1,
        begin_params_axis=-1, epsilon=real(node.attrs["epsilon"]),
    )  # fmt: skip
    w.node("TupleGetItem", node, several, w.value(0))


@emits("Cast")
def emit_cast(node: CNode, w: Writer) -> None:
    w.node("Cast", node, *node.inputs, dst_type=node.aval.dtype)
