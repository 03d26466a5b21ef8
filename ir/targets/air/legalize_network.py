"""Rewrites for products, convolution, pooling and normalization: into the shapes that GE takes."""

import math

from fnckpt.ir.attributes import Ints, integer, ints, number, pairs
from fnckpt.ir.graph import Attr, CNode, Node
from fnckpt.ir.passes.build import (
    FLOAT16,
    FLOAT32,
    INT32,
    Build,
    through,
)
from fnckpt.ir.passes.convolve import conv_as_product
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites
from fnckpt.ir.targets.air.emit_network import MOST_AREA, MOST_PAD
from fnckpt.ir.targets.air.legalize_types import SIGNED

MOST_MULTIPLIED = 1 << 24  # elements of a product that is written as Mul and ReduceSum


def rank(node: Node) -> int:
    """The number of axes."""
    return len(node.aval.shape)


@rewrites("MatMul")
def multiply_in_known_type(node: CNode) -> Node | None:
    """MatMulV2 has FLOAT, FLOAT16 and INT32: small integers widen, others multiply and add up.

    Of booleans a sum is true where it is not 0.
    """
    (a, b), build = node.inputs, Build(node)
    dtype = a.aval.dtype
    if dtype in (FLOAT16, FLOAT32, INT32):
        return None
    if dtype.name in ("bool", "int8", "int16", "uint8", "uint16"):
        return through(node, INT32)
    if dtype in SIGNED:
        return through(node, SIGNED[dtype])
    rows = node.aval.shape
    left = _turned(build, a, bool(node.attrs["transpose_a"]))
    right = _turned(build, b, not node.attrs["transpose_b"])
    if math.prod(rows) * left.aval.shape[-1] > MOST_MULTIPLIED or dtype.name not in (
        "int64",
        "float64",
    ):
        return None
    left = build.reshape(left, (*left.aval.shape[:-1], 1, left.aval.shape[-1]))
    right = build.reshape(right, (*right.aval.shape[:-2], 1, *right.aval.shape[-2:]))
    return build("ReduceSum", build("Mul", left, right), axes=(len(rows),), keepdims=False)


def _turned(build: Build, x: Node, turn: bool) -> Node:
    """``x`` with its last two axes exchanged."""
    axes = tuple(range(rank(x)))
    return build.transpose(x, (*axes[:-2], axes[-1], axes[-2])) if turn else x


@rewrites("MatMul")
def flatten_rows(node: CNode) -> Node | None:
    """A stack of rows times one matrix is one product of matrices, which fuses with a bias."""
    (a, b), build = node.inputs, Build(node)
    if rank(a) == 2 or rank(b) != 2 or node.attrs["transpose_a"]:
        return None
    *stack, inner = a.aval.shape
    flat = build("MatMul", build.reshape(a, (math.prod(stack), inner)), b, **node.attrs)
    return build.reshape(flat, node.aval.shape)


@rewrites("MatMul")
def match_stacks(node: CNode) -> Node | None:
    """BatchMatMul does not broadcast."""
    (a, b), build = node.inputs, Build(node)
    if rank(a) == rank(b) and a.aval.shape[:-2] == b.aval.shape[:-2]:
        return None
    stack = node.aval.shape[:-2]
    wide = [build.broadcast(x, (*stack, *x.aval.shape[-2:])) for x in (a, b)]
    return build("MatMul", *wide, **node.attrs)


@rewrites(Op("Add", Op("Reshape", Op("MatMul", name="product"), name="shaped"), Any_("bias")))
def add_bias_before_reshape(node: CNode, product: CNode, shaped: CNode, bias: Node) -> Node | None:
    """Next to the product, a vector becomes its bias; so does one that the reshape split, too."""
    build, columns = Build(node), product.aval.shape[-1]
    shape = bias.aval.shape
    while shape[:1] == (1,):
        shape = shape[1:]
    ends = node.aval == shaped.aval and node.aval.shape[rank(node) - len(shape) :] == shape
    if rank(product) != 2 or math.prod(shape) != columns or not ends:
        return None
    summed = build("Add", product, build.reshape(bias, (columns,)))
    return build.reshape(summed, node.aval.shape)


@rewrites(Op("Add", Op("MatMul", name="product"), Any_("bias")))
def flatten_bias(node: CNode, product: CNode, bias: Node) -> Node | None:
    """A bias of shape ``[1, N]`` is a vector."""
    if rank(product) != 2 or bias.aval.shape != (1, product.aval.shape[-1]):
        return None
    build = Build(node)
    if product.aval.shape[0] == 1 and isinstance(bias, CNode):
        return None
    return build("Add", product, build.reshape(bias, bias.aval.shape[-1:]))


def _spread(attr: Attr, extra: Attr) -> Attr:
    """An attribute with the part of a new first spatial axis."""
    assert isinstance(attr, tuple)
    return (extra, *attr)


def _raised(build: Build, x: Node) -> Node:
    return build.reshape(x, (*x.aval.shape[:2], 1, *x.aval.shape[2:]))


ONE_MORE: dict[str, Attr] = {"strides": 1, "window": 1, "dilation": 1, "pads": (0, 0)}


def add_height(node: CNode) -> Node | None:
    """One spatial axis becomes two, the first of size 1."""
    if rank(node) != 3:
        return None
    build = Build(node)
    inputs = [_raised(build, x) if rank(x) == 3 else x for x in node.inputs]
    attrs = {k: _spread(v, ONE_MORE[k]) if k in ONE_MORE else v for k, v in node.attrs.items()}
    return build.reshape(build(node.op, *inputs, **attrs), node.aval.shape)


@rewrites("Conv")
def convolve_by_products(node: CNode) -> Node | None:
    """Conv2D takes FLOAT and FLOAT16; other dtypes are a product of matrices."""
    return conv_as_product(node) if node.aval.dtype not in (FLOAT16, FLOAT32) else None


@rewrites("Conv")
def pad_before_convolution(node: CNode) -> Node | None:
    """Padding beyond GE's limit is a Pad of its own."""
    x, *rest = node.inputs
    pads = pairs(node, "pads")
    if max((n for pair in pads for n in pair), default=0) <= MOST_PAD:
        return None
    build = Build(node)
    low, high = (tuple(pair[side] for pair in pads) for side in (0, 1))
    padded = build.pad(x, (0, 0, *low), (0, 0, *high))
    return build("Conv", padded, *rest, **(dict(node.attrs) | {"pads": ((0, 0),) * len(pads)}))


@rewrites("Conv")
def convolve_volumes_by_slices(node: CNode) -> Node | None:
    """A 3-D kernel is the sum of 2-D ones over its depth; Conv3D has only FLOAT16, undilated."""
    x, kernel, *bias = node.inputs
    if rank(node) != 5:
        return None
    dilation, groups = ints(node, "dilation"), integer(node, "groups")
    if x.aval.dtype == FLOAT16 and groups == 1 and all(step == 1 for step in dilation):
        return None
    build, (pad, *pads) = Build(node), pairs(node, "pads")
    stride, *strides = ints(node, "strides")
    batch, depth = node.aval.shape[0], node.aval.shape[2]
    padded = build.pad(x, (0, 0, pad[0], 0, 0), (0, 0, pad[1], 0, 0))
    result: Node | None = None
    for at in range(kernel.aval.shape[2]):
        start = at * dilation[0]
        part = build.slice(padded, 2, start, start + (depth - 1) * stride + 1, stride)
        flat = _depth_into_batch(build, part)
        matrix = build.reshape(
            build.slice(kernel, 2, at, at + 1), (*kernel.aval.shape[:2], *kernel.aval.shape[3:])
        )
        first = bias if result is None else []
        each = build(
            "Conv", flat, matrix, *first, strides=tuple(strides), pads=tuple(pads),
            dilation=dilation[1:], groups=groups,
        )  # fmt: skip
        result = each if result is None else build("Add", result, each)
    assert result is not None
    split = build.reshape(result, (batch, depth, *result.aval.shape[1:]))
    return build.transpose(split, (0, 2, 1, 3, 4))


def _depth_into_batch(build: Build, x: Node) -> Node:
    """``[N, C, D, H, W]`` as ``[N * D, C, H, W]``."""
    batch, channels, depth, *size = x.aval.shape
    return build.reshape(build.transpose(x, (0, 2, 1, 3, 4)), (batch * depth, channels, *size))


@rewrites("ConvTranspose")
def grow_after_transposed(node: CNode) -> Node | None:
    """Padding of the result is a Pad; less than a stride at the end, GE gives by ``input_size``."""
    pads, strides = pairs(node, "pads"), ints(node, "strides")
    low = tuple(max(0, pair[0]) for pair in pads)
    high = tuple(
        pair[1] if pair[1] >= step else 0 for pair, step in zip(pads, strides, strict=True)
    )
    if not any(low) and not any(high):
        return None
    rest = tuple((pair[0] - a, pair[1] - b) for pair, a, b in zip(pads, low, high, strict=True))
    build = Build(node)
    inner = build("ConvTranspose", *node.inputs, **(dict(node.attrs) | {"pads": rest}))
    return build.pad(inner, (0, 0, *low), (0, 0, *high))


@rewrites("ConvTranspose")
def cut_after_transposed(node: CNode) -> Node | None:
    """A cut beyond GE's limit of padding is a slice."""
    pads = pairs(node, "pads")
    if min((n for pair in pads for n in pair), default=0) >= -MOST_PAD:
        return None
    build = Build(node)
    rest = tuple((max(a, -MOST_PAD), max(b, -MOST_PAD)) for a, b in pads)
    result = build("ConvTranspose", *node.inputs, **(dict(node.attrs) | {"pads": rest}))
    for axis, ((a, b), (kept_a, kept_b)) in enumerate(zip(pads, rest, strict=True), 2):
        size = result.aval.shape[axis]
        result = build.slice(result, axis, kept_a - a, size - (kept_b - b))
    return result


@rewrites("ConvTranspose")
def transpose_volumes_as_convolution(node: CNode) -> Node | None:
    """A convolution of the input with zeros between its elements, by the mirrored kernel."""
    (x, kernel), build = node.inputs, Build(node)
    if rank(node) != 5:
        return None
    groups, dilation, strides = (
        integer(node, "groups"),
        ints(node, "dilation"),
        ints(node, "strides"),
    )
    for axis, step in enumerate(strides, 2):
        x = _with_zeros_between(build, x, axis, step)
    inputs, outputs, *window = kernel.aval.shape
    mirrored = build("Reverse", kernel, axes=tuple(range(2, 5)))
    split = build.reshape(mirrored, (groups, inputs // groups, outputs, *window))
    turned = build.transpose(split, (0, 2, 1, 3, 4, 5))
    forward = build.reshape(turned, (groups * outputs, inputs // groups, *window))
    reach = [(n - 1) * step for n, step in zip(window, dilation, strict=True)]
    pads = [(a + n, b + n) for (a, b), n in zip(pairs(node, "pads"), reach, strict=True)]
    for axis, (a, b) in enumerate(pads, 2):
        x = build.slice(x, axis, max(0, -a), x.aval.shape[axis] - max(0, -b))
    return build(
        "Conv", x, forward, strides=(1, 1, 1), dilation=dilation, groups=groups,
        pads=tuple((max(0, a), max(0, b)) for a, b in pads),
    )  # fmt: skip


def _with_zeros_between(build: Build, x: Node, axis: int, step: int) -> Node:
    """``step - 1`` zeros between neighbours: pad a new axis, merge it, cut the end."""
    if step == 1:
        return x
    shape = x.aval.shape
    split = build.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    high = tuple(step - 1 if i == axis + 1 else 0 for i in range(rank(split)))
    grown = build.pad(split, (0,) * rank(split), high)
    merged = build.reshape(grown, (*shape[:axis], shape[axis] * step, *shape[axis + 1 :]))
    return build.slice(merged, axis, 0, (shape[axis] - 1) * step + 1)


def pool_axis_by_axis(node: CNode) -> Node | None:
    """A volume, or a window beyond GE's limit: first the last two axes or one, then the rest.

    The greatest of the greatest is the greatest. The mean of means is the mean, also where padding
    does not count: what counts of a window is a box.
    """
    (x,), build = node.inputs, Build(node)
    window = ints(node, "window")
    if len(window) == 3:
        inner = (1, 2)
    elif math.prod(window) > MOST_AREA and min(window) > 1:
        inner = (1,)
    else:
        return None
    first = _pool_some(build, node, x, inner)
    return _pool_some(build, node, first, tuple(i for i in range(len(window)) if i not in inner))


def _pool_some(build: Build, node: CNode, x: Node, axes: Ints) -> Node:
    """``x`` pooled over some of its spatial axes, the others next to the channels."""
    if len(ints(node, "window")) == 2:
        keep = [(1, 1, (0, 0)) if i not in axes else None for i in range(2)]
        rows = zip(ints(node, "window"), ints(node, "strides"), pairs(node, "pads"), strict=True)
        chosen = [row if kept is None else kept for row, kept in zip(rows, keep, strict=True)]
        window, strides, pads = zip(*chosen, strict=True)
        attrs = dict(node.attrs) | {"window": window, "strides": strides, "pads": pads}
        return build(node.op, x, **attrs)
    batch, channels, depth, *size = x.aval.shape
    if axes == (0,):
        flat = build.reshape(x, (batch, channels, depth, math.prod(size)))
    else:
        flat = build.reshape(x, (batch, channels * depth, *size))
    rows = zip(ints(node, "window"), ints(node, "strides"), pairs(node, "pads"), strict=True)
    chosen = [row for i, row in enumerate(rows) if i in axes] + [(1, 1, (0, 0))] * (2 - len(axes))
    window, strides, pads = zip(*chosen, strict=True)
    attrs = dict(node.attrs) | {"window": window, "strides": strides, "pads": pads}
    result = build(node.op, flat, **attrs)
    after = result.aval.shape
    shape = (
        (batch, channels, after[2], *size) if axes == (0,) else (batch, channels, depth, *after[2:])
    )
    return build.reshape(result, shape)


def reduce_whole_axis(node: CNode) -> Node | None:
    """A window beyond GE's limit that sees all of an axis is a reduction."""
    (x,), build = node.inputs, Build(node)
    window, size = ints(node, "window"), x.aval.shape[2:]
    if math.prod(window) <= MOST_AREA or any(n for pair in pairs(node, "pads") for n in pair):
        return None
    if any(w not in (1, n) for w, n in zip(window, size, strict=True)):
        return None
    if any(w == 1 and step > 1 for w, step in zip(window, ints(node, "strides"), strict=True)):
        return None
    axes = tuple(axis for axis, w in enumerate(window, 2) if w > 1)
    op = "ReduceMax" if node.op == "MaxPool" else "ReduceMean"
    return build(op, x, axes=axes, keepdims=True)


def pad_before_whole_axis(node: CNode) -> Node | None:
    """Padding of a window beyond GE's limit is a Pad of its own; what it sees may be all then."""
    (x,), pads, build = node.inputs, pairs(node, "pads"), Build(node)
    window = ints(node, "window")
    if math.prod(window) <= MOST_AREA or min(window) > 1 or not any(map(any, pads)):
        return None
    if node.op == "AvgPool" and not node.attrs["count_padding"]:
        return None
    fill = 0 if node.op == "AvgPool" else -math.inf
    low, high = ((0, 0, *(pair[side] for pair in pads)) for side in (0, 1))
    free: dict[str, Attr] = {"pads": ((0, 0),) * len(pads)}
    return build(node.op, build.pad(x, low, high, fill), **(dict(node.attrs) | free))


@rewrites("BatchNorm")
def normalize_in_four_axes(node: CNode) -> Node | None:
    """GE's BatchNorm has ``[N, C, H, W]``."""
    (x, *vectors), build = node.inputs, Build(node)
    fits = integer(node, "axis") == 1 and x.aval.dtype in (FLOAT16, FLOAT32) and rank(x) >= 2
    if not fits or rank(x) == 4:
        return None
    batch, channels, *size = x.aval.shape
    four = build.reshape(x, (batch, channels, 1, math.prod(size)))
    return build.reshape(build("BatchNorm", four, *vectors, **node.attrs), x.aval.shape)


@rewrites("BatchNorm")
def normalize_by_arithmetic(node: CNode) -> Node | None:
    """Along another axis, or in double."""
    (x, *vectors), build = node.inputs, Build(node)
    axis = integer(node, "axis")
    if axis == 1 and x.aval.dtype in (FLOAT16, FLOAT32) and rank(x) >= 2:
        return None
    shape = tuple(-1 if i == axis else 1 for i in range(rank(x)))
    shape = tuple(x.aval.shape[axis] if n == -1 else n for n in shape)
    scale, bias, mean, variance = (build.reshape(each, shape) for each in vectors)
    spread = build("Add", variance, build.number(number(node, "epsilon"), variance))
    factor = build("Mul", scale, build("Rsqrt", spread))
    return build("Add", build("Mul", build("Sub", x, mean), factor), bias)


POOLS = ("MaxPool", "AvgPool")

RULES: tuple[Rule, ...] = (
    multiply_in_known_type,
    flatten_rows,
    match_stacks,
    add_bias_before_reshape,
    flatten_bias,
    *(Rule(Op(op), reduce_whole_axis) for op in POOLS),
    *(Rule(Op(op), add_height) for op in ("Conv", "ConvTranspose", *POOLS)),
    *(Rule(Op(op), pool_axis_by_axis) for op in POOLS),
    *(Rule(Op(op), pad_before_whole_axis) for op in POOLS),
    convolve_by_products,
    pad_before_convolution,
    convolve_volumes_by_slices,
    grow_after_transposed,
    cut_after_transposed,
    transpose_volumes_as_convolution,
    normalize_in_four_axes,
    normalize_by_arithmetic,
)
