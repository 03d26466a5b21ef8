"""Rewrites for dtypes that a kernel does not take: compute in one that it takes, equal results."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import dtype_of, integer
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, constant, item
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.targets.mindir.kernels import INDEX_DTYPES, KERNELS, VALUES, Kernels, stand_in, takes

BOOL, UINT8 = np.dtype(bool), np.dtype(np.uint8)
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)

INDICES = {
    "DynamicSlice": 1, "DynamicUpdateSlice": 2, "Gather": 1, "GatherElements": 1, "GatherNd": 1,
    "ScatterNd": 1,
}  # fmt: skip


def through(node: CNode, dtype: np.dtype) -> Node:
    """``node`` computed on ``dtype``; a result of the values' own dtype is cast back to it."""
    build = Build(node)
    places = VALUES.get(node.op, tuple(range(len(node.inputs))))
    own = node.inputs[places[0]].aval.dtype
    inputs = [
        build.cast(each, dtype) if place in places else each
        for place, each in enumerate(node.inputs)
    ]
    result = build(node.op, *inputs, **node.attrs)
    return build.cast(result, own) if node.aval.dtype == own else result


def compute_in_stand_in(node: CNode) -> Node | None:
    """In a dtype that the kernel takes."""
    dtype = stand_in(node.op, node.inputs[VALUES.get(node.op, (0,))[0]].aval.dtype)
    return None if dtype is None else through(node, dtype)


def top_k_in_stand_in(node: CNode, kernels: Kernels = KERNELS) -> Node | None:
    """The first result of TopK is cast back."""
    (source,), build = node.inputs, Build(node)
    assert isinstance(source, CNode)
    if source.op != "TopK":
        return None
    (x,) = source.inputs
    dtype = stand_in("TopK", x.aval.dtype, kernels)
    if dtype is None:
        return None
    wide = apply("TopK", build.cast(x, dtype), origin=node.origin, **source.attrs)
    return build.cast(item(wide, integer(node, "index")), node.aval.dtype)


def index_with_known_dtype(node: CNode) -> Node | None:
    """Indices lie inside, so that they fit."""
    place = INDICES[node.op]
    indices = node.inputs[place]
    if indices.aval.dtype.name in INDEX_DTYPES:
        return None
    wide = INT32 if indices.aval.dtype.itemsize < 4 else INT64
    inputs = list(node.inputs)
    inputs[place] = Build(node).cast(indices, wide)
    return replace(node, inputs=tuple(inputs))


LOGICAL = {
    "BitwiseNot": "LogicalNot", "Maximum": "LogicalOr", "Minimum": "LogicalAnd",
    "Mul": "LogicalAnd", "Add": "LogicalOr",
}  # fmt: skip
REDUCED_LOGIC = {
    "ReduceMax": "ReduceAny", "ReduceMin": "ReduceAll", "ReduceSum": "ReduceAny",
    "ReduceProd": "ReduceAll",
}  # fmt: skip


def logic_of_booleans(node: CNode) -> Node | None:
    """Booleans have operators of their own."""
    if node.inputs[0].aval.dtype != BOOL:
        return None
    return Build(node)((LOGICAL | REDUCED_LOGIC)[node.op], *node.inputs, **node.attrs)


def drop_on_integers(node: CNode) -> Node | None:
    """Integers are whole."""
    (x,) = node.inputs
    return x if x.aval.dtype.kind in "iub" else None


def drop_on_unsigned(node: CNode) -> Node | None:
    """Not less than zero."""
    (x,) = node.inputs
    return x if x.aval.dtype.kind in "ub" else None


@rewrites("IsInf")
def no_integer_is_infinite(node: CNode) -> Node | None:
    (x,) = node.inputs
    return Build(node)("NotEqual", x, x) if x.aval.dtype.kind in "iub" else None


def is_clamped(node: Node, low: float, high: float) -> bool:
    """Whether this is ``Minimum(high, Maximum(low, ...))`` of constants."""
    for op, bound in (("Minimum", high), ("Maximum", low)):
        if not isinstance(node, CNode) or node.op != op:
            return False
        value = node.inputs[0]
        if isinstance(value, CNode) or value.value is None or value.value.size != 1:
            return False
        if float(value.value.reshape(-1)[0]) != bound:
            return False
        node = node.inputs[1]
    return True


@rewrites("Cast")
def saturate_cast(node: CNode) -> Node | None:
    """Floats that an integer cannot hold become its ends, NaN becomes 0; the kernel wraps."""
    (x,), build, dtype = node.inputs, Build(node), dtype_of(node)
    floats = x.aval.dtype.kind == "f" or x.aval.dtype.name == "bfloat16"
    if not floats or dtype.kind not in "iu":
        return None
    wide = FLOAT32 if dtype.itemsize < 4 and x.aval.dtype != FLOAT64 else FLOAT64
    info = np.iinfo(dtype)
    low, high = float(info.min), float(info.max)
    if dtype.itemsize == 8:  # the greatest float below 2 ** 63 or 2 ** 64
        high = float(np.nextafter(high, 0))
    if x.aval.dtype == wide and is_clamped(x, low, high):
        return None
    x = build.cast(x, wide)
    there = build.where(build("IsNan", x), build.number(0, x), x)
    bounded = build("Maximum", build.number(low, x), there)
    result = build("Cast", build("Minimum", build.number(high, x), bounded), dtype=dtype)
    if dtype.itemsize < 8:
        return result
    beyond = build("Greater", there, build.number(high, x))
    return build.where(beyond, constant(info.max, dtype), result)


def _each(ops: Iterable[str], rewrite: Callable[[CNode], Node | None]) -> tuple[Rule, ...]:
    return tuple(Rule(Op(op), rewrite) for op in ops)


RULES: tuple[Rule, ...] = (
    *_each(LOGICAL, logic_of_booleans),
    *_each(REDUCED_LOGIC, logic_of_booleans),
    *_each(("Ceil", "Floor", "Round"), drop_on_integers),
    *_each(("Abs", "Relu"), drop_on_unsigned),
    no_integer_is_infinite,
    *_each((op for op in KERNELS if op != "TopK"), compute_in_stand_in),
    Rule(Op("TupleGetItem"), top_k_in_stand_in),
    *_each(INDICES, index_with_known_dtype),
    saturate_cast,
)

__all__ = ["RULES", "takes", "through"]
