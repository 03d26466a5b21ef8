"""Branches and loops."""

from collections.abc import Sequence

import numpy as np
import onnx

from fnckpt.ir.graph import (
    Aval,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    inputs_of,
    ordered,
    rebuilt,
)
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.control import with_known
from fnckpt.ir.sizes import is_known
from fnckpt.ir.sources.alike import matched
from fnckpt.ir.sources.build import BOOL, INT32, INT64, few
from fnckpt.ir.sources.onnx.registry import DATA, Site, Value, imports
from fnckpt.ir.sources.source import Refusal

MOST_TRIPS = 64  # of a loop that is written out, because what it carries changes its shape


@imports("If")
def import_if(site: Site, condition: Node) -> list[Value]:
    b = site.build
    known = b.known(condition)
    names = ("else_branch", "then_branch")
    if known is not None:
        return site.around.inline(site.graph(names[bool(known.reshape(()))]), [])
    pairs = [site.around.closed(site.graph(name), []) for name in names]
    operands, branches = _alike(pairs)
    results = [tuple(node.aval for node in graph.outputs) for graph in branches]
    if results[0] != results[1]:
        known = b.known(condition, b.given)
        if known is not None:
            return site.around.inline(site.graph(names[bool(known.reshape(()))]), [])
        told = " and ".join(", ".join(map(str, each)) for each in results)
        raise Refusal(f"its branches give {told}; {DATA}")
    index = b.cast(b.reshape(condition, ()), INT32)
    return list(b.items("Cond", index, *operands, branches=branches))


def _alike(
    pairs: Sequence[tuple[FuncGraph, list[Node]]],
) -> tuple[list[Node], tuple[FuncGraph, ...]]:
    """Graphs that all take what any of them captures, and these values."""
    operands = list({id(node): node for _, outer in pairs for node in outer}.values())
    graphs: list[FuncGraph] = []
    for graph, outer in pairs:
        own = dict(zip(map(id, outer), graph.inputs, strict=True))
        inputs = tuple(own.get(id(n)) or Parameter(f"operand{i}", n.aval)
                       for i, n in enumerate(operands))  # fmt: skip
        graphs.append(FuncGraph(graph.name, inputs, graph.outputs, graph.output_names))
    return operands, tuple(graphs)


@imports("Loop")
def import_loop(
    site: Site, trips: Node | None, goes_on: Node | None, *carried: Node
) -> Sequence[Value]:
    """A scan where the number of trips is known and no trip ends it, else a while loop."""
    b, body = site.build, site.graph("body")
    stacked = len(body.output) - 1 - len(carried)
    count = None if trips is None else b.known(trips, b.given if stacked > 0 else None)
    first = np.array(True) if goes_on is None else b.known(goes_on)
    if first is not None and not bool(first.reshape(())):
        return _no_trip(site, body, carried)
    if any(not isinstance(each, Node) for each in carried):
        return _written_out(site, body, count, carried)
    given = [_like((), INT64), _like((), BOOL), *carried]
    graph, outer = site.around.closed(body, given)
    own, inputs = graph.inputs[: len(outer)], graph.inputs[len(outer) :]
    results = graph.outputs[1 : 1 + len(carried)]
    stacks = graph.outputs[1 + len(carried) :]
    same = [new.aval == old.aval for new, old in zip(results, carried, strict=True)]
    always = goes_on_for_ever(graph.outputs[0], inputs[1]) and first is not None
    if not all(same):
        return _written_out(site, body, count if always else None, carried)
    if always and count is not None and count.reshape(()).item() <= 0:
        return _no_trip(site, body, carried)
    if always and count is not None:
        return _scanned(site, count.reshape(()).item(), graph, outer, carried)
    if stacks:
        raise Refusal(f"it stacks results, and its end depends on data; {DATA}")
    assert len(own) == len(outer)
    return _while(site, trips, goes_on, graph, outer, carried)


def _like(shape: tuple[int, ...], dtype: np.dtype) -> Node:
    return Parameter("like", Aval(shape, dtype))


def goes_on_for_ever(condition: Node, given: Node) -> bool:
    """Whether a loop's body never ends it."""
    if isinstance(condition, Constant):
        return bool(condition.value.reshape(()))
    return condition is given


def _no_trip(site: Site, body: onnx.GraphProto, carried: Sequence[Value]) -> Sequence[Value]:
    if len(body.output) > 1 + len(carried):
        raise Refusal("it has no iterations, so the shapes of what it stacks are unknown")
    return carried


def _written_out(
    site: Site, body: onnx.GraphProto, count: np.ndarray | None, carried: Sequence[Value]
) -> Sequence[Value]:
    """Trip by trip, where the shapes that are carried change."""
    trips = None if count is None else int(count.reshape(()))
    if trips is None or trips > MOST_TRIPS:
        raise Refusal(f"its carry changes its shape; {DATA}")
    b = site.build
    rows: list[list[Node]] = []
    for trip in range(trips):
        given = [b.constant(trip, INT64), b.constant(True, BOOL), *carried]
        goes_on, *found = site.around.inline(body, given)
        if not isinstance(goes_on, Node) or b.known(goes_on) is None:
            raise Refusal(f"its carry changes its shape, and its end depends on data; {DATA}")
        carried = found[: len(carried)]
        rows.append([each for each in found[len(carried) :] if isinstance(each, Node)])
        if not bool(b.asked(goes_on, "whether it goes on").reshape(())):
            break
    stacks = [b.stack(column, 0) for column in zip(*rows, strict=True)]
    return [*carried, *stacks]


def _scanned(
    site: Site, length: int, graph: FuncGraph, outer: list[Node], carried: Sequence[Node]
) -> list[Value]:
    """``Scan``, which counts its trips where the body asks for their number."""
    b = site.build
    few(length, most=np.iinfo(np.int32).max)
    captured = len(outer)
    trip, goes_on, *values = graph.inputs[captured:]
    outputs = replaced(graph, {id(goes_on): Constant(np.array(True))})[1:]
    used = any(node is trip for node in FuncGraph("", (), tuple(outputs), ()).nodes())
    own = graph.inputs[:captured]
    rows = [b.counted(length)] if used else []
    inputs = (*own, *values, *([trip] if used else []))
    labels = tuple(f"out{i}" for i in range(len(outputs)))
    body = FuncGraph(graph.name, inputs, tuple(outputs), labels)
    return list(b.items("Scan", *outer, *carried, *rows, body=body, captured=captured,
                        carried=len(carried), length=length, reverse=False))  # fmt: skip


def replaced(graph: FuncGraph, new: dict[int, Node]) -> list[Node]:
    """The outputs of a graph with other nodes in place of some of its inputs."""
    found = dict(new)
    for node in graph.nodes():
        found.setdefault(id(node), rebuilt(node, found))
    return [found[id(node)] for node in graph.outputs]


def _while(
    site: Site,
    trips: Node | None,
    goes_on: Node | None,
    graph: FuncGraph,
    outer: list[Node],
    carried: Sequence[Node],
) -> list[Value]:
    """``While``: what says whether it goes on is carried, and the number of the trip if needed."""
    b, captured = site.build, len(outer)
    own = list(graph.inputs[:captured])
    trip, again, *values = graph.inputs[captured:]
    start = b.constant(True, BOOL) if goes_on is None else b.reshape(goes_on, ())
    nodes = FuncGraph("", (), graph.outputs, ()).nodes()
    counts = trips is not None or any(node is trip for node in nodes)
    if trips is None:
        again_of = condition_of(start, graph, outer, carried)
        if again_of is not None:
            return _conditioned(site, again_of, counts, graph, outer, carried)
    first: list[Node] = [start, *([b.constant(0, INT64)] if counts else []), *carried]
    goes = graph.outputs[0]
    goes = goes if goes.aval.shape == () else apply("Reshape", goes, shape=())
    next_ = apply("Add", trip, Constant(np.array(1, np.int64)))
    outputs: list[Node] = [goes, *([next_] if counts else []), *graph.outputs[1:]]
    inputs = [*own, again, *([trip] if counts else []), *values]
    last: list[Node] = []
    if trips is not None:
        limit = b.reshape(trips, ())
        if not b.is_closed(limit):
            inner = Parameter("trips", limit.aval)
            last, own, inputs = [limit], [*own, inner], [*own, inner, *inputs[captured:]]
            limit = inner
        below = apply("Less", trip, limit)
        condition: Node = apply("LogicalAnd", again, below)
    else:
        condition = again
    labels = tuple(f"carry{i}" for i in range(len(outputs)))
    body = FuncGraph(graph.name, tuple(inputs), tuple(outputs), labels)
    cond = FuncGraph(f"{graph.name}/cond", tuple(inputs), (condition,), ("goes_on",))
    found = b.items("While", *outer, *last, *first, cond=cond, body=body,
                    captured=captured + len(last))  # fmt: skip
    return list(found[2 if counts else 1 :])


def condition_of(
    start: Node, graph: FuncGraph, outer: Sequence[Node], carried: Sequence[Node]
) -> Node | None:
    """Whether a loop goes on, from what is carried: computed before the loop and in each trip.

    None where ``start``, of the first values, is not computed as the body computes it of the next.
    """
    own, (trip, again, *values) = graph.inputs[: len(outer)], graph.inputs[len(outer) :]
    goes_on, *results = graph.outputs[: 1 + len(carried)]
    kept: dict[int, Node] = {id(new): value for new, value in zip(results, values, strict=True)}
    stack, seen = [goes_on], set[int]()
    while stack:
        node = stack.pop()
        if id(node) in kept or id(node) in seen:
            continue
        if any(node is each for each in (trip, again, *values)):
            return None
        seen.add(id(node))
        stack += inputs_of(node)
    (condition,) = replaced(FuncGraph("", (), (goes_on,), ("",)), kept)
    whole = FuncGraph("", (*own, *values), (condition,), ("",))
    (first,) = with_known(whole, (*outer, *carried)).outputs
    bound = matched(first, start, exact=True)
    if bound is None:
        return None
    known = dict(zip(map(id, whole.inputs), (*outer, *carried), strict=True))
    leaves = (node for node in ordered([first]) if isinstance(node, Parameter))
    same = all(bound[id(leaf)] is known.get(id(leaf), leaf) for leaf in leaves)
    return condition if same else None


def _conditioned(
    site: Site,
    condition: Node,
    counts: bool,
    graph: FuncGraph,
    outer: Sequence[Node],
    carried: Sequence[Node],
) -> list[Value]:
    """``While`` that asks what it carries whether it goes on."""
    b = site.build
    trip, _, *values = graph.inputs[len(outer) :]
    following = [apply("Add", trip, Constant(np.array(1, np.int64)))] if counts else []
    inputs = (*graph.inputs[: len(outer)], *([trip] if counts else []), *values)
    outputs = (*following, *graph.outputs[1:])
    labels = tuple(f"carry{i}" for i in range(len(outputs)))
    first = [b.constant(0, INT64)] if counts else []
    found = b.items(
        "While", *outer, *first, *carried,
        cond=FuncGraph(f"{graph.name}/cond", inputs, (condition,), ("goes_on",)),
        body=FuncGraph(graph.name, inputs, outputs, labels), captured=len(outer),
    )  # fmt: skip
    return list(found[1 if counts else 0 :])


@imports("Scan", since=8)
def import_old_scan(site: Site, lengths: Node | None, *inputs: Node) -> list[Value]:
    """A scan for each element of a batch, one after the other."""
    b, batch = site.build, inputs[0].aval.shape[0]
    if lengths is not None or any(site.integers("directions", ())):
        raise Refusal("its sequences have lengths of their own, or go backwards")
    if not is_known(batch) or batch > MOST_TRIPS:
        raise Refusal(f"its batch is {batch}; up to {MOST_TRIPS} are written out")
    each = [import_scan(site, *(b.at(x, 0, i) for x in inputs)) for i in range(batch)]
    columns = [
        [value for value in column if isinstance(value, Node)] for column in zip(*each, strict=True)
    ]
    return [b.stack(column, 0) for column in columns]


@imports("Scan", since=9)
def import_scan(site: Site, *inputs: Node) -> list[Value]:
    b, body = site.build, site.graph("body")
    stacked = site.integer("num_scan_inputs")
    carried = len(inputs) - stacked
    axes = site.integers("scan_input_axes", (0,) * stacked)
    backwards = site.integers("scan_input_directions", (0,) * stacked)
    results = len(body.output) - carried
    out_axes = site.integers("scan_output_axes", (0,) * results)
    out_backwards = site.integers("scan_output_directions", (0,) * results)
    whole = bool(backwards) and all((*backwards, *out_backwards))
    rows: list[Node] = []
    for x, axis, turned in zip(inputs[carried:], axes, backwards, strict=True):
        moved = b.moved(x, axis % len(x.aval.shape), 0)
        rows.append(b("Reverse", moved, axes=(0,)) if turned and not whole else moved)
    given = [*inputs[:carried], *(_like(r.aval.shape[1:], r.aval.dtype) for r in rows)]
    graph, outer = site.around.closed(body, given)
    found = b.items("Scan", *outer, *inputs[:carried], *rows, body=graph, captured=len(outer),
                    carried=carried, length=rows[0].aval.shape[0], reverse=whole)  # fmt: skip
    stacks: list[Value] = []
    for stack, axis, turned in zip(found[carried:], out_axes, out_backwards, strict=True):
        own = b("Reverse", stack, axes=(0,)) if turned and not whole else stack
        stacks.append(b.moved(own, 0, axis % len(own.aval.shape)))
    return [*found[:carried], *stacks]
