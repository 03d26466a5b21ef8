"""What our writers put in place of one operator becomes that operator again.

A format lacks some operators, and computes others otherwise than JAX where numbers are not
ordinary; then several of its own stand for one of ours. A ``Template`` is what a writer and its
reader make of one operator alone. Where a graph has the same nodes, it has that operator.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from fnckpt.ir.graph import (
    NOWHERE,
    Attr,
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Parameter,
    everywhere,
    inputs_of,
    ordered,
    rebuilt,
)
from fnckpt.ir.operators import apply, is_elementwise, items
from fnckpt.ir.operators.elementwise import BINARY, TESTS, UNARY
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrite, rewrites, scalar_of
from fnckpt.ir.passes.share import share
from fnckpt.ir.sizes import InconclusiveDimensionOperation
from fnckpt.ir.sources import reader
from fnckpt.ir.sources.alike import Bound, is_several, matched
from fnckpt.ir.sources.build import BITS
from fnckpt.ir.sources.source import NotImported, Writer
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import Refused, legalized

Attrs = tuple[tuple[str, Attr], ...]

MOST_HELD = 4096  # templates
MOST_LEVELS = 16  # from an operator to the root of its spelling
SHAPE = (2, 3)  # of what is computed element by element
LARGE = (1 << 12,)  # the shape where a format may have it in parts
IN_PARTS = frozenset({"Cosh", "Sinh"})

# What is asked of integers; of booleans nothing.
OF_INTEGERS = frozenset(
    {"Abs", "Add", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Div", "Maximum",
     "Minimum", "Mul", "Neg", "PopulationCount", "Pow", "Rem", "ShiftLeft", "ShiftRightArithmetic",
     "ShiftRightLogical", "Sign", "Square", "Sub"}
)  # fmt: skip

# What is written with itself inside, and so is found by it.
HELD = frozenset(
    {"ArgMax", "ArgMin", "CumLogSumExp", "CumProd", "CumSum", "LogSoftmax", "MaxPool", "ReduceMax",
     "ReduceMin", "ReduceProd", "ReduceSum", "ScatterNd", "Softmax", "TopK"}
)  # fmt: skip


@dataclass(frozen=True)
class Template:
    """What ``op`` of ``leaves`` becomes: the node that is its result number ``index``."""

    op: str
    attrs: Attrs
    index: int
    leaves: tuple[Node, ...]
    root: CNode
    nodes: int


def respelled(graph: FuncGraph, writer: Writer) -> FuncGraph:
    """``graph``, which ``writer`` wrote, with one operator for each of its spellings."""
    return everywhere(graph, lambda each: _respelled(each, writer))


def _respelled(graph: FuncGraph, writer: Writer) -> FuncGraph:
    graph = share(rewrite(graph, PLACES))
    nodes = graph.cnodes()
    found = {**_elementwise(nodes, writer), **_holding(nodes, writer)}
    return share(_with(graph, found)) if found else graph


def _with(graph: FuncGraph, found: Mapping[int, CNode]) -> FuncGraph:
    """``graph`` with others in place of some nodes, by ``id``; they read nodes of the old one."""
    new: dict[int, Node] = {}
    stack: list[Node] = list(graph.outputs)
    while stack:
        node = stack[-1]
        goal = found.get(id(node), node)
        missing = [each for each in inputs_of(goal) if id(each) not in new]
        stack += missing
        if not missing:
            new.setdefault(id(stack.pop()), rebuilt(goal, new))
    return replace(graph, outputs=tuple(new[id(node)] for node in graph.outputs))


def _again(template: Template, root: CNode, bound: Bound) -> CNode | None:
    """The operator in place of ``root``, where it gives the same shape."""
    leaves = tuple(bound.get(id(leaf), leaf) for leaf in template.leaves)
    node = apply(template.op, *leaves, origin=root.origin, **dict(template.attrs))
    found = items(node)[template.index]
    return found if found.aval == root.aval else None


# --------------------------------------------------------------------------------- what is searched


def _elementwise(nodes: Sequence[CNode], writer: Writer) -> dict[int, CNode]:
    """The roots of what is computed element by element."""
    dtypes = _dtypes(nodes)
    known: dict[tuple[str, np.dtype], list[Template]] = {}
    for template in _of_dtypes(writer, dtypes):
        known.setdefault((template.root.op, template.root.aval.dtype), []).append(template)
    found: dict[int, CNode] = {}
    for node in nodes:
        if len(node.results) > 1:
            continue
        for template in known.get((node.op, node.aval.dtype), ()):
            bound = matched(template.root, node, exact=False)
            again = None if bound is None else _again(template, node, bound)
            if again is not None:
                found[id(node)] = again
                break
    return found


def _dtypes(nodes: Sequence[CNode]) -> frozenset[np.dtype]:
    """Of all that is read and computed."""
    read = {x.aval.dtype for node in nodes for x in node.inputs if not is_several(x)}
    return frozenset(read | {aval.dtype for node in nodes for aval in node.results})


@lru_cache(MOST_HELD)
def _of_dtypes(writer: Writer, dtypes: frozenset[np.dtype]) -> tuple[Template, ...]:
    """The templates of operators element by element, the largest first."""
    asked: list[tuple[str, Attrs, tuple[Aval, ...]]] = [
        (op, (), (Aval(shape, dtype),) * count)
        for table, count in ((UNARY, 1), (TESTS, 1), (BINARY, 2))
        for op in table
        for shape in ((SHAPE, LARGE) if op in IN_PARTS else (SHAPE,))
        for dtype in sorted(dtypes, key=str)
        if (dtype.kind in "iu" and op in OF_INTEGERS) or (dtype.kind in "fV" and op not in BITS)
    ]
    asked += [
        ("Cast", (("dtype", goal),), (Aval(SHAPE, dtype),))
        for dtype in sorted(dtypes, key=str) for goal in sorted(dtypes, key=str) if goal != dtype
    ]  # fmt: skip
    found = (template_of(writer, op, attrs, avals) for op, attrs, avals in asked)
    good = [each for each in found if each is not None and _is_elementwise(each)]
    return tuple(sorted(good, key=lambda each: -each.nodes))


def _is_elementwise(template: Template) -> bool:
    below = ordered([template.root])
    tables = {id(n.inputs[0]) for n in below if isinstance(n, CNode) and _is_look_up(n)}
    return all(
        is_elementwise(node) or node.op == "BroadcastTo" or _is_look_up(node)
        if isinstance(node, CNode)
        else isinstance(node, Parameter) or id(node) in tables or scalar_of(node) is not None
        for node in below
    )


def _is_look_up(node: CNode) -> bool:
    """Whether each element is a place in a table of known numbers."""
    return node.op == "Gather" and isinstance(node.inputs[0], Constant)


def _holding(nodes: Sequence[CNode], writer: Writer) -> dict[int, CNode]:
    """The roots of what holds itself: a reduction, say, that is guarded against NaN."""
    held = [node for node in nodes if node.op in HELD]
    if not held:
        return {}
    users: dict[int, list[CNode]] = {}
    for node in nodes:
        for each in node.inputs:
            users.setdefault(id(each), []).append(node)
    dtypes = _dtypes(nodes)
    found: dict[int, CNode] = {}
    for node in held:
        made = (each for attrs in _attrs_of(node, users) for each in
                _around(node, writer, dtypes, attrs))  # fmt: skip
        for template in made:
            for root in _above(node, template, users):
                bound = matched(template.root, root, exact=True)
                again = None if bound is None else _again(template, root, bound)
                if again is not None:
                    found.setdefault(id(root), again)
    return found


def _attrs_of(node: CNode, users: Mapping[int, Sequence[CNode]]) -> list[Attrs]:
    """Those of ``node``; and of a whole sort those of the first elements that are read of it."""
    found = [node.attrs]
    if node.op == "TopK":
        read = [user for each in users.get(id(node), ()) for user in users.get(id(each), ())]
        places = [each for each in read if each.op == "GatherElements"]  # behind those of no NaN
        read += [user for each in places for user in users.get(id(each), ())]
        sizes = {each.aval.shape[-1] for each in read if each.op == "Slice"}
        found += [{**node.attrs, "k": k} for k in sorted(sizes - {node.attrs["k"]})]
    return [tuple(sorted(each.items())) for each in found]


def _around(
    node: CNode, writer: Writer, dtypes: Iterable[np.dtype], attrs: Attrs
) -> Iterator[Template]:
    """The spellings of an operator whose inputs are like those of ``node``."""
    own, results = node.inputs[0].aval.dtype, range(len(node.results))
    if any(isinstance(each, Constant) for each in node.inputs):
        leaves = [each if isinstance(each, Constant) else Parameter(f"x{i}", each.aval)
                  for i, each in enumerate(node.inputs)]  # fmt: skip
        made = [_template(writer, node.op, attrs, leaves, index) for index in results]
    else:
        whole = own.kind in "iu"
        others = [d for d in dtypes if d != own and d.kind in ("iu" if whole else "fV")]
        made = [
            template_of(writer, node.op, attrs, _of_type(node, dtype), index)
            for dtype in (own, *others)
            for index in results
        ]
    yield from (each for each in made if each is not None)


def _of_type(node: CNode, dtype: np.dtype) -> tuple[Aval, ...]:
    """What a node reads, with numbers of another type; places stay what they are."""
    return tuple(
        each.aval if node.op == "ScatterNd" and i == 1 else Aval(each.aval.shape, dtype)
        for i, each in enumerate(node.inputs)
    )


def _above(node: CNode, template: Template, users: Mapping[int, Sequence[CNode]]) -> list[CNode]:
    """The nodes that may be the template's root with ``node`` inside, within its depth."""
    level: dict[int, CNode] = {id(node): node}
    found: dict[int, CNode] = {}
    for _ in range(min(template.nodes, MOST_LEVELS)):
        found |= {
            key: each
            for key, each in level.items()
            if each.op == template.root.op and each.results == template.root.results
        }
        level = {id(user): user for key in level for user in users.get(key, ())}
    return list(found.values())


# --------------------------------------------------------------------------------------- templates


@lru_cache(MOST_HELD)
def template_of(
    writer: Writer, op: str, attrs: Attrs, avals: tuple[Aval, ...], index: int = 0
) -> Template | None:
    """The same of inputs that are not known."""
    leaves = [Parameter(f"x{i}", aval) for i, aval in enumerate(avals)]
    return _template(writer, op, attrs, leaves, index)


def _template(
    writer: Writer, op: str, attrs: Attrs, leaves: Sequence[Node], index: int
) -> Template | None:
    """What ``writer`` makes of an operator; None where that is the operator itself, or nothing."""
    inputs = tuple(leaf for leaf in leaves if isinstance(leaf, Parameter))
    try:
        node = apply(op, *leaves, origin=NOWHERE, **dict(attrs))
        graph = FuncGraph("spelled", inputs, (items(node)[index],), ("y",))
        back = _there_and_back(graph, writer)
    except (Refused, NotImported, ValueError, TypeError, InconclusiveDimensionOperation):
        return None  # no such operator of this type, or the format does not have it
    root, below = back.outputs[0], back.nodes()
    count = sum(isinstance(each, CNode) for each in below)
    read = {id(each) for each in below}
    if not isinstance(root, CNode) or count < 2 or not all(id(x) in read for x in back.inputs):
        return None
    given = iter(back.inputs)
    named = tuple(next(given) if isinstance(leaf, Parameter) else leaf for leaf in leaves)
    return Template(op, attrs, index, named, root, count)


def _there_and_back(graph: FuncGraph, writer: Writer) -> FuncGraph:
    goal = target(writer.file_format)
    encoded = goal.encode(legalized(graph, goal), **dict(writer.options))
    data = b"".join(map(bytes, encoded.parts))
    source = reader(writer.file_format)(memoryview(data), graph.name, None)
    back = source.build([each.aval.shape for each in graph.inputs], {}).graph
    return share(rewrite(back, PLACES))


_PLACES = Op("Cast", Op("TupleGetItem", name="places", users=0), users=0)


@rewrites(Op("Cast", _PLACES))
def places_in_64_bits(root: CNode, places: CNode) -> Node | None:
    """int32(int64(places)) is places: a file's TopK gives 64 bits, ours 32."""
    (wide,) = root.inputs
    return places if (wide.aval.dtype, places.aval) == (np.int64, root.aval) else None


def _read_there(root: CNode, x: Node, places: CNode) -> Node | None:
    """x[int64(places)] is x[places]."""
    wide = root.inputs[1].aval.dtype == np.int64 and places.aval.dtype == np.int32
    return apply(root.op, x, places, origin=root.origin, **root.attrs) if wide else None


PLACES = (
    places_in_64_bits,
    *(Rule(Op(op, Any_("x"), _PLACES), _read_there) for op in ("Gather", "GatherElements")),
)
