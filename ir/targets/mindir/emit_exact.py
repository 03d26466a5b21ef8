"""Operators whose primitive differs from what we mean by them for some numbers.

Measured with MindSpore 2.10.0 on the CPU, for NaN, infinities, -0.0, division by 0 and ties. The
extra nodes are written only where such a number can come (``known``).
"""

import math

import ml_dtypes
import numpy as np

from fnckpt.ir.graph import Aval, CNode, Node
from fnckpt.ir.operators.reduction import least_and_greatest
from fnckpt.ir.sizes import is_known
from fnckpt.ir.targets.mindir.emit import new_shape, pad_mode
from fnckpt.ir.targets.mindir.registry import emits, integer, ints
from fnckpt.ir.targets.mindir.sizes import size as size_name
from fnckpt.ir.targets.mindir.writer import Argument, Value, Writer

BOOL, INT32, INT64 = np.dtype(bool), np.dtype(np.int32), np.dtype(np.int64)
FLOAT64 = np.dtype(np.float64)
LONG = 16  # elements, from which on ArgMaxWithValue is faster than ReduceMax
MOST_LOG_SOFTMAX_RANK = 7  # of oneDNN's formats


def truth(aval: Aval) -> Aval:
    """The same shape, of booleans."""
    return Aval(aval.shape, BOOL)


def kept(aval: Aval, axes: tuple[int, ...]) -> Aval:
    """What a reduction along ``axes`` that keeps them gives."""
    return Aval(tuple(1 if i in axes else n for i, n in enumerate(aval.shape)), aval.dtype)


@emits("Relu")
def emit_relu(node: CNode, w: Writer) -> None:
    """ReLU makes 0 of NaN; the maximum with 0, of which only the second input may be NaN, not."""
    (x,) = node.inputs
    if w.is_nan(x):
        w.node("Maximum", node, w.scalar(0, x.aval.dtype), x)
    else:
        w.node("ReLU", node, x)


@emits("Div")
def emit_div(node: CNode, w: Writer) -> None:
    """Real division forgets the sign of a zero divisor, where multiplying by 1/y does not."""
    x, y = node.inputs
    if y.aval.dtype.kind in "iu":
        w.node("TruncateDiv", node, x, y)
        return
    if not w.is_negative_zero(y):
        w.node("RealDiv", node, x, y)
        return
    zero = w.step("Equal", node, truth(y.aval), y, w.scalar(0, y.aval.dtype))
    infinite = w.step("Mul", node, node.aval, x, w.step("Reciprocal", node, y.aval, y))
    w.node("Select", node, zero, infinite, w.step("RealDiv", node, node.aval, x, y))


@emits("ReduceMax", "ReduceMin")
def emit_extreme_of(node: CNode, w: Writer) -> None:
    """The kernels pass over NaN. The one that finds the place, too, is the faster along an axis."""
    (x,), axes, keepdims = node.inputs, ints(node.attrs["axes"]), bool(node.attrs["keepdims"])
    is_nan, is_long = w.is_nan(x), _is_long(node, w)
    if is_long:
        op = {"ReduceMax": "ArgMaxWithValue", "ReduceMin": "ArgMinWithValue"}[node.op]
        results = [Aval(node.aval.shape, INT64), node.aval]
        found = w.step(op, node, results, x, axis=axes[0], keep_dims=keepdims)
    elif is_nan:
        found = w.step(node.op, node, node.aval, x, axis=axes, keep_dims=keepdims)
    else:
        w.node(node.op, node, x, axis=axes, keep_dims=keepdims)
        return
    if not is_nan:
        w.node("TupleGetItem", node, found, w.value(1))
        return
    value = w.item(node, found, 1, node.aval) if is_long else found
    nan = any_nan(node, w, x, axes, keepdims)
    w.node("Select", node, nan, w.scalar(np.nan, x.aval.dtype), value)


def _is_long(node: CNode, w: Writer) -> bool:
    (x,), axes = node.inputs, ints(node.attrs["axes"])
    size = x.aval.shape[axes[0]]
    return w.dialect.arguments and len(axes) == 1 and is_known(size) and size >= LONG


def nan_in(node: CNode, w: Writer, x: Node) -> str:
    """Which elements are NaN; Lite, which reads the attribute style, has no IsNan."""
    if w.dialect.arguments:
        return w.step("IsNan", node, truth(x.aval), x)
    return w.step("NotEqual", node, truth(x.aval), x, x)


def any_nan(node: CNode, w: Writer, x: Node, axes: tuple[int, ...], keepdims: bool) -> str:
    """Whether a NaN is along ``axes``."""
    nan = nan_in(node, w, x)
    result = Aval(node.aval.shape, BOOL)
    return w.step("ReduceAny", node, result, nan, axis=axes, keep_dims=keepdims)


@emits("ArgMax", "ArgMin")
def emit_arg(node: CNode, w: Writer) -> None:
    """The kernel passes over NaN; where one is, the first NaN is the place."""
    (x,), axis, dtype = node.inputs, integer(node.attrs["axis"]), node.aval.dtype
    op = {"ArgMax": "Argmax", "ArgMin": "Argmin"}[node.op]
    place = dtype if dtype in (np.int32, np.int64) else INT32
    result = Aval(node.aval.shape, place)

    def last(op: str, *inputs: Value, **attrs: Argument) -> None:
        if place == dtype:
            w.node(op, node, *inputs, **attrs)
        else:
            w.node("Cast", node, w.step(op, node, result, *inputs, **attrs), dst_type=dtype)

    if not w.is_nan(x):
        last(op, x, axis=axis, output_type=place)
        return
    found = w.step(op, node, result, x, axis=axis, output_type=place)
    nan = nan_in(node, w, x)
    number = w.step("Cast", node, Aval(x.aval.shape, INT32), nan, dst_type=INT32)
    first = w.step("Argmax", node, result, number, axis=axis, output_type=place)
    last("Select", any_nan(node, w, x, (axis,), False), first, found)


@emits("Softmax")
def emit_softmax(node: CNode, w: Writer) -> None:
    """Along the last axis the kernel spoils every row after one of -infinities alone.

    Along another axis it does not, but is seven times slower.
    """
    (x,), axis, shape = node.inputs, integer(node.attrs["axis"]), node.aval.shape
    if axis != len(shape) - 1 or not w.is_special(x) or 0 in shape:
        w.node("Softmax", node, x, axis=(axis,))
        return
    column = Aval((math.prod(shape[:-1]), shape[-1], 1), node.aval.dtype)
    turned = w.step("Reshape", node, column, x, shape=new_shape(w, column.shape))
    found = w.step("Softmax", node, column, turned, axis=(1,))
    w.node("Reshape", node, found, shape=new_shape(w, shape))


@emits("LogSoftmax")
def emit_log_softmax(node: CNode, w: Writer) -> None:
    """x - m - log(sum(exp(x - m))); the kernel is right for ordinary float32 alone."""
    (x,), axis, aval = node.inputs, integer(node.attrs["axis"]), node.aval
    native = aval.dtype != FLOAT64 and len(aval.shape) <= MOST_LOG_SOFTMAX_RANK
    if native and not w.is_special(x):
        w.node("LogSoftmax", node, x, axis=axis)
        return
    one = kept(aval, (axis,))
    most = w.step("ReduceMax", node, one, x, axis=(axis,), keep_dims=True)
    shifted = w.step("Sub", node, aval, x, most)
    powers = w.step("Exp", node, aval, shifted)
    total = w.step("ReduceSum", node, one, powers, axis=(axis,), keep_dims=True, skip_mode=False)
    w.node("Sub", node, shifted, w.step("Log", node, one, total))


@emits("MaxPool")
def emit_max_pool(node: CNode, w: Writer) -> None:
    """Padding is SAME or none. The kernel passes over NaN."""
    (x,) = node.inputs
    window = (1, 1, *ints(node.attrs["window"]))
    strides, mode = (1, 1, *ints(node.attrs["strides"])), pad_mode(node)

    def pool(value: Value) -> str:
        return w.step(
            "MaxPool", node, node.aval, value, kernel_size=window, strides=strides, pad_mode=mode,
            format="NCHW",
        )  # fmt: skip

    if not w.is_nan(x):
        sizes = {"kernel_size": window, "strides": strides}
        w.node("MaxPool", node, x, **sizes, pad_mode=mode, format="NCHW")
        return
    dtype = x.aval.dtype
    nan = nan_in(node, w, x)
    there = pool(w.step("Cast", node, x.aval, nan, dst_type=dtype))
    some = w.step("Greater", node, truth(node.aval), there, w.scalar(0, dtype))
    w.node("Select", node, some, w.scalar(np.nan, dtype), pool(x))


SCATTERS = {"": "Update", "add": "Add", "mul": "Mul", "min": "Min", "max": "Max"}


@emits("ScatterNd")
def emit_scatter_nd(node: CNode, w: Writer) -> None:
    """By minimum and maximum the kernel passes over NaN."""
    x, indices, updates = node.inputs
    reduction = str(node.attrs["reduction"])
    op = f"TensorScatter{SCATTERS[reduction]}"
    may_be_nan = w.is_nan(x) or w.is_nan(updates)
    if reduction not in ("min", "max") or not may_be_nan:
        w.node(op, node, x, indices, updates)
        return
    found = w.step(op, node, node.aval, x, indices, updates)
    counts = []
    for value in (x, updates):
        nan = nan_in(node, w, value)
        number = Aval(value.aval.shape, INT32)
        counts.append(w.step("Cast", node, number, nan, dst_type=INT32))
    start, added = counts
    count = Aval(node.aval.shape, INT32)
    total = w.step("TensorScatterAdd", node, count, start, indices, added)
    some = w.step("Greater", node, truth(node.aval), total, w.scalar(0, INT32))
    w.node("Select", node, some, w.scalar(np.nan, node.aval.dtype), found)


@emits("CumMax", "CumMin")
def emit_extreme_scan(node: CNode, w: Writer) -> None:
    op = {"CumMax": "Cummax", "CumMin": "Cummin"}[node.op]
    places = Aval(node.aval.shape, np.dtype(np.int64))
    both = w.step(op, node, [node.aval, places], *node.inputs, axis=integer(node.attrs["axis"]))
    w.node("TupleGetItem", node, both, w.value(0))


@emits("TopK")
def emit_top_k(node: CNode, w: Writer) -> None:
    """All of the axis is sorted, which keeps equal elements in order; fewer are not.

    NaN comes first: its place is sorted as an infinity, and once more by being NaN.
    """
    (x,), (values, places) = node.inputs, node.results
    size, k = x.aval.shape[-1], values.shape[-1]
    whole, indices = x.aval, Aval(x.aval.shape, places.dtype)

    def sort(value: Value, aval: Aval) -> str:
        both = w.step("TopK", node, [aval, indices], value, size_name(w, size), sorted=True)
        return w.item(node, both, 1, indices)

    def pick(value: Value, at: Value, aval: Aval) -> str:
        axis = w.value(len(aval.shape) - 1)
        return w.step("GatherD", node, aval, value, axis, at)

    if w.is_nan(x):
        nan = nan_in(node, w, x)
        infinity = w.tensor(np.asarray(least_and_greatest(whole.dtype)[1]))
        order = sort(w.step("Select", node, whole, nan, infinity, x), whole)
        number = Aval(whole.shape, INT32)
        flags = pick(w.step("Cast", node, number, nan, dst_type=INT32), order, number)
        order = pick(order, sort(flags, number), indices)
    else:
        order = sort(x, whole)
    zeros, ones = (0,) * len(whole.shape), (1,) * len(whole.shape)
    others = (1 << len(zeros) - 1) - 1  # every axis but the last
    first = order if k == size else w.step(
        "StridedSlice", node, places, order, begin=zeros, end=(*zeros[1:], k), strides=ones,
        begin_mask=0, end_mask=others, ellipsis_mask=0, new_axis_mask=0, shrink_axis_mask=0,
    )  # fmt: skip
    w.add(
        "MakeTuple", [pick(x, first, values), first], node.results, w.names[id(node)],
        node.origin.scope,
    )  # fmt: skip


@emits("CumLogSumExp")
def emit_cum_log_sum_exp(node: CNode, w: Writer) -> None:
    """The kernel makes NaN of infinities, and forgets a NaN; what is not finite is added apart."""
    (x,), aval = node.inputs, node.aval
    axis, reverse = integer(node.attrs["axis"]), bool(node.attrs["reverse"])

    place = w.scalar(axis, np.dtype(np.int64))
    if not w.is_special(x):
        w.node("CumulativeLogsumexp", node, x, place, exclusive=False, reverse=reverse)
        return
    low = float(ml_dtypes.finfo(aval.dtype).min) / 16
    zero, least = (w.scalar(value, aval.dtype) for value in (0, -np.inf))
    finite = w.step("IsFinite", node, truth(aval), x)
    minus = w.step("Equal", node, truth(aval), x, least)
    summed = w.step("LogicalOr", node, truth(aval), finite, minus)
    above = w.step("Maximum", node, aval, w.scalar(low, aval.dtype), x)
    clean = w.step("Select", node, aval, summed, above, zero)
    beyond = w.step("Select", node, aval, summed, zero, x)
    sums = w.step("CumulativeLogsumexp", node, aval, clean, place, exclusive=False, reverse=reverse)
    none = w.step("LessEqual", node, truth(aval), sums, w.scalar(low / 2, aval.dtype))
    right = w.step("Select", node, aval, none, least, sums)
    total = w.step("CumSum", node, aval, beyond, axis=axis, exclusive=False, reverse=reverse)
    w.node("Add", node, right, total)
