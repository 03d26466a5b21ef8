"""Orders of many numbers: what NaN needs stands in a branch that runs only where there is one.

JAX's argmax, top_k and sorts have a place for NaN, ONNX Runtime's operators have none. They get a
key without NaN (``legalize_order``, ``lowering.sorting``), which takes longer than the operator
itself. Whether there is a NaN, a sum tells in less. Of few numbers the key costs a microsecond, and
the file stays simple.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.attributes import integer, ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import item
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, Build
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, scalar_of
from fnckpt.ir.targets.onnx.legalize_order import TINY
from fnckpt.ir.targets.onnx.rare import Parts, rules

LIMITS = {"Minimum": 1, "Maximum": -1}  # what brings infinity to a finite number, and its sign


@dataclass(frozen=True)
class Key:
    """What a key was made of: ``numbers`` have its order, unless ``odd`` of ``wide`` holds."""

    x: Node
    wide: Node  # x in a type that sums and orders have
    numbers: Node
    odd: Callable[[Build, Node], Node]


def key_of(node: Node) -> Key | None:
    """The key that ``node`` is, None where it is none."""
    match node:
        case CNode("Select", (CNode("IsNan", (x,)), end, CNode(op, inputs))) if op in LIMITS:
            if node.aval.dtype not in (FLOAT32, FLOAT64):
                return None
            most = LIMITS[op] * float(np.finfo(node.aval.dtype).max)
            bodies = [each for each in inputs if scalar_of(each) != most]
            if scalar_of(end) != LIMITS[op] * np.inf or len(bodies) != 1:
                return None
            return _of_body(x, bodies[0])
        case _:
            return None


_BOUNDED = Op("Maximum", Op("Reciprocal", Any_("x"), users=0), Scalar(value=-TINY), users=0)
_BESIDE = Op("Minimum", _BOUNDED, Scalar(value=TINY), users=0)
_WITH_ZEROS = Rule(Op("Add", Any_("x"), _BESIDE), lambda _, x: x)
_HALF = Rule(Op("Mul", Any_("x"), Scalar(value=0.5)), lambda _, x: x)


def _of_body(x: Node, body: Node) -> Key | None:
    match body:
        case CNode("Mul"):
            wide = _HALF(body, {})
            return Key(x, wide, wide, _nan) if wide is not None and _is_itself(wide, x) else None
        case CNode("Sub", (zero, CNode("Mul") as half)) if scalar_of(zero) == 0:
            rising = _of_body(x, half)
            return rising and replace(rising, numbers=Build(body)("Neg", rising.wide))
        case CNode("Cast") if _is_itself(body, x):
            return Key(x, body, body, _nan)
        case CNode("Add"):
            source, wide = _WITH_ZEROS(body, {}), Build(body).cast(x, FLOAT32)
            told = source is not None and source is not x and _is_itself(source, x)
            return Key(x, wide, wide, _nan_or_negative_zero) if told else None
        case _:
            return None


def _is_itself(node: Node, x: Node) -> bool:
    """Whether it is ``x``, or ``x`` in a wider type."""
    wider = node.aval.dtype.itemsize > x.aval.dtype.itemsize
    cast = isinstance(node, CNode) and node.op == "Cast" and node.inputs[0] is x
    return node is x or (cast and wider and node.aval.dtype.kind == "f")


def _nan(build: Build, wide: Node) -> Node:
    """Whether the sum is NaN; it also is where both infinities are, and the key is as right."""
    axes = tuple(range(len(wide.aval.shape)))
    return build("IsNan", build("ReduceSum", wide, axes=axes, keepdims=False))


def _nan_or_negative_zero(build: Build, wide: Node) -> Node:
    """1 / -0 is -inf, and 1 / NaN is NaN: their sum with other negative numbers is not finite."""
    axes = tuple(range(len(wide.aval.shape)))
    below = build("Minimum", build("Reciprocal", wide), build.number(0, wide))
    total = build("ReduceSum", below, axes=axes, keepdims=False)
    least = build.number(float(np.finfo(wide.aval.dtype).min), wide)
    return build("LogicalNot", build("GreaterEqual", total, least))


def parts(root: CNode) -> Parts | None:
    """Those of ``root``: the places of a key in order, the numbers there, or the last of them."""
    if root.op in ("Gather", "GatherElements", "Slice"):
        return _of_values(root) or _of_last(root)  # the last may be read by a Gather, too
    found = _plain(root)
    return found and Parts(found[0].x, found[0].odd(Build(root), found[0].wide), found[1])


def _plain(root: CNode) -> tuple[Key, CNode] | None:
    """The key whose places ``root`` is, and the places of the numbers themselves."""
    order = root.inputs[0] if root.op == "TupleGetItem" else root
    if not isinstance(order, CNode) or order.op not in ("ArgMax", "ArgMin", "TopK"):
        return None
    if root.attrs.get("index", 1) != 1:
        return None
    source, moves = _before_moves(order.inputs[0])
    key, build = key_of(source), Build(root)
    if key is None:
        return None
    numbers = key.numbers
    for move in moves:
        numbers = build(move.op, numbers, **move.attrs)
    plain = build(order.op, numbers, **order.attrs)
    return key, plain if order is root else item(plain, 1)


def _of_values(root: CNode) -> Parts | None:
    """Those of the numbers at the first places of an order: TopK gives them too.

    Which of two zeros comes first does not matter: they are equal.
    """
    if root.op not in ("Gather", "GatherElements"):
        return None
    x, places = root.inputs
    if isinstance(places, CNode) and places.op == "Cast":  # a file has int64
        (places,) = places.inputs
    last = integer(root, "axis") == len(x.aval.shape) - 1
    each = root.aval.shape == places.aval.shape  # not each row at the places of all rows
    match _plain(places) if last and each and isinstance(places, CNode) else None:
        case Key(of), CNode("TupleGetItem", (CNode("TopK", (numbers,)) as order,)):
            if numbers is x is of:
                return Parts(x, _nan(Build(root), x), item(order, 0))
    return None


def _of_last(root: CNode) -> Parts | None:
    """Those of the last of the first k numbers: the least of them, so that they need no order."""
    values = root.inputs[0]
    found = _of_values(values) if isinstance(values, CNode) else None
    match found:
        case Parts(x, odd, CNode(_, (CNode("TopK", (numbers,)) as order,))):
            if root.aval.shape not in (values.aval.shape[:-1], (*values.aval.shape[:-1], 1)):
                return None
            if not _is_last(root, integer(order, "k") - 1):
                return None
            build, kept = Build(root), len(root.aval.shape) == len(x.aval.shape)
            least = item(build("TopK", numbers, **order.attrs, ordered=False), 0)
            axes = (len(x.aval.shape) - 1,)
            return Parts(x, odd, build("ReduceMin", least, axes=axes, keepdims=kept))
    return None


def _is_last(root: CNode, place: int) -> bool:
    """Whether what is read begins at ``place`` of the last axis."""
    if root.op == "Slice":
        return ints(root, "start")[-1] == place
    values, at = root.inputs
    along = root.op == "Gather" and integer(root, "axis") == len(values.aval.shape) - 1
    return along and scalar_of(at) == place


def _before_moves(node: Node) -> tuple[Node, list[CNode]]:
    """What is transposed and reshaped, and by what, the first one first."""
    moves: list[CNode] = []
    while isinstance(node, CNode) and node.op in ("Reshape", "Transpose"):
        moves.insert(0, node)
        (node,) = node.inputs
    return node, moves


_PLACES = Op("TupleGetItem", Op("TopK", Any_("key")))
_VALUES = [Op(op, Any_("x"), _PLACES) for op in ("Gather", "GatherElements")]
_LAST = [op for each in _VALUES for op in (Op("Slice", each), Op("Gather", each, Any_("last")))]

# One after the other: what is larger holds what is smaller.
STEPS = tuple(
    rules(parts, patterns)
    for patterns in (_LAST, _VALUES, [Op(op) for op in ("ArgMax", "ArgMin", "TupleGetItem")])
)
