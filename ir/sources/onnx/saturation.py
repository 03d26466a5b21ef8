"""What our own files write in place of a cast from floats to integers, as the cast that it was.

ONNX leaves open what NaN and numbers that are too large become; XLA does not.
"""

import numpy as np

from fnckpt.ir.graph import CNode, Constant, Node


def cast_source(x: Node, dtype: np.dtype) -> Node | None:
    """The floats that ``x``, brought between the ends of ``dtype`` and NaN made 0, was."""
    if dtype.kind not in "iu":
        return None
    inside = _behind_greatest(x) if dtype.itemsize == 8 else x
    if inside is None or inside.aval.dtype.kind in "biu":
        return None
    info = np.iinfo(dtype)
    below = _operand(inside, "Minimum", float(info.max))
    clean = None if below is None else _operand(below, "Maximum", float(info.min))
    if not isinstance(clean, CNode) or clean.op != "Select":
        return None
    test, zero, number = clean.inputs
    is_nan = isinstance(test, CNode) and test.op == "IsNan" and test.inputs[0] is number
    if not is_nan or not isinstance(zero, Constant) or zero.value.any():
        return None
    widened = isinstance(number, CNode) and number.op == "Cast"
    return number.inputs[0] if isinstance(number, CNode) and widened else number


def _operand(x: Node, op: str, end: float) -> Node | None:
    """The other operand where ``x`` is ``op`` of it and a number that is about ``end``."""
    if not isinstance(x, CNode) or x.op != op:
        return None
    first, number = x.inputs
    close = isinstance(number, Constant) and number.value.size == 1
    if not isinstance(number, Constant) or not close:
        return None
    return first if np.isclose(float(number.value.reshape(())), end, rtol=1e-6) else None


def _behind_greatest(x: Node) -> Node | None:
    """Of 64 bits the greatest number is chosen, since no float is it."""
    if not isinstance(x, CNode) or x.op != "Select":
        return None
    found = x.inputs[2]
    while isinstance(found, CNode) and found.op == "Cast" and found.aval.dtype.kind in "iu":
        found = found.inputs[0]
    return found
