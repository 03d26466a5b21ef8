"""A short last axis, as an image's colours, goes to the front, where work is repeated along it.

A runtime repeats an operand in an inner loop over the last axis. Where that axis is three colours,
the loop's beginning and end cost more than its elements: in ONNX Runtime 1.32 ``x * grey`` of
``[2, 96, 96, 3]`` and ``[2, 96, 96, 1]`` takes 385 us, of ``[3, 2, 96, 96]`` and ``[1, 2, 96, 96]``
57. What is computed with such arrays is a region; a region is turned where its nodes gain more by
this than the transposes at its border cost. Looks at all users of a value, so that it is a pass.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from math import prod

from fnckpt.ir.attributes import Ints, integer, ints, sizes
from fnckpt.ir.graph import CNode, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import is_elementwise
from fnckpt.ir.operators.reduction import REDUCTIONS, SCANS
from fnckpt.ir.passes import reshape
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.longer_rows import SHORT, longer_rows, widened
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.sizes import is_known

LEAST = 4096  # elements
PAIRWISE = {"ReduceMax": "Maximum", "ReduceMin": "Minimum", "ReduceSum": "Add"}
MOST_PAIRWISE = 4  # parts that are combined one by one

# Nanoseconds in ONNX Runtime 1.32, 2 threads: LOOP and CUT are medians of 60 runs in turns, the
# others are rounded up, so that a single slice is not turned.
LOOP = 16.0  # to start the inner loop: of each row of a value that is repeated along the last axis
CUT = 6.0  # of each row, to cut out or join along the last axis
MOVED = 2.0  # of each element of a transpose, and of the two reshapes around it
NODE = 8000.0  # of each transpose


@dataclass(frozen=True)
class Step:
    """How an operator is computed with the last axis in front.

    Attributes:
      rank: of its inputs, with the axis.
      result: makes the node of inputs that are turned.
      gives: the rank of the result; 0 where the axis is gone in it, so that it is as it was.
      gain: nanoseconds.
    """

    rank: int
    result: Callable[[tuple[Node, ...]], Node]
    gives: int
    gain: float


def planes(graph: FuncGraph) -> FuncGraph:
    """``graph`` with each region that gains by it computed with the last axis in front."""
    nodes = graph.cnodes()
    steps = {id(node): step for node in nodes if (step := _step(node)) is not None}
    longer = {id(node): made for node in nodes if (made := longer_rows(node)) is not None}
    chosen = _worthwhile(graph, nodes, steps, longer)
    if not chosen and not longer:
        return graph
    turned: dict[tuple[int, int], Node] = {}
    new: dict[int, Node] = {}

    def in_front(node: Node, rank: int, like: CNode) -> Node:
        key = (id(node), rank)
        if key not in turned:
            turned[key] = _in_front(new[id(node)], rank, like)
        return turned[key]

    for node in graph.nodes():
        if not isinstance(node, CNode) or id(node) not in chosen:
            same = rebuilt(node, new)
            made = longer.get(id(node))
            new[id(node)] = made(same) if made and isinstance(same, CNode) else same
            continue
        step = steps[id(node)]
        result = step.result(tuple(in_front(n, step.rank, node) for n in node.inputs))
        if not step.gives:
            new[id(node)] = result
            continue
        turned[id(node), step.gives] = result
        count, *others = result.aval.shape
        new[id(node)] = _swapped(Build(node), result, 1, (*others, count))
    return rewrite(with_outputs(graph, new), reshape.RULES)


def _in_front(node: Node, rank: int, like: CNode) -> Node:
    """``node`` with ones before its shape up to ``rank``, and its last axis before these."""
    if not node.aval.shape:
        return node
    wide, build = widened(node, rank), Build(like)
    return _swapped(build, build.reshape(node, wide), rank - 1, (wide[-1], *wide[:-1]))


def _swapped(build: Build, node: Node, place: int, shape: Ints) -> Node:
    """``node`` with the axes before ``place`` behind the others: a matrix transposed.

    ONNX Runtime takes a transpose of all axes back, through what it was made for; over the
    reshapes it does not see.
    """
    whole = node.aval.shape
    rows, columns = prod(whole[:place]), prod(whole[place:])
    if rows == 1 or columns == 1:
        return build.reshape(node, shape)
    matrix = build.reshape(node, (rows, columns))
    return build.reshape(build.transpose(matrix, (1, 0)), shape)


def _step(node: CNode) -> Step | None:
    """How ``node`` is computed with its last axis in front; None where it is not."""
    if not all(map(_has_one_result, (node, *node.inputs))):
        return None
    make = _elementwise if is_elementwise(node) else STEPS.get(node.op)
    wide = (node.inputs[0],) if node.op in READS else (node,)
    if make is None or not all(map(_is_short, (*wide, *node.inputs[: node.op in MOVES]))):
        return None
    return make(node) if max(_count(n.aval.shape) for n in (node, *node.inputs)) >= LEAST else None


def _count(shape: Ints) -> int:
    """The elements of a shape, a symbolic size counted as 1: the least that there is to gain."""
    return prod(n for n in shape if is_known(n))


def _has_one_result(node: Node) -> bool:
    return not isinstance(node, CNode) or len(node.results) == 1


def _is_short(node: Node) -> bool:
    """Whether the last axis is short."""
    shape = node.aval.shape
    return len(shape) >= 2 and is_known(shape[-1]) and 0 < shape[-1] <= SHORT


def _elementwise(node: CNode) -> Step:
    shape, rank = node.aval.shape, len(node.aval.shape)

    def repeated(other: Node) -> bool:
        return shape[-1] > 1 and widened(other, rank)[-2:] not in (shape[-2:], (1, 1))

    loops = any(map(repeated, node.inputs))
    build = Build(node)
    return Step(
        rank,
        lambda inputs: build(node.op, *inputs, **node.attrs),
        rank,
        LOOP * _count(shape[:-1]) if loops else 0.0,
    )


def _entries(*names: str) -> Callable[[CNode], Step]:
    """Attributes with one entry an axis: that of the last axis goes in front, too."""

    def step(node: CNode) -> Step:
        moved = {name: (sizes(node, name)[-1], *sizes(node, name)[:-1]) for name in names}
        build, shape = Build(node), node.aval.shape
        cut = node.op == "Slice" and shape[-1] < node.inputs[0].aval.shape[-1]
        return Step(
            len(shape),
            lambda inputs: build(node.op, *inputs, **{**node.attrs, **moved}),
            len(shape),
            CUT * _count(shape[:-1]) if cut else 0.0,
        )

    return step


def _concat(node: CNode) -> Step:
    rank, build, axis = len(node.aval.shape), Build(node), integer(node, "axis")
    joined = CUT * _count(node.aval.shape[:-1]) if axis == rank - 1 else 0.0
    place = (axis + 1) % rank
    return Step(rank, lambda inputs: build("Concat", *inputs, axis=place), rank, joined)


def _reduction(node: CNode) -> Step | None:
    shape, build = node.inputs[0].aval.shape, Build(node)
    axes, keep, rank = ints(node, "axes"), node.attrs["keepdims"], len(shape)
    if not keep and rank - 1 not in axes:
        return None
    if axes == (rank - 1,) and node.op in PAIRWISE and shape[-1] <= MOST_PAIRWISE:
        return Step(rank, partial(_pairwise, node), rank if keep else 0, LOOP * _count(shape[:-1]))
    moved = tuple(sorted((axis + 1) % rank for axis in axes))
    return Step(
        rank,
        lambda inputs: build(node.op, *inputs, axes=moved, keepdims=keep),
        rank if keep else 0,
        0.0,
    )


def _pairwise(node: CNode, inputs: tuple[Node, ...]) -> Node:
    """max(x[0], x[1], ...): whole planes at once, and no node that looks for NaN."""
    (x,), build = inputs, Build(node)
    parts = [build.slice(x, 0, place, place + 1) for place in range(x.aval.shape[0])]
    result = reduce(lambda a, b: build(PAIRWISE[node.op], a, b), parts)
    kept = node.attrs["keepdims"]
    return result if kept else build.reshape(result, result.aval.shape[1:])


def _gathered(node: CNode) -> Step | None:
    """One known place along the last axis, which is dropped."""
    source, index = node.inputs
    rank, build = len(source.aval.shape), Build(node)
    if known(index) is None or index.aval.shape or integer(node, "axis") != rank - 1:
        return None
    return Step(
        rank,
        lambda inputs: build("Gather", inputs[0], index, axis=0),
        0,
        CUT * _count(node.aval.shape),
    )


def _scanned(node: CNode) -> Step | None:
    rank, axis, build = len(node.aval.shape), integer(node, "axis"), Build(node)
    attrs = {**node.attrs, "axis": axis + 1}
    if axis == rank - 1:
        return None
    return Step(rank, lambda inputs: build(node.op, *inputs, **attrs), rank, 0.0)


def _reshaped(node: CNode) -> Step | None:
    """The other axes alone are joined or split."""
    before, after, build = node.inputs[0].aval.shape, node.aval.shape, Build(node)
    if before[-1] != after[-1] or before[-1] == 1:
        return None
    shape = (after[-1], *after[:-1])
    return Step(len(before), lambda inputs: build.reshape(inputs[0], shape), len(after), 0.0)


def _transposed(node: CNode) -> Step | None:
    """The other axes alone change their places."""
    perm, build = ints(node, "perm"), Build(node)
    rank = len(perm)
    if perm[-1] != rank - 1:
        return None
    moved = (0, *(axis + 1 for axis in perm[:-1]))
    return Step(rank, lambda inputs: build.transpose(inputs[0], moved), rank, 0.0)


MOVES: dict[str, Callable[[CNode], Step | None]] = {
    "Concat": _concat,
    "Pad": _entries("low", "high"),
    "Reshape": _reshaped,
    "Slice": _entries("start", "limit", "strides"),
    "Transpose": _transposed,
    **dict.fromkeys(SCANS, _scanned),
}
READS: dict[str, Callable[[CNode], Step | None]] = {  # the short axis is that of the input
    "Gather": _gathered,
    **dict.fromkeys(REDUCTIONS, _reduction),
}
STEPS = {"BroadcastTo": _entries("shape"), **MOVES, **READS}


def _worthwhile(
    graph: FuncGraph, nodes: Iterable[CNode], steps: Mapping[int, Step], longer: Container[int]
) -> frozenset[int]:
    """The nodes, by id, of the regions that gain more than their borders cost.

    What ``longer`` rows gain, which cost nothing at the border, is no reason to turn a region.
    """
    here = [node for node in nodes if id(node) in steps]
    region = _regions(here, steps)
    gains: dict[int, float] = {}
    for node in here:
        gain = 0.0 if id(node) in longer else steps[id(node)].gain
        gains[region[id(node)]] = gains.get(region[id(node)], 0.0) + gain
    for key, cost in _borders(graph, steps, region).items():
        gains[key[0]] -= cost
    return frozenset(id(node) for node in here if gains[region[id(node)]] > 0)


def _reads(node: CNode, steps: Mapping[int, Step]) -> list[Node]:
    """The inputs of a node of a region that it reads turned, as the region computes them."""
    rank = steps[id(node)].rank
    return [n for n in node.inputs if id(n) in steps and steps[id(n)].gives == rank]


def _regions(here: Iterable[CNode], steps: Mapping[int, Step]) -> dict[int, int]:
    """The region of each node, as the id of one of its nodes."""
    parent = {id(node): id(node) for node in here}

    def root(key: int) -> int:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for node in here:
        for read in _reads(node, steps):
            parent[root(id(read))] = root(id(node))
    return {key: root(key) for key in parent}


def _borders(
    graph: FuncGraph, steps: Mapping[int, Step], region: Mapping[int, int]
) -> dict[tuple[int, int], float]:
    """What the transposes cost: by region and value, once each."""
    costs: dict[tuple[int, int], float] = {}
    for node in graph.cnodes():
        inside = _reads(node, steps) if id(node) in steps else []
        for each in node.inputs:
            if id(node) in steps and each not in inside:
                costs[region[id(node)], id(each)] = _cost(each, steps[id(node)].rank)
            if id(each) in steps and each not in inside and (gives := steps[id(each)].gives):
                costs[region[id(each)], id(each)] = _cost(each, gives)
    for node in graph.outputs:
        if id(node) in steps and (gives := steps[id(node)].gives):
            costs[region[id(node)], id(node)] = _cost(node, gives)
    return costs


def _cost(node: Node, rank: int) -> float:
    """Of one transpose; none where it is a reshape, or done at export."""
    wide = widened(node, rank)
    if known(node) is not None or wide[-1] == 1 or prod(wide[:-1]) == 1:
        return 0.0
    return NODE + MOVED * _count(wide)
