"""What operators of several formats are, said by ours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.build import INT64, MOST_PARTS, Builder, clipped, few
from fnckpt.ir.sources.source import Refusal

Ints = Sequence[int]
Pads = tuple[tuple[int, int], ...]


def floor_mod(b: Builder, x: Node, y: Node) -> Node:
    """The remainder with the sign of ``y``."""
    rest, zero = b("Rem", x, y), b.number(0, x)
    other = b("LogicalXor", b("Less", rest, zero), b("Less", y, zero))
    return b.where(b("LogicalAnd", other, b("NotEqual", rest, zero)), b.add(rest, y), rest)


def floor_div(b: Builder, x: Node, y: Node) -> Node:
    """The quotient rounded down."""
    if x.aval.dtype.kind not in "iu":
        return b("Floor", b.div(x, y))
    return b.div(b.sub(x, floor_mod(b, x, y)), y)


def selu(b: Builder, x: Node) -> Node:
    """The Elu with the two numbers that keep mean and variance (Klambauer et al., 2017)."""
    return b.mul(b("Elu", x, alpha=1.67326324235), 1.05070098736)


def softsign(b: Builder, x: Node) -> Node:
    """``x / (1 + |x|)``."""
    return b.div(x, b.add(b("Abs", x), 1))


def shrunk(b: Builder, x: Node, limit: float, move: float) -> Node:
    """0 between ``-limit`` and ``limit``; what is outside comes nearer to 0 by ``move``."""
    above = b.where(b.compare("Greater", x, limit), b.sub(x, move), b.number(0, x))
    return b.where(b.compare("Less", x, -limit), b.add(x, move), above)


def smooth_l1(b: Builder, x: Node, y: Node, limit: float) -> Node:
    """Half a square where two differ by less than ``limit``, a line where by more."""
    size = b("Abs", b.sub(x, y))
    near = b.mul(b("Square", size), 0.5 / limit)
    return b.where(b.compare("Less", size, limit), near, b.sub(size, 0.5 * limit))


def combined(b: Builder, x: Node, how: str) -> Node:
    """A loss of each element as it is (``none``), its ``sum`` or its ``mean``."""
    if how == "none":
        return x
    axes = tuple(range(len(x.aval.shape)))
    return b({"sum": "ReduceSum", "mean": "ReduceMean"}[how], x, axes=axes, keepdims=False)


def reshaped(b: Builder, x: Node, wanted: Ints) -> Node:
    """As ``wanted``, of which one may be -1: what is left."""
    shape = list(wanted)
    open_ = [i for i, size in enumerate(shape) if is_known(size) and size == -1]
    if len(open_) == 1:
        rest = 1
        for i, size in enumerate(shape):
            rest = rest if i == open_[0] else rest * size
        shape[open_[0]] = x.aval.size // rest
    return b.reshape(x, shape)


def tiled(b: Builder, x: Node, times: Ints) -> Node:
    """``x`` repeated so often along each axis."""
    shape = (1,) * (len(times) - len(x.aval.shape)) + x.aval.shape
    apart = [each for size in shape for each in (1, size)]
    grown = [each for pair in zip(times, shape, strict=True) for each in pair]
    whole = [n * size for n, size in zip(times, shape, strict=True)]
    return b.reshape(b.broadcast(b.reshape(x, apart), grown), whole)


@dataclass(frozen=True)
class Masks:
    """Bits of a strided slice, one an axis: to the ends, taken whole, new, gone."""

    begin: int
    end: int
    ellipsis: int
    new_axis: int
    shrink_axis: int


def strided(b: Builder, x: Node, begin: Ints, end: Ints, steps: Ints, masks: Masks) -> Node:
    """A strided slice of TensorFlow's kind.

    Raises:
      Refusal: it has new axes, or an ellipsis.
    """
    if masks.ellipsis or masks.new_axis:
        raise Refusal("it has new axes, or an ellipsis; write them as a reshape")
    gone: list[int] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        size, bit = x.aval.shape[axis], 1 << axis
        if masks.shrink_axis & bit:
            at = first + size if first < 0 else first
            x = b.slice(x, axis, at, at + 1)
            gone.append(axis)
            continue
        low, high = (None if masks.begin & bit else first, None if masks.end & bit else last)
        if step < 0:
            places = range(*slice(low, high, step).indices(size))
            few(len(places))
            x = b("Gather", x, b.constant(list(places), INT64), axis=axis)
            continue
        start = 0 if low is None else clipped(low, size)
        x = b.slice(x, axis, start, size if high is None else clipped(high, size), step)
    return b.reshape(x, [n for axis, n in enumerate(x.aval.shape) if axis not in gone])


def mirrored(b: Builder, x: Node, low: Ints, high: Ints, mode: str) -> Node:
    """``x`` with its own elements around it; ``mode`` is NumPy's."""
    for axis, ends in enumerate(zip(low, high, strict=True)):
        if any(ends):
            few(x.aval.shape[axis] + sum(map(abs, ends)))
            own = np.arange(x.aval.shape[axis])
            at = {"reflect": lambda o, e: np.pad(o, e, mode="reflect"),
                  "symmetric": lambda o, e: np.pad(o, e, mode="symmetric"),
                  "edge": lambda o, e: np.pad(o, e, mode="edge"),
                  "wrap": lambda o, e: np.pad(o, e, mode="wrap")}[mode](own, ends)  # fmt: skip
            x = b("Gather", x, b.constant(at, INT64), axis=axis)
    return x


def prelu(b: Builder, x: Node, slope: Node) -> Node:
    """Below 0 times a slope, one for each channel or one for all."""
    rank = len(x.aval.shape)
    if len(slope.aval.shape) == 1 and slope.aval.size > 1 and rank > 1:
        slope = b.reshape(slope, (slope.aval.size, *(1,) * (rank - 2)))
    return b.where(b.compare("Less", x, 0), b.mul(x, slope), x)


def same_padding(size: int, reach: int, stride: int) -> tuple[int, int]:
    """Padding so that every stride has a window."""
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def convolved_back(
    b: Builder, x: Node, kernel: Node, wanted: Ints, cut: Pads, strides: Ints, dilation: Ints,
    groups: int,
) -> Node:  # fmt: skip
    """The gradient of a convolution by its input, whose sizes are ``wanted``.

    Args:
      cut: the padding of that convolution.
    """
    sizes = zip(x.aval.shape[2:], strides, kernel.aval.shape[2:], dilation, strict=True)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in sizes]
    ends = zip(cut, wanted, full, strict=True)
    pads = tuple((-low, goal - whole + low) for (low, _), goal, whole in ends)
    return b("ConvTranspose", x, kernel, strides=tuple(strides), pads=pads,
             dilation=tuple(dilation), groups=groups)  # fmt: skip


def layer_norm(
    b: Builder, x: Node, scale: Node, bias: Node, begin: int, first: int, epsilon: float
) -> Node:
    """Over the axes from ``begin`` on; scale and bias are those from ``first`` on."""
    last = len(x.aval.shape) - 1
    if begin == first == last:
        return b("LayerNorm", x, scale, bias, epsilon=epsilon)
    normal = b("Standardize", x, axes=tuple(range(begin, last + 1)), epsilon=epsilon)
    return b.add(b.mul(normal, scale), bias)


def response_normalized(
    b: Builder, x: Node, size: int, scale: float, bias: float, beta: float
) -> Node:
    """Each element over a power of what ``size`` channels around it sum up to."""
    rank, channels = len(x.aval.shape), x.aval.shape[1]
    low, high = [0] * rank, [0] * rank
    before = (size - 1) // 2
    low[1], high[1] = min(before, channels), min(size - 1 - before, channels)  # the rest is 0
    few(channels, most=MOST_PARTS)
    square = b.pad(b("Square", x), low, high, b.number(0, x))
    total = b.slice(square, 1, 0, channels)
    for start in range(1, low[1] + high[1] + 1):
        total = b.add(total, b.slice(square, 1, start, start + channels))
    return b.div(x, b("Pow", b.add(b.mul(total, scale), bias), b.number(beta, x)))


def resized(
    b: Builder, x: Node, sizes: Ints, *, nearest: bool, corners: bool, centers: bool
) -> Node:
    """The last two axes by their nearest elements, or by a matrix of weights, axis by axis.

    Args:
      corners: the first and last elements stay where they are.
      centers: elements are in the middle of their places.
    """
    rank = len(x.aval.shape)
    for axis, new in zip((rank - 2, rank - 1), sizes, strict=True):
        old = x.aval.shape[axis]
        few(old, new)
        at = np.arange(new, dtype=np.float64)
        if corners:
            places = at * (old - 1) / max(new - 1, 1)
        else:
            places = (at + 0.5) * old / new - 0.5 if centers else at * old / new
        if nearest:
            near = np.floor(places + 0.5) if corners else np.floor(places + 0.5 * bool(centers))
            index = np.clip(near, 0, old - 1).astype(np.int64)
            x = b("Gather", x, b.constant(index, INT64), axis=axis)
            continue
        places = np.clip(places, 0, old - 1)
        below = np.floor(places).astype(np.int64)
        matrix = np.zeros((old, new))
        np.add.at(matrix, (below, np.arange(new)), 1 - (places - below))
        np.add.at(matrix, (np.minimum(below + 1, old - 1), np.arange(new)), places - below)
        part = b.constant(matrix.astype(x.aval.dtype))
        x = b.moved(b.matmul(b.moved(x, axis, rank - 1), part), rank - 1, axis)
    return x
