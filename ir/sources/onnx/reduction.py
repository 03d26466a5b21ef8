"""Operators that reduce or scan along axes."""

from collections.abc import Callable

import numpy as np

from fnckpt.ir.graph import Attr, Node
from fnckpt.ir.sources.build import INT64, Builder, axis_of
from fnckpt.ir.sources.onnx.registry import Site, imports

SUM_SINCE, OTHERS_SINCE = 13, 18  # when axes became an input

BEFORE: dict[str, Callable[[Builder, Node], Node]] = {
    "ReduceL1": lambda b, x: b("Abs", x),
    "ReduceL2": lambda b, x: b("Square", x),
    "ReduceSumSquare": lambda b, x: b("Square", x),
}
AFTER = {"ReduceL2": "Sqrt", "ReduceLogSum": "Log"}
SUMS = ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum")


@imports("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp",
         *SUMS)  # fmt: skip
def import_reduction(site: Site, x: Node, axes: Node | None = None) -> Node:
    b, op, rank = site.build, site.node.op_type, len(x.aval.shape)
    since = SUM_SINCE if op == "ReduceSum" else OTHERS_SINCE
    if site.opset >= since:
        given = () if axes is None else b.sizes(axes, "its axes")
    else:
        given = site.integers("axes", ())
    x = BEFORE[op](b, x) if op in BEFORE else x
    over = tuple(sorted(axis_of(axis, rank) for axis in given))
    if over or not site.flag("noop_with_empty_axes"):
        keep = site.flag("keepdims", True)
        ours = "ReduceSum" if op in SUMS else op
        x = b(ours, x, axes=over or tuple(range(rank)), keepdims=keep)
    return b(AFTER[op], x) if op in AFTER else x


@imports("ArgMax", "ArgMin")
def import_arg(site: Site, x: Node) -> Node:
    b, rank = site.build, len(x.aval.shape)
    axis = axis_of(site.integer("axis", 0), rank)
    last = site.flag("select_last_index")
    seen = b("Reverse", x, axes=(axis,)) if last else x
    found = b(site.node.op_type, seen, axis=axis, dtype=INT64)
    if last:
        found = b.sub(b.sizes_node(np.array(x.aval.shape[axis] - 1, object)), found)
    return b.unsqueeze(found, axis) if site.flag("keepdims", True) else found


@imports("CumSum", "CumProd")
def import_cumulative(site: Site, x: Node, axis: Node) -> Node:
    """What comes before an element alone, where it is ``exclusive``."""
    b, rank, op = site.build, len(x.aval.shape), site.node.op_type
    along = axis_of(b.size(axis, "its axis"), rank)
    backwards = site.flag("reverse")
    found = b(op, x, axis=along, reverse=backwards)
    if not site.flag("exclusive"):
        return found
    size = x.aval.shape[along]
    part = b.slice(found, along, *((1, size) if backwards else (0, size - 1)))
    low, high = [0] * rank, [0] * rank
    (high if backwards else low)[along] = 1
    return b.pad(part, low, high, b.number(0 if op == "CumSum" else 1, x))


@imports("TopK", since=10)
def import_top_k(site: Site, x: Node, k: Node) -> tuple[Node, Node]:
    return top_k(site, x, site.build.size(k, "how many it finds"))


@imports("TopK", since=1)
def import_old_top_k(site: Site, x: Node) -> tuple[Node, Node]:
    return top_k(site, x, site.integer("k"))


def top_k(site: Site, x: Node, k: int) -> tuple[Node, Node]:
    """The least ones are the greatest of what lies the other way round."""
    b, last = site.build, len(x.aval.shape) - 1
    axis = axis_of(site.integer("axis", -1), last + 1)
    rows = b.moved(x, axis, last)
    largest = site.flag("largest", True)
    turn = "Neg" if x.aval.dtype.kind not in "iu" else "BitwiseNot"
    as_wanted = site.flag("sorted", True) or not site.ours
    order: dict[str, Attr] = {} if as_wanted else {"ordered": False}
    values, places = b.items("TopK", rows if largest else b(turn, rows), k=k, **order)
    values = values if largest else b(turn, values)
    return b.moved(values, last, axis), b.cast(b.moved(places, last, axis), INT64)


@imports("Hardmax", since=13)
def import_hardmax(site: Site, x: Node) -> Node:
    b = site.build
    axis = axis_of(site.integer("axis", -1), len(x.aval.shape))
    return hardmax(b, x, axis)


@imports("Hardmax", since=1)
def import_old_hardmax(site: Site, x: Node) -> Node:
    b = site.build
    axis = axis_of(site.integer("axis", 1), len(x.aval.shape))
    return b.reshape(hardmax(b, flattened(b, x, axis), 1), x.aval.shape)


def hardmax(b: Builder, x: Node, axis: int) -> Node:
    """1 at the first greatest element, 0 elsewhere."""
    sizes = [1] * len(x.aval.shape)
    sizes[axis] = x.aval.shape[axis]
    first = b.unsqueeze(b("ArgMax", x, axis=axis, dtype=INT64), axis)
    chosen = b("Equal", first, b.reshape(b.counted(sizes[axis]), sizes))
    return b.cast(chosen, x.aval.dtype)


def flattened(b: Builder, x: Node, axis: int) -> Node:
    """The axes before ``axis`` as one, and those from it on as another."""
    before, after = x.aval.shape[:axis], x.aval.shape[axis:]
    return b.reshape(x, (np.prod(before, dtype=object), np.prod(after, dtype=object)))
