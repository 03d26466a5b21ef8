"""What the nodes of a file cost to run, counted from the shapes that the file tells.

The same counts as ``fnckpt.ir.cost`` makes of a graph, by the operators' names in the three
formats: a multiplication and an addition are two, a move is none.
"""

import math
from collections.abc import Sequence

from fnckpt.ir.cost import Heavy
from fnckpt.ir.targets.target import NodeSummary, Shape, Summary

CONVOLUTIONS = frozenset({"Conv", "Conv2D", "Conv3D"})
TURNED = {"ConvTranspose": (0, 1), "Conv2DTranspose": (0, 1), "Conv2DBackpropInput": (2, 1)}
PRODUCTS = frozenset(
    {"BatchMatMul", "BatchMatMulV2", "Gemm", "MatMul", "MatMulV2", "MatMulInteger"}
)
MOVES = frozenset(
    {
        "BroadcastTo", "BroadcastToD", "Cast", "Concat", "ConcatD", "ConcatV2D", "Const",
        "Constant", "DepthToSpace", "DequantizeLinear", "Expand", "ExpandDims", "Flatten",
        "Gather", "GatherD", "GatherElements", "GatherND", "GatherNd", "GatherV2", "GatherV2D",
        "Identity", "NetOutput", "Pad", "PadD", "PadV3", "QuantizeLinear", "Reshape", "ReverseV2",
        "ReverseV2D", "Shape", "Slice", "SliceD", "SpaceToDepth", "Split", "SplitD", "Squeeze",
        "StridedSlice", "StridedSliceD", "Tile", "TileD", "Transpose", "TransposeD", "Unsqueeze",
    }
)  # fmt: skip


def flops_of(node: NodeSummary, file: Summary) -> int | None:
    """The operations of one node; None where the file does not tell the shapes."""
    if node.op in MOVES:
        return 0
    results = [_known(file.shapes.get(name)) for name in node.outputs]
    inputs = [_known(file.shapes.get(name)) for name in node.inputs]
    if not results or results[0] is None or not inputs:
        return None
    return _counted(node, results[0], inputs)


def _counted(
    node: NodeSummary, result: tuple[int, ...], inputs: Sequence[tuple[int, ...] | None]
) -> int | None:
    if node.op in PRODUCTS:
        left = inputs[0]
        return None if left is None else 2 * math.prod(result) * _inner(left, result)
    if node.op == "Attention":
        q, k = (*inputs, None, None)[:2]
        return (
            None
            if q is None or k is None or len(k) < 2
            else 2 * k[1] * (math.prod(q) + math.prod(result))
        )
    if node.op in CONVOLUTIONS:
        kernel = inputs[1] if len(inputs) > 1 else None
        return None if kernel is None else 2 * math.prod(result) * math.prod(kernel[1:])
    if node.op in TURNED:
        x, kernel = (inputs[i] if i < len(inputs) else None for i in TURNED[node.op])
        return None if not (x and kernel) else 2 * math.prod(x) * math.prod(kernel[1:])
    read = max((math.prod(shape) for shape in inputs if shape is not None), default=0)
    reads_all = len(inputs) == 1 or node.op.startswith("Reduce")  # whose axes may be an input
    return max(read, math.prod(result)) if reads_all else math.prod(result)


def _inner(left: tuple[int, ...], result: tuple[int, ...]) -> int:
    """The axis that a product sums over, whichever of the last two of ``left`` it is."""
    if len(left) < 2 or len(result) < 2:
        return left[-1] if left else 1
    return left[-2] * left[-1] // max(result[-2], 1)


def _known(shape: Shape | None) -> tuple[int, ...] | None:
    """A shape of which every size is a number."""
    if shape is None:
        return None
    sizes = tuple(size for size in shape if isinstance(size, int) and size >= 0)
    return sizes if len(sizes) == len(shape) else None


def file_costs(summary: Summary) -> tuple[int, int, Sequence[Heavy]]:
    """The operations of all nodes, of how many nodes they are unknown, and the ten heaviest."""
    counted = [(flops_of(node, summary), node) for node in summary.every_node()]
    known = [(count, node) for count, node in counted if count is not None]
    first = sorted(known, key=lambda each: each[0], reverse=True)[:10]
    heavy = [Heavy(node.op, node.name, count) for count, node in first if count]
    return sum(count for count, _ in known), len(counted) - len(known), heavy
