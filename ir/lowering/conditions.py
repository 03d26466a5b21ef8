"""The conditions that a choice by an index was made of.

``jnp.select`` takes the first condition that holds, ``jnp.piecewise`` the last one; both stack the
conditions, find the place of a greatest one, and choose by it. A choice by each condition itself
needs neither the stack nor the places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.lowering.ranges import range_of


@dataclass(frozen=True)
class Conditions:
    """An index is the place of the ``first`` row that holds, or else of the last; 0 if none does.

    Attributes:
      rows: booleans, each of shape ``[1, ...]`` for an index of shape ``[...]``.
    """

    rows: Sequence[Node]
    first: bool


def conditions_of(which: Node) -> Conditions | None:
    """What ``which`` was made of; None if it is no such index."""
    places = _unclamped(which)
    if not isinstance(places, CNode) or places.op != "ArgMax" or integer(places, "axis") != 0:
        return None
    stack, first = _uncast(places.inputs[0]), True
    if isinstance(stack, CNode) and stack.op == "CumSum":
        if integer(stack, "axis") != 0 or stack.attrs["reverse"] or not _counts(stack):
            return None
        stack, first = _uncast(stack.inputs[0]), False  # the greatest sum begins at the last
    rows = _rows(stack)
    alike = all(row.aval.dtype.kind == "b" and row.aval.shape[0] == 1 for row in rows)
    return Conditions(rows, first) if alike else None


def _counts(sums: CNode) -> bool:
    """Whether its type holds the number of rows: any integer does, up to 127."""
    return sums.aval.dtype.kind in "iu" and sums.aval.shape[0] < 128


def _unclamped(which: Node) -> Node:
    """``which`` without limits that it is within."""
    while isinstance(which, CNode) and which.op in ("Maximum", "Minimum") and _is_within(which):
        which, _ = which.inputs
    return which


def _is_within(limited: CNode) -> bool:
    """Whether a limit, its second input, changes nothing."""
    x, limit = map(range_of, limited.inputs)
    return bool(np.all(x.low >= limit.high if limited.op == "Maximum" else x.high <= limit.low))


def _rows(stack: Node) -> list[Node]:
    """What is joined along the first axis, by one operator or several."""
    rows, parts = list[Node](), [stack]
    while parts:
        part = parts.pop(0)
        if isinstance(part, CNode) and part.op == "Concat" and integer(part, "axis") == 0:
            parts[:0] = part.inputs
        else:
            rows.append(part)
    return rows


def _uncast(node: Node) -> Node:
    """The booleans that zeros and ones come from."""
    if not isinstance(node, CNode) or node.op != "Cast":
        return node
    (x,) = node.inputs
    return x if x.aval.dtype.kind == "b" else node
