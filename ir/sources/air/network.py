"""The operators of neural networks."""

import numpy as np

from fnckpt.ir.graph import FuncGraph, Node, Parameter
from fnckpt.ir.sources.air.pool import as_in_file, channels_first, pairs_of, spatial
from fnckpt.ir.sources.air.registry import Site, imports
from fnckpt.ir.sources.build import axis_of
from fnckpt.ir.sources.composed import convolved_back, layer_norm
from fnckpt.ir.sources.source import Refusal

Ints = tuple[int, ...]


def epsilon_of(site: Site, name: str = "epsilon") -> float:
    """A float32 as the shortest decimal that it is."""
    return float(np.float32(site.op.number(name)).astype(str))


@imports("MatMul", "MatMulV2")
def import_matmul(
    site: Site, x: Node, y: Node, bias: Node | None, offset: Node | None = None
) -> Node:
    b, op = site.build, site.op
    quantized(site, offset)
    turned = {"transpose_a": op.flag("transpose_x1"), "transpose_b": op.flag("transpose_x2")}
    found = b("MatMul", x, y, **turned)
    return found if bias is None else b.add(found, bias)


@imports("BatchMatMul", "BatchMatMulV2")
def import_batch_matmul(site: Site, x: Node, y: Node, bias: Node | None = None) -> Node:
    b, op = site.build, site.op
    found = b("MatMul", x, y, transpose_a=op.flag("adj_x1"), transpose_b=op.flag("adj_x2"))
    return found if bias is None else b.add(found, bias)


def quantized(site: Site, offset: Node | None) -> None:
    if offset is not None:
        raise Refusal("it has an offset of quantized weights")


@imports("BiasAdd")
def import_bias_add(site: Site, x: Node, bias: Node) -> Node:
    """MindSpore writes NCHW for what has two axes, too."""
    b, rank = site.build, len(x.aval.shape)
    behind = 0 if site.channels_last else rank - 2
    return b.add(x, b.reshape(bias, (bias.aval.size, *(1,) * behind)))


def kernel_of(site: Site, kernel: Node) -> Node:
    """A filter as ``[out, in, ...]``; with the channels last it is ``[..., in, out]``."""
    rank = len(kernel.aval.shape)
    if not site.channels_last:
        return kernel
    return site.build.transpose(kernel, (rank - 1, rank - 2, *range(rank - 2)))


@imports("Conv2D", "Conv3D")
def import_conv(site: Site, x: Node, kernel: Node, bias: Node | None, offset: Node | None) -> Node:
    quantized(site, offset)
    return convolved(site, x, kernel_of(site, kernel), bias, site.op.integer("groups"))


def convolved(site: Site, x: Node, kernel: Node, bias: Node | None, groups: int) -> Node:
    b, op = site.build, site.op
    found = b(
        "Conv", channels_first(site, x), kernel, strides=spatial(site, op.ints("strides")),
        pads=pairs_of(op.ints("pads")), dilation=spatial(site, op.ints("dilations")), groups=groups,
    )  # fmt: skip
    if bias is not None:
        column = (bias.aval.size, *(1,) * (len(x.aval.shape) - 2))
        found = b.add(found, b.reshape(bias, column))
    return as_in_file(site, found)


@imports("DepthwiseConv2D")
def import_depthwise(
    site: Site, x: Node, kernel: Node, bias: Node | None, offset: Node | None
) -> Node:
    """The filter is ``[multiplier, channels, h, w]``, or with channels last ``[h, w, c, m]``."""
    b = site.build
    quantized(site, offset)
    first = kernel_of(site, kernel)
    times, channels, *window = first.aval.shape
    rows = b.reshape(b.transpose(first, (1, 0, 2, 3)), (times * channels, 1, *window))
    return convolved(site, x, rows, bias, channels)


@imports("Conv2DBackpropInputD")
def import_conv_backprop_d(site: Site, kernel: Node, x: Node) -> Node:
    return backprop(site, x, kernel, site.op.ints("input_size"))


@imports("Conv2DBackpropInput")
def import_conv_backprop(site: Site, size: Node, kernel: Node, x: Node) -> Node:
    return backprop(site, x, kernel, site.build.sizes(size, "the shape of its result"))


@imports("Conv2DTransposeD")
def import_conv_transpose_d(
    site: Site, x: Node, kernel: Node, bias: Node | None, offset: Node | None
) -> Node:
    quantized(site, offset)
    return with_bias(site, backprop(site, x, kernel, site.op.ints("input_size")), bias)


@imports("Conv2DTranspose")
def import_conv_transpose(
    site: Site, size: Node, x: Node, kernel: Node, bias: Node | None, offset: Node | None
) -> Node:
    quantized(site, offset)
    wanted = site.build.sizes(size, "the shape of its result")
    return with_bias(site, backprop(site, x, kernel, wanted), bias)


def with_bias(site: Site, x: Node, bias: Node | None) -> Node:
    if bias is None:
        return x
    behind = 0 if site.channels_last else len(x.aval.shape) - 2
    return site.build.add(x, site.build.reshape(bias, (bias.aval.size, *(1,) * behind)))


def backprop(site: Site, x: Node, kernel: Node, wanted: Ints) -> Node:
    """The gradient by the input, of the shape ``wanted``, of a convolution."""
    op = site.op
    strides, dilation = (spatial(site, op.ints(name)) for name in ("strides", "dilations"))
    found = convolved_back(
        site.build, channels_first(site, x), kernel_of(site, kernel), spatial(site, wanted),
        pairs_of(op.ints("pads")), strides, dilation, op.integer("groups"),
    )  # fmt: skip
    return as_in_file(site, found)


# --------------------------------------------------------------------------------------- normalized


@imports("SoftmaxV2", "LogSoftmaxV2")
def import_softmax(site: Site, x: Node) -> Node:
    (axis,) = site.op.ints("axes")
    return site.build(site.kind.removesuffix("V2"), x, axis=axis_of(axis, len(x.aval.shape)))


@imports("BatchNorm")
def import_batch_norm(
    site: Site, x: Node, scale: Node, offset: Node, mean: Node | None, variance: Node | None
) -> tuple[Node, ...]:
    """With the running statistics; its vectors are float32 whatever ``x`` is."""
    if site.op.flag("is_training") or mean is None or variance is None:
        raise Refusal("it is in training mode; export the network for inference")
    axis = len(x.aval.shape) - 1 if site.channels_last else 1
    vectors = [site.build.cast(each, x.aval.dtype) for each in (scale, offset, mean, variance)]
    found = site.build("BatchNorm", x, *vectors, axis=axis, epsilon=epsilon_of(site))
    return found, mean, variance, mean, variance


@imports("BNInfer")
def import_bn_infer(
    site: Site, x: Node, scale: Node, offset: Node, mean: Node, variance: Node
) -> Node:
    vectors = [site.build.cast(each, x.aval.dtype) for each in (scale, offset, mean, variance)]
    return site.build("BatchNorm", x, *vectors, axis=1, epsilon=epsilon_of(site))


@imports("LayerNorm")
def import_layer_norm(site: Site, x: Node, scale: Node, bias: Node) -> tuple[Node, ...]:
    """And the mean and variance that it found."""
    b, op, rank = site.build, site.op, len(x.aval.shape)
    begin, first = (axis_of(op.integer(n), rank) for n in ("begin_norm_axis", "begin_params_axis"))
    axes = tuple(range(begin, rank))
    mean = b("ReduceMean", x, axes=axes, keepdims=True)
    variance = b("ReduceMean", b("Square", b.sub(x, mean)), axes=axes, keepdims=True)
    return layer_norm(b, x, scale, bias, begin, first, epsilon_of(site)), mean, variance


@imports("InstanceNorm")
def import_instance_norm(site: Site, x: Node, scale: Node, bias: Node) -> tuple[Node, ...]:
    """Each channel of each example by itself."""
    b, rank = site.build, len(x.aval.shape)
    first = channels_first(site, x)
    axes, column = tuple(range(2, rank)), (-1, *(1,) * (rank - 2))
    mean = b("ReduceMean", first, axes=axes, keepdims=True)
    variance = b("ReduceMean", b("Square", b.sub(first, mean)), axes=axes, keepdims=True)
    normal = b("Standardize", first, axes=axes, epsilon=epsilon_of(site))
    scale, bias = (b.reshape(each, (each.aval.size, *column[1:])) for each in (scale, bias))
    found = b.add(b.mul(normal, scale), bias)
    return tuple(as_in_file(site, each) for each in (found, mean, variance))


# ---------------------------------------------------------------------------------------- recurrent


@imports("DynamicRNN")
def import_dynamic_rnn(
    site: Site, x: Node, w: Node, bias: Node, *rest: Node | None
) -> tuple[Node, ...]:
    """An LSTM whose weights are one matrix: rows of the input, then of the state.

    Columns are the gates input, cell, forget, output.
    """
    b, op = site.build, site.op
    _, h, c, *others = rest
    odd = rest[0] is not None or any(each is not None for each in others)
    plain = {"cell_type": "LSTM", "direction": "UNIDIRECTIONAL", "activation": "tanh"}
    if (
        odd
        or op.flag("use_peephole")
        or op.integer("num_proj")
        or not op.flag("time_major")
        or op.number("cell_clip") > 0
        or any(op.text(k) != v for k, v in plain.items())
    ):
        raise Refusal("an LSTM with peepholes, a projection, a mask or lengths, or in reverse")
    steps, batch, size = x.aval.shape
    hidden = w.aval.shape[1] // 4
    rows = b.add(b.matmul(x, b.slice(w, 0, 0, size)), bias)
    of_state = b.slice(w, 0, size, size + hidden)
    zero = b.full((batch, hidden), 0, x)
    start = [zero if each is None else b.reshape(each, (batch, hidden)) for each in (h, c)]
    body = lstm_step(site, b.at(rows, 0, 0), of_state, start, hidden)
    found = b.items("Scan", of_state, *start, rows, body=body, captured=1, carried=2,
                    length=steps, reverse=False)  # fmt: skip
    return (found[2], *found[2:])


def lstm_step(site: Site, row: Node, of_state: Node, start: list[Node], hidden: int) -> FuncGraph:
    """One step: the state after it, then what it gives: h, c, the gates, tanh of c."""
    b = site.build
    own = Parameter("weight", of_state.aval)
    state = [Parameter(name, each.aval) for name, each in zip("hc", start, strict=True)]
    given = Parameter("row", row.aval)
    whole = b.add(given, b.matmul(state[0], own))
    i, j, f, o = (b.slice(whole, 1, n * hidden, (n + 1) * hidden) for n in range(4))
    i, j, o = b("Sigmoid", i), b("Tanh", j), b("Sigmoid", o)
    f = b("Sigmoid", b.add(f, site.op.number("forget_bias")))
    c = b.add(b.mul(f, state[1]), b.mul(i, j))
    bent = b("Tanh", c)
    h = b.mul(o, bent)
    outputs = (h, c, h, c, i, j, f, o, bent)
    labels = tuple(f"out{n}" for n in range(len(outputs)))
    return FuncGraph("lstm", (own, *state, given), outputs, labels)
