"""What is done with every part of one value, done once with the whole; and all parts taken at once.

These look at all users of a value, so that they are passes of their own, not rules.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import pairwise

from fnckpt.ir.attributes import Ints, integer, ints, sizes
from fnckpt.ir.graph import CNode, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import apply, constant, item
from fnckpt.ir.passes.build import INT64, Build, known
from fnckpt.ir.passes.reshape import reshaped
from fnckpt.ir.passes.rewrite import Any_, Op, Weight, rewrite, rewrites
from fnckpt.ir.sizes import all_known

x, w, b = Any_("x"), Weight("w"), Weight("b")


@dataclass(frozen=True)
class Part:
    """The elements of ``source`` from ``start`` to before ``stop`` along ``axis``."""

    source: Node
    axis: int
    start: int
    stop: int


def part_of(node: Node) -> Part | None:
    """What part ``node`` is, where it is a slice along one axis."""
    if not isinstance(node, CNode) or node.op != "Slice" or set(ints(node, "strides")) != {1}:
        return None
    (source,), start, stop = node.inputs, sizes(node, "start"), sizes(node, "limit")
    cut = [i for i, n in enumerate(source.aval.shape) if (start[i], stop[i]) != (0, n)]
    if len(cut) != 1 or 0 in node.aval.shape:
        return None
    if not all_known((start[cut[0]], stop[cut[0]], source.aval.shape[cut[0]])):
        return None
    return Part(source, cut[0], start[cut[0]], stop[cut[0]])


def row_of(node: Node) -> Part | None:
    """What part ``node`` is, where it is one place along an axis, which a reshape drops."""
    if not isinstance(node, CNode) or node.op != "Reshape":
        return None
    part = part_of(node.inputs[0])
    if part is None or part.stop - part.start != 1:
        return None
    shape = part.source.aval.shape
    return part if node.aval.shape == shape[: part.axis] + shape[part.axis + 1 :] else None


@rewrites(
    Op(
        "Add",
        Op("Reshape", Op("Slice", Op("MatMul", x, w, users=0), users=0), name="part"),
        Op("Add", Op("MatMul", name="product"), b),
    )
)
def bias_of_parts(
    root: CNode, x: Node, w: Node, part: Node, product: CNode, b: Node
) -> Node | None:
    """part(x w) + (y u + b) is (part(x w) + b) + y u, so that the bias goes to the whole."""
    if part.aval != root.aval or b.aval.shape[-1:] != root.aval.shape[-1:]:
        return None
    build = Build(root)
    return build("Add", build("Add", part, b), product)


def join_parts(graph: FuncGraph) -> FuncGraph:
    """f(x[t], w) for every t is f(x, w)[t], for a product or a sum with a weight along the rows.

    A recurrent network that is written out multiplies its inputs of all steps at once.
    """
    while True:
        joined = _joined(rewrite(graph, (bias_of_parts,)))
        if joined is graph:
            return graph
        graph = joined


def _joined(graph: FuncGraph) -> FuncGraph:
    uses = {id(node): use for node in graph.cnodes() if (use := _use_of_row(node)) is not None}
    seen: dict[Hashable, set[int]] = {}
    for part, key in uses.values():
        seen.setdefault(key, set()).add(part.start)
    wholes: dict[Hashable, CNode] = {}

    def replaced(node: Node, new: dict[int, Node]) -> Node:
        result = rebuilt(node, new)
        if id(node) not in uses or not isinstance(result, CNode):
            return result
        part, key = uses[id(node)]
        if len(seen[key]) < part.source.aval.shape[part.axis]:
            return result
        if key not in wholes:
            inputs = (new[id(part.source)], result.inputs[1])
            wholes[key] = apply(result.op, *inputs, origin=result.origin, **result.attrs)
        return _row(wholes[key], part, result)

    return _mapped(graph, replaced)


def _use_of_row(node: CNode) -> tuple[Part, Hashable] | None:
    """The row that ``node`` computes with, and what all such nodes of one whole have in common."""
    if node.op not in ("MatMul", "Add"):
        return None
    rows, weight = node.inputs
    part = row_of(rows)
    if part is None or known(weight) is None or part.axis >= len(part.source.aval.shape) - 1:
        return None
    matrix = node.op == "MatMul" and not node.attrs["transpose_a"] and len(weight.aval.shape) == 2
    vector = node.op == "Add" and weight.aval.size == weight.aval.shape[-1] > 1
    if not (matrix or vector) or not (matrix or node.aval == rows.aval):
        return None
    return part, (node.op, id(part.source), part.axis, id(weight), *sorted(node.attrs.items()))


def _row(whole: CNode, part: Part, like: CNode) -> Node:
    start = tuple(part.start if i == part.axis else 0 for i in range(len(whole.aval.shape)))
    limit = tuple(part.stop if i == part.axis else n for i, n in enumerate(whole.aval.shape))
    build, ones = Build(like), (1,) * len(start)
    return reshaped(
        build("Slice", whole, start=start, limit=limit, strides=ones), like.aval.shape, like
    )


LEAST_ROWS = 4  # fewer take no fewer nodes


def split_slices(graph: FuncGraph) -> FuncGraph:
    """Slices that are all the parts of a value along one axis are the results of one Split."""
    return _split(graph, part_of, _split_along, least=1)


def split_rows(graph: FuncGraph) -> FuncGraph:
    """x[..., i] for every i is a part of one Split of x with that axis in front.

    The steps of a recurrent network that is written out: one node for all of them.
    """
    return _split(graph, _gathered, _split_in_front, least=LEAST_ROWS)


def _split(
    graph: FuncGraph,
    part: Callable[[CNode], Part | None],
    whole: Callable[[Node, int, Ints, CNode], CNode],
    *,
    least: int,
) -> FuncGraph:
    """``graph`` with the ``least`` or more nodes that are all the parts of a value as of one."""
    found = {id(node): each for node in graph.cnodes() if (each := part(node)) is not None}
    cuts: dict[Hashable, set[tuple[int, int]]] = {}
    for each in found.values():
        cuts.setdefault((id(each.source), each.axis), set()).add((each.start, each.stop))
    splits: dict[Hashable, CNode] = {}

    def replaced(node: Node, new: dict[int, Node]) -> Node:
        result = rebuilt(node, new)
        if id(node) not in found or not isinstance(result, CNode):
            return result
        each = found[id(node)]
        key = (id(each.source), each.axis)
        parts = sorted(cuts[key])
        if len(parts) < least or not _is_whole(parts, each.source.aval.shape[each.axis]):
            return result
        if key not in splits:
            lengths = tuple(stop - start for start, stop in parts)
            splits[key] = whole(new[id(each.source)], each.axis, lengths, result)
        return item(splits[key], parts.index((each.start, each.stop)))

    return _mapped(graph, replaced)


def _is_whole(parts: list[tuple[int, int]], size: int) -> bool:
    ends = [(0, 0), *parts, (size, size)]
    return all(before[1] == after[0] for before, after in pairwise(ends))


def _split_along(source: Node, axis: int, lengths: Ints, like: CNode) -> CNode:
    return Build(like)("Split", source, axis=axis, sizes=lengths)


def _gathered(node: CNode) -> Part | None:
    """What part ``node`` is, where it is one known place along an axis, which is dropped."""
    if node.op != "Gather" or len(node.inputs[0].aval.shape) < 2:
        return None
    source, index = node.inputs
    place = known(index)
    if place is None or place.ndim or place < 0 or not all_known(source.aval.shape):
        return None
    return Part(source, integer(node, "axis"), int(place), int(place) + 1)


def _split_in_front(source: Node, axis: int, lengths: Ints, like: CNode) -> CNode:
    """A Split of ``source`` with ``axis`` in front, joined with the next, so that parts lack it."""
    build, others = Build(like), [i for i in range(len(source.aval.shape)) if i != axis]
    rows, *rest = (source.aval.shape[i] for i in others)
    count = len(lengths)
    front = build.reshape(build.transpose(source, (axis, *others)), (count * rows, *rest))
    return build("Split", front, axis=0, sizes=(rows,) * count)


def reshape_rows(graph: FuncGraph) -> FuncGraph:
    """reshape(x[i:i + 1]) is reshape(x[i]), where others read x[i]."""
    rows = (_gathered(node) for node in graph.cnodes())
    there = {(id(row.source), row.axis, row.start) for row in rows if row is not None}

    def replaced(node: Node, new: dict[int, Node]) -> Node:
        result = rebuilt(node, new)
        if not isinstance(node, CNode) or not isinstance(result, CNode) or node.op != "Reshape":
            return result
        part = part_of(node.inputs[0])
        if part is None or part.stop - part.start != 1:
            return result
        if (id(part.source), part.axis, part.start) not in there:
            return result
        return reshaped(_row_of(new[id(part.source)], part, result), result.aval.shape, result)

    return _mapped(graph, replaced)


def _row_of(source: Node, part: Part, like: CNode) -> Node:
    """The one place along an axis that a part of ``source`` is, without that axis."""
    return Build(like)("Gather", source, constant(part.start, INT64), axis=part.axis)


def _mapped(graph: FuncGraph, replaced: Callable[[Node, dict[int, Node]], Node]) -> FuncGraph:
    """``graph`` with what ``replaced`` makes of each node, given what became of those before."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        new[id(node)] = replaced(node, new)
    return with_outputs(graph, new)


@rewrites("Reshape")
def gather_row(root: CNode) -> Node | None:
    """One place along an axis, which is dropped, is a Gather."""
    part = row_of(root)
    return None if part is None else _row_of(part.source, part, root)


@rewrites("TupleGetItem")
def compose_split(root: CNode) -> Node | None:
    """A part of a Split is a Slice."""
    (split,), index = root.inputs, integer(root, "index")
    if not isinstance(split, CNode) or split.op != "Split":
        return None
    lengths = ints(split, "sizes")
    start, axis = sum(lengths[:index]), integer(split, "axis")
    return Build(root).slice(split.inputs[0], axis, start, start + lengths[index])


FUSE = (gather_row,)
COMPOSE = (compose_split,)
