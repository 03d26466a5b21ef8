"""Masks of a scan that say how long each sequence is.

A body that keeps its state where a step is past the end of a sequence is the body without the
mask, run for the steps of each sequence alone: ``state = where(t < length, new, state)``. Only a
comparison of the steps' own numbers with numbers that stay the same is such a mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fnckpt.ir.attributes import size
from fnckpt.ir.graph import CNode, Constant, Node, before_reshapes, ordered
from fnckpt.ir.passes.affine import through
from fnckpt.ir.passes.build import INT32, Build
from fnckpt.ir.passes.cells import Body
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.sizes import is_known

# What a stack has past the end of a sequence: 0, the last state, or 0 times the last state.
Past = Literal["zero", "held", "times zero"]


@dataclass(frozen=True)
class Lengths:
    """How long the sequences are.

    Attributes:
      counts: ``int32[batch]``, none below 0 or above the steps.
      past: of each stack, what it has past the end.
    """

    counts: Node
    past: tuple[Past, ...]


@dataclass(frozen=True)
class _Mask:
    """The condition of a Select; ``live``: whether a step that it holds for counts."""

    node: Node
    live: bool

    def parts(self, node: Node) -> tuple[Node, Node] | None:
        """What ``node`` is in a step that counts and in one that does not."""
        if not isinstance(node, CNode) or node.op != "Select":
            return None
        condition, one, two = node.inputs
        if condition is not self.node:
            return None
        return (one, two) if self.live else (two, one)


def unmasked(body: Body) -> tuple[Body, Lengths | None]:
    """The body without its mask, and the lengths that this says; itself where there is none."""
    mask = _mask_of(body)
    news = [] if mask is None else [mask.parts(node) for node in body.outputs[: len(body.carries)]]
    if mask is None or any(
        new is None or new[1] is not old for new, old in zip(news, body.carries, strict=True)
    ):
        return body, None
    states = [new[0] for new in news if new is not None]
    shown = [_shown(each, mask, body, states) for each in body.outputs[len(states) :]]
    known = [each for each in shown if each is not None]
    counts = _counts(body, mask) if len(known) == len(shown) else None
    if counts is None:
        return body, None
    plain = replace(body, outputs=[*states, *(state for state, _ in known)])
    return plain, Lengths(counts, tuple(past for _, past in known))


def _mask_of(body: Body) -> _Mask | None:
    """That of the first state."""
    first = body.outputs[0] if body.carries else None
    if not isinstance(first, CNode) or first.op != "Select":
        return None
    condition, _, past = first.inputs
    return _Mask(condition, live=past is body.carries[0])


def _shown(node: Node, mask: _Mask, body: Body, states: Sequence[Node]) -> tuple[Node, Past] | None:
    """The state that a stack is of, and what it has past the end."""
    times = _without_factor(node, mask, body)
    both = mask.parts(node if times is None else times)
    if both is None:
        return None
    new, past = both
    if times is None and scalar_of(past) == 0:
        inner = mask.parts(new)
        return (new if inner is None else inner[0]), "zero"
    place = next((i for i, state in enumerate(states) if state is new), None)
    if place is None or past is not body.carries[place]:
        return None
    return new, "held" if times is None else "times zero"


def _without_factor(node: Node, mask: _Mask, body: Body) -> Node | None:
    """What is multiplied with the mask as 1 or 0."""
    if not isinstance(node, CNode) or node.op != "Mul" or not mask.live:
        return None
    wanted = _stacked(body, mask.node)
    one, two = node.inputs
    for value, factor in ((one, two), (two, one)):
        cast = _stacked(body, factor)
        if isinstance(cast, CNode) and cast.op == "Cast" and _stacked(body, *cast.inputs) is wanted:
            return value
    return None


def _stacked(body: Body, node: Node) -> Node:
    """``node`` before reshapes; where that is a row, the stack that it is of."""
    node = before_reshapes(node)
    return before_reshapes(body.stacks.get(id(node), node))


# ------------------------------------------------------------------------------------ the lengths

# A comparison of the number of a step with a bound: whether the steps that it holds for are the
# first ones, and how many more than the bound these are.
COMPARES = {
    "Less": (True, 0),
    "LessEqual": (True, 1),
    "GreaterEqual": (False, 0),
    "Greater": (False, 1),
}
SWAPPED = {
    "Less": "Greater",
    "LessEqual": "GreaterEqual",
    "GreaterEqual": "LessEqual",
    "Greater": "Less",
}


def _counts(body: Body, mask: _Mask) -> Node | None:
    """The length of each sequence, where the mask compares steps with lengths."""
    state, given = body.carries[0].aval, mask.node.aval
    batch = state.size // state.shape[-1] if state.shape else 0
    of_features = bool(given.shape) and not _is_one(given.shape[-1])
    found = None if of_features else _compared(body, before_reshapes(mask.node))
    if found is None:
        return None
    op, first, bound = found
    live, more = COMPARES[op]
    fits = _has_one_axis(bound) and (_is_one(bound.aval.size) or bound.aval.size == batch)
    if live is not mask.live or not fits or bound.aval.dtype.kind not in "iu":
        return None
    build = Build(body.scan)
    counts = _within(build, bound, more - first, size(body.scan, "length"))
    return build.broadcast(build.reshape(counts, (counts.aval.size,)), (batch,))


def _compared(body: Body, condition: Node) -> tuple[str, int, Node] | None:
    """The comparison, as of a step on its left; the number of the first step; and the bound."""
    stack = body.stacks.get(id(condition))
    node, axis = (condition, None) if stack is None else through(stack, 0)
    if not isinstance(node, CNode) or node.op not in COMPARES:
        return None
    one, two = node.inputs
    for op, steps, bound in ((node.op, one, two), (SWAPPED[node.op], two, one)):
        if axis is None:
            first, stays = _row_from(body, steps), _is_outside(body, bound)
        else:
            first = _counted_from(steps) if _varies(node, steps, axis) else None
            stays = not _varies(node, bound, axis)
        if first is not None and stays:
            return op, first, bound
    return None


def _row_from(body: Body, node: Node) -> int | None:
    """The first of the numbers of steps, where ``node`` is one of these in each step."""
    stack = body.stacks.get(id(before_reshapes(node)))
    return None if stack is None or not _is_one(node.aval.size) else _counted_from(stack)


def _counted_from(node: Node) -> int | None:
    """The first of numbers along one axis that go up by 1."""
    node = before_reshapes(node)
    if node.aval.dtype.kind not in "iu":
        return None
    if isinstance(node, CNode) and node.op == "Cast" and node.aval.dtype.itemsize >= INT32.itemsize:
        return _counted_from(*node.inputs)
    if isinstance(node, CNode):
        return 0 if node.op == "Range" else None
    if not isinstance(node, Constant) or not _has_one_axis(node) or not node.value.size:
        return None
    numbers = [int(number) for number in node.value.ravel()]
    first = numbers[0]
    return first if numbers == list(range(first, first + len(numbers))) else None


def _varies(result: Node, node: Node, axis: int) -> bool:
    """Whether an input of ``result`` has more than one element along an axis of that."""
    place = axis - len(result.aval.shape) + len(node.aval.shape)
    return place >= 0 and not _is_one(node.aval.shape[place])


def _is_one(size: int) -> bool:
    return is_known(size) and size == 1


def _has_one_axis(node: Node) -> bool:
    """Whether at most one axis has more than one element."""
    return sum(not _is_one(size) for size in node.aval.shape) <= 1


def _is_outside(body: Body, node: Node) -> bool:
    """Whether ``node`` is the same in each step."""
    changes = {*map(id, body.carries), *body.stacks}
    return all(id(each) not in changes for each in ordered([node]))


def _within(build: Build, bound: Node, more: int, steps: int) -> Node:
    """``bound + more`` as int32, none below 0 or above ``steps``."""
    if not _is_within(bound, -more, steps - more):
        bound = _clipped(build, bound, -more, steps - more)
    counts = build.cast(bound, INT32)
    return build("Add", counts, build.number(more, counts)) if more else counts


def _clipped(build: Build, bound: Node, low: int, high: int) -> Node:
    bound = bound if bound.aval.dtype.itemsize >= INT32.itemsize else build.cast(bound, INT32)
    least = max(low, int(np.iinfo(bound.aval.dtype).min))
    most = (
        build.number(high, bound)
        if is_known(high)
        else build.cast(build("Sizes", sizes=(high,), dtype=INT32), bound.aval.dtype)
    )
    return build("Minimum", build("Maximum", bound, build.number(least, bound)), most)


def _is_within(node: Node, low: int, high: int) -> bool:
    """Whether ``node`` is written as a number between the two, as a file of ours has it."""
    node = before_reshapes(node)
    if not isinstance(node, CNode) or node.op != "Minimum" or not is_known(high):
        return False
    inner, most = node.inputs
    if not isinstance(inner, CNode) or inner.op != "Maximum":
        return False
    least, most = scalar_of(inner.inputs[1]), scalar_of(most)
    return least is not None and most is not None and low <= least and most <= high
