"""Loops that count to a known number become scans: what JAX derives backwards, and writes as rows.

MindIR has one kind of loop. A scan is written as one that counts, reads the row of its number, and
writes its results at that place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import graph as graph_of
from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import (
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    before_reshapes,
    everywhere,
    ordered,
    rebuilt,
    with_outputs,
)
from fnckpt.ir.operators import apply, items
from fnckpt.ir.passes import reshape
from fnckpt.ir.passes.build import known
from fnckpt.ir.passes.rewrite import rewrite, scalar_of


@dataclass(frozen=True)
class Counted:
    """A loop that goes on while the carry at ``place``, 0, 1, 2, ..., is below ``length``."""

    loop: CNode
    body: FuncGraph
    place: int
    length: int

    @property
    def counter(self) -> Parameter:
        """The number of the trip, in the body."""
        return self.body.inputs[self.place]

    def row_of(self, index: Node) -> bool | None:
        """Whether an index is that of a row from behind, False from the front, None if neither."""
        if index is self.counter:
            return False
        if not isinstance(index, CNode) or index.op != "Sub" or index.inputs[1] is not self.counter:
            return None
        return True if scalar_of(index.inputs[0]) == self.length - 1 else None


def with_scans(graph: FuncGraph) -> FuncGraph:
    """``graph`` with scans in place of such loops."""
    plain = everywhere(graph, lambda each: rewrite(each, reshape.IN_OWN_DTYPE))
    return everywhere(plain, _with_scans)


def _with_scans(graph: FuncGraph) -> FuncGraph:
    new: dict[int, Node] = {}
    results: dict[int, Sequence[Node]] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        counted = _counted(result) if isinstance(result, CNode) else None
        if counted is not None:
            found = _scanned(counted)
            if found is not None:
                results[id(node)] = found
        elif isinstance(node, CNode) and node.op == "TupleGetItem":
            source = results.get(id(node.inputs[0]))
            result = result if source is None else source[integer(node, "index")]
        new[id(node)] = result
    return with_outputs(graph, new)


def _counted(loop: CNode) -> Counted | None:
    if loop.op != "While" or integer(loop, "captured") or len(loop.results) < 2:
        return None
    cond, body = graph_of(loop, "cond"), graph_of(loop, "body")
    (less,) = cond.outputs
    if not isinstance(less, CNode) or less.op != "Less" or less.inputs[0] not in cond.inputs:
        return None
    place, limit = cond.inputs.index(less.inputs[0]), scalar_of(less.inputs[1])
    after = body.outputs[place]
    if scalar_of(loop.inputs[place]) != 0 or limit is None or limit < 1 or less.aval.shape:
        return None
    if less.inputs[1].aval.dtype.kind != "i" or not isinstance(after, CNode) or after.op != "Add":
        return None
    one = [each for each in after.inputs if each is not body.inputs[place]]
    counts = len(one) == 1 and scalar_of(one[0]) == 1
    return Counted(loop, body, place, int(limit)) if counts else None


@dataclass(frozen=True)
class Parts:
    """What a loop reads and writes by rows: the nodes that read, and what it writes by carry."""

    reads: tuple[CNode, ...]
    writes: dict[int, Node]
    reverse: bool


def _parts(counted: Counted) -> Parts | None:
    """None where rows are read from both ends."""
    body = counted.body
    same = {i for i, each in enumerate(body.inputs) if body.outputs[i] is each}
    nodes = [node for node in body.nodes() if isinstance(node, CNode)]
    reads = [
        (node, turned) for node in nodes
        if node.op == "Gather" and node.attrs["axis"] == 0 and not node.inputs[1].aval.shape
        and (
            known(node.inputs[0]) is not None
            or any(node.inputs[0] is body.inputs[i] for i in same)
        )
        and node.inputs[0].aval.shape[0] == counted.length
        and (turned := counted.row_of(node.inputs[1])) is not None
    ]  # fmt: skip
    writes = {
        i: found for i in range(len(body.inputs))
        if (found := _written(counted, i, nodes)) is not None
    }  # fmt: skip
    directions = {turned for _, turned in reads} | {turned for _, turned in writes.values()}
    if len(directions) > 1:
        return None
    return Parts(tuple(node for node, _ in reads), {i: row for i, (row, _) in writes.items()},
                 True in directions)  # fmt: skip


def _written(counted: Counted, i: int, nodes: Sequence[CNode]) -> tuple[Node, bool] | None:
    """The row that each trip writes to a carry, and whether from behind; it does nothing else."""
    carry, node = counted.body.inputs[i], counted.body.outputs[i]
    if not isinstance(node, CNode) or node.op != "ScatterNd" or node.attrs["reduction"]:
        return None
    array, at, rows = node.inputs
    users = [each for each in nodes if any(x is carry for x in each.inputs)]
    if array is not carry or users != [node] or carry.aval.shape[0] != counted.length:
        return None
    if any(each is node for other in nodes for each in other.inputs):
        return None
    if sum(each is node for each in counted.body.outputs) > 1 or at.aval.shape != (1, 1):
        return None
    turned = counted.row_of(before_reshapes(at))
    return None if turned is None else (rows, turned)


def _scanned(counted: Counted) -> Sequence[Node] | None:
    """What stands for each result of the loop."""
    parts, loop, body = _parts(counted), counted.loop, counted.body
    if parts is None:
        return None
    rows = [Parameter(f"row{i}", node.aval) for i, node in enumerate(parts.reads)]
    new: dict[int, Node] = dict(zip(map(id, parts.reads), rows, strict=True))
    for node in body.nodes():
        new.setdefault(id(node), rebuilt(node, new))
    after = [new[id(each)] for each in body.outputs]
    written = [_row(new[id(row)]) for row in parts.writes.values()]
    count = counted.place
    carries = [i for i in range(len(after)) if i not in parts.writes and i != count]
    changed = (after[i] for i in carries if after[i] is not body.inputs[i])
    needed = ordered([*changed, *written])
    if any(node is counted.counter for node in needed):
        carries = sorted([*carries, count])
    same = [i for i in carries if after[i] is body.inputs[i]]
    captured = [i for i in same if any(node is body.inputs[i] for node in needed)]
    carried = [i for i in carries if i not in same]
    if not carried and not written:
        return None
    stacks = [_stack(counted, node) for node in parts.reads]
    outputs = (*(after[i] for i in carried), *written)
    scan = apply(
        "Scan",
        *(loop.inputs[i] for i in (*captured, *carried)),
        *stacks,
        origin=loop.origin,
        body=FuncGraph(
            body.name, (*(body.inputs[i] for i in (*captured, *carried)), *rows), outputs,
            tuple(f"out{i}" for i in range(len(outputs))),
        ),
        captured=len(captured),
        carried=len(carried),
        length=counted.length,
        reverse=parts.reverse,
    )  # fmt: skip
    found: dict[int, Node] = {i: loop.inputs[i] for i in same}
    found |= zip((*carried, *parts.writes), items(scan), strict=True)
    end = Constant(np.asarray(counted.length, loop.results[count].dtype))
    return [found.get(i, end) for i in range(len(loop.results))]


def _stack(counted: Counted, read: CNode) -> Node:
    """What a body reads rows of, outside of the loop."""
    (stack, _) = read.inputs
    if known(stack) is not None:  # a body uses it from outside as it is
        return stack
    return counted.loop.inputs[next(i for i, x in enumerate(counted.body.inputs) if x is stack)]


def _row(rows: Node) -> Node:
    """The one row of what is written."""
    shape = rows.aval.shape[1:]
    if isinstance(rows, CNode) and rows.op == "Reshape" and rows.inputs[0].aval.shape == shape:
        return rows.inputs[0]
    return apply("Reshape", rows, shape=shape)
