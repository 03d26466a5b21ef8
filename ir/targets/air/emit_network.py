"""The table's second half: products, convolution, pooling, normalization."""

import math

from fnckpt.ir.attributes import Ints, integer, ints, number, pairs
from fnckpt.ir.graph import Aval, CNode, Node
from fnckpt.ir.targets.air.codes import OF_DTYPE
from fnckpt.ir.targets.air.emit import EMITTERS, FLOAT32, emits
from fnckpt.ir.targets.air.writer import Ref, Writer
from fnckpt.ir.targets.target import Refusal

__all__ = ["EMITTERS"]  # whole, now that the emitters below are in it

MOST_STRIDE, MOST_PAD, MOST_WINDOW, MOST_AREA = 63, 255, 255, 255  # limits of the header texts


@emits("Softmax")
def emit_softmax(node: CNode, w: Writer) -> None:
    w.node("SoftmaxV2", node, *node.inputs, axes=(integer(node, "axis"),))


@emits("LogSoftmax")
def emit_log_softmax(node: CNode, w: Writer) -> None:
    w.node("LogSoftmaxV2", node, *node.inputs, axes=(integer(node, "axis"),))


@emits("LayerNorm")
def emit_layer_norm(node: CNode, w: Writer) -> None:
    last = len(node.aval.shape) - 1
    moments = Aval((*node.aval.shape[:-1], 1), node.aval.dtype)
    w.node(
        "LayerNorm", node, *node.inputs, more=(moments, moments), begin_norm_axis=last,
        begin_params_axis=last, epsilon=number(node, "epsilon"),
    )  # fmt: skip


@emits("BatchNorm")
def emit_batch_norm(node: CNode, w: Writer) -> None:
    """Of ``[N, C, H, W]``, as legalized, with vectors of float32 whatever ``x`` is.

    BNInference would be shorter, but its header calls scale and offset "no use".
    """
    x, *given = node.inputs
    vector = Aval(given[0].aval.shape, FLOAT32)
    vectors = [_as_float32(node, each, w) for each in given]
    w.node(
        "BatchNorm", node, x, *vectors, more=(vector,) * 4, epsilon=number(node, "epsilon"),
        data_format="NCHW", is_training=False,
    )  # fmt: skip


def _as_float32(node: CNode, x: Node, w: Writer) -> Node | Ref:
    if x.aval.dtype == FLOAT32:
        return x
    code = OF_DTYPE[FLOAT32].engine
    return w.step("Cast", node, x, aval=Aval(x.aval.shape, FLOAT32), dst_type=code)


@emits("Add")
def emit_add(node: CNode, w: Writer) -> None:
    if id(node) in w.biases:
        product, bias = w.biases[id(node)]
        emit_product(node, product, bias, w)
    else:
        w.node("Add", node, *node.inputs)


@emits("MatMul")
def emit_matmul(node: CNode, w: Writer) -> None:
    emit_product(node, node, None, w)


def emit_product(node: CNode, product: CNode, bias: Node | None, w: Writer) -> None:
    """``product`` as the value of ``node``, with ``bias`` where it is the sum with a vector."""
    a, b = product.inputs
    turn_a, turn_b = bool(product.attrs["transpose_a"]), bool(product.attrs["transpose_b"])
    if len(a.aval.shape) == 2 and len(b.aval.shape) == 2:
        w.node("MatMulV2", node, a, b, bias, layout="ND", transpose_x1=turn_a, transpose_x2=turn_b)
    else:
        w.node("BatchMatMul", node, a, b, layout="ND", adj_x1=turn_a, adj_x2=turn_b)


def _limited(node: CNode, **limits: tuple[tuple[int, ...], int]) -> None:
    """Refuse what the header's limits exclude."""
    for name, (values, most) in limits.items():
        if values and max(values) > most:
            raise Refusal(
                f"GE takes {name} up to {most}, found {values}; use smaller values in this layer"
            )


def _flat(node: CNode) -> Ints:
    """``pads`` as GE lists them: before and after, axis by axis."""
    return tuple(n for pair in pairs(node, "pads") for n in pair)


@emits("Conv")
def emit_conv(node: CNode, w: Writer) -> None:
    x, kernel, *bias = node.inputs
    strides, pads = ints(node, "strides"), _flat(node)
    dilation, groups = ints(node, "dilation"), integer(node, "groups")
    window = kernel.aval.shape[2:]
    _limited(
        node,
        strides=(strides, MOST_STRIDE),
        padding=(pads, MOST_PAD),
        **{"a kernel": (window, MOST_WINDOW), "dilation": (dilation, MOST_WINDOW)},
    )
    kind, layout = {2: ("Conv2D", "NCHW"), 3: ("Conv3D", "NCDHW")}[len(window)]
    if node.aval.dtype.kind != "f":
        raise Refusal(
            f"GE's {kind} has no {node.aval.dtype} result; convolve in float32 or float16"
        )
    w.node(
        kind, node, x, kernel, *bias, layout=layout, strides=(1, 1, *strides), pads=pads,
        dilations=(1, 1, *dilation), groups=groups, data_format=layout,
    )  # fmt: skip


@emits("ConvTranspose")
def emit_conv_transpose(node: CNode, w: Writer) -> None:
    """The gradient by the input of a convolution whose padding cuts what ``pads`` cut here."""
    x, kernel = node.inputs
    strides, cuts = ints(node, "strides"), tuple(max(0, -n) for n in _flat(node))
    window = kernel.aval.shape[2:]
    _limited(
        node,
        strides=(strides, MOST_STRIDE),
        padding=(cuts, MOST_PAD),
        **{"a kernel": (window, MOST_WINDOW)},
    )
    size = w.int32s(node, "input_size", node.aval.shape)
    w.node(
        "Conv2DBackpropInput", node, size, kernel, x, strides=(1, 1, *strides), pads=cuts,
        dilations=(1, 1, *ints(node, "dilation")), groups=integer(node, "groups"),
        data_format="NCHW",
    )  # fmt: skip


def _window(node: CNode) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """``ksize``, ``strides`` and ``pads`` of a pooling."""
    window, strides = ints(node, "window"), ints(node, "strides")
    pads = _flat(node)
    _limited(node, strides=(strides, MOST_STRIDE), padding=(pads, MOST_PAD))
    _limited(node, **{"pooling windows of an area": ((math.prod(window),), MOST_AREA)})
    return (1, 1, *window), (1, 1, *strides), pads


@emits("MaxPool")
def emit_max_pool(node: CNode, w: Writer) -> None:
    ksize, strides, pads = _window(node)
    w.node(
        "MaxPoolV3", node, *node.inputs, ksize=ksize, strides=strides, pads=pads,
        padding_mode="CALCULATED", data_format="NCHW",
    )  # fmt: skip


@emits("AvgPool")
def emit_avg_pool(node: CNode, w: Writer) -> None:
    ksize, strides, pads = _window(node)
    w.node(
        "AvgPoolV2", node, *node.inputs, ksize=ksize, strides=strides, pads=pads,
        padding_mode="CALCULATED", data_format="NCHW", exclusive=not node.attrs["count_padding"],
    )  # fmt: skip
