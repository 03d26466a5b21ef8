"""Slices that begin at computed places: one row is read or written, not every element of it."""

from fnckpt.ir.attributes import ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.build import INT32, Build, known
from fnckpt.ir.passes.rewrite import Rule, rewrites


@rewrites("DynamicUpdateSlice")
def update_slice_by_rows(root: CNode) -> Node:
    """Written by rows of coordinates; the last axes that are replaced whole need none."""
    (x, update, starts), build = root.inputs, Build(root)
    shape = update.aval.shape
    depth = max((i + 1 for i, n in enumerate(shape) if n != x.aval.shape[i]), default=0)
    if depth == 0:
        return update
    grid = build.coordinates(shape[:depth], starts.aval.dtype)
    first = build.slice(starts, 0, 0, depth)
    return build("ScatterNd", x, build("Add", grid, first), update, reduction="")


@rewrites("DynamicSlice")
def gather_one_row(root: CNode) -> Node | None:
    """x[..., i:i + 1, ...] is gather(x, i), where i is one of several starts, perhaps clipped."""
    x, starts = root.inputs
    cut = [i for i, n in enumerate(ints(root, "sizes")) if n != x.aval.shape[i]]
    if len(cut) != 1 or root.aval.shape[cut[0]] != 1 or starts.aval.dtype != INT32:
        return None
    place, build = _clipped(starts, cut[0], root), Build(root)
    place = _element(starts, cut[0], root) if place is None else place
    if place is None:
        return None
    return build.reshape(build("Gather", x, place, axis=cut[0]), root.aval.shape)


def _clipped(starts: Node, place: int, root: CNode) -> Node | None:
    """Element ``place`` of ``min(max(starts, a), b)`` as one number."""
    if not isinstance(starts, CNode) or starts.op != "Minimum":
        return None
    lower, most = _and_number(starts, place)
    if not isinstance(lower, CNode) or lower.op != "Maximum":
        return None
    free, least = _and_number(lower, place)
    number = None if free is None else _element(free, place, root)
    if number is None or most is None or least is None:
        return None
    return apply("Clip", number, origin=root.origin, low=least, high=most)


def _and_number(node: CNode, place: int) -> tuple[Node | None, int | None]:
    """What is combined with a vector that is known, and that vector's element."""
    for given, other in (node.inputs, node.inputs[::-1]):
        value = known(given)
        if value is not None:
            return other, int(value.reshape(-1)[place if value.size > 1 else 0])
    return None, None


def _element(vector: Node, place: int, root: CNode) -> Node | None:
    """Element ``place`` of a vector that is joined of single ones, as a number."""
    if isinstance(vector, CNode) and vector.op == "Concat":
        if any(part.aval.size != 1 for part in vector.inputs):
            return None
        vector = vector.inputs[place]
    return Build(root).reshape(vector, ()) if vector.aval.size == 1 else None


READ: tuple[Rule, ...] = (gather_one_row,)
