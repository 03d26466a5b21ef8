"""Values that are computed from each other element by element have one shape.

It is the one with the fewest reshapes: ``[2, 6]`` or ``[12]`` is the same to such operators, and
``[]`` or ``[1]`` to almost all users of a number. It looks at all users of a value, so that it is a
pass of its own, not a rule.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.fold import ALWAYS_BYTES
from fnckpt.ir.graph import NOWHERE, CNode, FuncGraph, Node, rebuilt
from fnckpt.ir.operators import apply, is_elementwise
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.build import known
from fnckpt.ir.passes.parts import part_of
from fnckpt.ir.passes.reshape import value_of, with_value
from fnckpt.ir.passes.share import share
from fnckpt.ir.sizes import all_known, broadcast_shapes

Shapes = Mapping[int, Ints]  # what some values get, by ``id``; others keep their own
Uses = Mapping[tuple[int, Ints], Node]  # values, by ``id`` and the shape that they are used in
Count = Callable[[Uses, Shapes], int]


def one_shape(graph: FuncGraph, *, gathers: bool = False) -> FuncGraph:
    """``graph`` with each group of values in the shape that takes the fewest reshapes.

    With ``gathers`` single numbers alone: a reshape that drops the axis of one place makes a Gather
    of its slice, while slices at all places of a value are one Split.
    """
    if not any(map(_is_moved, graph.cnodes())):
        return graph
    shapes: dict[int, Ints] = {}
    for group in _groups(graph):
        if gathers and group.members[0].aval.size > 1:
            continue
        shapes |= group.best(_count_with_gathers if gathers else _count)
    return _with_shapes(graph, shapes) if shapes else graph


# -------------------------------------------------------------------------------- groups of values


@dataclass(frozen=True)
class _Group:
    """Values that are computed from each other, and all that uses them.

    Attributes:
      members: the values, all of one number of elements.
      users: the operators that use them, but for reshapes; the members among it.
      outputs: results of the graph that are members, or reshapes of them.
    """

    members: Sequence[CNode]
    users: Sequence[CNode]
    outputs: Sequence[Node]

    def best(self, count: Count) -> Shapes:
        """The shape of all that takes fewer operators than there are; empty if there is none."""
        least, found = count(self._uses({}), {}), dict[int, Ints]()
        for shape in self._shapes() if least else ():
            shapes = {id(node): shape for node in self.members}
            taken = count(self._uses(shapes), shapes)
            if taken < least:
                least, found = taken, shapes
        return found

    def _shapes(self) -> Sequence[Ints]:
        """Those of the members and of what they are computed from, short ones first."""
        sources = (_root(each) for node in self.members for each in node.inputs)
        size = self.members[0].aval.size
        alike = (node for node in (*self.members, *sources) if node.aval.size == size)
        least: set[Ints] = {()} if size == 1 else set()
        return sorted({*least, *(node.aval.shape for node in alike)}, key=lambda s: (len(s), s))

    def _uses(self, shapes: Shapes) -> Uses:
        """Each value with ``shapes`` and a shape that it is used in, once."""
        pairs = [pair for node in self.users for pair in _wanted(node, shapes)]
        pairs += [(_root(node), node.aval.shape) for node in self.outputs]
        return {(id(root), shape): root for root, shape in pairs if not _is_free(root)}


def _count(uses: Uses, shapes: Shapes) -> int:
    """How many reshapes there are."""
    return sum(shape != _made(root, shapes) for (_, shape), root in uses.items())


def _count_with_gathers(uses: Uses, shapes: Shapes) -> int:
    """How many reshapes, Gathers of one place, and Splits or Slices of others."""
    places: dict[tuple[int, int], tuple[int, set[int]]] = {}
    found = 0
    for (_, shape), root in uses.items():
        part = part_of(root)
        if part is None or part.stop - part.start != 1:
            found += shape != _made(root, shapes)
        elif shape == root.aval.shape[: part.axis] + root.aval.shape[part.axis + 1 :]:
            found += 1
        else:
            size = part.source.aval.shape[part.axis]
            places.setdefault((id(part.source), part.axis), (size, set()))[1].add(part.start)
            found += shape != _made(root, shapes)
    return found + sum(1 if len(there) == size else len(there) for size, there in places.values())


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
            if id(each) in first and each.aval.size == node.aval.size:
                first[find(id(each))] = id(node)
    parts: dict[int, tuple[list[CNode], dict[int, CNode], list[Node]]] = {}
    for node in members:
        parts.setdefault(find(id(node)), ([], {}, []))[0].append(node)
    for node in nodes:
        for each in (node, *map(_root, node.inputs)):
            if id(each) in first:
                parts[find(id(each))][1][id(node)] = node
    for node in graph.outputs:
        if id(_root(node)) in first:
            parts[find(id(_root(node)))][2].append(node)
    return [_Group(own, tuple(users.values()), outputs) for own, users, outputs in parts.values()]


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
        return size == 1 and node.op in REDUCTIONS
    return size > 0 and all(each.aval.size in (size, 1) for each in node.inputs)


# -------------------------------------------------------------------------------- shapes of values


def _made(root: Node, shapes: Shapes) -> Ints:
    """The shape that a value is made in."""
    shape = shapes.get(id(root), root.aval.shape)
    if isinstance(root, CNode) and root.op in REDUCTIONS and shape not in _of_reduction(root):
        return root.aval.shape
    return shape


def _of_reduction(node: CNode) -> tuple[Ints, Ints]:
    """The shapes that a reduction to one number can give: with its axes, and without."""
    rank = len(node.inputs[0].aval.shape)
    return (1,) * rank, (1,) * (rank - len(ints(node, "axes")))


def _wanted(node: CNode, shapes: Shapes) -> list[tuple[Node, Ints]]:
    """Each computed input without the reshapes in front of it, and the shape it is used in."""
    if node.op == "TupleGetItem":  # of an operator, not of a value
        return []
    own = [(_root(each), each.aval.shape) for each in node.inputs]
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
    """The inputs of what repeats some; a number may have any shape if others have all axes."""
    free = [id(root) in shapes and root.aval.size == 1 for root, _ in own]
    others = [shape for (_, shape), any_shape in zip(own, free, strict=True) if not any_shape]
    if not others or broadcast_shapes(*others) != goal:
        return list(own)
    return [
        (root, _with_at_most(_made(root, shapes), goal) if any_shape else shape)
        for (root, shape), any_shape in zip(own, free, strict=True)
    ]


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
    if id(node) not in shapes:
        same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
        return node if same else replace(node, inputs=inputs)
    attrs, shape = node.attrs, _made(node, shapes)
    if node.op in REDUCTIONS:
        attrs = {**attrs, "keepdims": shape == _of_reduction(node)[0]}
    results = (replace(node.aval, shape=shape),)
    return replace(node, inputs=inputs, attrs=attrs, results=results)


def _in_shape(source: Node, shape: Ints, like: Node) -> Node:
    if source.aval.shape == shape:
        return source
    if _is_free(source):
        return with_value(source, value_of(source).reshape(shape))
    origin = like.origin if isinstance(like, CNode) else NOWHERE
    return apply("Reshape", source, origin=origin, shape=shape)
