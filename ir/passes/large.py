"""What is large: there the time of a kernel decides, and not the time to start it."""

from math import prod

from fnckpt.ir.graph import Node
from fnckpt.ir.sizes import is_known

LEAST = 2048  # elements; ONNX Runtime starts a kernel in about a microsecond


def is_large(node: Node, least: int = LEAST) -> bool:
    """Whether an array has many elements; a symbolic size counts as 1."""
    return prod(filter(is_known, node.aval.shape)) >= least
