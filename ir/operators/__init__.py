"""What each operator means; importing this fills the table."""

from fnckpt.ir.operators import attention, elementwise, index, network, reduction, shape
from fnckpt.ir.operators.table import OPERATORS, apply, constant, infer, item

__all__ = [
    "OPERATORS",
    "apply",
    "attention",
    "constant",
    "elementwise",
    "index",
    "infer",
    "item",
    "network",
    "reduction",
    "shape",
]
