"""Branches and loops said with fewer operators, for targets that lack some."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import flag, graph, graphs, integer, size
from fnckpt.ir.fold import folded
from fnckpt.ir.graph import (
    HOLDS_GRAPHS,
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    inlined,
    with_graphs,
)
from fnckpt.ir.operators import apply, constant, item, items
from fnckpt.ir.passes import arithmetic, reshape
from fnckpt.ir.passes.build import BFLOAT16, BOOL, FLOAT32, INT32, Build
from fnckpt.ir.passes.rewrite import Op, Rule, rewrite, rewrites
from fnckpt.ir.sizes import all_known

LOOPS = frozenset({"Scan", "While"})


@rewrites("Cond")
def halve_branches(root: CNode) -> Node | None:
    """A Cond of many branches is one of two: that of the first half, and that of the rest."""
    branches = graphs(root, "branches")
    if len(branches) == 2:
        return None
    (index, *operands), build = root.inputs, Build(root)
    half = (len(branches) + 1) // 2
    later = build("GreaterEqual", index, constant(half, INT32))
    parts = (_chosen(branches[:half], 0), _chosen(branches[half:], half))
    return build("Cond", build("Cast", later, dtype=INT32), index, *operands, branches=parts)


def _chosen(branches: tuple[FuncGraph, ...], first: int) -> FuncGraph:
    """The graph that takes an index and the operands, and chooses among ``branches``."""
    index = Parameter("index", Aval((), INT32))
    given = tuple(Parameter(p.name, p.aval) for p in branches[0].inputs)
    if len(branches) == 1:
        results = tuple(inlined(branches[0], given))
    else:
        place = apply("Sub", index, constant(first, INT32)) if first else index
        results = items(apply("Cond", place, *given, branches=branches))
    names = branches[0].output_names
    return FuncGraph(branches[0].name, (index, *given), results, names)


def boolean_of(index: Node) -> Node | None:
    """The boolean that chooses between two branches, where the index is a cast of one."""
    if not isinstance(index, CNode) or index.op != "Cast":
        return None
    return index.inputs[0] if index.inputs[0].aval.dtype == BOOL else None


@rewrites("Cond")
def choose_by_boolean(root: CNode) -> Node | None:
    """A Cond by reshape(cast(b)) of a boolean b is one by cast(reshape(b))."""
    index, build = root.inputs[0], Build(root)
    if not isinstance(index, CNode) or index.op != "Reshape":
        return None
    chooses = boolean_of(index.inputs[0])
    if chooses is None:
        return None
    moved = build.cast(build.reshape(chooses, ()), INT32)
    return replace(root, inputs=(moved, *root.inputs[1:]))


KNOWN: tuple[Rule, ...] = (*reshape.FOLD, arithmetic.drop_and, arithmetic.drop_or)


def with_known(inside: FuncGraph, given: Sequence[Node]) -> FuncGraph:
    """``inside``, whose inputs are ``given``, with what follows from the known of them computed."""
    pairs = zip(given, inside.inputs, strict=True)
    outputs = inlined(inside, [a if isinstance(a, Constant) else own for a, own in pairs])
    return rewrite(replace(inside, outputs=tuple(outputs)), KNOWN)


@rewrites("While")
def condition_in_body(root: CNode) -> Node | None:
    """A While whose condition holds loops computes it in its body, where it stands once.

    ONNX's Loop has it twice, before the loop and at the end of a trip: loops in conditions of loops
    would double with each level. What is carried gets a boolean more, true at first; the last trip
    only finds that it is over.
    """
    cond, body = graph(root, "cond"), graph(root, "body")
    if not any(isinstance(node, CNode) and node.op in LOOPS for node in cond.every_node()):
        return None
    captured, build = integer(root, "captured"), Build(root)
    every = (*root.inputs, constant(np.ones((), bool)))
    given = _parameters(every)
    (holds,) = inlined(cond, given[:-1])
    over = replace(body, name="over", outputs=body.inputs[captured:])
    index = build("Cast", holds, dtype=INT32)
    results = items(build("Cond", index, *given[:-1], branches=(over, body)))
    names = tuple(f"output_{number}" for number in range(len(results) + 1))
    again = _parameters(every)
    loop = build(
        "While",
        *every,
        cond=FuncGraph("cond", again, (again[-1],), ("goes_on",)),
        body=FuncGraph("body", given, (*results, holds), names),
        captured=captured,
    )
    return item(loop, 0) if len(root.results) == 1 else loop


@rewrites("Scan")
def scan_as_while(root: CNode) -> Node:
    """A Scan is a While that counts: rows are gathered, and results scattered into stacks.

    What is carried comes first, then the stacks, then the counter, so that results keep their
    places.
    """
    captured, carried = integer(root, "captured"), integer(root, "carried")
    first, build = captured + carried, Build(root)
    same, values, stacked = (
        root.inputs[:captured], root.inputs[captured:first], root.inputs[first:],
    )  # fmt: skip
    zeros = [_zeros(build, aval) for aval in root.results[carried:]]
    carry = (*values, *zeros, constant(0, INT32))
    every = (*same, *stacked, *carry)
    loop = build(
        "While",
        *every,
        cond=_goes_on(root, every),
        body=_trip(root, every),
        captured=captured + len(stacked),
    )
    return item(loop, 0) if len(root.results) == 1 else loop


def _zeros(build: Build, aval: Aval) -> Node:
    return build.broadcast(constant(np.zeros((), aval.dtype)), aval.shape)


def _parameters(every: tuple[Node, ...]) -> tuple[Parameter, ...]:
    return tuple(Parameter(f"loop_{number}", each.aval) for number, each in enumerate(every))


def _length(root: CNode) -> Node:
    """The rows, as a number of rank 0."""
    length, build = size(root, "length"), Build(root)
    if all_known((length,)):
        return constant(int(length), INT32)
    return build("Reshape", build("Sizes", sizes=(length,), dtype=INT32), shape=())


def _goes_on(root: CNode, every: tuple[Node, ...]) -> FuncGraph:
    given = _parameters(every)
    less = Build(root)("Less", given[-1], _length(root))
    return FuncGraph("cond", given, (less,), ("goes_on",))


def _trip(root: CNode, every: tuple[Node, ...]) -> FuncGraph:
    captured, carried = integer(root, "captured"), integer(root, "carried")
    count, build = len(root.inputs) - captured - carried, Build(root)
    given = _parameters(every)
    same, stacked, rest = given[:captured], given[captured:][:count], given[captured + count :]
    values, stacks, counter = rest[:carried], rest[carried:-1], rest[-1]
    place: Node = counter
    if flag(root, "reverse"):
        last = folded(build("Sub", _length(root), constant(1, INT32)))
        place = build("Sub", last, counter)
    rows = [build("Gather", each, place, axis=0) for each in stacked]
    results = inlined(graph(root, "body"), (*same, *values, *rows))
    at = build.reshape(place, (1, 1))
    written = [
        build("ScatterNd", stack, at, build.reshape(row, (1, *row.aval.shape)), reduction="")
        for stack, row in zip(stacks, results[carried:], strict=True)
    ]
    following = build("Add", counter, constant(1, INT32))
    outputs = (*results[:carried], *written, following)
    names = tuple(f"output_{number}" for number in range(len(outputs)))
    return FuncGraph("body", given, outputs, names)


def known_inside(root: CNode) -> Node | None:
    """A constant or a weight that a node's graphs take stands in them, where it is the same."""
    places = [i for i in _captured(root) if _is_known(root.inputs[i])]
    if not places:
        return None
    first = 1 if root.op == "Cond" else 0
    known = {i - first: root.inputs[i] for i in places}
    changed = with_graphs(root, lambda each: _with_known(each, known))
    assert isinstance(changed, CNode)
    attrs = dict(changed.attrs)
    if root.op != "Cond":
        attrs["captured"] = integer(root, "captured") - len(places)
    inputs = tuple(each for i, each in enumerate(root.inputs) if i not in places)
    return replace(changed, inputs=inputs, attrs=attrs)


def _is_known(node: Node) -> bool:
    return isinstance(node, Constant) or (isinstance(node, Parameter) and node.value is not None)


def _with_known(inside: FuncGraph, known: Mapping[int, Node]) -> FuncGraph:
    """``inside`` without the inputs whose places ``known`` has."""
    given = [known.get(place, each) for place, each in enumerate(inside.inputs)]
    left = tuple(each for place, each in enumerate(inside.inputs) if place not in known)
    return replace(inside, inputs=left, outputs=tuple(inlined(inside, given)))


KNOWN_INSIDE = tuple(Rule(Op(op), known_inside) for op in sorted(HOLDS_GRAPHS))


@rewrites("Scan")
def rows_to_turn(root: CNode) -> Node | None:
    """A reversed Scan without rows gets some: ONNX turns the results of a Scan alone."""
    captured, carried = integer(root, "captured"), integer(root, "carried")
    stacked = len(root.inputs) - captured - carried
    if stacked or not flag(root, "reverse") or len(root.results) == carried:
        return None
    body, build = graph(root, "body"), Build(root)
    rows = build.broadcast(constant(np.zeros((), np.uint8)), (size(root, "length"),))
    row = Parameter("row", Aval((), rows.aval.dtype))
    changed = replace(body, inputs=(*body.inputs, row))
    return build("Scan", *root.inputs, rows, **{**root.attrs, "body": changed})


def _captured(node: CNode) -> range:
    """The places of the inputs that a node's graphs take as they are, in each trip."""
    return range(1, len(node.inputs)) if node.op == "Cond" else range(integer(node, "captured"))


def capture_as_float32(root: CNode) -> Node | None:
    """What is captured in bfloat16 goes in as float32: ONNX Runtime mistakes its type inside."""
    places = [i for i in _captured(root) if root.inputs[i].aval.dtype == BFLOAT16]
    if not places:
        return None
    build, first = Build(root), root.op == "Cond"
    wide = [
        build.cast(each, FLOAT32) if i in places else each for i, each in enumerate(root.inputs)
    ]
    narrow = {i - first for i in places}
    changed = with_graphs(root, lambda each: _narrowing(each, narrow))
    assert isinstance(changed, CNode)
    return replace(changed, inputs=tuple(wide))


def _narrowing(inside: FuncGraph, places: Set[int]) -> FuncGraph:
    """``inside`` with the inputs at ``places`` in float32, and cast back there."""
    given = tuple(
        Parameter(p.name, Aval(p.aval.shape, FLOAT32)) if i in places else p
        for i, p in enumerate(inside.inputs)
    )
    back = [apply("Cast", p, dtype=BFLOAT16) if i in places else p for i, p in enumerate(given)]
    return replace(inside, inputs=given, outputs=tuple(inlined(inside, back)))


CAPTURE_AS_FLOAT32 = tuple(Rule(Op(op), capture_as_float32) for op in sorted(HOLDS_GRAPHS))
