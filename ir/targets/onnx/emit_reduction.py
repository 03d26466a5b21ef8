"""Reductions, with what ONNX Runtime passes over, or rounds, in them."""

import numpy as np

from fnckpt.ir.attributes import integer, ints
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.large import is_large
from fnckpt.ir.passes.numbers import is_number
from fnckpt.ir.targets.onnx.emit import WIDE_FLOATS, emits
from fnckpt.ir.targets.onnx.writer import Attribute, Value, Writer, element_type


@emits("ReduceL1", "ReduceMean", "ReduceProd", "ReduceSumSquare")
def emit_reduction(node: CNode, w: Writer) -> None:
    inputs, attrs = reduction(node, w, *node.inputs)
    w.node(node.op, node, *inputs, **attrs)


@emits("ReduceSum")
def emit_sum(node: CNode, w: Writer) -> None:
    """ONNX Runtime sums integers as doubles and saturates; here they wrap, as they do in XLA.

    So an int32 is summed as int64, and an int64 in two halves of 32 bits, each exact in a double.
    """
    (x,), dtype = node.inputs, node.aval.dtype
    if dtype.kind not in "iu":
        emit_reduction(node, w)
        return
    wide = np.dtype(np.int64)
    if dtype != wide:
        total = _summed(node, w, w.step("Cast", node, x, to=element_type(wide)))
        w.node("Cast", node, total, to=element_type(dtype))
        return
    half, bits = w.scalar(1 << 32, wide), np.dtype(np.uint64)
    whole = w.step("Cast", node, x, to=element_type(bits))
    upper = w.step("BitShift", node, whole, w.scalar(32, bits), direction="RIGHT")
    high = w.step("Cast", node, upper, to=element_type(wide))
    low = w.step("Sub", node, x, w.step("Mul", node, high, half))
    shifted = w.step("Mul", node, _summed(node, w, high), half)
    w.node("Add", node, shifted, _summed(node, w, low))


def _summed(node: CNode, w: Writer, value: Value) -> str:
    inputs, attrs = reduction(node, w, value, op="ReduceSum")
    return w.step("ReduceSum", node, *inputs, **attrs)


@emits("ReduceMax", "ReduceMin")
def emit_extreme(node: CNode, w: Writer) -> None:
    """NaN where there is one, which ONNX Runtime passes over.

    The sum of all |x| is NaN then, and else no less than the greatest x, however it is rounded.
    """
    (x,) = node.inputs
    inputs, attrs = reduction(node, w, x)
    if is_number(x):
        w.node(node.op, node, *inputs, **attrs)
        return
    most = w.step(node.op, node, *inputs, **attrs)
    sizes = _sum_of_sizes(node, w, x)
    if node.op == "ReduceMax":
        w.node("Min", node, most, sizes)
        return
    w.node("Where", node, w.step("IsNaN", node, sizes), sizes, most)


def _sum_of_sizes(node: CNode, w: Writer, x: Node) -> str:
    """The sum of all |x|, which is NaN only where one of them is.

    Of few elements one node is faster, of many two are.
    """
    if x.aval.dtype in WIDE_FLOATS and not is_large(x):
        inputs, attrs = reduction(node, w, x, op="ReduceL1")
        return w.step("ReduceL1", node, *inputs, **attrs)
    return _summed(node, w, w.step("Abs", node, x))


@emits("ReduceLogSumExp")
def emit_log_sum_exp(node: CNode, w: Writer) -> None:
    """In parts: of -inf before numbers below -88 ONNX Runtime 1.32 makes -inf.

    The greatest element is brought to a finite one; whether a NaN is passed over here does not
    matter, the sum has it.
    """
    (x,), dtype = node.inputs, node.aval.dtype
    axes = w.ints(ints(node, "axes"), "axes")
    inputs, attrs = reduction(node, w, x, op="ReduceMax")
    greatest = w.step("ReduceMax", node, *inputs, **(attrs | {"keepdims": 1}))
    ends = (
        w.scalar(float(end), dtype, "end") for end in (np.finfo(dtype).min, np.finfo(dtype).max)
    )
    shift = w.step("Clip", node, greatest, *ends)
    powers = w.step("Exp", node, w.step("Sub", node, x, shift))
    log = w.step("Log", node, w.step("ReduceSum", node, powers, axes, keepdims=1))
    if node.attrs["keepdims"]:
        w.node("Add", node, log, shift)
    else:
        w.node("Squeeze", node, w.step("Add", node, log, shift), axes)


def reduction(
    node: CNode, w: Writer, *inputs: Value, op: str = ""
) -> tuple[list[Value], dict[str, Attribute]]:
    """Inputs and attributes: axes are an input of ReduceSum since opset 13, of others since 18."""
    axes, keepdims = ints(node, "axes"), int(bool(node.attrs["keepdims"]))
    if w.opset >= (13 if (op or node.op) == "ReduceSum" else 18):
        return [*inputs, w.ints(axes, "axes")], {"keepdims": keepdims}
    return [*inputs], {"axes": axes, "keepdims": keepdims}


@emits("ArgMax", "ArgMin")
def emit_arg(node: CNode, w: Writer) -> None:
    axis = integer(node, "axis")
    if node.aval.dtype == np.int64:
        w.node(node.op, node, *node.inputs, axis=axis, keepdims=0)
        return
    found = w.step(node.op, node, *node.inputs, axis=axis, keepdims=0)
    w.node("Cast", node, found, to=element_type(node.aval.dtype))
