"""A graph as a drawing: modules as boxes that open, with the values that enter and leave them."""

from collections.abc import Iterator, Sequence, Set

from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.picture.boxes import Box, Drawing, kind_of, lines, shown
from fnckpt.picture.levels import drawn, levels_of, shaped, short
from fnckpt.picture.modules import Leaf, path_of, tree

FEW = 8  # inputs or outputs: more are drawn in the parts of their names, state.params.Conv_0
MOST_BODIES = 24  # of bodies in bodies; those deeper are not opened


def drawing_of(summary: Summary) -> Drawing:
    """A whole graph: its modules, and what runs in its nodes, are drawings inside boxes."""
    return _drawing(summary, frozenset(), 0)


def _drawing(summary: Summary, around: Set[str], depth: int) -> Drawing:
    """A graph that stands at a ``depth`` in others, whose values are ``around`` it."""
    captured = [name for name in free(summary) if name in around]
    inner = around | _made(summary) if any(node.bodies for node in summary.nodes) else around
    leaves: list[Leaf] = []
    for name in captured:
        leaves.append(_input(name, name, len(leaves)))
    for value, path in _with_paths(summary.inputs, "inputs"):
        leaves.append(_input(value.name, str(value), len(leaves), path))
    for node in summary.nodes:
        box = _operator(node, summary, _bodies(node, inner, depth + 1))
        leaves.append(Leaf(box, len(leaves), path_of(node.name), _taken(node), node.outputs))
    for value, path in _with_paths(summary.outputs, "outputs"):
        box = Box(short(value.name), "output", lines(str(value)))
        leaves.append(Leaf(box, len(leaves), path, (value.name,)))
    root = tree(leaves)
    return drawn(root, levels_of(root, leaves), summary.shapes)


def _input(name: str, hover: str, number: int, path: tuple[str, ...] = ()) -> Leaf:
    return Leaf(Box(short(name), "input", lines(hover)), number, path, gives=(name,))


def _with_paths(
    values: Sequence[ValueSummary], otherwise: str
) -> Iterator[tuple[ValueSummary, tuple[str, ...]]]:
    """Many are drawn in the parts of their names, or if most have no parts, in one box."""
    paths = [path_of(value.name, ".") for value in values]
    parted = 2 * sum(map(bool, paths)) > len(paths)
    for value, path in zip(values, paths, strict=True):
        inside = (path if parted else ()) or (otherwise,)
        yield value, inside if len(values) > FEW else ()


def _taken(node: NodeSummary) -> tuple[str, ...]:
    """The values that a node, or what runs in it, takes from the graph that it stands in."""
    return tuple(dict.fromkeys((*node.inputs, *(n for _, body in node.bodies for n in free(body)))))


def free(body: Summary) -> tuple[str, ...]:
    """The values that a graph takes from the one around it."""
    own = _made(body)
    taken = (name for node in body.nodes for name in _taken(node))
    ends = (value.name for value in body.outputs)
    return tuple(dict.fromkeys(name for name in (*taken, *ends) if name and name not in own))


def _made(graph: Summary) -> set[str]:
    named = {value.name for value in (*graph.inputs, *graph.parameters)}
    return named | {name for node in graph.nodes for name in node.outputs}


def _operator(node: NodeSummary, graph: Summary, inside: Drawing | None) -> Box:
    hover = lines(
        node.name or "(without a name)",
        f"operator: {node.op}",
        *(f"{name} = {value}" for name, value in node.attributes),
        *(f"in: {shaped(name, graph.shapes)}" for name in node.inputs),
        *(f"out: {shaped(name, graph.shapes)}" for name in node.outputs),
    )
    kind = "module" if inside else kind_of(node.op)
    return Box(shown(node.op, 32), kind, hover, node.op, inside)


def _bodies(node: NodeSummary, around: Set[str], depth: int) -> Drawing | None:
    """What runs in a node: its one body, or a box for each."""
    if not node.bodies or depth > MOST_BODIES:
        return None
    bodies = [(name, _drawing(body, around, depth)) for name, body in node.bodies]
    if len(bodies) == 1:
        return bodies[0][1]
    boxes = (Box(shown(name, 32), "module", lines(name), inside=body) for name, body in bodies)
    return Drawing(tuple(boxes), ())
