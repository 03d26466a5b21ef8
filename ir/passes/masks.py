"""What a mask of attention says: who sees whom by their places, and the rest.

A mask is a conjunction. A part that compares the place of a key with that of a query is known as
an inequality in both; a triangle or a band in a constant is one or two. What is no such part, as
the padding of a prompt, stays a condition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import dtype_of, ints, sizes
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import BOOL, Build, known
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import is_known

Places = tuple[str, ...]  # the name of each axis, empty where it has one element
QUERY, KEY = "s", "t"
MOST_PARTS = 64  # nodes that a mask is looked through
COMPARED = {"LessEqual": (1, 0), "Less": (1, 1), "GreaterEqual": (-1, 0), "Greater": (-1, 1)}


@dataclass(frozen=True)
class Line:
    """``offset`` plus each index times its factor, by the name of its axis."""

    factors: Mapping[str, int]
    offset: int

    def plus(self, other: "Line", sign: int) -> "Line":
        """The sum, or the difference with ``sign`` -1."""
        names = {*self.factors, *other.factors}
        found = {n: self.factors.get(n, 0) + sign * other.factors.get(n, 0) for n in names}
        return Line({n: f for n, f in found.items() if f}, self.offset + sign * other.offset)


@dataclass(frozen=True)
class Seen:
    """Which keys a query sees.

    Attributes:
      ahead: it sees keys to ``ahead`` places behind its own row's number; None for no limit.
      back: and from ``back`` places behind its own row's number on; None for no limit.
      conditions: and where all of these hold, with the names of their axes.
    """

    ahead: int | None = None
    back: int | None = None
    conditions: tuple[tuple[Node, Places], ...] = ()


def seen_of(conditions: Sequence[tuple[Node, Places]], keys: int) -> Seen | None:
    """What a conjunction of ``conditions`` says of ``keys`` keys; None for two limits in one."""
    found = Seen()
    for condition, places in conditions:
        for node, names in _parts(condition, places):
            joined = _with(found, node, names, keys)
            if joined is None:
                return None
            found = joined
    return found


def _with(seen: Seen, node: Node, names: Places, keys: int) -> Seen | None:
    table = known(node)
    if table is not None and table.all():
        return seen
    limits = _limits(node, names)
    if limits is None:
        return Seen(seen.ahead, seen.back, (*seen.conditions, (node, names)))
    for line in limits:  # each is at most 0
        factors, offset = dict(line.factors), line.offset
        if factors == {KEY: 1, QUERY: -1} and seen.ahead is None:
            seen = Seen(-offset, seen.back, seen.conditions)
        elif factors == {KEY: -1, QUERY: 1} and seen.back is None:
            seen = Seen(seen.ahead, offset, seen.conditions)
        elif factors == {KEY: 1} and is_known(keys - 1 + offset) and keys - 1 + offset <= 0:
            continue  # it holds for each key
        else:
            return None
    return seen


def _parts(node: Node, names: Places) -> list[tuple[Node, Places]]:
    """What must all be true, or not 0, so that ``node`` is."""
    found: list[tuple[Node, Places]] = []
    waiting: list[tuple[Node, Places, CNode | None]] = [(node, names, None)]
    while waiting:
        each, places, user = waiting.pop()
        inner = _inside(each, places) if len(found) + len(waiting) < MOST_PARTS else None
        if inner is None or not isinstance(each, CNode):
            found.append((_as_bool(each, user), places))
        else:
            waiting += [(*part, each) for part in reversed(inner)]
    return found


def _as_bool(node: Node, user: CNode | None) -> Node:
    """Whether ``node``, which ``user`` uses, is not 0."""
    at = node if isinstance(node, CNode) else user
    return node if at is None else Build(at).cast(node, BOOL)


def _inside(node: Node, names: Places) -> list[tuple[Node, Places]] | None:
    """What ``node`` is computed from, where it is true if, and only if, all of that is."""
    if not isinstance(node, CNode):
        return None
    if node.op == "Cast":
        source = node.inputs[0]
        return [(source, names)] if _keeps_zero(source.aval.dtype, node.aval.dtype) else None
    if node.op == "Reshape":
        before = _before(node, names)
        return None if before is None else [(node.inputs[0], before)]
    if node.op == "Transpose":
        return [(node.inputs[0], tuple(names[i] for i in np.argsort(ints(node, "perm"))))]
    return [(each, _of_operand(each, names)) for each in _factors(node)] or None


def _factors(node: CNode) -> Sequence[Node]:
    """The operands that are all true, or not 0, where ``node`` is, and only there."""
    inner, unlike = node.inputs, _unlike_zero(node)
    if unlike is not None:
        return (unlike,)
    if node.op == "Greater" and scalar_of(inner[1]) == 0 and _is_flag(inner[0]):
        return inner[:1]
    is_product = node.op == "Mul" and node.aval.dtype.kind in "iu" and any(map(_is_flag, inner))
    return inner if is_product or node.op in ("LogicalAnd", "BroadcastTo") else ()


def _unlike_zero(node: CNode) -> Node | None:
    """``x`` of ``x != 0``."""
    compared: Node = node
    if node.op == "LogicalNot":
        (compared,) = node.inputs
        if not isinstance(compared, CNode) or compared.op != "Equal":
            return None
    elif node.op != "NotEqual":
        return None
    numbers = [each for each in compared.inputs if scalar_of(each) != 0]
    return numbers[0] if len(numbers) == 1 else None


def _keeps_zero(source: np.dtype, dtype: np.dtype) -> bool:
    """Whether a cast makes 0 of 0 alone."""
    whole = source.kind in "iu" and dtype.kind in "iu" and source.itemsize <= dtype.itemsize
    return source == BOOL or whole or (source.kind in "iu" and dtype == BOOL)


def _is_flag(node: Node) -> bool:
    """Whether a number is 0 or 1."""
    while isinstance(node, CNode) and node.op in ("Cast", "BroadcastTo", "Reshape"):
        node = node.inputs[0]
    return node.aval.dtype == BOOL


def _of_operand(operand: Node, names: Places) -> Places:
    """The names of an operand whose axes are aligned at the right."""
    shape = operand.aval.shape
    aligned = names[len(names) - len(shape) :]
    return tuple("" if size == 1 else name for size, name in zip(shape, aligned, strict=True))


def _before(node: CNode, names: Places) -> Places | None:
    """The names before a reshape that only adds or drops axes of one element."""
    shape, after = node.inputs[0].aval.shape, node.aval.shape
    kept = [(size, name) for size, name in zip(after, names, strict=True) if size != 1]
    if [size for size in shape if size != 1] != [size for size, _ in kept]:
        return None
    rest = iter(name for _, name in kept)
    return tuple("" if size == 1 else next(rest) for size in shape)


@bounded(otherwise=None)
def _limits(node: Node, names: Places) -> list[Line] | None:
    """The lines that are at most 0 where ``node`` is true; None for another condition."""
    if not isinstance(node, CNode):
        return None
    if node.op in COMPARED:
        sign, more = COMPARED[node.op]
        lines = [_line(each, _of_operand(each, names)) for each in node.inputs]
        first, other = lines
        if first is None or other is None:
            return None
        return [(first if sign > 0 else other).plus(other if sign > 0 else first, -1).plus(
            Line({}, more), 1
        )]  # fmt: skip
    if node.op == "LogicalNot":
        lines = _limits(node.inputs[0], names) or ()
        return [Line({}, 1).plus(line, -1) for line in lines] if len(lines) == 1 else None
    return _of_part(node, names) if node.op == "Slice" else None


def _of_part(node: CNode, names: Places) -> list[Line] | None:
    """The limits of a part of a constant table, or of rows and columns that are compared."""
    if known(node.inputs[0]) is not None or set(ints(node, "strides")) != {1}:
        return _of_table(node, names)
    lines, starts = _limits(node.inputs[0], names), sizes(node, "start")
    return lines and [
        each.plus(Line({}, sum(each.factors.get(n, 0) * start for n, start in moved)), 1)
        for moved in [list(zip(names, starts, strict=True))]
        for each in lines
    ]


def _of_table(node: CNode, names: Places) -> list[Line] | None:
    """The limits of a part of a constant triangle or band."""
    table = known(node.inputs[0])
    if table is None or table.ndim < 2 or names[-2:] != (QUERY, KEY) or any(names[:-2]):
        return None
    if set(table.shape[:-2]) - {1} or set(ints(node, "strides")) != {1}:
        return None
    rows, columns = sizes(node, "start")[-2:]
    square = table[(0,) * (table.ndim - 2)].astype(bool)
    if len(square) == 0 or square.shape != square.T.shape:
        return None
    found, back = np.flatnonzero(square[-1]), len(square)
    if len(found) and found[-1] == len(square) - 1:
        back = len(square) - int(found[0])
    if not np.array_equal(square, np.tril(np.triu(np.ones_like(square), 1 - back))):
        return None
    shift = columns - rows  # the key's place in the table less the query's, beside their indices
    ahead = Line({KEY: 1, QUERY: -1}, shift)
    behind = Line({KEY: -1, QUERY: 1}, 1 - back - shift)
    return [ahead] if back >= len(square) else [ahead, behind]


@bounded(otherwise=None)
def _line(node: Node, names: Places) -> Line | None:
    """A node of whole numbers as a line in the indices of its axes."""
    number = scalar_of(node)
    if number is not None:
        return Line({}, int(number)) if number == int(number) else None
    if not isinstance(node, CNode):
        return None
    if node.op == "Range":
        return Line({names[0]: 1}, 0) if names[0] else None
    if node.op == "Sizes":
        found = sizes(node, "sizes")
        return Line({}, found[0]) if len(found) == 1 else None
    if node.op in ("Add", "Sub"):
        first, other = (_line(each, _of_operand(each, names)) for each in node.inputs)
        sign = 1 if node.op == "Add" else -1
        return first.plus(other, sign) if first is not None and other is not None else None
    if node.op == "Cast" and dtype_of(node).kind in "iu":
        return _line(node.inputs[0], names)
    if node.op == "BroadcastTo":
        return _line(node.inputs[0], _of_operand(node.inputs[0], names))
    before = _before(node, names) if node.op == "Reshape" else None
    return None if before is None else _line(node.inputs[0], before)
