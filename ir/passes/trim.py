"""Branches and loops without what nobody uses, and without carries that never change.

A pass of its own, not a rule: it must see all users of the results of a branch or a loop.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import (
    CNode,
    FuncGraph,
    Node,
    graphs_of,
    inputs_of,
    rebuilt,
    with_graphs,
    with_outputs,
)
from fnckpt.ir.operators import items
from fnckpt.ir.passes.control import known_inside

Results = Mapping[int, Node]  # what stands for a result, by its place


def trim(graph: FuncGraph) -> FuncGraph:
    """``graph`` with branches and loops that take and give only what is needed.

    Carries that no result depends on, results without users and inputs that no graph inside reads
    go away. A carry that the body gives back as it came is captured, and its result is its input.
    """
    used = _used(graph)
    new: dict[int, Node] = {}
    results: dict[int, Results] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        if isinstance(result, CNode) and id(node) in used:
            results[id(node)] = found = _trimmed(result, used[id(node)])
            result = found[0] if len(result.results) == 1 else result
        elif (place := _item_of(node)) is not None:
            source, index = place
            if id(source) in results:
                result = _kept(node, result, results[id(source)][index])
        new[id(node)] = result
    return with_outputs(graph, new)


def _item_of(node: Node) -> tuple[Node, int] | None:
    """What several results ``node`` is one of, and which."""
    if not isinstance(node, CNode) or node.op != "TupleGetItem":
        return None
    return node.inputs[0], integer(node, "index")


def _kept(node: Node, as_before: Node, found: Node) -> Node:
    """``found``, or ``node`` as it stands where it says the same, so that nothing changed."""
    same = _item_of(as_before), _item_of(found)
    if same[0] is None or same[1] is None:
        return found
    return as_before if same[0][0] is same[1][0] and same[0][1] == same[1][1] else found


def _used(graph: FuncGraph) -> dict[int, set[int]]:
    """Which results of each branch and loop have users, by its ``id``."""
    used: dict[int, set[int]] = {}
    for node in graph.cnodes():
        if graphs_of(node):
            used[id(node)] = {0} if len(node.results) == 1 else set()
        elif (place := _item_of(node)) is not None and id(place[0]) in used:
            used[id(place[0])].add(place[1])
    return used


def _trimmed(node: CNode, used: set[int]) -> Results:
    """What stands for each of the results ``used``: the graphs inside are trimmed on the way."""
    outer = _narrowed(node, used)
    if outer.node is None:
        return outer.results
    inner = with_graphs(known_inside(outer.node) or outer.node, trim)
    assert isinstance(inner, CNode)
    if inner is outer.node:
        return outer.results
    again = _narrowed(inner, set(range(len(inner.results)))).results
    # Of a result that is an input already there is no place to look up.
    places = {id(each): place for place, each in enumerate(items_of(outer))}
    return {k: again[places[id(n)]] if id(n) in places else n for k, n in outer.results.items()}


@dataclass(frozen=True)
class _Narrowed:
    """A smaller node, or None where nothing of it is left, and what stands for the results."""

    node: CNode | None
    results: Results
    live: tuple[int, ...]  # the old places of the results that are left


def items_of(narrowed: _Narrowed) -> list[Node]:
    """What stands for the results that the smaller node gives, in its order."""
    return [narrowed.results[place] for place in narrowed.live]


@dataclass(frozen=True)
class _Form:
    """The parts that a Cond, a Scan and a While have in common."""

    lead: int  # the inputs that the graphs do not take
    captured: int
    carried: int
    bodies: tuple[FuncGraph, ...]  # these give the results
    others: tuple[FuncGraph, ...]  # the condition


def _form(node: CNode) -> _Form:
    graphs = graphs_of(node)
    if node.op == "Cond":
        return _Form(1, len(node.inputs) - 1, 0, graphs, ())
    captured = integer(node, "captured")
    carried = integer(node, "carried") if node.op == "Scan" else len(node.results)
    body = node.attrs["body"]
    return _Form(
        0,
        captured,
        carried,
        tuple(each for each in graphs if each is body),
        tuple(each for each in graphs if each is not body),
    )


def _unchanged(node: CNode, form: _Form) -> dict[int, int]:
    """The results that are an input as it came, whatever happens: the input's place of each."""
    places = [{id(p): i for i, p in enumerate(body.inputs)} for body in form.bodies]
    same: dict[int, int] = {}
    for k in range(len(node.results) if node.op == "Cond" else form.carried):
        outputs = [id(body.outputs[k]) for body in form.bodies]
        found = [place.get(each) for place, each in zip(places, outputs, strict=True)]
        first = found[0] if node.op == "Cond" else form.captured + k
        if first is not None and all(place == first for place in found):
            same[k] = first
    return same


def _needed(form: _Form, same: Mapping[int, int], used: Iterable[int]) -> tuple[set[int], set[int]]:
    """The results that must stay, and the places of the inputs that the graphs read for them."""
    live = set(used) - set(same)
    every = (*form.bodies, *form.others)
    place_of = {id(p): i for inside in every for i, p in enumerate(inside.inputs)}
    stack = [body.outputs[k] for body in form.bodies for k in live]
    stack += [output for other in form.others for output in other.outputs]
    seen: set[int] = set()
    places: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        stack += inputs_of(node)
        if id(node) in place_of:
            places.add(place_of[id(node)])
            k = place_of[id(node)] - form.captured
            if 0 <= k < form.carried and k not in same and k not in live:
                live.add(k)
                stack += [body.outputs[k] for body in form.bodies]
    return live, places


def _narrowed(node: CNode, used: set[int]) -> _Narrowed:
    """``node`` with the results and inputs that ``used`` results need."""
    form = _form(node)
    same = _unchanged(node, form)
    live, places = _needed(form, same, used)
    kept = tuple(sorted(live))
    first = form.captured + form.carried
    fixed = [p for p in range(first) if p in places and p - form.captured not in live]
    carries = [form.captured + k for k in kept if k < form.carried]
    rows = [p for p in range(first, len(node.inputs) - form.lead) if p in places]
    order = (*fixed, *carries, *rows)
    smaller = _smaller(node, form, order, kept, len(fixed)) if kept else None
    results: dict[int, Node] = {k: node.inputs[form.lead + same[k]] for k in used & same.keys()}
    if smaller is not None:
        results |= zip(kept, items(smaller), strict=True)
    return _Narrowed(smaller, results, kept)


def _smaller(
    node: CNode, form: _Form, order: tuple[int, ...], kept: tuple[int, ...], captured: int
) -> CNode:
    """``node`` with the inputs ``order`` of the graphs, and their outputs ``kept``."""
    if len(kept) == len(node.results) and order == tuple(range(len(node.inputs) - form.lead)):
        return node

    def change(inside: FuncGraph) -> FuncGraph:
        given = tuple(inside.inputs[p] for p in order)
        if not any(inside is body for body in form.bodies):
            return replace(inside, inputs=given)
        outputs = tuple(inside.outputs[k] for k in kept)
        names = tuple(inside.output_names[k] for k in kept)
        return replace(inside, inputs=given, outputs=outputs, output_names=names)

    changed = with_graphs(node, change)
    assert isinstance(changed, CNode)
    attrs = dict(changed.attrs)
    if node.op != "Cond":
        attrs["captured"] = captured
    if node.op == "Scan":
        attrs["carried"] = sum(k < form.carried for k in kept)
    inputs = (*node.inputs[: form.lead], *(node.inputs[form.lead + p] for p in order))
    results = tuple(node.results[k] for k in kept)
    return replace(changed, inputs=inputs, attrs=attrs, results=results)
