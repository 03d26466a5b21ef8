"""Rewrites for convolution and pooling: two axes, and padding as the kernels take it."""

import numpy as np

from fnckpt.ir.attributes import Ints, flag, integer, ints, pairs, rank
from fnckpt.ir.graph import Attr, CNode, Node
from fnckpt.ir.operators import constant
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.passes.build import Build, mapped
from fnckpt.ir.passes.convolve import conv_as_product, mean_as_sum
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.sizes import all_known

ONE_MORE: dict[str, Attr] = {"strides": 1, "window": 1, "dilation": 1, "pads": (0, 0)}


def _spread(attr: Attr, extra: Attr) -> Attr:
    """An attribute with the part of a new first spatial axis."""
    assert isinstance(attr, tuple)
    return (extra, *attr)


def add_height(node: CNode) -> Node | None:
    """One spatial axis becomes two, the first of size 1."""
    if rank(node) != 3:
        return None
    build = Build(node)
    inputs = [
        build.reshape(x, (*x.aval.shape[:2], 1, x.aval.shape[2])) if rank(x) == 3 else x
        for x in node.inputs
    ]
    attrs = {k: _spread(v, ONE_MORE[k]) if k in ONE_MORE else v for k, v in node.attrs.items()}
    return build.reshape(build(node.op, *inputs, **attrs), node.aval.shape)


def _padded_axes(node: CNode) -> tuple[Ints, Ints]:
    """``low`` and ``high`` of the input's axes."""
    pads = pairs(node, "pads")
    return (0, 0, *(low for low, _ in pads)), (0, 0, *(high for _, high in pads))


@rewrites("MaxPool")
def pool_within_reach(node: CNode) -> Node | None:
    """A window that sees padding alone is less than every number; the kernel gives the least one.

    Such windows are left out, and put around the result.
    """
    (x,), build, window = node.inputs, Build(node), ints(node, "window")
    rows = zip(pairs(node, "pads"), window, ints(node, "strides"), node.aval.shape[2:], strict=True)
    pads, around = [], []
    for (low, high), size, step, count in rows:
        extent = x.aval.shape[2 + len(pads)] + low + high
        unused = (extent - size) % step  # what the last window does not reach
        before = max(0, (low - size) // step + 1)
        after = max(0, (high - unused - size) // step + 1)
        before, after = min(before, count), min(after, max(0, count - before))
        pads.append((low - before * step, high - after * step))
        around.append((before, after))
    if not any(n for pair in around for n in pair):
        return None
    least = constant(least_and_greatest(x.aval.dtype)[0])
    if any(sum(pair) >= size for pair, size in zip(around, node.aval.shape[2:], strict=True)):
        return constant(np.full(node.aval.shape, least.value))
    inner = build("MaxPool", x, **(dict(node.attrs) | {"pads": tuple(pads)}))
    low, high = zip(*around, strict=True)
    return build("Pad", inner, least, low=(0, 0, *low), high=(0, 0, *high))


def _is_same(node: CNode) -> bool:
    """The pads are those of MindSpore's mode SAME, of ``ceil(size / stride)`` windows.

    The kernels take that mode as it is, and the mean of it counts no padding. PadV3 in front takes
    five times as long as the pool.
    """
    extents, counts = node.inputs[0].aval.shape[2:], node.aval.shape[2:]
    if rank(node) != 4 or not all_known(extents):
        return False
    windows = zip(ints(node, "window"), ints(node, "strides"), pairs(node, "pads"), strict=True)
    for extent, count, (size, step, pads) in zip(extents, counts, windows, strict=True):
        total = max(0, (count - 1) * step + size - extent)
        if count != -(-extent // step) or pads != (total // 2, total - total // 2):
            return False
    return True


@rewrites("MaxPool")
def pad_before_max(node: CNode) -> Node | None:
    """Padding that is less than every element, as an operator of its own."""
    (x,), build, (low, high) = node.inputs, Build(node), _padded_axes(node)
    if not any((*low, *high)) or _is_same(node):
        return None
    least = constant(least_and_greatest(x.aval.dtype)[0])
    padded = build("Pad", x, least, low=low, high=high)
    free: dict[str, Attr] = {"pads": ((0, 0),) * (rank(x) - 2)}
    return build("MaxPool", padded, **(dict(node.attrs) | free))


@rewrites("AvgPool")
def pad_before_mean(node: CNode) -> Node | None:
    """Zeros around; a mean that does not count them is scaled by the share that it sees.

    Doubles too, of which ``mean_of_slices`` takes no padding.
    """
    (x,), build, (low, high) = node.inputs, Build(node), _padded_axes(node)
    counted, single = flag(node, "count_padding"), node.aval.dtype != np.float64
    if not any((*low, *high)) or (single and not counted and _is_same(node)):
        return None
    free: dict[str, Attr] = {"pads": ((0, 0),) * (rank(x) - 2), "count_padding": True}
    mean = build("AvgPool", build.pad(x, low, high), **(dict(node.attrs) | free))
    if counted:
        return mean
    share = _window_over_seen(x.aval.shape, low, high, node).astype(x.aval.dtype)
    return build("Mul", mean, constant(share[None, None]))


def _window_over_seen(shape: Ints, low: Ints, high: Ints, node: CNode) -> np.ndarray:
    """The size of the window over how much of each is no padding, in float64."""
    result = np.ones((1,) * (len(shape) - 2))
    rows = zip(ints(node, "window"), ints(node, "strides"), strict=True)
    for axis, (window, stride) in enumerate(rows):
        ones = np.pad(np.ones(shape[axis + 2]), (low[axis + 2], high[axis + 2]))
        seen = np.lib.stride_tricks.sliding_window_view(ones, window)[::stride].sum(-1)
        place = [1] * (len(shape) - 2)
        place[axis] = -1
        result = result * (window / seen).reshape(place)
    return result


def pool_volume(node: CNode) -> Node | None:
    """First the last two axes, then the first: greatest of greatest, mean of means."""
    (x,), build = node.inputs, Build(node)
    if rank(x) != 5 or any(n for pair in pairs(node, "pads") for n in pair):
        return None
    window, strides = ints(node, "window"), ints(node, "strides")
    batch, channels, depth, *size = x.aval.shape
    free: dict[str, Attr] = dict(node.attrs) | {"pads": ((0, 0), (0, 0))}
    planes = build.reshape(x, (batch, channels * depth, *size))
    first = build(node.op, planes, **(free | {"window": window[1:], "strides": strides[1:]}))
    *_, height, width = first.aval.shape
    columns = build.reshape(first, (batch, channels, depth, height * width))
    along: dict[str, Attr] = {"window": (window[0], 1), "strides": (strides[0], 1)}
    return build.reshape(build(node.op, columns, **(free | along)), node.aval.shape)


@rewrites("AvgPool")
def mean_of_slices(node: CNode) -> Node | None:
    """In double, which the kernel computes with float32's digits."""
    padded = any(n for pair in pairs(node, "pads") for n in pair)
    return mean_as_sum(node) if node.aval.dtype == np.float64 and not padded else None


@rewrites("Conv")
def convolve_by_products(node: CNode) -> Node | None:
    """Doubles get float32's digits from the kernel, and integers saturate."""
    dtype = node.aval.dtype
    return conv_as_product(node) if dtype == np.float64 or dtype.kind in "iu" else None


@rewrites("ConvTranspose")
def transpose_as_convolution(node: CNode) -> Node:
    """A convolution of the input with zeros between its elements, by the mirrored kernel."""
    (x, kernel), build = node.inputs, Build(node)
    groups, dilation = integer(node, "groups"), ints(node, "dilation")
    for axis, step in enumerate(ints(node, "strides"), 2):
        x = _with_zeros_between(build, x, axis, step)
    window = kernel.aval.shape[2:]
    reach = [(n - 1) * step for n, step in zip(window, dilation, strict=True)]
    pads = [(a + n, b + n) for (a, b), n in zip(pairs(node, "pads"), reach, strict=True)]
    for axis, (a, b) in enumerate(pads, 2):
        x = build.slice(x, axis, max(0, -a), x.aval.shape[axis] - max(0, -b))
    return build(
        "Conv", x, _mirrored(build, kernel, groups), strides=(1,) * len(window),
        dilation=dilation, groups=groups, pads=tuple((max(0, a), max(0, b)) for a, b in pads),
    )  # fmt: skip


def _mirrored(build: Build, kernel: Node, groups: int) -> Node:
    """``[C, O / groups, ...]`` as ``[O, C / groups, ...]`` backwards; at once where it is known."""
    inputs, outputs, *window = kernel.aval.shape
    spatial = tuple(range(2, 2 + len(window)))
    known = mapped(kernel, lambda value: np.flip(value, spatial))
    flipped = known or build("Reverse", kernel, axes=spatial)
    split = build.reshape(flipped, (groups, inputs // groups, outputs, *window))
    turned = build.transpose(split, (0, 2, 1, *(axis + 1 for axis in spatial)))
    return build.reshape(turned, (groups * outputs, inputs // groups, *window))


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


POOLS = ("MaxPool", "AvgPool")

RULES: tuple[Rule, ...] = (
    *(Rule(Op(op), add_height) for op in ("Conv", "ConvTranspose", *POOLS)),
    pool_within_reach,
    pad_before_max,
    pad_before_mean,
    *(Rule(Op(op), pool_volume) for op in POOLS),
    mean_of_slices,
    transpose_as_convolution,
)
