"""From a jaxpr to a graph; importing this fills the table of rules."""

from fnckpt.ir.lowering import calls, conv, dot, elementwise, index, pool, reduction, shape
from fnckpt.ir.lowering.jaxpr import NotLowered, Problem, lower
from fnckpt.ir.lowering.registry import RULES, Refusal, Site, lowers

__all__ = [
    "RULES",
    "NotLowered",
    "Problem",
    "Refusal",
    "Site",
    "calls",
    "conv",
    "dot",
    "elementwise",
    "index",
    "lower",
    "lowers",
    "pool",
    "reduction",
    "shape",
]
