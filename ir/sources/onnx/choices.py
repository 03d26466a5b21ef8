"""Choices between arrays that were written as reads of one of them become choices again.

Our writer has ONNX Runtime read ``[b, a]`` at c for ``where(c, a, b)``: ``passes/choices.py``. XLA
computes a choice together with what is around it, and a read alone.
"""

from collections.abc import Sequence

from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, Origin, before_reshapes, everywhere
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import BOOL
from fnckpt.ir.passes.rewrite import Any_, Op, rewrite, rewrites, scalar_of

MOST_STEPS = 16  # from an index to its condition
MOST_ROWS = 64

Shape = tuple[int, ...]

_ROWS = Op("Concat", name="rows", attrs={"axis": "along"}, users=0)


@rewrites(Op("GatherElements", _ROWS, Any_("index"), attrs={"axis": "axis"}))
def choose_row(root: CNode, rows: CNode, along: int, index: Node, axis: int) -> Node | None:
    """[b, a][c] is where(c, a, b), element by element, of a c that is 0 or 1."""
    parts, shape = rows.inputs, root.aval.shape
    if along != axis or len(parts) > MOST_ROWS or any(x.aval.shape != shape for x in parts):
        return None
    if shape[axis] != 1:
        return None
    found = _chosen([before_reshapes(each) for each in parts], index, root.origin)
    return None if found is None else _shaped(found, shape, root.origin)


def _chosen(parts: Sequence[Node], index: Node, origin: Origin) -> Node | None:
    """The part at ``index``; None where that is not made of conditions."""
    shape = parts[0].aval.shape
    for earlier, latest in _orders(index):
        found = _condition(latest)
        if found is None:
            continue
        which, place = found
        if not 0 < place < len(parts) or (earlier is None and place != 1):
            continue
        rest = parts[0] if earlier is None else _chosen(parts[:place], earlier, origin)
        if rest is not None:
            given = [_shaped(each, shape, origin) for each in (which, parts[place], rest)]
            return apply("Select", *given, origin=origin)
    return None


def _orders(index: Node) -> list[tuple[Node | None, Node]]:
    """An index alone; or the greater of an earlier and a later one, in both orders."""
    bare = before_reshapes(index)
    if not isinstance(bare, CNode) or bare.op != "Maximum":
        return [(None, index)]
    one, other = bare.inputs
    same = one.aval.shape == other.aval.shape
    return [(one, other), (other, one)] if same else []


def _condition(index: Node) -> tuple[Node, int] | None:
    """The c and the n of an index that is n where c, else 0."""
    place, moves = 1, list[CNode]()
    for _ in range(MOST_STEPS):
        if not isinstance(index, CNode):
            return None
        (first, *others), above = index.inputs, index
        if index.op in ("Reshape", "BroadcastTo"):
            moves.append(index)
        elif index.op == "Mul" and (number := scalar_of(others[0])) is not None:
            place = place * int(number)
        elif index.op == "Cast" and first.aval.dtype == BOOL:
            return _moved(first, moves), place
        else:
            return None
        index = first
        if above.op == "Mul" and first.aval.shape != above.aval.shape:
            return None
    return None


def _moved(node: Node, moves: Sequence[CNode]) -> Node:
    for move in reversed(moves):
        node = apply(move.op, node, origin=move.origin, **move.attrs)
    return node


def _shaped(node: Node, shape: Shape, origin: Origin) -> Node:
    bare = before_reshapes(node)
    if bare.aval.shape == shape:
        return bare
    if isinstance(bare, Constant):
        return Constant(bare.value.reshape(shape))
    return apply("Reshape", bare, origin=origin, shape=shape)


def with_choices(graph: FuncGraph) -> FuncGraph:
    """``graph`` with choices in place of such reads."""
    return everywhere(graph, lambda each: rewrite(each, (choose_row,)))
