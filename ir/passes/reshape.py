"""Algebra of what only moves elements: reshapes, transposes, broadcasts, and weights under them."""

import math
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import integer
from fnckpt.ir.fold import ALWAYS_BYTES, folded
from fnckpt.ir.graph import Aval, CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS, apply
from fnckpt.ir.passes import nothing
from fnckpt.ir.passes.axes import groups
from fnckpt.ir.passes.build import VALUES
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, Weight, rewrites
from fnckpt.ir.sizes import all_known, broadcast_shapes

Ints = tuple[int, ...]

x = Any_("x")


def reshaped(x: Node, shape: Ints, like: CNode) -> Node:
    """``x`` as ``shape``, made where ``like`` was."""
    if x.aval.shape == shape:
        return x
    return apply("Reshape", x, origin=like.origin, shape=shape)


def transposed(x: Node, perm: Ints, like: CNode) -> Node:
    """``x`` with its axes as ``perm``, made where ``like`` was; a reshape where that is enough."""
    if perm == tuple(range(len(perm))):
        return x
    if keeps_order(x.aval.shape, perm):
        return reshaped(x, tuple(x.aval.shape[p] for p in perm), like)
    return apply("Transpose", x, origin=like.origin, perm=perm)


def keeps_order(shape: Ints, perm: Ints) -> bool:
    """Whether a transpose moves only axes of one element, so that the elements stay in order."""
    moved = [p for p in perm if shape[p] != 1]
    return moved == sorted(moved)


def inverse(perm: Ints) -> Ints:
    """The permutation that undoes ``perm``."""
    return tuple(np.argsort(perm).tolist())


@rewrites(Op("Reshape", Op("Reshape", x, users=0), attrs={"shape": "shape"}))
def merge_reshapes(root: CNode, x: Node, shape: Ints) -> Node:
    """reshape(reshape(x, s), t) is reshape(x, t)."""
    return reshaped(x, shape, root)


@rewrites(Op("Reshape", x, attrs={"shape": "shape"}))
def drop_reshape(root: CNode, x: Node, shape: Ints) -> Node | None:
    """reshape(x, shape of x) is x."""
    return x if x.aval.shape == shape else None


@rewrites(
    Op("Transpose", Op("Transpose", x, attrs={"perm": "inner"}, users=0), attrs={"perm": "outer"})
)
def merge_transposes(root: CNode, x: Node, inner: Ints, outer: Ints) -> Node:
    """transpose(transpose(x, p), q) is transpose(x, [p[i] for i in q])."""
    return transposed(x, tuple(inner[i] for i in outer), root)


@rewrites(Op("Transpose", x, attrs={"perm": "perm"}))
def drop_transpose(root: CNode, x: Node, perm: Ints) -> Node | None:
    """A transpose that moves only axes of one element is a reshape."""
    return transposed(x, perm, root) if keeps_order(x.aval.shape, perm) else None


@rewrites(Op("BroadcastTo", x, attrs={"shape": "shape"}))
def drop_broadcast(root: CNode, x: Node, shape: Ints) -> Node | None:
    """broadcast(x, shape of x) is x."""
    return x if x.aval.shape == shape else None


@rewrites(Op("Slice", x))
def drop_slice(root: CNode, x: Node) -> Node | None:
    """x[:] is x."""
    return x if x.aval.shape == root.aval.shape else None


@rewrites(Op("BroadcastTo", Op("BroadcastTo", x, users=0), attrs={"shape": "shape"}))
def merge_broadcasts(root: CNode, x: Node, shape: Ints) -> Node:
    """broadcast(broadcast(x, s), t) is broadcast(x, t)."""
    return apply("BroadcastTo", x, origin=root.origin, shape=shape)


@rewrites("Concat")
def drop_empty(root: CNode) -> Node | None:
    """concat(a, b) is a, where b is empty along the axis."""
    axis = integer(root, "axis")
    sizes = [node.aval.shape[axis] for node in root.inputs]
    if not all_known(sizes) or 0 not in sizes or not any(sizes):
        return None
    left = tuple(n for n, size in zip(root.inputs, sizes, strict=True) if size)
    return left[0] if len(left) == 1 else replace(root, inputs=left)


@rewrites("Concat")
def stack_unreshaped(root: CNode) -> Node | None:
    """stack([a, b], i) is reshape(concat([a, b], i)): one reshape, not one for each.

    Not along a last axis, where the elements of all would be mixed.
    """
    axis, shape = integer(root, "axis"), root.aval.shape
    row = shape[:axis] + shape[axis + 1 :]
    rows = [_without_axis(each, row) for each in root.inputs]
    if axis >= len(row) or len(rows) < 2:
        return None
    found = tuple(each for each in rows if each is not None)
    if len(found) < len(rows) or any(each.aval.size != found[0].aval.size for each in found):
        return None
    return reshaped(apply("Concat", *found, origin=root.origin, axis=axis), shape, root)


def _without_axis(node: Node, shape: Ints) -> Node | None:
    """What was of ``shape`` before an axis of one element was put in; a constant without it."""
    if isinstance(node, Constant):
        return Constant(node.value.reshape(shape)) if node.value.size == math.prod(shape) else None
    if not isinstance(node, CNode) or node.op != "Reshape":
        return None
    return node.inputs[0] if node.inputs[0].aval.shape == shape else None


@rewrites(Op("Identity", x))
def drop_identity(root: CNode, x: Node) -> Node:
    """identity(x) is x."""
    return x


@rewrites(Op("Cast", x, attrs={"dtype": "dtype"}))
def drop_cast(root: CNode, x: Node, dtype: np.dtype) -> Node | None:
    """cast(x, dtype of x) is x."""
    return x if x.aval.dtype == dtype else None


def widens(source: np.dtype, dtype: np.dtype) -> bool:
    """Whether every number of ``source`` is one of ``dtype``, both floats or both integers."""
    kinds = source.kind + dtype.kind
    if any(kind in kinds for kind in "bc"):
        return source.kind == "b" and dtype.kind in "iu"
    whole = [kind in "iu" for kind in kinds]
    if source.itemsize >= dtype.itemsize or whole[0] != whole[1]:
        return False
    return kinds != "iu"


@rewrites(Op("Cast", Op("Cast", x, users=0), attrs={"dtype": "dtype"}))
def merge_casts(root: CNode, x: Node, dtype: np.dtype) -> Node | None:
    """cast(cast(x, s), t) is cast(x, t), where s holds every x."""
    if not widens(x.aval.dtype, root.inputs[0].aval.dtype):
        return None
    return x if x.aval.dtype == dtype else apply("Cast", x, origin=root.origin, dtype=dtype)


def _move_in_own_dtype(root: CNode, moved: CNode) -> Node | None:
    """cast(move(cast(x))) is move(x), where the type between holds every x; a write moves too.

    A cast to booleans may be a comparison with 0.
    """
    if moved.attrs.get("reduction") or moved.aval.shape != root.aval.shape:
        return None
    inputs = list(moved.inputs)
    for place in VALUES.get(moved.op, range(len(inputs))):
        own = _in_dtype(inputs[place], root.aval.dtype)
        if own is None:
            return None
        inputs[place] = own
    return apply(moved.op, *inputs, origin=moved.origin, **moved.attrs)


def _in_dtype(node: Node, dtype: np.dtype) -> Node | None:
    """What was cast from ``dtype`` to one that holds all of it; a constant that it holds."""
    if not widens(dtype, node.aval.dtype):
        return None
    if isinstance(node, Constant):
        narrow = node.value.astype(dtype)
        same = narrow.astype(node.value.dtype).tobytes() == node.value.tobytes()
        return Constant(narrow) if same else None
    if not isinstance(node, CNode) or node.op != "Cast":
        return None
    return node.inputs[0] if node.inputs[0].aval.dtype == dtype else None


@rewrites(
    Op("Cast", Op("ReduceSum", Op("Cast", x, users=0), attrs={"axes": "axes", "keepdims": "keep"}))
)
def sum_in_own_dtype(root: CNode, x: Node, axes: Ints, keep: bool) -> Node | None:
    """cast(sum(cast(x))) is sum(x), for integers and a wider type between: sums wrap."""
    wide, own = root.inputs[0].aval.dtype, root.aval.dtype
    if own.kind not in "iu" or wide.kind not in "iu" or wide.itemsize <= own.itemsize:
        return None
    if x.aval.dtype != own:
        return None
    return apply("ReduceSum", x, origin=root.origin, axes=axes, keepdims=keep)


@rewrites(Op("Cast", Op("BroadcastTo", x, attrs={"shape": "shape"}), attrs={"dtype": "dtype"}))
def cast_before_broadcast(root: CNode, x: Node, shape: Ints, dtype: np.dtype) -> Node:
    """cast(broadcast(x)) is broadcast(cast(x))."""
    cast = apply("Cast", x, origin=root.origin, dtype=dtype)
    return apply("BroadcastTo", cast, origin=root.origin, shape=shape)


@rewrites(Op("Cast", Weight("weight"), attrs={"dtype": "dtype"}))
def cast_weight(root: CNode, weight: Node, dtype: np.dtype) -> Node | None:
    """A small weight is widened at export, as the vectors of norms are; it keeps its name."""
    small = weight.aval.size * dtype.itemsize <= ALWAYS_BYTES
    if not small or not widens(weight.aval.dtype, dtype):
        return None
    return with_value(weight, value_of(weight).astype(dtype))


@rewrites(Op("Reshape", Weight("weight"), attrs={"shape": "shape"}))
def reshape_weight(root: CNode, weight: Node, shape: Ints) -> Node:
    """A reshape of a weight is done at export; the weight keeps its name."""
    return with_value(weight, value_of(weight).reshape(shape))


@rewrites(Op("Transpose", Weight("weight", users=1), attrs={"perm": "perm"}))
def transpose_weight(root: CNode, weight: Node, perm: Ints) -> Node:
    """A transpose of a weight is done at export; the weight keeps its name."""
    return with_value(weight, value_of(weight).transpose(perm))


@rewrites(Op("Transpose", Weight("weight"), attrs={"perm": "perm"}))
def transpose_small_weight(root: CNode, weight: Node, perm: Ints) -> Node | None:
    """One that others use is in the file twice then: a table of words must not be."""
    small = weight.aval.size * weight.aval.dtype.itemsize <= ALWAYS_BYTES
    return with_value(weight, value_of(weight).transpose(perm)) if small else None


@rewrites(Op("Reverse", Weight("weight"), attrs={"axes": "axes"}))
def reverse_weight(root: CNode, weight: Node, axes: Ints) -> Node:
    """A weight is reversed at export; it keeps its name."""
    return with_value(weight, np.flip(value_of(weight), axes))


@rewrites(Op("Reverse", Op("Reverse", x, attrs={"axes": "inner"}, users=0), attrs={"axes": "axes"}))
def merge_reverses(root: CNode, x: Node, inner: Ints, axes: Ints) -> Node:
    """An axis that is reversed twice is as before."""
    return reversed_along(x, tuple(sorted(set(inner) ^ set(axes))), root)


@rewrites(Op("Reverse", x, attrs={"axes": "axes"}))
def drop_reverse(root: CNode, x: Node, axes: Ints) -> Node | None:
    """Reversing no axis, or one of one element, changes nothing."""
    long = tuple(axis for axis in axes if x.aval.shape[axis] != 1)
    return reversed_along(x, long, root) if long != axes or not axes else None


@rewrites(
    Op(
        "Reverse",
        Op("Reshape", Op("Reverse", x, attrs={"axes": "inner"}), name="between"),
        attrs={"axes": "axes"},
    )
)
def reverse_after_reshape(
    root: CNode, x: Node, between: CNode, inner: Ints, axes: Ints
) -> Node | None:
    """Two reverses meet where the reshape between them only moves axes of one element."""
    pairs = groups(x.aval.shape, between.aval.shape)
    if any(len(side) > 1 for pair in pairs for side in pair):
        return None
    places = {mine: theirs for (mine,), (theirs,) in pairs}
    if not places.keys() >= set(inner):
        return None
    both = tuple(sorted({places[axis] for axis in inner} ^ set(axes)))
    return reversed_along(reshaped(x, between.aval.shape, root), both, root)


def reversed_along(x: Node, axes: Ints, like: CNode) -> Node:
    """``x`` with the order of ``axes`` turned, made where ``like`` was."""
    return apply("Reverse", x, origin=like.origin, axes=axes) if axes else x


def value_of(weight: Node) -> np.ndarray:
    """The array of a constant or of a parameter with a value."""
    assert isinstance(weight, Constant | Parameter)
    assert weight.value is not None
    return weight.value


def with_value(weight: Node, value: np.ndarray) -> Node:
    """``weight`` holding ``value`` instead."""
    if isinstance(weight, Parameter):
        return replace(weight, value=value, aval=Aval(value.shape, value.dtype))
    return Constant(value)


def _absorb_broadcasts(root: CNode) -> Node | None:
    """f(broadcast(x), y) is f(x, y), where y alone gives the result its shape."""
    for i, node in enumerate(root.inputs):
        source = _unbroadcast(node)
        if source is node:
            continue
        inputs = (*root.inputs[:i], source, *root.inputs[i + 1 :])
        if broadcast_shapes(*(n.aval.shape for n in inputs)) == root.aval.shape:
            return replace(root, inputs=inputs)
    return None


def _unbroadcast(node: Node) -> Node:
    """What a broadcast, or a reshape that only puts ones before a shape, is made of."""
    if isinstance(node, CNode) and node.op == "BroadcastTo":
        return node.inputs[0]
    return without_ones(node)


def without_ones(node: Node) -> Node:
    """What a reshape that only puts ones before a shape is made of."""
    if not isinstance(node, CNode) or node.op != "Reshape":
        return node
    (source,) = node.inputs
    shape = source.aval.shape
    ones = (1,) * (len(node.aval.shape) - len(shape)) + shape
    return source if ones == node.aval.shape else node


def _fold(root: CNode) -> Node | None:
    """f(constants) is a constant."""
    result = folded(root)
    return None if result is root else result


ELEMENTWISE = tuple(op.name for op in OPERATORS.values() if op.elementwise)

ABSORB = tuple(Rule(Op(op), _absorb_broadcasts) for op in ELEMENTWISE)
FOLD = tuple(Rule(Op(op), _fold) for op in OPERATORS)

MOVES = (*(op.name for op in OPERATORS.values() if op.moves), "ScatterNd")
IN_OWN_DTYPE = tuple(
    Rule(cast, _move_in_own_dtype)
    for op in MOVES
    for cast in (
        Op("Cast", Op(op, name="moved")),
        Op("NotEqual", Op(op, name="moved"), Scalar(value=0.0)),
    )
)

RULES = (
    merge_reshapes,
    drop_reshape,
    merge_transposes,
    drop_transpose,
    drop_slice,
    drop_broadcast,
    merge_broadcasts,
    *nothing.EMPTY,
    drop_empty,
    drop_identity,
    drop_cast,
    merge_casts,
    sum_in_own_dtype,
    cast_before_broadcast,
    cast_weight,
    reshape_weight,
    transpose_weight,
    transpose_small_weight,
    reverse_weight,
    merge_reverses,
    drop_reverse,
    reverse_after_reshape,
    *ABSORB,
)
