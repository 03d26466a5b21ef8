"""Casts that ONNX Runtime does otherwise than XLA: to integers, and to floats of eight bits."""

import numpy as np

from fnckpt.ir.eight_bits import beyond, greatest_that_fits, is_eight_bits
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.bounds import bound, never_negative
from fnckpt.ir.passes.numbers import is_number
from fnckpt.ir.targets.onnx.emit import WIDE_FLOATS, emits
from fnckpt.ir.targets.onnx.writer import Value, Writer, element_type
from fnckpt.ir.targets.target import Refusal

FIRST_EIGHT_BITS = 19  # the opset with floats of 8 bits
ROUNDING = 1 + 1e-5  # by which a bound may be exceeded


@emits("Cast")
def emit_cast(node: CNode, w: Writer) -> None:
    """Floats become integers as in XLA: NaN is 0, what is too large the nearest there is."""
    (x,), dtype = node.inputs, node.aval.dtype
    if is_eight_bits(dtype):
        emit_eight_bits(node, w)
        return
    source, to = x.aval.dtype, element_type(dtype)
    if source.kind in "biu" or dtype.kind not in "iu":
        w.node("Cast", node, x, to=to)
        return
    if source in WIDE_FLOATS and _fits(x, dtype):
        number = x if is_number(x) else _zero_for_nan(node, w, x, source)
        w.node("Cast", node, number, to=to)
        return
    clean = _without_nan(node, w)
    inside = _within(node, w, clean)
    if dtype.itemsize < 8:
        w.node("Cast", node, inside, to=to)
        return
    signed = np.dtype(np.int64)  # the runtime has no Where of uint64; the bits are the same
    whole = w.step("Cast", node, w.step("Cast", node, inside, to=to), to=element_type(signed))
    most, wide = np.iinfo(dtype).max, np.dtype(np.float64)
    above = w.step("GreaterOrEqual", node, clean, w.scalar(float(most), wide))
    last = w.scalar(int(np.array(most, dtype).view(signed)), signed)
    w.node("Cast", node, w.step("Where", node, above, last, whole), to=to)


def _without_nan(node: CNode, w: Writer) -> Value:
    """What is cast, with 0 in place of NaN, in a float that holds all numbers of the result."""
    (x,), source = node.inputs, node.inputs[0].aval.dtype
    wide = np.dtype(np.float64 if node.aval.dtype.itemsize >= 4 else np.float32)
    kind = source if source in WIDE_FLOATS else wide
    value = x if kind == source else w.step("Cast", node, x, to=element_type(kind))
    clean = value if is_number(x) else _zero_for_nan(node, w, value, kind)
    return clean if kind == wide else w.step("Cast", node, clean, to=element_type(wide))


def _within(node: CNode, w: Writer, value: Value) -> str:
    """The nearest numbers that the integers of the result have."""
    info = np.iinfo(node.aval.dtype)
    wide = np.dtype(np.float64 if node.aval.dtype.itemsize >= 4 else np.float32)
    high = np.nextafter(float(info.max), 0.0) if node.aval.dtype.itemsize == 8 else info.max
    ends = (w.scalar(float(end), wide) for end in (info.min, high))
    return w.step("Clip", node, value, *ends)


def emit_eight_bits(node: CNode, w: Writer) -> None:
    """What is too great becomes infinity, or NaN where the type has none.

    ONNX Runtime leaves 448 of what is a bit greater as float8_e4m3fn, and NaN as float8_e5m2.
    """
    (x,), dtype = node.inputs, node.aval.dtype
    to = element_type(dtype)
    if w.opset < FIRST_EIGHT_BITS:
        raise Refusal(f"a cast to {dtype} needs opset {FIRST_EIGHT_BITS}; pass opset=20")
    wide = x.aval.dtype if x.aval.dtype in WIDE_FLOATS else np.dtype(np.float32)
    value = x if wide == x.aval.dtype else w.step("Cast", node, x, to=element_type(wide))
    most = w.scalar(greatest_that_fits(dtype, wide), wide)
    is_far = w.step("Greater", node, w.step("Abs", node, value), most)
    end = w.step("Mul", node, value, w.scalar(beyond(dtype), wide))
    w.node("Cast", node, w.step("Where", node, is_far, end, value), to=to, saturate=0)


def _fits(x: Node, dtype: np.dtype) -> bool:
    """Whether all that ``x`` can be, rounded towards 0, is a number of ``dtype``."""
    info = np.iinfo(dtype)
    return bound(x) * ROUNDING < info.max + 1.0 and (info.min < 0 or never_negative(x))


def _zero_for_nan(node: CNode, w: Writer, x: Value, dtype: np.dtype) -> str:
    return w.step("Where", node, w.step("IsNaN", node, x), w.number(0, node, dtype), x)
