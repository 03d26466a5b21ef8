"""Rewrites for operators that move elements, index, reduce and scan."""

import numpy as np

from fnckpt.ir.attributes import flag, integer, ints
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.places import update_slice_by_rows
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of


def drop_reduction_of_nothing(node: CNode) -> Node | None:
    """Without axes there is nothing to reduce; the kernels would reduce all."""
    return node.inputs[0] if not ints(node, "axes") else None


@rewrites("Concat")
def drop_concat_of_one(node: CNode) -> Node | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


def reverse_around(node: CNode) -> Node | None:
    """Cummax and Cummin know one direction."""
    (x,), build, axis = node.inputs, Build(node), integer(node, "axis")
    if not flag(node, "reverse"):
        return None
    forward = build(node.op, build("Reverse", x, axes=(axis,)), axis=axis, reverse=False)
    return build("Reverse", forward, axes=(axis,))


@rewrites("DynamicSlice")
def slice_by_gathers(node: CNode) -> Node:
    """One Gather for each axis that is not taken whole."""
    (x, starts), build = node.inputs, Build(node)
    for axis, size in enumerate(ints(node, "sizes")):
        if size == x.aval.shape[axis]:
            continue
        start = _element(build, starts, axis)
        places = Constant(np.arange(size, dtype=starts.aval.dtype))
        at = start if size == 1 else build("Add", start, places)
        x = build("Gather", x, at, axis=axis)
    return x


def _element(build: Build, vector: Node, place: int) -> Node:
    """One element of a vector, as a vector; what a vector is joined of need not be joined."""
    parts = vector.inputs if isinstance(vector, CNode) and vector.op == "Concat" else ()
    if parts and all(part.aval.size == 1 for part in parts):
        return parts[place]
    return build.slice(vector, 0, place, place + 1)


@rewrites("ScatterNd")
def scatter_rows(node: CNode) -> Node | None:
    """The kernels want several places; one place is a list of one."""
    (x, indices, updates), build = node.inputs, Build(node)
    if len(indices.aval.shape) != 1:
        return None
    rows = (build.reshape(each, (1, *each.aval.shape)) for each in (indices, updates))
    return build("ScatterNd", x, *rows, **node.attrs)


def _in_range(build: Build, y: Node, bits: int) -> Node:
    """Whether a shift is by 0 to ``bits - 1``."""
    below = build("Less", y, build.number(bits, y))
    if y.aval.dtype.kind == "u":
        return below
    return build("LogicalAnd", below, build("GreaterEqual", y, build.number(0, y)))


def _is_masked(y: Node) -> bool:
    """Whether a shift is known to be in range: a constant, or the low bits of something."""
    most = y.aval.dtype.itemsize * 8 - 1
    value = known(y)
    if value is not None:
        return bool(np.all((value >= 0) & (value <= most)))
    if not isinstance(y, CNode) or y.op != "BitwiseAnd":
        return False
    mask = known(y.inputs[1])
    return mask is not None and mask.size == 1 and int(mask.reshape(-1)[0]) == most


def shift_in_range(node: CNode) -> Node | None:
    """A shift by all bits or more leaves nothing, or the sign; the kernels take it modulo."""
    (x, y), build = node.inputs, Build(node)
    if _is_masked(y):
        return None
    bits = x.aval.dtype.itemsize * 8
    most = build.number(bits - 1, y)
    shifted = build(node.op, x, build("BitwiseAnd", y, most))
    if node.op == "ShiftRightArithmetic":
        beyond: Node = build(node.op, x, most)
    else:
        beyond = build.number(0, x)
    return build.where(_in_range(build, y, bits), shifted, beyond)


@rewrites("ShiftRightArithmetic")
def shift_unsigned_as_signed(node: CNode) -> Node | None:
    """The sign is the first bit, whatever the dtype calls it."""
    (x, y), build = node.inputs, Build(node)
    if x.aval.dtype.kind != "u":
        return None
    signed = np.dtype(x.aval.dtype.name.removeprefix("u"))
    shifted = build(node.op, build.cast(x, signed), build.cast(y, signed))
    return build.cast(shifted, x.aval.dtype)


@rewrites("ShiftRightLogical")
def shift_without_sign(node: CNode) -> Node | None:
    """A first step drops the sign; then signed and unsigned shifts are the same."""
    (x, y), build = node.inputs, Build(node)
    if not _is_masked(y):
        return None
    signed = np.dtype(f"int{x.aval.dtype.itemsize * 8}")
    a, b = build.cast(x, signed), build.cast(y, signed)
    one, zero = build.number(1, b), build.number(0, b)
    half = build("BitwiseAnd", build("ShiftRightArithmetic", a, one),
                 build.number(np.iinfo(signed).max, a))  # fmt: skip
    count = scalar_of(y)
    if count:
        one_less = build.number(count - 1, b)
        return build.cast(build("ShiftRightArithmetic", half, one_less), x.aval.dtype)
    rest = build("Maximum", zero, build("Sub", b, one))
    low = build("BitwiseAnd", rest, build.number(np.iinfo(signed).bits - 1, b))
    shifted = build.where(build("Equal", b, zero), a, build("ShiftRightArithmetic", half, low))
    return build.cast(shifted, x.aval.dtype)


RULES: tuple[Rule, ...] = (
    scatter_rows,
    *(Rule(Op(op), drop_reduction_of_nothing) for op in (*REDUCTIONS, "Reverse")),
    drop_concat_of_one,
    Rule(Op("CumMax"), reverse_around),
    Rule(Op("CumMin"), reverse_around),
    slice_by_gathers,
    update_slice_by_rows,
    Rule(Op("ShiftLeft"), shift_in_range),
    Rule(Op("ShiftRightLogical"), shift_in_range),
    shift_unsigned_as_signed,
    Rule(Op("ShiftRightArithmetic"), shift_in_range),
    shift_without_sign,
)
