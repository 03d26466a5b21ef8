"""Between which integers a value is, whatever the inputs are, so that no place is clamped twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import integer, ints, number
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import all_known, is_known


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``: one number each, or one for each place of the last axis."""

    low: np.ndarray
    high: np.ndarray

    def whole(self) -> "Range":
        """One range for all places."""
        return Range(self.low.min(), self.high.max())


MOST_EXACT = 2.0**53  # beyond, a double does not hold every integer
EVERY = Range(np.asarray(-np.inf), np.asarray(np.inf))


def is_between(node: Node, last: Sequence[int]) -> bool:
    """Whether each place of the last axis of ``node`` is known to be from 0 to its ``last``."""
    if not all_known(last) or node.aval.size == 0:
        return False
    found = range_of(node)
    ends = np.asarray(last, np.float64)
    if ends.size != 1 and node.aval.shape[-1:] != ends.shape:
        return False
    return bool(np.all(found.low >= 0) and np.all(found.high <= ends))


@bounded(otherwise=EVERY)
def range_of(node: Node) -> Range:
    """What is known of the integers of ``node``."""
    if not all_known(node.aval.shape) or node.aval.dtype.kind not in "iu" or node.aval.size == 0:
        return EVERY
    if isinstance(node, Constant):
        value = node.value.astype(np.float64)
        axes = tuple(range(value.ndim - 1))
        return _rounded(value.min(axes), value.max(axes))
    found = EVERY
    if isinstance(node, CNode) and node.op in RULES and not _holds_several(node):
        found = RULES[node.op](node)
    return _fits(node, found)


def _holds_several(node: CNode) -> bool:
    """Whether an input is several results, of which no range is known; an item of it is."""
    several = (isinstance(each, CNode) and len(each.results) > 1 for each in node.inputs)
    return node.op != "TupleGetItem" and any(several)


def _fits(node: Node, found: Range) -> Range:
    """What is beyond the type wraps around, so that nothing but the type is known of it."""
    info = np.iinfo(node.aval.dtype)
    inside = np.all(found.low >= info.min) and np.all(found.high <= info.max)
    return found if inside else Range(np.asarray(float(info.min)), np.asarray(float(info.max)))


def _rounded(low: np.ndarray, high: np.ndarray) -> Range:
    """The range of integers that may have been rounded to doubles: not above, not below them."""
    below, above = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    return Range(
        np.where(np.abs(low) < MOST_EXACT, low, below),
        np.where(np.abs(high) < MOST_EXACT, high, above),
    )


def _same(node: CNode) -> Range:
    """What is moved, or repeated, is where it was; the last axis may be another one."""
    source = node.inputs[0]
    if source.aval.dtype.kind == "b":
        return Range(np.asarray(0.0), np.asarray(1.0))
    found = range_of(source)
    kept = node.op in ("BroadcastTo", "Cast", "Reshape")
    return found if kept and source.aval.shape[-1:] == node.aval.shape[-1:] else found.whole()


def _fitting(node: CNode, parts: Sequence[Node]) -> list[Range]:
    """The ranges of what is broadcast together; constants first, as so many are asked alone."""
    width = node.aval.shape[-1:]
    found = {id(part): range_of(part) for part in sorted(parts, key=_is_deep)}
    ranges = [(found[id(part)], part.aval.shape[-1:]) for part in parts]
    return [found if shape in (width, (1,), ()) else found.whole() for found, shape in ranges]


def _is_deep(node: Node) -> bool:
    """Whether a node is more than a constant, or one that is repeated."""
    return isinstance(node, CNode) and any(isinstance(each, CNode) for each in node.inputs)


def _extreme(choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[CNode], Range]:
    def rule(node: CNode) -> Range:
        a, b = _fitting(node, node.inputs)
        return Range(choose(a.low, b.low), choose(a.high, b.high))

    return rule


def _add(node: CNode) -> Range:
    a, b = _fitting(node, node.inputs)
    return _rounded(a.low + b.low, a.high + b.high)


def _sub(node: CNode) -> Range:
    a, b = _fitting(node, node.inputs)
    return _rounded(a.low - b.high, a.high - b.low)


def _and(node: CNode) -> Range:
    """Not above what has no sign."""
    ends = [r.high for r in _fitting(node, node.inputs) if np.all(r.low >= 0)]
    return Range(np.asarray(0), ends[0] if len(ends) == 1 else np.minimum(*ends)) if ends else EVERY


def _shift(node: CNode) -> Range:
    """To the right by a known amount, of what has no sign."""
    x, amount = _fitting(node, node.inputs)
    known = np.all(amount.low == amount.high) and np.all(amount.low >= 0) and np.all(x.low >= 0)
    return Range(np.asarray(0), np.floor(x.high / 2.0**amount.low)) if known else EVERY


def _select(node: CNode) -> Range:
    a, b = _fitting(node, node.inputs[1:])
    return Range(np.minimum(a.low, b.low), np.maximum(a.high, b.high))


def _clip(node: CNode) -> Range:
    return Range(np.asarray(number(node, "low")), np.asarray(number(node, "high")))


def _concat(node: CNode) -> Range:
    """Columns beside each other, or rows below each other."""
    ranges = [range_of(part) for part in node.inputs]
    if node.attrs["axis"] == len(node.aval.shape) - 1:
        sizes = [part.aval.shape[-1:] for part in node.inputs]
        pairs = [(np.broadcast_to(r.low, n), np.broadcast_to(r.high, n))
                 for r, n in zip(ranges, sizes, strict=True)]  # fmt: skip
        return Range(*(np.concatenate(each) for each in zip(*pairs, strict=True)))
    lows, highs = [r.low for r in ranges], [r.high for r in ranges]
    return Range(np.min(np.stack(np.broadcast_arrays(*lows)), 0),
                 np.max(np.stack(np.broadcast_arrays(*highs)), 0))  # fmt: skip


def _slice(node: CNode) -> Range:
    """A part of the last axis has the ranges of its places."""
    (x,), found = node.inputs, range_of(node.inputs[0])
    part = slice(*(ints(node, name)[-1] for name in ("start", "limit", "strides")))
    return _columns(found, x.aval.shape[-1], part)


def _columns(found: Range, size: int, part: slice) -> Range:
    ends = (np.broadcast_to(each, (size,))[part] for each in (found.low, found.high))
    return Range(*ends)


def _place(node: CNode) -> Range:
    """Where the greatest or least along an axis is."""
    axis = node.attrs["axis"]
    size = node.inputs[0].aval.shape[axis] if isinstance(axis, int) else None
    return _below(size)


def _item(node: CNode) -> Range:
    """Where the greatest ones are, or a part of the last axis."""
    source, index = node.inputs[0], integer(node, "index")
    if not isinstance(source, CNode) or source.op not in ("Split", "TopK"):
        return EVERY
    shape = source.inputs[0].aval.shape
    if source.op == "TopK":
        return _below(shape[-1]) if index == 1 else EVERY
    if not all_known(shape):
        return EVERY
    found, sizes = range_of(source.inputs[0]), ints(source, "sizes")
    if integer(source, "axis") != len(shape) - 1:
        return found
    start = sum(sizes[:index])
    return _columns(found, shape[-1], slice(start, start + sizes[index]))


def _below(size: int | None) -> Range:
    if size is None or not is_known(size):
        return EVERY
    return Range(np.asarray(0), np.asarray(size - 1))


def _count(node: CNode) -> Range:
    return _below(node.aval.shape[0])


RULES: dict[str, Callable[[CNode], Range]] = {
    "Add": _add,
    "ArgMax": _place,
    "ArgMin": _place,
    "BitwiseAnd": _and,
    "BroadcastTo": _same,
    "Cast": _same,
    "Clip": _clip,
    "Concat": _concat,
    "Gather": _same,
    "GatherElements": _same,
    "Identity": _same,
    "Maximum": _extreme(np.maximum),
    "Minimum": _extreme(np.minimum),
    "Range": _count,
    "Reshape": _same,
    "Reverse": _same,
    "Select": _select,
    "ShiftRightArithmetic": _shift,
    "ShiftRightLogical": _shift,
    "Slice": _slice,
    "Sub": _sub,
    "Transpose": _same,
    "TupleGetItem": _item,
}
