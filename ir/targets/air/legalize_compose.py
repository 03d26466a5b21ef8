"""Rewrites for operators that GE r1.1 has no type for, in types that it has."""

import math

import numpy as np

from fnckpt.ir.attributes import integer, ints, number
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.passes.build import (
    BOOL,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    Build,
    known,
    mapped,
    through,
)
from fnckpt.ir.passes.places import update_slice_by_rows
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of
from fnckpt.ir.recursion import bounded
from fnckpt.ir.targets.air.legalize_types import SIGNED

MOST_COMPARED = 1 << 24  # elements of the mask that stands for a scatter


@rewrites("Silu")
def compose_silu(node: CNode) -> Node:
    """``x * sigmoid(x)``; Swish is newer than r1.1."""
    (x,), build = node.inputs, Build(node)
    return build("Mul", x, build("Sigmoid", x))


@rewrites("Gelu")
def compose_gelu(node: CNode) -> Node | None:
    """The exact form, ``x / 2 * erfc(-x / sqrt(2))``; GE's Gelu is the other, and has no double."""
    (x,), build = node.inputs, Build(node)
    half = build("Mul", x, build.number(0.5, x))
    if not node.attrs["approximate"]:
        scaled = build("Mul", x, build.number(-math.sqrt(0.5), x))
        return build("Mul", half, build("Erfc", scaled))
    if x.aval.dtype != FLOAT64:
        return None
    cube = build("Mul", build("Square", x), build("Mul", x, build.number(0.044715, x)))
    inner = build("Mul", build("Add", x, cube), build.number(math.sqrt(2 / math.pi), x))
    return build("Mul", half, build("Add", build("Tanh", inner), build.number(1, x)))


@rewrites("Cbrt")
def compose_cbrt(node: CNode) -> Node:
    """``sign(x) * |x| ** (1 / 3)``."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype == FLOAT16:
        return through(node, FLOAT32)
    root = build("Pow", build("Abs", x), build.number(1 / 3, x))
    return build("Mul", build("Sign", x), root)


@rewrites("LeakyRelu")
def compose_leaky_relu(node: CNode) -> Node | None:
    """In double, which the attribute's float32 would spoil."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype != FLOAT64:
        return None
    slope = build("Mul", x, build.number(number(node, "alpha"), x))
    return build("Select", build("GreaterEqual", x, build.number(0, x)), x, slope)


@rewrites("Elu")
def compose_elu(node: CNode) -> Node | None:
    """In double, which the attribute's float32 would spoil."""
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype != FLOAT64:
        return None
    zero = build.number(0, x)
    negative = build("Expm1", build("Minimum", x, zero))
    curve = build("Mul", negative, build.number(number(node, "alpha"), x))
    return build("Select", build("Greater", x, zero), x, curve)


@rewrites("LayerNorm")
def compose_layer_norm(node: CNode) -> Node | None:
    """In double, which GE's LayerNorm lacks."""
    (x, scale, bias), build = node.inputs, Build(node)
    if x.aval.dtype != FLOAT64:
        return None
    last = {"axes": (len(x.aval.shape) - 1,), "keepdims": True}
    centred = build("Sub", x, build("ReduceMean", x, **last))
    variance = build("ReduceMean", build("Square", centred), **last)
    epsilon = build.number(number(node, "epsilon"), x)
    normal = build("Mul", centred, build("Rsqrt", build("Add", variance, epsilon)))
    if scalar_of(scale) != 1:
        normal = build("Mul", normal, scale)
    return normal if scalar_of(bias) == 0 else build("Add", normal, bias)


@bounded(otherwise=False)
def _never(node: Node, value: int) -> bool:
    """Whether ``node`` is nowhere ``value``: a constant, or a choice that replaces it."""
    if isinstance(node, Constant):
        return not np.any(node.value == value)
    if not isinstance(node, CNode) or node.op != "Select":
        return False
    condition, kept, instead = node.inputs
    return (
        isinstance(condition, CNode)
        and condition.op == "NotEqual"
        and condition.inputs[0] is kept
        and scalar_of(condition.inputs[1]) == value
        and _never(instead, value)
    )


def divide_by_no_zero(node: CNode) -> Node | None:
    """Division by zero gives -1 and leaves all, as XLA says; GE says nothing."""
    (x, y), build = node.inputs, Build(node)
    if y.aval.dtype.kind not in "iu" or _never(y, 0):
        return None
    there = build("NotEqual", y, build.number(0, y))
    safe = build("Select", there, y, build.number(1, y))
    instead = build.number(-1, x) if node.op == "Div" else x
    return build("Select", there, build(node.op, x, safe), instead)


@rewrites("Pow")
def power_of_integers(node: CNode) -> Node | None:
    """A negative exponent counts as 0."""
    (x, y), build = node.inputs, Build(node)
    value = known(y)
    if y.aval.dtype.kind not in "iu" or (value is not None and np.all(value >= 0)):
        return None
    if value is not None:
        return build("Pow", x, mapped(y, lambda value: np.maximum(value, 0)) or y)
    if y.aval.dtype.kind == "u" or _is_clamped(y):
        return None
    return build("Pow", x, build("Maximum", y, build.number(0, y)))


def _is_clamped(node: Node) -> bool:
    """Whether this is the greater of something and a constant that is not negative."""
    if not isinstance(node, CNode) or node.op != "Maximum":
        return False
    value = known(node.inputs[1])
    return value is not None and bool(np.all(value >= 0))


def _in_range(build: Build, y: Node, bits: int) -> Node:
    """Whether a shift is by 0 to ``bits - 1``."""
    below = build("Less", y, build.number(bits, y))
    if y.aval.dtype.kind == "u":
        return below
    return build("LogicalAnd", below, build("GreaterEqual", y, build.number(0, y)))


@rewrites("ShiftLeft")
def shift_left_as_product(node: CNode) -> Node:
    """``x * 2 ** y``, the power looked up; LeftShift is newer than r1.1."""
    (x, y), build = node.inputs, Build(node)
    dtype, bits = x.aval.dtype, x.aval.dtype.itemsize * 8
    unsigned = np.dtype(f"uint{bits}")
    powers = np.append(np.left_shift(unsigned.type(1), np.arange(bits, dtype=unsigned)), 0)
    table = powers.astype(unsigned).view(dtype)
    value = known(y)
    if value is not None:
        place = np.minimum(value.view(unsigned), bits).astype(np.int64)
        return build("Mul", x, Constant(table[place]))
    clamped = build("Select", _in_range(build, y, bits), y, build.number(bits, y))
    place = build.cast(clamped, INT32)
    return build("Mul", x, build("Gather", Constant(table), place, axis=0))


def _shift_is_safe(y: Node) -> bool:
    """Whether the shift is known to be in range: a constant, or a choice that makes it so."""
    bits = y.aval.dtype.itemsize * 8
    value = known(y)
    if value is not None:
        return bool(np.all((value >= 0) & (value < bits)))
    return (
        isinstance(y, CNode)
        and y.op == "Select"
        and known(y.inputs[2]) is not None
        and isinstance(y.inputs[0], CNode)
        and y.inputs[0].op in ("Less", "LogicalAnd")
        and _compares(y.inputs[0], y.inputs[1])
    )


@bounded(otherwise=False)
def _compares(condition: CNode, value: Node) -> bool:
    if condition.op == "LogicalAnd":
        return all(isinstance(n, CNode) and _compares(n, value) for n in condition.inputs)
    return condition.inputs[0] is value and condition.op in ("Less", "GreaterEqual")


def shift_right_in_range(node: CNode) -> Node | None:
    """A shift by all bits or more leaves the sign, or nothing; GE leaves it open.

    GE's RightShift keeps the sign of signed integers and is logical on unsigned ones.
    """
    (x, y), build = node.inputs, Build(node)
    dtype, logical = x.aval.dtype, node.op == "ShiftRightLogical"
    if dtype.kind == ("i" if logical else "u"):
        unsigned = np.dtype(f"uint{dtype.itemsize * 8}")
        return through(node, unsigned if logical else SIGNED[unsigned])
    if _shift_is_safe(y):
        return None
    bits = dtype.itemsize * 8
    inside = _in_range(build, y, bits)
    most = build("Select", inside, y, build.number(bits - 1, y))
    shifted = build(node.op, x, most)
    return build("Select", inside, shifted, build.number(0, x)) if logical else shifted


def cumulate_by_doubling(node: CNode) -> Node:
    """Each step takes in twice as many elements; an element taken twice changes nothing."""
    (x,), build = node.inputs, Build(node)
    axis, reverse = integer(node, "axis"), bool(node.attrs["reverse"])
    op = {"CumMax": "Maximum", "CumMin": "Minimum"}[node.op]
    size, shift, result = x.aval.shape[axis], 1, x
    while shift < size:
        moved = (
            (build.slice(result, axis, shift, size), build.slice(result, axis, size - shift, size))
            if reverse
            else (build.slice(result, axis, 0, shift), build.slice(result, axis, 0, size - shift))
        )
        result = build(op, result, build("Concat", *moved, axis=axis))
        shift *= 2
    return result if result is not x else build("Identity", x)


@rewrites("GatherElements")
def gather_elements_flat(node: CNode) -> Node:
    """Along one axis of the flattened array: the place is the index times a step, plus a start."""
    (x, indices), build = node.inputs, Build(node)
    axis, shape = integer(node, "axis"), x.aval.shape
    steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
    start = np.zeros([1] * len(shape), np.int64)
    for i, size in enumerate(indices.aval.shape):
        if i != axis and shape[i] > 1:
            row = np.arange(size, dtype=np.int64) * steps[i]
            start = start + row.reshape([-1 if i == j else 1 for j in range(len(shape))])
    wide = INT32 if math.prod(shape) <= np.iinfo(np.int32).max else INT64
    place = build.cast(indices, wide)
    if steps[axis] != 1:
        place = build("Mul", place, build.number(steps[axis], place))
    if start.any():
        place = build("Add", place, Constant(start.astype(wide)))
    return build("Gather", build.reshape(x, (math.prod(shape),)), place, axis=0)


@rewrites("DynamicUpdateSlice")
def update_numbers_by_rows(node: CNode) -> Node | None:
    """Booleans are written otherwise."""
    return None if node.aval.dtype == BOOL else update_slice_by_rows.rewrite(node)


SCATTER_ADDS = ("float16", "float32", "int32", "int8", "uint8")
COMBINE = {"add": "Add", "mul": "Mul", "min": "Minimum", "max": "Maximum"}
REDUCE = {"add": "ReduceSum", "mul": "ReduceProd", "min": "ReduceMin", "max": "ReduceMax"}


@rewrites("ScatterNd")
def scatter_by_mask(node: CNode) -> Node | None:
    """Every update against every place: GE has no such scatter, or not of this type.

    ``[updates, places]`` booleans choose between an update and what changes nothing, and what is
    reduced over the updates is combined with ``x``.
    """
    (x, indices, updates), build = node.inputs, Build(node)
    reduction = str(node.attrs["reduction"])
    plain = reduction == "" or (reduction == "add" and x.aval.dtype.name in SCATTER_ADDS)
    if plain or x.aval.dtype == BOOL:
        return None
    depth = indices.aval.shape[-1]
    count, places = math.prod(indices.aval.shape[:-1]), math.prod(x.aval.shape[:depth])
    inner = math.prod(x.aval.shape[depth:])
    if count * places * inner > MOST_COMPARED:
        return None
    steps = [math.prod(x.aval.shape[i + 1 : depth]) for i in range(depth)]
    step = build.vector(tuple(steps), indices.aval.dtype)
    place = build(
        "ReduceSum", build("Mul", indices, step), axes=(indices_axis(indices),), keepdims=False
    )
    grid = Constant(np.arange(places, dtype=indices.aval.dtype).reshape(1, places, 1))
    meets = build("Equal", build.reshape(place, (count, 1, 1)), grid)
    least, greatest = least_and_greatest(x.aval.dtype)
    neutral = {"add": 0, "mul": 1, "min": greatest, "max": least}[reduction]
    masked = build(
        "Select",
        meets,
        build.reshape(updates, (count, 1, inner)),
        Constant(np.asarray(neutral, x.aval.dtype)),
    )
    reduced = build(REDUCE[reduction], masked, axes=(0,), keepdims=False)
    return build(COMBINE[reduction], x, build.reshape(reduced, x.aval.shape))


def indices_axis(indices: Node) -> int:
    """The last axis."""
    return len(indices.aval.shape) - 1


def drop_reduction_of_nothing(node: CNode) -> Node | None:
    """Without axes there is nothing to reduce; GE would reduce all."""
    return node.inputs[0] if not ints(node, "axes") else None


@rewrites("Reverse")
def drop_reverse_of_nothing(node: CNode) -> Node | None:
    return node.inputs[0] if not ints(node, "axes") else None


@rewrites("Concat")
def drop_concat_of_one(node: CNode) -> Node | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


@rewrites("Transpose")
def drop_transpose_of_nothing(node: CNode) -> Node | None:
    perm = ints(node, "perm")
    return node.inputs[0] if perm == tuple(range(len(perm))) else None


RULES: tuple[Rule, ...] = (
    compose_silu,
    compose_gelu,
    compose_cbrt,
    compose_leaky_relu,
    compose_elu,
    compose_layer_norm,
    Rule(Op("Div"), divide_by_no_zero),
    Rule(Op("Rem"), divide_by_no_zero),
    power_of_integers,
    shift_left_as_product,
    Rule(Op("ShiftRightArithmetic"), shift_right_in_range),
    Rule(Op("ShiftRightLogical"), shift_right_in_range),
    Rule(Op("CumMax"), cumulate_by_doubling),
    Rule(Op("CumMin"), cumulate_by_doubling),
    gather_elements_flat,
    update_numbers_by_rows,
    scatter_by_mask,
    *(
        Rule(Op(f"Reduce{name}"), drop_reduction_of_nothing)
        for name in ("All", "Any", "Max", "Mean", "Min", "Prod", "Sum")
    ),
    drop_reverse_of_nothing,
    drop_concat_of_one,
    drop_transpose_of_nothing,
)
