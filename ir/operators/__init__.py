"""What each operator means; importing this fills the table."""

from fnckpt.ir.operators import (
    attention,
    control,
    elementwise,
    index,
    network,
    recurrent,
    reduction,
    shape,
)
from fnckpt.ir.operators.table import (
    OPERATORS,
    apply,
    constant,
    infer,
    is_elementwise,
    item,
    items,
    moves_elements,
)

__all__ = [
    "OPERATORS",
    "apply",
    "attention",
    "constant",
    "control",
    "elementwise",
    "index",
    "infer",
    "is_elementwise",
    "item",
    "items",
    "moves_elements",
    "network",
    "recurrent",
    "reduction",
    "shape",
]
