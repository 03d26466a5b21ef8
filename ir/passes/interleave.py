"""Arrays whose places alternate: a sum of two padded ones is the two side by side.

``lax.associative_scan`` puts its even and its odd results together as the sum of both, each spread
out and padded with zeros. That is a join along a new axis, and a reshape.
"""

from dataclasses import dataclass

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Op, Rule, scalar_of


@dataclass(frozen=True)
class Spread:
    """An array with a zero behind each place but the last, and perhaps at its ends.

    Attributes:
      x: what is not zero.
      axis: along which it is spread.
      first: the place of its first element, 0 or 1.
    """

    x: Node
    axis: int
    first: int


def interleave(root: CNode) -> Node | None:
    """A sum of what stands at the even places and what stands at the odd ones."""
    one, two = map(_spread, root.inputs)
    if one is None or two is None or one.axis != two.axis or one.first == two.first:
        return None
    even, odd = (one.x, two.x) if two.first else (two.x, one.x)
    axis, build = one.axis, Build(root)
    count, rest = odd.aval.shape[axis], even.aval.shape[axis] - odd.aval.shape[axis]
    if rest not in (0, 1) or root.aval.shape[axis] != 2 * count + rest:
        return None
    before, after = root.aval.shape[:axis], root.aval.shape[axis + 1 :]
    shape = (*before, count, 1, *after)
    columns = [build.reshape(x, shape) for x in (build.slice(even, axis, 0, count), odd)]
    whole = build.reshape(build("Concat", *columns, axis=axis + 1), (*before, 2 * count, *after))
    if not rest:
        return whole
    return build("Concat", whole, build.slice(even, axis, count, count + 1), axis=axis)


def _spread(node: Node) -> Spread | None:
    found = _padded(node)
    if found is None:
        between = _between(node)
        return None if between is None else Spread(*between, 0)
    inner, axis, low, high = found
    if low > 1 or high > 1:
        return None
    between = _between(inner)
    if between is not None:
        return Spread(between[0], axis, low) if between[1] == axis else None
    return Spread(inner, axis, low) if inner.aval.shape[axis] == 1 else None


def _padded(node: Node) -> tuple[Node, int, int, int] | None:
    """What is padded with zeros along one axis, that axis, and how many at its ends."""
    if not isinstance(node, CNode) or node.op != "Pad" or scalar_of(node.inputs[1]) != 0:
        return None
    low, high = ints(node, "low"), ints(node, "high")
    axes = [axis for axis, ends in enumerate(zip(low, high, strict=True)) if any(ends)]
    return (node.inputs[0], axes[0], low[axes[0]], high[axes[0]]) if len(axes) == 1 else None


def _between(node: Node) -> tuple[Node, int] | None:
    """What has a zero behind each place but the last, and along which axis."""
    if not isinstance(node, CNode) or node.op != "Slice":
        return None
    (whole,) = node.inputs
    cut = _cut_by_one(node, whole.aval.shape)
    if cut is None or not isinstance(whole, CNode) or whole.op != "Reshape":
        return None
    found = _padded(whole.inputs[0])
    if found is None or found[1:] != (cut + 1, 0, 1):
        return None
    column, shape = found[0], list(whole.aval.shape)
    shape[cut] //= 2
    if column.aval.shape != (*shape[: cut + 1], 1, *shape[cut + 1 :]):
        return None
    return Build(node).reshape(column, tuple(shape)), cut


def _cut_by_one(node: CNode, shape: Ints) -> int | None:
    """The axis whose last place is cut off; None where anything else is."""
    if any(ints(node, "start")) or any(stride != 1 for stride in ints(node, "strides")):
        return None
    cut = [
        axis
        for axis, (n, limit) in enumerate(zip(shape, ints(node, "limit"), strict=True))
        if n != limit
    ]
    return cut[0] if len(cut) == 1 and shape[cut[0]] - ints(node, "limit")[cut[0]] == 1 else None


RULES = tuple(Rule(Op(op), interleave) for op in ("Add", "LogicalOr"))
