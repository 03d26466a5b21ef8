"""Orders of many numbers: what NaN needs stands in a branch that runs only where there is one.

JAX's argmax, top_k and sorts have a place for NaN, ONNX Runtime's operators have none. They get a
key without NaN (``legalize_order``, ``lowering.sorting``), which takes longer than the operator
itself. Whether there is a NaN, a sum tells in a tenth of it. Of few numbers the key is faster.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.graph import CNode, FuncGraph, Node, Parameter, rebuilt, with_graphs, with_outputs
from fnckpt.ir.operators import item
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, INT32, Build
from fnckpt.ir.passes.large import is_large
from fnckpt.ir.passes.rewrite import Op, Rule, rewrite, scalar_of

LEAST = 1025  # elements; a branch takes ONNX Runtime two microseconds
LIMITS = {("Minimum", np.inf), ("Maximum", -np.inf)}  # of finite numbers, and what NaN becomes


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
        case CNode("Select", (CNode("IsNan", (x,)), end, CNode() as limited)):
            if (limited.op, scalar_of(end)) not in LIMITS:
                return None
            bodies = [each for each in limited.inputs if scalar_of(each) is None]
            return _of_body(x, bodies[0]) if len(bodies) == 1 else None
        case _:
            return None


def _of_body(x: Node, body: Node) -> Key | None:
    match body:
        case CNode("Mul", (one, other)):
            wide, number = (one, other) if scalar_of(one) is None else (other, one)
            half = scalar_of(number) == 0.5 and _is_itself(wide, x)
            return Key(x, wide, wide, _nan) if half else None
        case CNode("Sub", (zero, half)) if scalar_of(zero) == 0:
            rising = _of_body(x, half)
            if rising is None or rising.odd is not _nan:
                return None
            return replace(rising, numbers=Build(body)("Neg", rising.wide))
        case CNode("Cast") if _is_itself(body, x):
            return Key(x, body, body, _nan)
        case CNode("Add") if any(_is_itself(each, x) for each in body.inputs):
            wide = Build(body).cast(x, FLOAT32)
            return Key(x, wide, wide, _nan_or_negative_zero) if x.aval.dtype != FLOAT64 else None
        case _:
            return None


def _is_itself(node: Node, x: Node) -> bool:
    return node is x or (isinstance(node, CNode) and node.op == "Cast" and node.inputs[0] is x)


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


@dataclass(frozen=True)
class Parts:
    """An order of ``x`` without a key, which is right unless ``odd``."""

    x: Node
    odd: Node
    plain: Node


def parts(root: CNode) -> Parts | None:
    """Those of ``root``, where it is the places of a key in order."""
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


def _before_moves(node: Node) -> tuple[Node, list[CNode]]:
    """What is transposed and reshaped, and by what, the first one first."""
    moves: list[CNode] = []
    while isinstance(node, CNode) and node.op in ("Reshape", "Transpose"):
        moves.insert(0, node)
        (node,) = node.inputs
    return node, moves


def in_branches(root: CNode) -> CNode | None:
    """``root`` is cond(odd, the same of plain numbers, ``root``), where it is a key's order."""
    found, build = parts(root), Build(root)
    if found is None or not is_large(found.x, LEAST):
        return None
    branches = tuple(_function(each, found.x) for each in (found.plain, root))
    return build("Cond", build.cast(found.odd, INT32), found.x, branches=branches)


def _function(result: Node, x: Node) -> FuncGraph:
    """``result`` as a function of ``x`` alone."""
    given = Parameter("x", x.aval)
    new: dict[int, Node] = {id(x): given}

    def on_given(node: Node) -> Node:
        if id(node) not in new:
            for each in node.inputs if isinstance(node, CNode) else ():
                on_given(each)
            new[id(node)] = rebuilt(node, new)
        return new[id(node)]

    return FuncGraph("order", (given,), (on_given(result),), ("order",))


RULES = tuple(Rule(Op(op), in_branches) for op in ("ArgMax", "ArgMin", "TupleGetItem"))


def rare_nan(graph: FuncGraph) -> FuncGraph:
    """``graph`` with such branches, in the graphs inside too."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        new[id(node)] = with_graphs(rebuilt(node, new), rare_nan)
    return rewrite(with_outputs(graph, new), RULES)
