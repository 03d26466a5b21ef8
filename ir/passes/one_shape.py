"""Values that are computed from each other element by element have one shape.

It is the one with the fewest reshapes: ``[2, 6]`` or ``[12]`` is the same to such operators, and
``[]`` or ``[1]`` to almost all users of a number. It looks at all users of a value, so that it is a
pass of its own, not a rule.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.fold import ALWAYS_BYTES
from fnckpt.ir.graph import NOWHERE, CNode, FuncGraph, Node, rebuilt
from fnckpt.ir.operators import apply, is_elementwise
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.build import known
from fnckpt.ir.passes.parts import Part, part_of
from fnckpt.ir.passes.reshape import value_of, with_value
from fnckpt.ir.passes.share import share
from fnckpt.ir.sizes import all_known, broadcast_shapes

MOST_ROUNDS = 4

Shapes = Mapping[int, Ints]  # what some values get, by ``id``; others keep their own
Uses = Mapping[tuple[int, Ints], Node]  # values, by ``id`` and the shape that they are used in
Cost = tuple[int, int]  # how many operators it takes, and what counts among as many
Count = Callable[[Uses, Shapes], Cost]


def one_shape(graph: FuncGraph, *, gathers: bool = False) -> FuncGraph:
    """``graph`` with each group of values in the shape that takes the fewest reshapes.

    With ``gathers`` single numbers alone: a reshape that drops the axis of one place makes a Gather
    of its slice, while slices at all places of a value are one Split.
    """
    for _ in range(MOST_ROUNDS):
        shapes = _best(graph, gathers)
        if not shapes:
            break
        graph = _with_shapes(graph, shapes)  # values that differed in their shapes are one then
    return graph


def _best(graph: FuncGraph, gathers: bool) -> Shapes:
    """The shapes of all groups that get another; each takes those before it into account."""
    shapes: dict[int, Ints] = {}
    if not any(map(_is_moved, graph.cnodes())):
        return shapes
    count = _count_with_gathers if gathers else _count
    for group in _groups(graph):
        if group.members[0].aval.size == 1 if gathers else group.moved:
            shapes |= group.best(count, shapes)
    return shapes


# -------------------------------------------------------------------------------- groups of values


@dataclass(frozen=True)
class _Group:
    """Values that are computed from each other, and all that uses them.

    Attributes:
      members: the values, all of one number of elements.
      users: the operators that use them or what they are computed from, but for reshapes; the
        members among it.
      outputs: results of the graph that are one of these values, or reshapes of it.
      moved: whether one of them is reshaped.
    """

    members: Sequence[CNode]
    users: Sequence[CNode]
    outputs: Sequence[Node]
    moved: bool

    def best(self, count: Count, others: Shapes) -> Shapes:
        """The shape of all that takes fewer operators than there are; empty if there is none."""
        least, found = self._cost(count, others), dict[int, Ints]()
        for shape in self._shapes() if least[0] else ():
            own = {id(node): shape for node in self.members}
            cost = self._cost(count, ChainMap(own, others))
            if cost < least:
                least, found = cost, own
        return found

    def _cost(self, count: Count, shapes: Shapes) -> tuple[int, ...]:
        """What it takes; of as much, reshapes behind the members are better, as other rules do."""
        uses, own = self._uses(shapes), set(map(id, self.members))
        moved = (key for (key, shape), root in uses.items() if shape != _made(root, shapes))
        return *count(uses, shapes), sum(key not in own for key in moved)

    def _shapes(self) -> Sequence[Ints]:
        """Those of the members, of what they are computed from, and for their users."""
        sources = [_root(each) for node in self.members for each in node.inputs]
        used = [each for node in self.users for each in node.inputs]
        size = self.members[0].aval.size
        every = (*self.members, *sources, *used, *self.outputs)
        alike = {node.aval.shape for node in every if node.aval.size == size}
        reductions = [node for node in self.members if node.op in REDUCTIONS]
        alike |= {s for node in reductions for s in _possible(node, node.inputs[0].aval.shape)}
        return sorted({*alike, ()} if size == 1 else alike, key=lambda s: (len(s), s))

    def _uses(self, shapes: Shapes) -> Uses:
        """Each value with ``shapes`` and a shape that it is used in, once."""
        pairs = [pair for node in self.users for pair in _wanted(node, shapes)]
        pairs += [(_root(node), node.aval.shape) for node in self.outputs]
        return {(id(root), shape): root for root, shape in pairs if not _is_free(root)}


def _count(uses: Uses, shapes: Shapes) -> Cost:
    """How many reshapes there are; of as many, those that drop the axis of one place are less."""
    moved = [(root, shape) for (_, shape), root in uses.items() if shape != _made(root, shapes)]
    return len(moved), sum(not _is_gather(part_of(root), shape) for root, shape in moved)


def _is_gather(part: Part | None, shape: Ints) -> bool:
    """Whether a part in ``shape`` is what a Gather of one place gives."""
    if part is None or part.stop - part.start != 1:
        return False
    source = part.source.aval.shape
    return shape == source[: part.axis] + source[part.axis + 1 :]


def _count_with_gathers(uses: Uses, shapes: Shapes) -> Cost:
    """How many reshapes, Gathers of one place, and Splits or Slices of others."""
    places: dict[tuple[int, int], tuple[int, set[int]]] = {}
    found = 0
    for (_, shape), root in uses.items():
        part = part_of(root)
        if part is None or part.stop - part.start != 1:
            found += shape != _made(root, shapes)
        elif _is_gather(part, shape):
            found += 1
        else:
            size = part.source.aval.shape[part.axis]
            places.setdefault((id(part.source), part.axis), (size, set()))[1].add(part.start)
            found += shape != _made(root, shapes)
    parts = sum(1 if len(there) == size else len(there) for size, there in places.values())
    return found + parts, 0


def _groups(graph: FuncGraph) -> Iterable[_Group]:
    """The groups, each by its first member; elementwise operators join those of their inputs."""
    first: dict[int, int] = {}

    def find(place: int) -> int:
        while first[place] != place:
            first[place] = place = first[first[place]]  # shorter for the next one
        return place

    nodes = [node for node in graph.cnodes() if not _is_moved(node)]
    members = [node for node in nodes if _has_any_shape(node)]
    for node in members:
        first[id(node)] = id(node)
        for each in map(_root, node.inputs) if is_elementwise(node) else ():
            if each.aval.size == 1 == node.aval.size and not _is_free(each):
                first.setdefault(id(each), id(each))  # numbers of one source belong together
            if id(each) in first and each.aval.size == node.aval.size:
                first[find(id(each))] = find(id(node))
    groups: dict[int, list[CNode]] = {}
    for node in members:
        groups.setdefault(find(id(node)), []).append(node)
    used = _Used(nodes, graph)
    return [used.by(group) for group in groups.values()]


class _Used:
    """Which operators of a graph use a value, itself or in another shape."""

    def __init__(self, nodes: Sequence[CNode], graph: FuncGraph) -> None:
        self._outputs = graph.outputs
        self._moved = {id(_root(node)) for node in graph.cnodes() if _is_moved(node)}
        self._users: dict[int, list[CNode]] = {}
        for node in nodes:
            for root in {id(root): root for root in map(_root, node.inputs)}:
                self._users.setdefault(root, []).append(node)

    def by(self, members: Sequence[CNode]) -> _Group:
        """The group of ``members``, with all that uses them and their inputs."""
        inputs = (_root(each) for node in members for each in node.inputs)
        values = {id(each) for each in (*members, *inputs) if not _is_free(each)}
        users = {id(user): user for each in values for user in self._users.get(each, ())}
        users |= {id(node): node for node in members}
        outputs = [node for node in self._outputs if id(_root(node)) in values]
        return _Group(members, tuple(users.values()), outputs, bool(values & self._moved))


def _is_moved(node: Node) -> bool:
    """Whether it is a value in another shape."""
    return isinstance(node, CNode) and node.op == "Reshape" and all_known(node.aval.shape)


def _root(node: Node) -> Node:
    """The value that ``node`` is in another shape, or itself."""
    while isinstance(node, CNode) and _is_moved(node):
        (node,) = node.inputs
    return node


def _is_free(node: Node) -> bool:
    """Whether its reshape is done at export; a large one may be in the file twice then."""
    value = known(node)
    return value is not None and value.nbytes <= ALWAYS_BYTES


def _has_any_shape(node: CNode) -> bool:
    """Whether it can give its elements in another shape, too."""
    if len(node.results) != 1 or not all_known(node.aval.shape):
        return False
    size = node.aval.size
    if not is_elementwise(node):
        return size > 0 and node.op in REDUCTIONS
    return size > 0 and all(each.aval.size in (size, 1) for each in node.inputs)


# -------------------------------------------------------------------------------- shapes of values


def _made(root: Node, shapes: Shapes) -> Ints:
    """The shape that a value is made in."""
    shape = shapes.get(id(root), root.aval.shape)
    if not shapes or not isinstance(root, CNode) or root.op not in REDUCTIONS:
        return shape
    possible = _possible(root, _read(root, shapes))
    return next(each for each in (shape, root.aval.shape, *possible) if each in possible)


def _read(node: CNode, shapes: Shapes) -> Ints:
    """The shape that a reduction reads its input in."""
    (x,) = node.inputs
    root = _root(x)
    return _made(root, shapes) if id(root) in shapes and _reads_any_shape(node) else x.aval.shape


def _reads_any_shape(node: CNode) -> bool:
    """Whether a reduction gives a single number of several."""
    shape = node.inputs[0].aval.shape
    return all_known(shape) and math.prod(shape) > 1 == node.aval.size


def _possible(node: CNode, shape: Ints) -> Mapping[Ints, tuple[Ints, bool]]:
    """What a reduction of a value in ``shape`` can give, with ``axes`` and ``keepdims`` for it.

    Of a single number any axes of one place can stay: a sum of ``[1, 5]`` along axis 1 is ``[1]``.
    """
    every = tuple(range(len(shape)))
    axes = every if _reads_any_shape(node) else ints(node, "axes")
    found = {tuple(1 if i in axes else shape[i] for i in every): (axes, True)}
    ones = [i for i in every if shape[i] == 1] if _reads_any_shape(node) else []
    ways = [tuple(i for i in axes if i not in ones[:n]) for n in range(len(ones) + 1)]
    return found | {tuple(shape[i] for i in every if i not in way): (way, False) for way in ways}


def _wanted(node: CNode, shapes: Shapes) -> list[tuple[Node, Ints]]:
    """Each computed input without the reshapes in front of it, and the shape it is used in."""
    if node.op == "TupleGetItem":  # of an operator, not of a value
        return []
    own = [(_root(each), each.aval.shape) for each in node.inputs]
    if shapes and node.op in REDUCTIONS:
        return [(root, _read(node, shapes)) for root, _ in own]
    if not shapes or not is_elementwise(node):
        return own
    if id(node) in shapes:
        return _of_member(own, shapes[id(node)], shapes)
    return _of_larger(own, node.aval.shape, shapes)


def _of_member(
    own: Sequence[tuple[Node, Ints]], goal: Ints, shapes: Shapes
) -> list[tuple[Node, Ints]]:
    """The inputs of a value of shape ``goal``; a single number may lack some of its axes."""
    own = [(root, _made(root, shapes)) for root, _ in own]
    few = [(root, _with_at_most(shape, goal)) for root, shape in own]
    if broadcast_shapes(*(shape for _, shape in few)) == goal:
        return few
    return [(root, goal) for root, _ in own]  # numbers, none of which has as many axes


def _with_at_most(shape: Ints, goal: Ints) -> Ints:
    """``goal``, or the shape of a number where it goes with ``goal``."""
    if math.prod(shape) != 1:
        return goal
    return shape if len(shape) <= len(goal) else (1,) * len(goal)


def _of_larger(
    own: Sequence[tuple[Node, Ints]], goal: Ints, shapes: Shapes
) -> list[tuple[Node, Ints]]:
    """The inputs of what repeats some; leading axes of one place do not matter if others have all.

    ``[3]`` or ``[1, 3]`` is the same beside ``[2, 3]``, and a number has any shape.
    """
    made = [_made(root, shapes) if id(root) in shapes else shape for root, shape in own]
    free = [
        id(root) in shapes
        and len(there) <= len(goal)
        and _without_ones(there) == _without_ones(shape)
        for (root, shape), there in zip(own, made, strict=True)
    ]
    others = [shape for (_, shape), any_shape in zip(own, free, strict=True) if not any_shape]
    if not others or broadcast_shapes(*others) != goal:
        return list(own)
    return [
        (root, there if any_shape else shape)
        for (root, shape), there, any_shape in zip(own, made, free, strict=True)
    ]


def _without_ones(shape: Ints) -> Ints:
    """``shape`` without leading axes of one place."""
    return tuple(dropwhile(lambda size: size == 1, shape))


def _with_shapes(graph: FuncGraph, shapes: Shapes) -> FuncGraph:
    """``graph`` with each value in its shape, and reshapes where another is wanted."""
    new: dict[int, Node] = {}
    for node in graph.nodes():
        if not isinstance(node, CNode) or node.op == "TupleGetItem":
            new[id(node)] = rebuilt(node, new)
        elif _is_moved(node):
            new[id(node)] = _in_shape(new[id(_root(node))], node.aval.shape, node)
        else:
            new[id(node)] = _with_inputs(node, shapes, new)
    outputs = tuple(_in_shape(new[id(n)], n.aval.shape, n) for n in graph.outputs)
    return share(replace(graph, outputs=outputs))


def _with_inputs(node: CNode, shapes: Shapes, new: Mapping[int, Node]) -> CNode:
    inputs = tuple(_in_shape(new[id(root)], shape, node) for root, shape in _wanted(node, shapes))
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)) and id(node) not in shapes:
        return node
    if node.op in REDUCTIONS:
        axes, kept = _possible(node, inputs[0].aval.shape)[_made(node, shapes)]
        return apply(node.op, *inputs, origin=node.origin, axes=axes, keepdims=kept)
    own = replace(node, inputs=inputs)
    if id(node) not in shapes:
        return own
    return replace(own, results=(replace(node.aval, shape=shapes[id(node)]),))


def _in_shape(source: Node, shape: Ints, like: Node) -> Node:
    if source.aval.shape == shape:
        return source
    if _is_free(source):
        return with_value(source, value_of(source).reshape(shape))
    origin = like.origin if isinstance(like, CNode) else NOWHERE
    return apply("Reshape", source, origin=origin, shape=shape)
