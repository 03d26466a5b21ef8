"""Constants computed at export instead of at every run."""

import numpy as np

from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import CNode, Constant, Node, graphs_of
from fnckpt.ir.sizes import all_known

MOST_BYTES = (
    4 << 20
)  # a bool mask of 2048 x 2048; what is larger is cheaper to compute than to ship
ALWAYS_BYTES, REPEATED_BYTES = 64 << 10, 1 << 10


def folded(node: Node) -> Node:
    """``node``, or the constant it is, where all its inputs are constants.

    The file must not swell: a result that is larger than its inputs is computed only up to 64 KiB,
    a mere repetition up to a kilobyte, and nothing over 4 MiB.
    """
    if not isinstance(node, CNode) or len(node.results) != 1 or graphs_of(node):
        return node
    if not all_known(node.aval.shape):
        return node
    inputs = [value for n in node.inputs if (value := _constant(n)) is not None]
    if len(inputs) < len(node.inputs) or not inputs:
        return node
    size = node.aval.size * node.aval.dtype.itemsize
    always = REPEATED_BYTES if node.op == "BroadcastTo" else ALWAYS_BYTES
    if size > MOST_BYTES or size > max(always, 2 * sum(value.nbytes for value in inputs)):
        return node
    value = compute(node, inputs)
    assert isinstance(value, np.ndarray)
    return Constant(value)


def _constant(node: Node) -> np.ndarray | None:
    """The value of a constant, or of one that is repeated."""
    if isinstance(node, Constant):
        return node.value
    if (
        isinstance(node, CNode)
        and node.op == "BroadcastTo"
        and isinstance(node.inputs[0], Constant)
        and all_known(node.aval.shape)
    ):
        return np.broadcast_to(node.inputs[0].value, node.aval.shape)
    return None
