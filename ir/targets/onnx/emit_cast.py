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
BELOW_INTEGERS = -1e20  # below all that is cast: what is not above it is NaN
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


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
    kind = source if source in WIDE_FLOATS else FLOAT32
    value = x if kind == source else w.step("Cast", node, x, to=element_type(kind))
    fits = _fits(x, dtype)
    if fits or dtype.itemsize < 4:
        inside = value if fits else _between(node, w, value, kind, dtype)
        w.node("Cast", node, _zero_for_nan(node, w, inside, kind), to=to)
        return
    if kind == FLOAT32:
        value = _between(node, w, value, kind, dtype)
    clean = _zero_for_nan(node, w, value, kind)
    wide = clean if kind == FLOAT64 else w.step("Cast", node, clean, to=element_type(FLOAT64))
    _emit_from_double(node, w, wide)


def _emit_from_double(node: CNode, w: Writer, wide: Value) -> None:
    """``wide`` is float64, which holds all integers of 32 bits, and has no NaN."""
    dtype = node.aval.dtype
    to, inside = element_type(dtype), _between(node, w, wide, FLOAT64, dtype)
    if dtype.itemsize < 8:
        w.node("Cast", node, inside, to=to)
        return
    most, signed = np.iinfo(dtype).max, np.dtype(np.int64)
    # The runtime has no Where of uint64; the bits are the same.
    whole = w.step("Cast", node, w.step("Cast", node, inside, to=to), to=element_type(signed))
    above = w.step("GreaterOrEqual", node, wide, w.scalar(float(most), FLOAT64))
    last = w.scalar(int(np.array(most, dtype).view(signed)), signed)
    w.node("Cast", node, w.step("Where", node, above, last, whole), to=to)


def _between(node: CNode, w: Writer, value: Value, kind: np.dtype, dtype: np.dtype) -> str:
    """``value``, of the float ``kind``, brought to what ``dtype`` has; NaN stays.

    Of float32 the greatest integer of 32 bits or more is rounded up, and left to float64.
    """
    info = np.iinfo(dtype)
    most = float(info.max)
    if kind == FLOAT64 and dtype.itemsize == 8:
        most = np.nextafter(most, 0.0)
    return w.step("Clip", node, value, *(w.scalar(end, kind) for end in (float(info.min), most)))


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


def _zero_for_nan(node: CNode, w: Writer, value: Value, kind: np.dtype) -> Value:
    """0 in place of NaN; what is greater than a number is none, and all others are greater."""
    if is_number(node.inputs[0]):
        return value
    if kind == FLOAT32:
        return w.step("ThresholdedRelu", node, value, alpha=BELOW_INTEGERS)
    return w.step("Where", node, w.step("IsNaN", node, value), w.number(0, node, kind), value)
