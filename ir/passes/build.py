"""Short forms to write rewrites with: nodes that remember where they come from."""

from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np

from fnckpt.ir.attributes import Ints
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import Attr, CNode, Constant, Node, Parameter, aval_of
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.sizes import all_known, is_known

BOOL, UINT8 = np.dtype(bool), np.dtype(np.uint8)
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
FLOAT16, FLOAT32 = np.dtype(np.float16), np.dtype(np.float32)
FLOAT64, BFLOAT16 = np.dtype(np.float64), np.dtype(ml_dtypes.bfloat16)


VALUES = {  # which inputs hold the values; all of them where nothing is said
    "DynamicSlice": (0,), "DynamicUpdateSlice": (0, 1), "Gather": (0,), "GatherElements": (0,),
    "GatherNd": (0,), "ScatterNd": (0, 2), "Select": (1, 2),
}  # fmt: skip


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

    def vector(self, values: Ints, dtype: np.dtype = INT32) -> Node:
        """A constant vector."""
        return constant(np.asarray(values, dtype))

    def cast(self, x: Node, dtype: np.dtype) -> Node:
        """``x`` as ``dtype``, at once where it is known."""
        if x.aval.dtype == dtype:
            return x
        return mapped(x, lambda value: cast_value(value, dtype)) or self("Cast", x, dtype=dtype)

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
        rank, sizes = len(x.aval.shape), x.aval.shape
        if (start, limit, stride) == (0, sizes[axis], 1):
            return x
        starts, limits, strides = [0] * rank, list(sizes), [1] * rank
        starts[axis], limits[axis], strides[axis] = start, limit, stride
        return self("Slice", x, start=tuple(starts), limit=tuple(limits), strides=tuple(strides))

    def pad(self, x: Node, low: Ints, high: Ints, fill: float = 0) -> Node:
        """``x`` with a number around it."""
        if not any(low) and not any(high):
            return x
        return self("Pad", x, self.number(fill, x), low=low, high=high)

    def coordinates(self, shape: Ints, dtype: np.dtype) -> Node:
        """The place of each element of ``shape``, along a last axis; sizes may be symbolic."""
        if all_known(shape):
            return Constant(np.moveaxis(np.indices(shape), 0, -1).astype(dtype))
        return self("Concat", *(self._along(shape, i, dtype) for i in range(len(shape))),
                    axis=len(shape))  # fmt: skip

    def _along(self, shape: Ints, axis: int, dtype: np.dtype) -> Node:
        size = shape[axis]
        count = self.vector(tuple(range(size)), dtype) if is_known(size) else self(
            "Range", size=size, dtype=dtype
        )  # fmt: skip
        column = self.reshape(count, tuple(size if i == axis else 1 for i in range(len(shape) + 1)))
        return self.broadcast(column, (*shape, 1))

    def where(self, condition: Node, x: Node, y: Node) -> Node:
        """``x`` where ``condition``, else ``y``."""
        return self("Select", condition, x, y)


def cast_value(value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """As Cast means it."""
    node = apply("Cast", Constant(value), dtype=dtype)
    result = compute(node, [value])
    assert isinstance(result, np.ndarray)
    return result


def through(node: CNode, dtype: np.dtype) -> Node:
    """``node`` computed on ``dtype``; a result of the values' own type is cast back to it."""
    build = Build(node)
    places = VALUES.get(node.op, tuple(range(len(node.inputs))))
    own = node.inputs[places[0]].aval.dtype
    inputs = [
        build.cast(each, dtype) if place in places else each
        for place, each in enumerate(node.inputs)
    ]
    result = build(node.op, *inputs, **node.attrs)
    return build.cast(result, own) if node.aval.dtype == own else result
