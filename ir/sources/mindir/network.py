"""The primitives of neural networks."""

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import axis_of
from fnckpt.ir.sources.composed import (
    convolved_back,
    layer_norm,
    resized,
    response_normalized,
    same_padding,
)
from fnckpt.ir.sources.mindir.registry import Site, Value, imports, whole
from fnckpt.ir.sources.mindir.shape import sizes
from fnckpt.ir.sources.source import Refusal

Pads = tuple[tuple[int, int], ...]

# By number where a mode is an argument: mindspore/ops/op_enum.
MODES = {0: "PAD", 1: "SAME", 2: "VALID"}


@imports("MatMul", "BatchMatMul")
def import_matmul(site: Site, a: Node, b: Node, *_: Value) -> Node:
    turned = {name: site.flag(name) for name in ("transpose_a", "transpose_b")}
    return site.build("MatMul", a, b, **turned)


@imports("MatMulExt")
def import_matmul_ext(site: Site, a: Node, y: Node) -> Node:
    return site.build.product(a, y)


@imports("BiasAdd")
def import_bias_add(site: Site, x: Node, bias: Node, *_: Value) -> Node:
    b, rank = site.build, len(x.aval.shape)
    return b.add(x, b.reshape(bias, (bias.aval.size, *(1,) * (rank - 2))))


def spatial(value: Value, rank: int) -> tuple[int, ...]:
    """The last numbers, those of the axes of space; one number stands for all."""
    numbers = whole(value)
    return (numbers * rank if len(numbers) == 1 else numbers)[-rank:]


def mode_of(value: Value) -> str:
    """A mode of padding by name, or by number."""
    return value.upper() if isinstance(value, str) else MODES[int(value)]


def pads_of(
    site: Site, mode: str, shape: tuple[int, ...], window: tuple[int, ...],
    strides: tuple[int, ...], dilation: tuple[int, ...],
) -> Pads:  # fmt: skip
    if mode == "VALID":
        return ((0, 0),) * len(window)
    if mode == "SAME":
        reach = [(w - 1) * d + 1 for w, d in zip(window, dilation, strict=True)]
        return tuple(map(same_padding, shape, reach, strides))
    flat = whole(site.attributes.get("pad_list") or site.attributes["pad"])
    flat = flat if len(flat) == 2 * len(window) else flat * (2 * len(window))
    return tuple(zip(flat[::2], flat[1::2], strict=True))


@imports("Conv2D", "Conv3D")
def import_conv(site: Site, x: Node, w: Node) -> Node:
    rank, held = len(x.aval.shape) - 2, site.attributes
    strides = spatial(held.get("strides", held.get("stride", 1)), rank)
    dilation = spatial(held.get("dilations", held.get("dilation", 1)), rank)
    window = w.aval.shape[2:]
    mode = mode_of(held.get("pad_mode", "VALID"))
    pads = pads_of(site, mode, x.aval.shape[2:], window, strides, dilation)
    groups = int(held.get("group", held.get("groups", 1)))
    return site.build("Conv", x, w, strides=strides, pads=pads, dilation=dilation, groups=groups)


@imports("Conv2DTranspose", "Conv2DBackpropInput")
def import_conv_transpose(site: Site, x: Node, w: Node, size: Value) -> Node:
    """The gradient of a convolution by its input, whose shape is said."""
    rank, held = len(x.aval.shape) - 2, site.attributes
    strides, dilation = spatial(held["stride"], rank), spatial(held["dilation"], rank)
    wanted = sizes(site, size, "the shape of its result")[2:]
    window = w.aval.shape[2:]
    mode = mode_of(held.get("pad_mode", "VALID"))
    cut = pads_of(site, mode, wanted, window, strides, dilation)
    groups = int(held.get("group", 1))
    return convolved_back(site.build, x, w, wanted, cut, strides, dilation, groups)


@imports("BatchNorm")
def import_batch_norm(
    site: Site, x: Node, scale: Node, bias: Node, mean: Node, variance: Node, *_: Value
) -> tuple[Node, ...]:
    """With the running statistics."""
    if site.flag("is_training"):
        raise Refusal("it is in training mode; export the network after set_train(False)")
    epsilon = float(site.get("epsilon", 1e-5))
    epsilon = float(np.float32(epsilon).astype(str))
    found = site.build("BatchNorm", x, scale, bias, mean, variance, axis=1, epsilon=epsilon)
    return (found, scale, bias, mean, variance)


@imports("LayerNorm")
def import_layer_norm(
    site: Site, x: Node, scale: Node, bias: Node, *_: Value
) -> tuple[Node, None, None]:
    rank = len(x.aval.shape)
    begin, first = (int(site.get(n, -1)) for n in ("begin_norm_axis", "begin_params_axis"))
    epsilon = float(np.float32(site.get("epsilon", 1e-7)).astype(str))
    ends = axis_of(begin, rank), axis_of(first, rank)
    return layer_norm(site.build, x, scale, bias, *ends, epsilon), None, None


@imports("GroupNorm")
def import_group_norm(
    site: Site, x: Node, groups: Value, scale: Node, bias: Node, epsilon: Value
) -> tuple[Node, None, None]:
    b, shape = site.build, x.aval.shape
    apart = b.reshape(x, (shape[0], int(groups), -(-x.aval.size // (shape[0] * int(groups)))))
    small = float(np.float32(epsilon).astype(str))
    normal = b.reshape(b("Standardize", apart, axes=(2,), epsilon=small), shape)
    column = (shape[1], *(1,) * (len(shape) - 2))
    return b.add(b.mul(normal, b.reshape(scale, column)), b.reshape(bias, column)), None, None


@imports("ResizeNearestNeighborV2", "ResizeBilinearV2")
def import_resize(
    site: Site, x: Node, size: Value, corners: Value = False, centers: Value = False
) -> Node:
    nearest, wanted = site.op.startswith("ResizeNearest"), sizes(site, size, "its size")
    ends = {"corners": bool(corners), "centers": bool(centers)}
    return resized(site.build, x, wanted, nearest=nearest, **ends)


@imports("LRN")
def import_lrn(site: Site, x: Node) -> Node:
    """The sums go over ``depth_radius`` channels on each side."""
    held = site.attributes
    size = 2 * int(held["depth_radius"]) + 1
    alpha, bias, beta = (float(held[each]) for each in ("alpha", "bias", "beta"))
    return response_normalized(site.build, x, size, alpha, bias, beta)
