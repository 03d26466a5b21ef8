"""Orders of many numbers: what NaN needs stands in a branch that runs only where there is one.

JAX's argmax, top_k and sorts have a place for NaN, ONNX Runtime's operators have none. They get a
key without NaN (``legalize_order``, ``lowering.sorting``), which takes longer than the operator
itself. Whether there is a NaN, a sum tells in less. Of few numbers the key costs a microsecond, and
the file stays simple.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.attributes import integer
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
    """Those of ``root``, where it is the places of a key in order, or the numbers there."""
    return _of_values(root) if root.op in GATHERS else _of_places(root)


def _of_places(root: CNode) -> Parts | None:
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
    return Parts(key.x, key.odd(build, key.wide), plain if order is root else item(plain, 1))


def _of_values(root: CNode) -> Parts | None:
    """Those of the numbers at the first places of an order: TopK gives them too."""
    x, places = root.inputs
    if isinstance(places, CNode) and places.op == "Cast":  # a file has int64
        (places,) = places.inputs
    last = integer(root, "axis") == len(x.aval.shape) - 1
    found = _of_places(places) if last and isinstance(places, CNode) else None
    match found:
        case Parts(of, odd, CNode("TupleGetItem", (CNode("TopK", (numbers,)) as order,))):
            if numbers is x is of:
                return Parts(x, odd, item(order, 0))
    return None


def _before_moves(node: Node) -> tuple[Node, list[CNode]]:
    """What is transposed and reshaped, and by what, the first one first."""
    moves: list[CNode] = []
    while isinstance(node, CNode) and node.op in ("Reshape", "Transpose"):
        moves.insert(0, node)
        (node,) = node.inputs
    return node, moves


GATHERS = ("Gather", "GatherElements")
_PLACES = Op("TupleGetItem", Op("TopK", Any_("key")))

VALUES = rules(parts, [Op(op, Any_("x"), _PLACES) for op in GATHERS])  # first: it holds others
RULES = rules(parts, [Op(op) for op in ("ArgMax", "ArgMin", "TupleGetItem")])
