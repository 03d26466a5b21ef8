"""The products of queries and keys on their way to a softmax, and the cache that keys come from.

Between them are scales, a cap, masks, and moves of axes; a mask is a choice between a product and
a very small number, or such a number added to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fnckpt.ir.attributes import integer, ints
from fnckpt.ir.graph import CNode, Node, Parameter
from fnckpt.ir.passes.build import BOOL, FLOAT32, Build
from fnckpt.ir.passes.masks import Places
from fnckpt.ir.passes.named_axes import MOVES, Axes, Names
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.recursion import bounded

LEAST_HIDDEN = -1e8  # a smaller number beside a product has no weight
QUERIES, KEYS, CACHED = "bsgrd", "bsgd", "bgtd"
LAYOUTS = {2: "bgtd", 1: "btgd"}  # by the axis that the past and the new are joined along


@dataclass(frozen=True)
class Cached:
    """Where a cache gets new tokens: ``concat(past, new)``, and its axes."""

    node: CNode
    past: Parameter
    new: Node
    axes: str


@dataclass(frozen=True)
class Scores:
    """What becomes of the products on their way to the softmax."""

    axes: Axes
    factor: float = 1.0
    cap: float = 0.0
    conditions: tuple[tuple[Node, Places], ...] = ()


@bounded(otherwise=None)
def chain_to(node: Node) -> list[CNode] | None:
    """The nodes from a product of matrices to ``node``, through masks, caps and scales."""
    if not isinstance(node, CNode):
        return None
    if node.op == "MatMul":
        return [node]
    through = {"Select": (1, 2), "Add": (0, 1), "Mul": (0, 1), "Div": (0,), "Tanh": (0,)}
    for i in through.get(node.op, (0,) if node.op in MOVES else ()):
        found = chain_to(node.inputs[i])
        if found is not None:
            return [*found, node]
    return None


def multiple_of(node: Node) -> tuple[Node, float]:
    """What ``node`` is, but for moves, a multiple of."""
    factor = 1.0
    while isinstance(node, CNode) and node.op in (*MOVES, "Mul", "Div"):
        inner = node.inputs[0]
        if node.op in ("Mul", "Div"):
            scaled = _times(node)
            if scaled is None:
                break
            inner, number = scaled
            factor *= number
        node = inner
    return node, factor


def _times(node: CNode) -> tuple[Node, float] | None:
    """``x`` and ``c`` of ``x * c`` or ``x / (1 / c)``."""
    first, other = node.inputs
    number = scalar_of(other)
    if number is None and node.op == "Mul":
        first, number = other, scalar_of(first)
    if not number or not np.isfinite(number) or first.aval.shape != node.aval.shape:
        return None
    return first, number if node.op == "Mul" else 1 / number


def cached(node: Node) -> Cached | None:
    """``node`` as a cache that gets new tokens."""
    if not isinstance(node, CNode) or node.op != "Concat" or len(node.inputs) != 2:
        return None
    (past, new), axes = node.inputs, LAYOUTS.get(integer(node, "axis"))
    if axes is None or len(node.aval.shape) != 4 or node.aval.dtype != FLOAT32:
        return None
    if axes != CACHED:
        perm = tuple(CACHED.index(name) for name in axes)
        if not isinstance(past, CNode) or past.op != "Transpose" or ints(past, "perm") != perm:
            return None
        (past,) = past.inputs
    if not isinstance(past, Parameter) or past.value is not None:
        return None
    return Cached(node, past, new, axes)


def axes_of(node: Node, names: Names) -> Axes | None:
    """The axes of what is moved from queries or from a cache."""
    path: list[CNode] = []
    while cached(node) is None and isinstance(node, CNode) and node.op in (*MOVES, "Mul", "Div"):
        scaled = (node.inputs[0], 1.0) if node.op in MOVES else _times(node)
        if scaled is None:
            break
        path.append(node)
        node, _ = scaled
    own = cached(node)
    axes = names.of(own.axes if own else QUERIES, node.aval.shape)
    for each in reversed(path):
        if axes is not None and each.op in MOVES:
            axes = names.moved(axes, each, "r" if own else "")
    return axes


def scores_of(
    chain: Sequence[CNode], axes: Sequence[Axes | None], names: Names, factor: float
) -> Scores | None:
    first, other = axes
    if first is None or other is None:
        return None
    found = names.product(chain[0], first, other, "d")
    scores = None if found is None else Scores(found, factor)
    inner = 0.0  # what stands in front of a tanh
    for before, node in pairwise(chain):
        if scores is None:
            return None
        if node.op == "Tanh":
            done = bool(scores.conditions or inner)
            scores, inner = (None if done else replace(scores, factor=1.0)), scores.factor
        else:
            scores = _step(scores, before, node, names)
    if scores is None or not inner:
        return scores
    return (
        replace(scores, factor=inner * scores.factor, cap=scores.factor)
        if scores.factor > 0
        else None
    )


def _step(scores: Scores, before: CNode, node: CNode, names: Names) -> Scores | None:
    """``scores`` after ``node``, which takes ``before``."""
    if node.op in MOVES:
        axes = None if scores.conditions else names.moved(scores.axes, node)
        return None if axes is None else replace(scores, axes=axes)
    if node.op in ("Mul", "Div"):
        scaled = _times(node)
        fits = scaled is not None and scaled[0] is before and not scores.conditions
        return replace(scores, factor=scores.factor * scaled[1]) if scaled and fits else None
    if node.aval.shape != before.aval.shape:
        return None
    condition = _chosen(node, before) if node.op == "Select" else _added(node, before)
    places = condition and _places(condition, scores.axes)
    if not condition or places is None:
        return None
    return replace(scores, conditions=(*scores.conditions, (condition, places)))


def _chosen(node: CNode, before: CNode) -> Node | None:
    """The condition under which the products are seen."""
    where, first, other = node.inputs
    if scalar_of(other if first is before else first) is None:
        return None
    fill = scalar_of(other if first is before else first)
    if fill is None or not fill <= LEAST_HIDDEN:
        return None
    return where if first is before else Build(node)("LogicalNot", where)


def _added(node: CNode, before: CNode) -> Node | None:
    """The condition that a mask of 0 and a small number stands for."""
    found = _two_numbers(node.inputs[1] if node.inputs[0] is before else node.inputs[0])
    if found is None:
        return None
    if found.hidden == 0 and found.shown <= LEAST_HIDDEN:
        return Build(node)("LogicalNot", found.where)
    return found.where if found.shown == 0 and found.hidden <= LEAST_HIDDEN else None


@dataclass(frozen=True)
class Chosen:
    """``shown`` where a condition holds, else ``hidden``."""

    where: Node
    shown: float
    hidden: float


@bounded(otherwise=None)
def _two_numbers(node: Node) -> Chosen | None:
    """A choice between two numbers: as such, or a flag times a number, as in ``(1 - m) * -1e9``."""
    if not isinstance(node, CNode):
        return None
    build, inner = Build(node), node.inputs
    if node.op == "Select":
        shown, hidden = map(scalar_of, inner[1:])
        if shown is None or hidden is None:
            return None
        return Chosen(build.broadcast(inner[0], node.aval.shape), shown, hidden)
    if node.op == "Cast" and inner[0].aval.dtype == BOOL:
        return Chosen(inner[0], 1.0, 0.0)
    if node.op in ("BroadcastTo", "Reshape"):
        found = _two_numbers(inner[0])
        return found and replace(found, where=build(node.op, found.where, **node.attrs))
    if node.op not in ("Add", "Sub", "Mul"):
        return None
    numbers = [scalar_of(each) for each in inner]
    flags = [
        None if n is not None else _two_numbers(x) for n, x in zip(numbers, inner, strict=True)
    ]
    found = next((each for each in flags if each is not None), None)
    if found is None or None not in numbers or found.where.aval.shape != node.aval.shape:
        return None

    def computed(number: float) -> float:
        first, other = (number if n is None else n for n in numbers)
        return {"Add": first + other, "Sub": first - other, "Mul": first * other}[node.op]

    return replace(found, shown=computed(found.shown), hidden=computed(found.hidden))


def _places(condition: Node, axes: Axes) -> Places | None:
    """The names of the axes of a condition; one that differs by heads is refused later."""
    shape = condition.aval.shape
    aligned = zip(shape, axes[len(axes) - len(shape) :], strict=True)
    names = [() if size == 1 else axis for size, axis in aligned]
    if any(len(axis) > 1 for axis in names):
        return None
    return tuple(axis[0] if axis else "" for axis in names)
