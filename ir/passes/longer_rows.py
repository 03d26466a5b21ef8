"""Elementwise work with a constant that repeats over a short last axis: the constant in full.

``x - mean`` of ``[n, 96, 96, 3]`` and ``[3]`` is work on rows of 3, each with a beginning and an
end of its own. With the mean as ``[96, 3]`` a runtime walks over rows of 288. So it does where the
constant has one number for each pixel, ``[96, 96, 1]``, and is ``[96, 96, 3]`` instead.
"""

from collections.abc import Callable
from math import prod

import numpy as np

from fnckpt.ir.attributes import Ints
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import is_elementwise
from fnckpt.ir.passes.build import Build
from fnckpt.ir.sizes import all_known

SHORT = 8  # the longest last axis that is one
ALWAYS = 64 << 10  # bytes of a constant in full
MOST = 1 << 20, 8  # bytes, and times what it was, of a larger one

Made = Callable[[CNode], CNode]


def longer_rows(node: CNode) -> Made | None:
    """How ``node`` is computed with longer rows; None where it has no constant that repeats."""
    if not is_elementwise(node):
        return None
    shape = node.aval.shape
    if len(shape) < 2 or not all_known(shape[-2:]):
        return None
    if not 1 < shape[-1] <= SHORT or shape[-2] == 1:
        return None
    if not all(each.aval.shape in (shape, ()) or _known(each) for each in node.inputs):
        return None
    repeated = [each for each in node.inputs if _known(each) and _repeats(each, shape)]
    if not repeated or not all(_is_small(each, shape) for each in repeated):
        return None

    def made(node: CNode) -> CNode:
        inputs = [_full(each, shape) for each in node.inputs]
        return Build(node)(node.op, *inputs, **node.attrs)

    return made


def _known(node: Node) -> bool:
    return isinstance(node, Constant)


def _repeats(node: Node, shape: Ints) -> bool:
    """Whether a constant repeats along the last axis or over the one before, not over both."""
    return widened(node, len(shape))[-2:] not in (shape[-2:], (1, 1))


def widened(node: Node, rank: int) -> Ints:
    """The shape with ones in front, up to ``rank`` axes."""
    return (1,) * (rank - len(node.aval.shape)) + node.aval.shape


def _whole(node: Node, shape: Ints) -> Ints:
    """The constant's shape with its last two axes in full."""
    return (*widened(node, len(shape))[:-2], *shape[-2:])


def _is_small(node: Node, shape: Ints) -> bool:
    count = prod(_whole(node, shape))
    size, (most, times) = count * node.aval.dtype.itemsize, MOST
    return size <= ALWAYS or (size <= most and count <= times * node.aval.size)


def _full(node: Node, shape: Ints) -> Node:
    if not isinstance(node, Constant) or not _repeats(node, shape):
        return node
    value = node.value.reshape(widened(node, len(shape)))
    return Constant(np.ascontiguousarray(np.broadcast_to(value, _whole(node, shape))))
