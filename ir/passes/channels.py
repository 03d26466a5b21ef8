"""Norms and Dense over the channels of an image, between convolutions, work with channels first.

Such a network (ConvNeXt) is channels last in Flax, and has a transpose on each side of each
convolution. A Dense over the channels is a 1 x 1 convolution, and the norm is ``Standardize`` over
axis 1. Written so, with transposes around, the layout pass cancels them all. That pays only where
the image stays an image until a convolution, its means or the end of the network; where it becomes
rows of tokens, both stay as they are.
"""

from collections.abc import Callable

from fnckpt.ir.attributes import Ints, ints, number
from fnckpt.ir.graph import CNode, FuncGraph, Node, inputs_of, rebuilt, with_outputs
from fnckpt.ir.operators import is_elementwise
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.passes.rewrite import scalar_of

LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # of an image: its channels go last, and first


def _convolution(node: CNode) -> Node:
    """matmul(x[N, H, W, C], w) is a convolution with a kernel of 1 x 1, channels first."""
    (x, w), build = node.inputs, Build(node)
    rows = w if node.attrs["transpose_b"] else build.transpose(w, (1, 0))
    kernel = build.reshape(rows, (*rows.aval.shape, 1, 1))
    window = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    product = build("Conv", build.transpose(x, FIRST), kernel, **window)
    return build.transpose(product, LAST)


def _standardized(node: CNode) -> Node:
    """layer_norm(x[N, H, W, C], w, b) is standardize(x) * w + b, channels first."""
    (x, *vectors), build = node.inputs, Build(node)
    epsilon = number(node, "epsilon")
    result = build("Standardize", build.transpose(x, FIRST), axes=(1,), epsilon=epsilon)
    for op, vector, nothing in zip(("Mul", "Add"), vectors, (1, 0), strict=True):
        if scalar_of(vector) != nothing:
            result = build(op, result, build.reshape(vector, (vector.aval.size, 1, 1)))
    return build.transpose(result, LAST)


TURNED: dict[str, Callable[[CNode], Node]] = {"MatMul": _convolution, "LayerNorm": _standardized}


def channels_first(graph: FuncGraph) -> FuncGraph:
    """``graph`` with each Dense and LayerNorm over the channels of an image channels first."""
    images = _images(graph)
    new: dict[int, Node] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        if id(node) in images and isinstance(result, CNode) and result.op in TURNED:
            result = TURNED[result.op](result)
        new[id(node)] = result
    return with_outputs(graph, new)


def _images(graph: FuncGraph) -> set[int]:
    """The nodes, by id, that come from a convolution, or from its input, and stay images."""
    nodes = graph.cnodes()
    images = {id(n.inputs[0]) for n in nodes if _perm(n) == FIRST} & set(map(id, graph.inputs))
    for node in nodes:
        if _perm(node) == LAST or (_keeps_image(node) and _comes_of(node, images)):
            images.add(id(node))
    lost = {id(n) for n in graph.outputs if isinstance(n, CNode) and n.op == "LayerNorm"}
    for node in reversed(nodes):
        if not (_perm(node) == FIRST or node.op in REDUCTIONS or id(node) in images - lost):
            lost |= {id(each) for each in inputs_of(node)}
    return images - lost


def _perm(node: CNode) -> Ints | None:
    return ints(node, "perm") if node.op == "Transpose" else None


def _comes_of(node: CNode, images: set[int]) -> bool:
    """Whether an image goes in, and nothing else that is computed and as large."""
    computed = [n for n in node.inputs if known(n) is None and len(n.aval.shape) == 4]
    return bool(computed) and all(id(n) in images or 1 in n.aval.shape[1:3] for n in computed)


def _keeps_image(node: CNode) -> bool:
    """Whether the node computes each place of an image for itself."""
    if len(node.results) != 1 or len(node.aval.shape) != 4:
        return False
    if is_elementwise(node):
        return True
    narrow = is_float(node) and node.aval.dtype.itemsize <= 4  # no runtime convolves doubles
    if not narrow or node.op not in TURNED:
        return False
    if node.op == "LayerNorm":
        return True
    w = node.inputs[1]
    return known(w) is not None and len(w.aval.shape) == 2 and not node.attrs["transpose_a"]
