"""Rewrites for types that a GE type does not take: compute in one that it takes, equal results.

Three ways: unsigned integers as the signed ones of the same bits where only the bits matter,
small integers in a wider type where the value matters, booleans as bytes where they only move.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, item
from fnckpt.ir.passes.build import BOOL, FLOAT32, INT32, INT64, UINT8, VALUES, Build, through
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.targets.air.codes import OF_DTYPE
from fnckpt.ir.targets.air.emit import takes

SIGNED = {np.dtype(f"uint{n}"): np.dtype(f"int{n}") for n in (8, 16, 32, 64)}
WIDER = {np.dtype(n): INT32 for n in ("bool", "int8", "int16", "uint8", "uint16")} | {
    np.dtype(np.uint32): INT64
}
INDEX = {np.dtype(n): INT32 for n in ("int8", "int16", "uint8", "uint16")} | {
    np.dtype(np.uint32): INT64,
    np.dtype(np.uint64): INT64,
}

INDICES = {
    "DynamicSlice": 1, "DynamicUpdateSlice": 2, "Gather": 1, "GatherElements": 1, "GatherNd": 1,
    "ScatterNd": 1,
}  # fmt: skip


BOOL_AS_BYTE = (
    "ArgMax", "ArgMin", "BroadcastTo", "Concat", "DynamicSlice", "DynamicUpdateSlice", "Gather",
    "GatherElements", "GatherNd", "Greater", "GreaterEqual", "Less", "LessEqual", "Pad", "Select",
    "Slice", "Transpose",
)  # fmt: skip


def move_booleans_as_bytes(node: CNode) -> Node | None:
    """No moving type takes BOOL, but all take UINT8."""
    place = VALUES.get(node.op, (0,))[0]
    return through(node, UINT8) if node.inputs[place].aval.dtype == BOOL else None


@rewrites("ScatterNd")
def scatter_booleans_as_bytes(node: CNode) -> Node | None:
    """Writing moves; the greatest of booleans is that of their bytes."""
    return through(node, UINT8) if node.aval.dtype == BOOL else None


AS_SIGNED = {"Add": "Add", "Mul": "Mul", "Sub": "Sub", "Reverse": "ReverseV2D"}


def compute_unsigned_as_signed(node: CNode) -> Node | None:
    """Sums and products modulo a power of two have the same bits in both."""
    x = node.inputs[0]
    kind = AS_SIGNED[node.op]
    port = "x" if node.op == "Reverse" else "x1"
    if x.aval.dtype not in SIGNED or takes(kind, x, port):
        return None
    return through(node, SIGNED[x.aval.dtype])


IN_WIDER = {
    "Abs": "x", "Div": "x1", "Maximum": "x1", "Minimum": "x1", "Pow": "x1", "Rem": "x1",
    "Sign": "x",
}  # fmt: skip
KINDS = {"Div": "TruncateDiv", "Rem": "TruncateMod"}


def compute_in_wider(node: CNode) -> Node | None:
    """The value in the wider type, and what is left of it in the narrow one."""
    x = node.inputs[0]
    if x.aval.dtype not in WIDER:
        return None
    if node.op != "Pow" and takes(KINDS.get(node.op, node.op), x, IN_WIDER[node.op]):
        return None  # an exponent is made positive by Maximum, which has no narrow integers
    return through(node, WIDER[x.aval.dtype])


def index_with_int32_or_int64(node: CNode) -> Node | None:
    """Indices lie inside, so that they fit."""
    place = INDICES[node.op]
    indices = node.inputs[place]
    if indices.aval.dtype not in INDEX:
        return None
    inputs = list(node.inputs)
    inputs[place] = Build(node).cast(indices, INDEX[indices.aval.dtype])
    return replace(node, inputs=tuple(inputs))


@rewrites("Neg")
def negate_from_zero(node: CNode) -> Node | None:
    """``0 - x`` for the integers that Neg does not take."""
    (x,), build = node.inputs, Build(node)
    if takes("Neg", x) or x.aval.dtype.kind not in "iu":
        return None
    return build("Sub", build.number(0, x), x)


@rewrites("Abs")
def drop_abs_of_unsigned(node: CNode) -> Node | None:
    (x,) = node.inputs
    return x if x.aval.dtype.kind in "ub" else None


@rewrites("Sign")
def sign_of_unsigned(node: CNode) -> Node | None:
    """Zero or one."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype.kind != "u":
        return None
    return build.cast(build("NotEqual", x, build.number(0, x)), x.aval.dtype)


def drop_on_integers(node: CNode) -> Node | None:
    (x,) = node.inputs
    return x if x.aval.dtype.kind in "iub" else None


@rewrites("Relu")
def drop_relu_of_unsigned(node: CNode) -> Node | None:
    (x,) = node.inputs
    return x if x.aval.dtype.kind in "ub" else None


@rewrites("Square")
def square_as_product(node: CNode) -> Node | None:
    (x,) = node.inputs
    return None if takes("Square", x) else Build(node)("Mul", x, x)


LOGICAL = {
    "BitwiseAnd": "LogicalAnd", "BitwiseNot": "LogicalNot", "BitwiseOr": "LogicalOr",
    "BitwiseXor": "NotEqual", "Maximum": "LogicalOr", "Minimum": "LogicalAnd", "Mul": "LogicalAnd",
    "Add": "LogicalOr", "LogicalXor": "NotEqual",
}  # fmt: skip


def logic_of_booleans(node: CNode) -> Node | None:
    """Booleans have operators of their own."""
    if node.inputs[0].aval.dtype != BOOL:
        return None
    return Build(node)(LOGICAL[node.op], *node.inputs)


REDUCED_LOGIC = {
    "ReduceMax": "ReduceAny", "ReduceMin": "ReduceAll", "ReduceSum": "ReduceAny",
    "ReduceProd": "ReduceAll",
}  # fmt: skip


def reduce_booleans(node: CNode) -> Node | None:
    """The greatest of booleans is whether any is true."""
    if node.inputs[0].aval.dtype != BOOL:
        return None
    return Build(node)(REDUCED_LOGIC[node.op], *node.inputs, **node.attrs)


@rewrites("Equal")
def equal_as_not_unequal(node: CNode) -> Node | None:
    """Equal lacks the wider unsigned integers, NotEqual has them."""
    build = Build(node)
    if takes("Equal", node.inputs[0], "x1"):
        return None
    return build("LogicalNot", build("NotEqual", *node.inputs))


@rewrites("NotEqual")
def unequal_as_not_equal(node: CNode) -> Node | None:
    """NotEqual lacks BOOL, Equal has it."""
    build = Build(node)
    if takes("NotEqual", node.inputs[0], "x1"):
        return None
    return build("LogicalNot", build("Equal", *node.inputs))


def choose_by_comparison(node: CNode) -> Node | None:
    """The greater of UINT64, which no wider type holds."""
    x, y = node.inputs
    build = Build(node)
    if x.aval.dtype != np.uint64:
        return None
    return build("Select", build("Greater" if node.op == "Maximum" else "Less", x, y), x, y)


@rewrites("Cast")
def truth_is_not_zero(node: CNode) -> Node | None:
    """A number as BOOL: what Cast makes of one half is nowhere said."""
    (x,), build = node.inputs, Build(node)
    if node.aval.dtype != BOOL or x.aval.dtype == BOOL or x.aval.dtype not in OF_DTYPE:
        return None
    return build("NotEqual", x, build.number(0, x))


@rewrites("TupleGetItem")
def top_k_of_booleans(node: CNode) -> Node | None:
    """TopK of bytes; its first result is cast back."""
    (source,), index = node.inputs, node.attrs["index"]
    assert isinstance(source, CNode)
    assert isinstance(index, int)
    if source.op != "TopK" or source.inputs[0].aval.dtype != BOOL:
        return None
    build = Build(node)
    chosen = apply(
        "TopK", build.cast(source.inputs[0], UINT8), origin=source.origin, **source.attrs
    )
    return build.cast(item(chosen, index), node.aval.dtype)


def index_as_int32(node: CNode) -> Node | None:
    """ArgMax gives INT32 or INT64."""
    dtype = node.aval.dtype
    if dtype in (INT32, INT64):
        return None
    build = Build(node)
    return build.cast(build(node.op, *node.inputs, **(dict(node.attrs) | {"dtype": INT32})), dtype)


def classify_integers(node: CNode) -> Node | None:
    """An integer is finite; asked as a float, which it fits."""
    (x,), build = node.inputs, Build(node)
    return build(node.op, build.cast(x, FLOAT32)) if x.aval.dtype.kind in "iub" else None


def _each(ops: Iterable[str], rewrite: Callable[[CNode], Node | None]) -> tuple[Rule, ...]:
    return tuple(Rule(Op(op), rewrite) for op in ops)


RULES: tuple[Rule, ...] = (
    *_each(LOGICAL, logic_of_booleans),
    *_each(REDUCED_LOGIC, reduce_booleans),
    *_each(BOOL_AS_BYTE, move_booleans_as_bytes),
    scatter_booleans_as_bytes,
    drop_abs_of_unsigned,
    drop_relu_of_unsigned,
    sign_of_unsigned,
    *_each(("Ceil", "Floor", "Round"), drop_on_integers),
    *_each(("IsFinite", "IsInf", "IsNan"), classify_integers),
    *_each(("Maximum", "Minimum"), choose_by_comparison),
    *_each(AS_SIGNED, compute_unsigned_as_signed),
    *_each(IN_WIDER, compute_in_wider),
    *_each(INDICES, index_with_int32_or_int64),
    *_each(("ArgMax", "ArgMin"), index_as_int32),
    negate_from_zero,
    square_as_product,
    equal_as_not_unequal,
    unequal_as_not_equal,
    truth_is_not_zero,
    top_k_of_booleans,
)
