"""Attributes of a node as the types that they are, and short forms to write rewrites with."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import Attr, CNode, Constant, Node, Parameter, aval_of
from fnckpt.ir.operators import apply, constant

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def _integer(value: Attr) -> int:
    assert isinstance(value, int | np.integer), value
    return int(value)


def integer(node: CNode, name: str) -> int:
    """An integer attribute."""
    return _integer(node.attrs[name])


def flag(node: CNode, name: str) -> bool:
    """A boolean attribute."""
    return bool(node.attrs[name])


def number(node: CNode, name: str) -> float:
    """A float attribute."""
    value = node.attrs[name]
    assert isinstance(value, int | float)
    return float(value)


def ints(node: CNode, name: str) -> Ints:
    """A tuple attribute of integers."""
    value = node.attrs[name]
    assert isinstance(value, tuple)
    return tuple(map(_integer, value))


def pairs(node: CNode, name: str) -> Pads:
    """A tuple attribute of pairs of integers."""
    value = node.attrs[name]
    assert isinstance(value, tuple)
    rows: list[tuple[int, int]] = []
    for row in value:
        assert isinstance(row, tuple)
        low, high = row
        rows.append((_integer(low), _integer(high)))
    return tuple(rows)


def dtype_of(node: CNode) -> np.dtype:
    """The attribute ``dtype``."""
    value = node.attrs["dtype"]
    return value if isinstance(value, np.dtype) else np.dtype(str(value))


def rank(node: Node) -> int:
    """The number of axes."""
    return len(node.aval.shape)


def known(node: Node) -> np.ndarray | None:
    """The value of a constant or a weight."""
    return None if isinstance(node, CNode) else node.value


def mapped(node: Node, function: Callable[[np.ndarray], np.ndarray]) -> Node | None:
    """``function`` of a constant or a weight, which keeps its name; None for what is computed."""
    value = known(node)
    if value is None:
        return None
    result = function(value)
    if isinstance(node, Parameter):
        return replace(node, aval=aval_of(result), value=result)
    return Constant(result)


class Build:
    """Makes nodes that carry the origin of ``node``, which they replace."""

    def __init__(self, node: CNode) -> None:
        self.origin = node.origin

    def __call__(self, op: str, *inputs: Node, **attrs: Attr) -> CNode:
        return apply(op, *inputs, origin=self.origin, **attrs)

    def number(self, value: float, like: Node) -> Node:
        """A scalar constant of the type of ``like``."""
        return constant(np.asarray(value).astype(like.aval.dtype))

    def cast(self, x: Node, dtype: np.dtype) -> Node:
        """``x`` as ``dtype``, at once where it is a constant."""
        if x.aval.dtype == dtype:
            return x
        node = self("Cast", x, dtype=dtype)
        if not isinstance(x, Constant):
            return node
        value = compute(node, [x.value])
        assert isinstance(value, np.ndarray)
        return Constant(value)

    def reshape(self, x: Node, shape: Ints) -> Node:
        """``x`` as ``shape``, at once where it is known."""
        if x.aval.shape == shape:
            return x
        return mapped(x, lambda value: value.reshape(shape)) or self("Reshape", x, shape=shape)

    def transpose(self, x: Node, perm: Ints) -> Node:
        """``x`` transposed, at once where it is known."""
        if perm == tuple(range(len(perm))):
            return x
        return mapped(x, lambda value: value.transpose(perm)) or self("Transpose", x, perm=perm)

    def broadcast(self, x: Node, shape: Ints) -> Node:
        """``x`` repeated to ``shape``."""
        return x if x.aval.shape == shape else self("BroadcastTo", x, shape=shape)

    def slice(self, x: Node, axis: int, start: int, limit: int, stride: int = 1) -> Node:
        """A part of ``x`` along one axis."""
        sizes = x.aval.shape
        if (start, limit, stride) == (0, sizes[axis], 1):
            return x
        starts, limits, strides = [0] * len(sizes), list(sizes), [1] * len(sizes)
        starts[axis], limits[axis], strides[axis] = start, limit, stride
        return self("Slice", x, start=tuple(starts), limit=tuple(limits), strides=tuple(strides))

    def pad(self, x: Node, low: Ints, high: Ints, fill: float = 0) -> Node:
        """``x`` with a number around it."""
        if not any(low) and not any(high):
            return x
        return self("Pad", x, self.number(fill, x), low=low, high=high)

    def where(self, condition: Node, x: Node, y: Node) -> Node:
        """``x`` where ``condition``, else ``y``."""
        return self("Select", condition, x, y)
