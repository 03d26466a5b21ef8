"""Rotary embedding: pairs of a head's numbers turned by angles, as one operator.

With pairs (a, b) of the halves, or of neighbours, it is ``(a cos - b sin, b cos + a sin)``; or
``x cos + turned sin`` with ``turned = (-b, a)``, where cosines and sines stand twice.
"""

from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import integer, ints, sizes
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import FLOAT32, Build, known
from fnckpt.ir.passes.reshape import transposed
from fnckpt.ir.passes.rewrite import Rule, rewrites
from fnckpt.ir.recursion import bounded

LOW, HIGH, EVEN, ODD = "low", "high", "even", "odd"
SWAPPED = (0, 2, 1, 3)


@dataclass(frozen=True)
class Part:
    """Half of the last axis of ``x``, or of its last two, which are pairs."""

    x: Node
    kind: str


@dataclass(frozen=True)
class Term:
    """A part times cosines or sines."""

    part: Part
    by: Node


@rewrites("Concat")
def turn_pairs(root: CNode) -> Node | None:
    """concat(a cos - b sin, b cos + a sin) is rotary(x, cos, sin)."""
    if len(root.inputs) != 2 or integer(root, "axis") != len(root.aval.shape) - 1:
        return None
    first, other = (_unstacked(each, root) for each in root.inputs)
    if first is None or other is None or (first.op, other.op) != ("Sub", "Add"):
        return None
    terms = [_term(each) for each in (*first.inputs, *other.inputs)]
    a, b, c, d = terms
    if a is None or b is None or c is None or d is None:
        return None
    if c.part != b.part:
        c, d = d, c
    pairs = {4: (LOW, HIGH), 5: (EVEN, ODD)}.get(len(root.aval.shape))
    same = a.part == d.part and b.part == c.part and a.part.x is b.part.x
    if not same or (a.part.kind, b.part.kind) != pairs or a.by is not c.by or b.by is not d.by:
        return None
    x = a.part.x
    if len(x.aval.shape) == 5:
        *rest, size, _ = x.aval.shape
        x = Build(root).reshape(x, (*rest, 2 * size))
    found = _rotary(root, x, a.by, b.by, interleaved=pairs == (EVEN, ODD))
    return found and Build(root).reshape(found, root.aval.shape)


@rewrites("Add")
def turn_halves(root: CNode) -> Node | None:
    """x cos + concat(-b, a) sin is rotary(x, cos, sin), where both halves of cos are the same."""
    products = [each for each in root.inputs if isinstance(each, CNode) and each.op == "Mul"]
    if len(products) != 2:
        return None
    for plain, moved in (products, products[::-1]):
        for turned, sin in (moved.inputs, moved.inputs[::-1]):
            x = _turned(turned)
            others = [each for each in plain.inputs if each is not x]
            if x is None or len(others) != 1:
                continue
            halves = [half(each) for each in (others[0], sin)]
            if halves[0] is not None and halves[1] is not None:
                return _rotary(root, x, halves[0], halves[1], interleaved=False)
    return None


def _unstacked(node: Node, root: CNode) -> CNode | None:
    """A sum or a difference, below the reshape that stacks it."""
    if len(root.aval.shape) == 5 and isinstance(node, CNode) and node.op == "Reshape":
        if node.aval.shape != (*node.inputs[0].aval.shape, 1):
            return None
        (node,) = node.inputs
    return node if isinstance(node, CNode) and len(node.inputs) == 2 else None


def _term(node: Node) -> Term | None:
    if not isinstance(node, CNode) or node.op != "Mul":
        return None
    for part, by in (node.inputs, node.inputs[::-1]):
        found = _part(part)
        if found is not None:
            return Term(found, by)
    return None


def _part(node: Node) -> Part | None:
    """Half of a value's last axis."""
    if not isinstance(node, CNode):
        return None
    source, last = node.inputs[0] if node.inputs else node, len(node.aval.shape) - 1
    if node.op == "TupleGetItem" and isinstance(source, CNode) and source.op == "Split":
        parts = ints(source, "sizes")
        if integer(source, "axis") == last and len(parts) == 2 and parts[0] == parts[1]:
            return Part(source.inputs[0], (LOW, HIGH)[integer(node, "index")])
    if node.op == "Gather" and integer(node, "axis") == last:
        return _chosen(source, known(node.inputs[1]))
    if node.op == "Gather" and integer(node, "axis") == last + 1:
        place = known(node.inputs[1])
        return _of_pair(source, int(place)) if place is not None and not place.ndim else None
    if node.op == "Reshape" and source.aval.shape == (*node.aval.shape, 1):
        return _one_of_pair(source)
    if node.op == "Slice":
        return _cut(node, source, last)
    return None


def _one_of_pair(node: Node) -> Part | None:
    """A part of the last axis, where pairs have an axis of their own."""
    if not isinstance(node, CNode) or not node.inputs:
        return None
    source, last = node.inputs[0], len(node.aval.shape) - 1
    if node.op == "TupleGetItem" and isinstance(source, CNode) and source.op == "Split":
        along = integer(source, "axis") == last
        return _of_pair(source.inputs[0], integer(node, "index")) if along else None
    if node.op == "Slice" and node.aval.shape[:last] == source.aval.shape[:last]:
        return _of_pair(source, sizes(node, "start")[last])
    return None


def _of_pair(x: Node, place: int) -> Part | None:
    """One of each pair, where pairs have an axis of their own."""
    if len(x.aval.shape) != 5 or x.aval.shape[-1] != 2:
        return None
    return Part(x, (EVEN, ODD)[place])


def _chosen(x: Node, places: np.ndarray | None) -> Part | None:
    size = x.aval.shape[-1]
    every = np.arange(size)
    found = {LOW: every[: size // 2], HIGH: every[size // 2 :], EVEN: every[::2], ODD: every[1::2]}
    kinds = [k for k, each in found.items() if places is not None and np.array_equal(each, places)]
    return Part(x, kinds[0]) if kinds and size % 2 == 0 and size > 2 else None


def _cut(node: CNode, x: Node, last: int) -> Part | None:
    if node.aval.shape[:last] != x.aval.shape[:last]:
        return None
    start, limit, stride = (sizes(node, n)[last] for n in ("start", "limit", "strides"))
    return _chosen(x, np.arange(start, limit, stride))


def _turned(node: Node) -> Node | None:
    """``x`` of ``concat(-b, a)``."""
    if not isinstance(node, CNode) or node.op != "Concat" or len(node.inputs) != 2:
        return None
    first, other = node.inputs
    if integer(node, "axis") != len(node.aval.shape) - 1 or not isinstance(first, CNode):
        return None
    parts = [_part(first.inputs[0]) if first.op == "Neg" else None, _part(other)]
    if parts[0] is None or parts[1] is None or parts[0].x is not parts[1].x:
        return None
    return parts[0].x if (parts[0].kind, parts[1].kind) == (HIGH, LOW) else None


@bounded(otherwise=None)
def half(node: Node) -> Node | None:
    """The first half of the last axis, where the second is the same."""
    if isinstance(node, Constant):
        first, other = np.split(node.value, 2, -1) if node.value.shape[-1] % 2 == 0 else (0, 1)
        return Constant(np.ascontiguousarray(first)) if np.array_equal(first, other) else None
    if not isinstance(node, CNode) or not node.inputs:
        return None
    source, last = node.inputs[0], len(node.aval.shape) - 1
    if node.op == "Concat" and integer(node, "axis") == last:
        return source if len(node.inputs) == 2 and node.inputs[1] is source else None
    if node.op == "TupleGetItem" and isinstance(source, CNode) and source.op == "Split":
        part = _of_table(source, integer(node, "index"))
        return part and half(part)
    if node.op == "Gather" and integer(node, "axis") < len(source.aval.shape) - 1:
        found = half(source) if isinstance(source, Constant) else None
        return found and apply("Gather", found, node.inputs[1], origin=node.origin, **node.attrs)
    if node.op in ("Cos", "Sin", "Cast"):
        found = half(source)
        return found and apply(node.op, found, origin=node.origin, **node.attrs)
    if node.op == "Reshape" and node.aval.shape[-1] == source.aval.shape[-1]:
        found = half(source)
        return found and Build(node).reshape(found, (*node.aval.shape[:-1], found.aval.shape[-1]))
    return None


def _of_table(split: CNode, index: int) -> Node | None:
    """A part of the last axis of rows of a constant, as rows of a part."""
    rows = split.inputs[0]
    if not isinstance(rows, CNode) or rows.op != "Gather":
        return None
    table, axis = known(rows.inputs[0]), integer(split, "axis")
    if table is None or axis != len(rows.aval.shape) - 1 or integer(rows, "axis") >= table.ndim - 1:
        return None
    ends = np.cumsum((0, *ints(split, "sizes")))
    part = Constant(np.ascontiguousarray(table[..., ends[index] : ends[index + 1]]))
    return apply("Gather", part, rows.inputs[1], origin=rows.origin, **rows.attrs)


def _rotary(root: CNode, x: Node, cos: Node, sin: Node, *, interleaved: bool) -> Node | None:
    """The operator, its result with the shape of ``x``."""
    shape = x.aval.shape
    if len(shape) != 4 or x.aval.dtype != FLOAT32 or cos.aval != sin.aval:
        return None
    swap = len(cos.aval.shape) == 4 and cos.aval.shape[1] == 1 and shape[1] != 1
    build = Build(root)
    rows = transposed(x, SWAPPED, root) if swap else x
    batch, length, heads, size = rows.aval.shape
    angles = [_angles(build, each, (batch, length, size // 2), swap) for each in (cos, sin)]
    if angles[0] is None or angles[1] is None:
        return None
    joined = build.reshape(rows, (batch, length, heads * size))
    found = build("Rotary", joined, angles[0], angles[1], heads=heads, interleaved=interleaved)
    apart = build.reshape(found, rows.aval.shape)
    return transposed(apart, SWAPPED, root) if swap else apart


def _angles(build: Build, x: Node, shape: tuple[int, ...], swap: bool) -> Node | None:
    """Cosines or sines, the same for all heads, as ``shape``."""
    given = (1,) * (4 - len(x.aval.shape)) + x.aval.shape
    batch, row, head, size = (given[i] for i in (SWAPPED if swap else (0, 1, 2, 3)))
    if head != 1 or size != shape[2] or row != shape[1]:
        return None
    return build.broadcast(build.reshape(x, (batch, row, size)), shape)


RULES: tuple[Rule, ...] = (turn_pairs, turn_halves)
