"""What ``fast_math=True`` adds: rewrites that change a result for a NaN, an overflow, or an index
out of range.

Each is one row of the table in docs/optimizer.md. The rules of ``weights.FAST`` are of the same
kind, and stand beside the strict ones; a target names its own in ``guards``.
"""

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node, ordered
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites, scalar_of

READS = frozenset({"DynamicSlice", "Gather", "GatherElements", "GatherNd"})
ARRANGES = frozenset({"BroadcastTo", "ReduceAll", "Reshape", "Transpose"})


@rewrites(Op("Select", Any_("inside"), Any_("read"), Any_("fill")))
def trust_indices(root: CNode, inside: Node, read: Node, fill: Node) -> Node | None:
    """where(0 <= i <= last, x[clamp(i)], NaN) is x[clamp(i)], for indices that lie inside.

    The clamp stays, so that nothing outside of an array is read. Only JAX's own fill is dropped,
    NaN or the integer at the end, not what a network chooses itself.
    """
    if not _is_fill(fill) or read.aval != root.aval:
        return None
    indices = _checked(_arranged(inside))
    source = _arranged(read)
    if indices is None or not isinstance(source, CNode) or source.op not in READS:
        return None
    reads_there = any(node is indices for node in ordered([source.inputs[1]]))
    return read if reads_there else None


def _is_fill(node: Node) -> bool:
    """Whether this is what JAX reads outside of an array."""
    if not isinstance(node, Constant) or node.value.size != 1:
        return False
    value = node.value.reshape(())
    if value.dtype.kind in "iu":
        info = np.iinfo(value.dtype)
        return int(value) == (info.min if value.dtype.kind == "i" else info.max)
    return value.dtype.kind != "b" and bool(np.isnan(value))


def _arranged(node: Node) -> Node:
    """``node`` before its elements were moved, or its rows of bools combined."""
    while isinstance(node, CNode) and node.op in ARRANGES:
        node = node.inputs[0]
    return node


def _checked(node: Node) -> Node | None:
    """The indices ``i`` of ``i >= 0 & i <= last``."""
    match node:
        case CNode("LogicalAnd", (CNode("GreaterEqual", least), CNode("LessEqual", most))):
            (low, zero), (high, last) = least, most
            known = isinstance(zero, Constant) and isinstance(last, Constant)
            return low if known and low is high and scalar_of(zero) == 0 else None
        case _:
            return None


RULES: tuple[Rule, ...] = (trust_indices,)
