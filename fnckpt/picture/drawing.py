"""What is drawn: boxes of operators and of modules, and the edges between them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fnckpt.ir.targets.target import NodeSummary, Shape, Summary, ValueSummary
from fnckpt.visible import visible

# Colours by what an operator does; words that its name may hold, in any of the formats.
KINDS: Mapping[str, tuple[str, ...]] = {
    "product": ("conv", "matmul", "gemm", "dense", "biasadd"),
    "norm": ("norm", "bninfer"),
    "pool": ("pool", "reduce", "argm", "cumsum"),
    "activation": ("relu", "gelu", "sigmoid", "tanh", "softmax", "swish", "erf", "silu", "elu"),
    "move": ("transpose", "reshape", "concat", "slice", "gather", "pad", "expand", "broadcast",
             "squeeze", "tile", "scatter", "cast", "split", "flatten"),
}  # fmt: skip

MOST_DEPTH = 32  # of modules within modules


@dataclass(frozen=True)
class Box:
    """An operator, an input, an output, or a module with all that is ``inside`` it."""

    label: str
    kind: str
    hover: str
    inside: tuple[NodeSummary, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """Boxes in the order of computation, and edges as pairs of their numbers."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]


def kind_of(op: str) -> str:
    """The row of ``KINDS`` that an operator belongs to, or ``other``."""
    name = op.lower()
    return next((kind for kind, words in KINDS.items() if any(w in name for w in words)), "other")


def drawing_of(summary: Summary) -> Drawing:
    """A whole graph: what lies in a module is one box, the rest a box for each operator."""
    return drawing_within(summary.nodes, summary.shapes, summary.inputs, summary.outputs)


def drawing_within(
    nodes: Sequence[NodeSummary],
    shapes: Mapping[str, Shape],
    inputs: Sequence[ValueSummary] = (),
    outputs: Sequence[ValueSummary] = (),
) -> Drawing:
    """A part of a graph; what comes from elsewhere has no edge."""
    depth = _common_depth(nodes)
    keys = [_key(node, depth, index) for index, node in enumerate(nodes)]
    groups: dict[str, list[NodeSummary]] = {}
    for key, node in zip(keys, nodes, strict=True):
        group = groups.pop(key, [])  # a module stands where its last operator does
        group.append(node)
        groups[key] = group
    boxes = [Box(visible(value.name), "input", visible(str(value))) for value in inputs]
    made: dict[str, int] = {value.name: i for i, value in enumerate(inputs)}
    places: dict[str, int] = {}
    for key, group in groups.items():
        places[key] = len(boxes)
        boxes.append(_box(key, group, shapes))
    for key, node in zip(keys, nodes, strict=True):
        made |= dict.fromkeys(node.outputs, places[key])
    edges = [(made[i], places[k]) for k, n in zip(keys, nodes, strict=True) for i in n.inputs
             if i in made]  # fmt: skip
    for value in outputs:
        if value.name in made:
            edges.append((made[value.name], len(boxes)))
        boxes.append(Box(visible(value.name), "output", visible(str(value))))
    unique = dict.fromkeys((a, b) for a, b in edges if a != b)
    return Drawing(tuple(boxes), tuple(unique))


def _common_depth(nodes: Sequence[NodeSummary]) -> int:
    """How many leading modules all nodes that lie in one share."""
    paths = [_path(node)[:-1] for node in nodes if "/" in node.name]
    if not paths:
        return 0
    shared = 0
    while all(len(p) > shared and p[shared] == paths[0][shared] for p in paths):
        shared += 1
    return shared


def _path(node: NodeSummary) -> list[str]:
    """The modules of a node and its own name; what is very deep counts as one name."""
    return node.name.split("/", MOST_DEPTH)


def _key(node: NodeSummary, depth: int, index: int) -> str:
    """The module that a node is drawn in, ending in a slash; or what no other node has.

    Names need not differ: ONNX lets nodes have none.
    """
    path = _path(node)
    return "/".join(path[: depth + 1]) + "/" if len(path) > depth + 1 else f"{index}:{node.name}"


def _box(key: str, group: Sequence[NodeSummary], shapes: Mapping[str, Shape]) -> Box:
    if len(group) == 1:
        node = group[0]
        weights = [_shaped(name, shapes) for name in node.inputs if name.startswith("params")]
        results = [_shaped(name, shapes) for name in node.outputs if name in shapes]
        lines = [node.name, node.op, *weights, *results]
        return Box(visible(node.op), kind_of(node.op), _hover(lines))
    counts = Counter(node.op for node in group).most_common()
    results = [_shaped(name, shapes) for name in group[-1].outputs if name in shapes]
    hover = [key.rstrip("/"), *(f"{count} {op}" for op, count in counts), *results]
    label = f"{key.rstrip('/').split('/')[-1]} ({len(group)})"
    return Box(visible(label), "module", _hover(hover), tuple(group))


def _hover(lines: Sequence[str]) -> str:
    return "\n".join(map(visible, lines))


def _shaped(name: str, shapes: Mapping[str, Shape]) -> str:
    """A value's name with its sizes, where the file tells them."""
    return f"{name}: [{','.join(map(str, shapes[name]))}]" if name in shapes else name
