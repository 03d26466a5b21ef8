"""What a scan does with each row alone, done with all rows at once, before it.

f(x[t], w) for every t is f(x, w)[t]: one large product in place of many small ones. What only makes
results that are stacked is after the loop already (``fnckpt.ir.lowering.fission``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fnckpt.ir.attributes import Ints, flag, graph, integer, ints, size, sizes
from fnckpt.ir.graph import (
    Aval,
    CNode,
    FuncGraph,
    Node,
    Parameter,
    inputs_of,
    rebuilt,
    with_graphs,
    with_outputs,
)
from fnckpt.ir.operators import is_elementwise, items
from fnckpt.ir.passes.build import Build
from fnckpt.ir.sizes import at_most

BROADCASTS = frozenset({"Add", "Div", "Maximum", "Minimum", "Mul", "Sub"})
MOVES = frozenset({"Reshape", "Slice", "Transpose"})


@dataclass(frozen=True)
class Value:
    """A value of the body as it is outside: the same in each trip, or the stack of all trips."""

    node: Node
    is_stack: bool


# ------------------------------------------------------------------------- one node, on the stacks


def _on_stacks(node: CNode, given: Sequence[Value], time: int) -> Node | None:
    """``node`` of every trip as one node, given its inputs; None where it is not known how."""
    if not any(value.is_stack for value in given):
        return None
    rule = RULES.get(node.op, _elementwise if is_elementwise(node) else None)
    return None if rule is None else rule(node, given, time)


def _elementwise(node: CNode, given: Sequence[Value], time: int) -> Node | None:
    if len(given) > 1 and node.op not in BROADCASTS:
        return None
    build, rank = Build(node), len(node.aval.shape)

    def spread(value: Value) -> Node:
        shape = value.node.aval.shape
        ones = (1,) * (rank - len(shape) + 1)
        return (
            build.reshape(value.node, (time, *ones, *shape[1:])) if value.is_stack else value.node
        )

    return build(node.op, *map(spread, given), **node.attrs)


def _product(node: CNode, given: Sequence[Value], time: int) -> Node | None:
    """x[t] w."""
    rows, weight = given
    if not rows.is_stack or weight.is_stack or flag(node, "transpose_a"):
        return None
    if len(weight.node.aval.shape) != 2:
        return None
    return Build(node)("MatMul", rows.node, weight.node, **node.attrs)


def _reshape(node: CNode, given: Sequence[Value], time: int) -> Node:
    return Build(node).reshape(given[0].node, (time, *node.aval.shape))


def _transpose(node: CNode, given: Sequence[Value], time: int) -> Node:
    perm: Ints = (0, *(axis + 1 for axis in ints(node, "perm")))
    return Build(node).transpose(given[0].node, perm)


def _slice(node: CNode, given: Sequence[Value], time: int) -> Node:
    start, limit = (0, *sizes(node, "start")), (time, *sizes(node, "limit"))
    strides = (1, *ints(node, "strides"))
    return Build(node)("Slice", given[0].node, start=start, limit=limit, strides=strides)


RULES: dict[str, Callable[[CNode, Sequence[Value], int], Node | None]] = {
    "MatMul": _product, "Reshape": _reshape, "Slice": _slice,
    "Transpose": _transpose,
}  # fmt: skip


# --------------------------------------------------------------------------------------- the passes


def at_once(graph: FuncGraph) -> FuncGraph:
    """``graph`` with the work on rows before its scans."""
    new: dict[int, Node] = {}
    results: dict[int, Sequence[Node]] = {}
    for node in graph.nodes():
        result = with_graphs(rebuilt(node, new), at_once)
        if isinstance(result, CNode) and result.op == "Scan":
            result = _before(result)
            changed = _after(result)
            if changed is not None:
                results[id(node)] = changed
                result = changed[0]  # what reads one of several looks it up in ``results``
        elif isinstance(node, CNode) and node.op == "TupleGetItem":
            changed = results.get(id(node.inputs[0]))
            result = result if changed is None else changed[integer(node, "index")]
        new[id(node)] = result
    return with_outputs(graph, new)


@dataclass(frozen=True)
class _Loop:
    """The parts of a Scan."""

    scan: CNode
    body: FuncGraph
    captured: int
    carried: int
    time: int

    @property
    def first(self) -> int:
        """The place of the first row."""
        return self.captured + self.carried

    def outside(self) -> dict[int, Value]:
        """What is known outside, by the ``id`` of what it is inside."""
        found = {
            id(inner): Value(outer, is_stack=False)
            for inner, outer in zip(
                self.body.inputs[: self.captured], self.scan.inputs, strict=False
            )
        }
        rows = zip(self.body.inputs[self.first :], self.scan.inputs[self.first :], strict=True)
        found |= {id(row): Value(stack, is_stack=True) for row, stack in rows}
        given = {id(each) for each in self.body.inputs}
        for node in self.body.nodes():
            if not isinstance(node, CNode) and id(node) not in given:
                found[id(node)] = Value(node, is_stack=False)
        return found


def _loop(scan: CNode) -> _Loop:
    counts = integer(scan, "captured"), integer(scan, "carried")
    return _Loop(scan, graph(scan, "body"), *counts, size(scan, "length"))


def _users(body: FuncGraph) -> dict[int, list[Node]]:
    users: dict[int, list[Node]] = {}
    for node in body.nodes():
        for each in inputs_of(node):
            users.setdefault(id(each), []).append(node)
    return users


def _before(scan: CNode) -> CNode:
    """``scan`` with what is computed of rows alone as rows."""
    loop = _loop(scan)
    outside, weight = loop.outside(), dict[int, int]()
    worth: set[int] = set()
    for node in loop.body.nodes():
        given = [outside.get(id(each)) for each in inputs_of(node)]
        known = [value for value in given if value is not None]
        if not isinstance(node, CNode):
            if id(node) in outside and outside[id(node)].is_stack:
                weight[id(node)] = node.aval.size
            continue
        whole = _on_stacks(node, known, loop.time) if len(known) == len(given) else None
        if whole is None:
            continue
        outside[id(node)] = Value(whole, is_stack=True)
        weight[id(node)] = sum({id(each): weight.get(id(each), 0) for each in node.inputs}.values())
        if _is_worth(node, weight[id(node)], worth):
            worth.add(id(node))
    moved = _border(loop.body, outside, worth)
    return _with_rows(loop, moved, outside) if moved else scan


def _is_worth(node: CNode, rows: int, worth: set[int]) -> bool:
    """Whether a node is to be done at once: a product, or what is no larger than its rows."""
    if any(id(each) in worth for each in node.inputs) or node.op == "MatMul":
        return True
    return node.op not in MOVES and at_most(node.aval.size, rows)


def _border(body: FuncGraph, outside: Mapping[int, Value], worth: set[int]) -> list[Node]:
    """The nodes that something inside needs and that are done before; what only moves stays."""
    users, outputs = _users(body), {id(each) for each in body.outputs}
    moved: list[Node] = []
    needed = {
        id(node)
        for node in body.cnodes()
        if id(node) in outputs or any(id(user) not in outside for user in users[id(node)])
    }
    for node in reversed(body.cnodes()):
        if id(node) not in needed:
            continue
        if id(node) not in worth or node.op in MOVES:
            needed |= {id(each) for each in node.inputs}
        else:
            moved.append(node)
    return moved


def _with_rows(loop: _Loop, moved: Sequence[Node], outside: Mapping[int, Value]) -> CNode:
    """The loop with a row more for each of ``moved``."""
    rows = [Parameter(f"at_once_{number}", node.aval) for number, node in enumerate(moved)]
    given = {id(node): row for node, row in zip(moved, rows, strict=True)}
    new: dict[int, Node] = {}
    for node in loop.body.nodes():
        new[id(node)] = given.get(id(node)) or rebuilt(node, new)
    body = replace(
        loop.body,
        inputs=(*loop.body.inputs, *rows),
        outputs=tuple(new[id(node)] for node in loop.body.outputs),
    )
    stacks = (outside[id(node)].node for node in moved)
    attrs = {**loop.scan.attrs, "body": body}
    return replace(loop.scan, inputs=(*loop.scan.inputs, *stacks), attrs=attrs)


def _after(scan: CNode) -> Sequence[Node] | None:
    """What stands for each result, where some of those that are stacked are rows; else None."""
    loop = _loop(scan)
    outside, stacked = loop.outside(), loop.body.outputs[loop.carried :]
    rows = [outside[id(each)].node if _is_row(each, outside) else None for each in stacked]
    if all(row is None for row in rows):
        return None
    kept = [each for each, row in zip(stacked, rows, strict=True) if row is None]
    found = _results(_giving(loop, kept)) if loop.carried or kept else ()
    others = iter(found[loop.carried :])
    return [*found[: loop.carried], *(next(others) if row is None else row for row in rows)]


def _results(node: CNode) -> Sequence[Node]:
    return items(node) if len(node.results) > 1 else (node,)


def _is_row(node: Node, outside: Mapping[int, Value]) -> bool:
    return id(node) in outside and outside[id(node)].is_stack


def _giving(loop: _Loop, kept: Sequence[Node]) -> CNode:
    """The loop with ``kept`` as its stacks."""
    outputs = (*loop.body.outputs[: loop.carried], *kept)
    names = tuple(f"output_{number}" for number in range(len(outputs)))
    body = replace(loop.body, outputs=outputs, output_names=names)
    stacks = (Aval((loop.time, *each.aval.shape), each.aval.dtype) for each in kept)
    results = (*loop.scan.results[: loop.carried], *stacks)
    return replace(loop.scan, attrs={**loop.scan.attrs, "body": body}, results=results)
