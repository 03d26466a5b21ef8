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
    divisor = _divisor(node)
    if divisor is not None:
        return _rest(a, Range(np.asarray(divisor), np.asarray(divisor)))
    return _rounded(a.low - b.high, a.high - b.low)


def _divisor(node: CNode) -> int | None:
    """The ``k`` of ``x - x / k * k``, which is a remainder in MindIR."""
    x, product = node.inputs
    if not isinstance(product, CNode) or product.op != "Mul":
        return None
    quotient, times = product.inputs
    if not isinstance(quotient, CNode) or quotient.op != "Div" or quotient.inputs[0] is not x:
        return None
    divisor = _number(quotient.inputs[1])
    return divisor if divisor == _number(times) else None


def _and(node: CNode) -> Range:
    """Not above what has no sign."""
    ends = [r.high for r in _fitting(node, node.inputs) if np.all(r.low >= 0)]
    return Range(np.asarray(0), ends[0] if len(ends) == 1 else np.minimum(*ends)) if ends else EVERY


def _shift(node: CNode) -> Range:
    """To the right by a known amount, of what has no sign."""
    x, amount = _fitting(node, node.inputs)
    known = np.all(amount.low == amount.high) and np.all(amount.low >= 0) and np.all(x.low >= 0)
    return Range(np.asarray(0), np.floor(x.high / 2.0**amount.low)) if known else EVERY


def _mul(node: CNode) -> Range:
    a, b = _fitting(node, node.inputs)
    with np.errstate(invalid="ignore"):  # nothing is known of 0 times infinity, which fits nothing
        ends = np.stack(
            np.broadcast_arrays(*(x * y for x in (a.low, a.high) for y in (b.low, b.high)))
        )
    return _rounded(ends.min(0), ends.max(0))


def _rem(node: CNode) -> Range:
    """The rest of a division by what is above 0 has the sign of what is divided, and is less."""
    return _rest(*_fitting(node, node.inputs))


def _rest(x: Range, y: Range) -> Range:
    if not np.all(y.low > 0):
        return EVERY
    low, high = np.minimum(x.low, 0), np.maximum(x.high, 0)
    return Range(np.maximum(low, 1 - y.high), np.minimum(high, y.high - 1))


def _select(node: CNode) -> Range:
    """``x < k`` says more of ``x`` itself, and of a sum with it: ``where(x < 0, x + n, x)``."""
    condition, *cases = node.inputs
    a, b = _fitting(node, cases)
    less = _less(condition)
    if less is not None and less[0].aval == node.aval:
        x, limit = less
        found = range_of(x)
        below = Range(found.low, np.minimum(found.high, limit - 1))
        above = Range(np.maximum(found.low, limit), found.high)
        a, b = _where(cases[0], a, x, below), _where(cases[1], b, x, above)
    return Range(np.minimum(a.low, b.low), np.maximum(a.high, b.high))


def _less(condition: Node) -> tuple[Node, int] | None:
    """The ``x`` and ``k`` of ``x < k``; also as JAX's remainder says it.

    That is ``((x < 0) != (k < 0)) and x != 0``, where it is known that k is not below 0.
    """
    if not isinstance(condition, CNode):
        return None
    if condition.op == "Less":
        x, limit = condition.inputs
        number = _number(limit)
        return None if number is None else (x, number)
    if condition.op not in ("LogicalAnd", "NotEqual"):
        return None
    for one, other in (condition.inputs, condition.inputs[::-1]):
        if condition.op == "NotEqual" and one.aval.dtype.kind == "b" and _number(other) == 0:
            return _less(one)
        found = _less(one) if condition.op == "LogicalAnd" else None
        if found is not None and found[1] == 0 and _is_unequal(other, found[0]):
            return found
    return None


def _number(node: Node) -> int | None:
    """The number that a constant is everywhere, repeated or not."""
    if isinstance(node, CNode) and node.op == "BroadcastTo":
        (node,) = node.inputs
    if not isinstance(node, Constant) or node.value.size == 0 or node.value.dtype.kind not in "iub":
        return None
    first = node.value.reshape(-1)[0]
    return int(first) if (node.value == first).all() else None


def _is_unequal(node: Node, x: Node) -> bool:
    """Whether ``node`` says that ``x`` is not 0."""
    if not isinstance(node, CNode) or node.op != "NotEqual":
        return False
    return any(a is x and _number(b) == 0 for a, b in (node.inputs, node.inputs[::-1]))


def _where(node: Node, found: Range, x: Node, own: Range) -> Range:
    """The range of ``node``, ``found`` elsewhere, in places where that of ``x`` is ``own``."""
    if node is x:
        return own
    if not isinstance(node, CNode) or node.op != "Add" or not any(x is n for n in node.inputs):
        return found
    parts = zip(node.inputs, _fitting(node, node.inputs), strict=True)
    a, b = (own if each is x else part for each, part in parts)
    return _fits(node, _rounded(a.low + b.low, a.high + b.high))


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
    "Mul": _mul,
    "Range": _count,
    "Rem": _rem,
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
