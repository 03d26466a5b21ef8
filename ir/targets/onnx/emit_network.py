"""The operators of neural networks in ONNX: one node where the opset has it, else the formula."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.attributes import integer, ints, number, pairs
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.targets.onnx.emit import CANNOT, EMITTERS, emits
from fnckpt.ir.targets.onnx.kernels import DTYPES
from fnckpt.ir.targets.onnx.writer import Value, Writer
from fnckpt.ir.targets.target import Refusal

__all__ = ["CANNOT", "EMITTERS"]


def flat_pads(node: CNode) -> list[int]:
    """Pairs of (before, after) as ONNX has them: all befores, then all afters."""
    both = pairs(node, "pads")
    return [low for low, _ in both] + [high for _, high in both]


@emits("MatMul")
def emit_matmul(node: CNode, w: Writer) -> None:
    """Of matrices that are turned it is Gemm, which reads them as they lie."""
    matrices = len(node.aval.shape) == 2 and node.aval.dtype.name in DTYPES["Gemm"]
    if matrices and (node.attrs["transpose_a"] or node.attrs["transpose_b"]):
        emit_gemm(node, w)
        return
    operands: list[Node | str] = []
    for operand, flag in zip(node.inputs, ("transpose_a", "transpose_b"), strict=True):
        rank = len(operand.aval.shape)
        perm = [*range(rank - 2), rank - 1, rank - 2]
        turned = bool(node.attrs[flag])
        operands.append(w.step("Transpose", node, operand, perm=perm) if turned else operand)
    w.node("MatMul", node, *operands)


@emits("Gemm")
def emit_gemm(node: CNode, w: Writer) -> None:
    turned = {"transA": "transpose_a", "transB": "transpose_b"}
    w.node("Gemm", node, *node.inputs, **{k: int(bool(node.attrs[v])) for k, v in turned.items()})


@emits("Clip")
def emit_clip(node: CNode, w: Writer) -> None:
    limits = (w.scalar(number(node, end), node.aval.dtype, end) for end in ("low", "high"))
    w.node("Clip", node, *node.inputs, *limits)


@emits("Conv", "ConvTranspose")
def emit_conv(node: CNode, w: Writer) -> None:
    window = list(node.inputs[1].aval.shape[2:])
    pads = flat_pads(node)
    if node.op == "ConvTranspose":
        pads = [-pad for pad in pads]
    w.node(
        node.op, node, *node.inputs, kernel_shape=window, strides=ints(node, "strides"),
        pads=pads, dilations=ints(node, "dilation"), group=integer(node, "groups"),
    )  # fmt: skip


@emits("MaxPool")
def emit_max_pool(node: CNode, w: Writer) -> None:
    w.node("MaxPool", node, *node.inputs, **pool_attributes(node))


@emits("AvgPool")
def emit_avg_pool(node: CNode, w: Writer) -> None:
    counted = int(bool(node.attrs["count_padding"]))
    w.node("AveragePool", node, *node.inputs, count_include_pad=counted, **pool_attributes(node))


def pool_attributes(node: CNode) -> dict[str, Sequence[int]]:
    """Window, strides and padding as ONNX names them."""
    return {
        "kernel_shape": ints(node, "window"),
        "strides": ints(node, "strides"),
        "pads": flat_pads(node),
    }


@emits("BatchNorm")
def emit_batch_norm(node: CNode, w: Writer) -> None:
    w.node("BatchNormalization", node, *node.inputs, epsilon=number(node, "epsilon"))


@emits("LayerNorm")
def emit_layer_norm(node: CNode, w: Writer) -> None:
    """Its formula before opset 17, and of doubles whose epsilon is no float32."""
    epsilon, dtype = number(node, "epsilon"), node.aval.dtype
    if w.opset >= 17 and (dtype != np.float64 or epsilon == float(np.float32(epsilon))):
        w.node("LayerNormalization", node, *node.inputs, axis=-1, epsilon=epsilon)
        return
    x, scale, bias = node.inputs
    centred = w.step("Sub", node, x, _mean_of_rows(node, w, x))
    variance = _mean_of_rows(node, w, w.step("Mul", node, centred, centred))
    spread = w.step("Add", node, variance, w.scalar(epsilon, dtype))
    normal = w.step("Div", node, centred, w.step("Sqrt", node, spread))
    w.node("Add", node, w.step("Mul", node, normal, scale), bias)


def _mean_of_rows(node: CNode, w: Writer, x: Value) -> str:
    """Axes are an input since opset 18."""
    if w.opset >= 18:
        return w.step("ReduceMean", node, x, w.ints([-1], "axes"), keepdims=1)
    return w.step("ReduceMean", node, x, axes=[-1], keepdims=1)


@emits("RmsNorm")
def emit_rms_norm(node: CNode, w: Writer) -> None:
    """Along the last axis of float32; its formula before opset 23, without a scale of 1."""
    x, scale = node.inputs
    epsilon = number(node, "epsilon")
    if w.opset >= 23:
        w.node("RMSNormalization", node, x, scale, axis=-1, epsilon=epsilon)
        return
    square = _mean_of_rows(node, w, w.step("Mul", node, x, x))
    spread = w.step("Add", node, square, w.scalar(epsilon, node.aval.dtype))
    root = w.step("Sqrt", node, spread)
    if scalar_of(scale) == 1:
        w.node("Div", node, x, root)
    else:
        w.node("Mul", node, w.step("Div", node, x, root), scale)


@emits("SkipRmsNorm")
def emit_skip_rms_norm(node: CNode, w: Writer) -> None:
    """Of ONNX Runtime's own; the second and third results are for training."""
    norm, total = w.results(node)
    op = "com.microsoft.SkipSimplifiedLayerNormalization"
    epsilon = number(node, "epsilon")
    w.several(op, node, [norm, "", "", total], epsilon=epsilon)


@emits("Attention")
def emit_attention(node: CNode, w: Writer) -> None:
    if w.opset < 23:
        raise Refusal("attention as one operator needs opset 23; pass opset=23 or newer")
    of_query, of_key = ints(node, "heads")
    heads = {"q_num_heads": of_query, "kv_num_heads": of_key}
    w.node("Attention", node, *node.inputs, scale=number(node, "scale"), **heads)


@emits("InstanceNorm")
def emit_instance_norm(node: CNode, w: Writer) -> None:
    w.node("InstanceNormalization", node, *node.inputs, epsilon=number(node, "epsilon"))


@emits("Softmax", "LogSoftmax")
def emit_softmax(node: CNode, w: Writer) -> None:
    w.node(node.op, node, *node.inputs, axis=integer(node, "axis"))
