"""Primitives that compute each element alone, and those that reduce."""

import numpy as np

from fnckpt.ir.graph import Node, before_reshapes
from fnckpt.ir.sources.build import INT32, INT64, Builder, axis_of
from fnckpt.ir.sources.composed import (
    floor_div,
    floor_mod,
    prelu,
    selu,
    shrunk,
    softsign,
)
from fnckpt.ir.sources.mindir.registry import Site, Value, imports, whole
from fnckpt.ir.sources.mindir.values import OF_ID
from fnckpt.ir.sources.source import Refusal
from fnckpt.ir.targets.mindir.emit import SAME

OURS = {theirs: ours for ours, theirs in SAME.items()}
OURS |= {name: name for name in ("Exp", "Expm1", "Log", "Log1p", "Tanh")}  # written out by us
OURS |= {"ReLU": "Relu", "Mish": "Mish", "HSigmoid": "HardSigmoid", "HSwish": "HardSwish"}
BINARY = ("Add", "Sub", "Mul", "Maximum", "Minimum", "Pow", "Equal", "NotEqual", "Greater",
          "GreaterEqual", "Less", "LessEqual", "Atan2", "TruncateMod")  # fmt: skip
SCALAR = {
    "Muls": "Mul", "Adds": "Add", "Subs": "Sub", "Divs": "Div", "LessScalar": "Less",
    "EqScalar": "Equal", "NeScalar": "NotEqual", "GreaterScalar": "Greater",
    "LessEqualScalar": "LessEqual", "GreaterEqualScalar": "GreaterEqual",
    "ScalarAdd": "Add", "ScalarSub": "Sub", "ScalarMul": "Mul", "ScalarMax": "Maximum",
    "ScalarMin": "Minimum", "ScalarLt": "Less", "ScalarGt": "Greater", "ScalarLe": "LessEqual",
    "ScalarGe": "GreaterEqual", "ScalarEq": "Equal",
}  # fmt: skip


def tensor(b: Builder, value: Value, like: Value = None) -> Node:
    """A value as a node; a number has the type of ``like``, where that is a tensor."""
    if isinstance(value, Node):
        return value
    if isinstance(like, Node) and isinstance(value, bool | int | float):
        if isinstance(value, float) and like.aval.dtype.kind in "biu":
            return b.constant(value, np.dtype(np.float32))
        return b.number(value, like)
    dtype = np.dtype(np.float32) if isinstance(value, float) else None
    return b.constant(value, dtype)


def together(b: Builder, x: Value, y: Value) -> tuple[Node, Node]:
    """Two values as nodes of one type: the wider one, a float before integers."""
    left, right = tensor(b, x, y), tensor(b, y, x)
    if left.aval.dtype != right.aval.dtype:
        common = np.result_type(left.aval.dtype, right.aval.dtype)
        if "f" in left.aval.dtype.kind + right.aval.dtype.kind and common == np.float64:
            kinds = [n.aval.dtype for n in (left, right) if n.aval.dtype.kind == "f"]
            common = max(kinds, key=lambda dtype: dtype.itemsize)
        left, right = b.cast(left, common), b.cast(right, common)
    return left, right


@imports(*(OURS.keys() - {*BINARY, "Neg"}))
def import_same(site: Site, *inputs: Value) -> Node:
    count = 3 if site.op == "Select" else 2 if site.op in _TWO else 1
    nodes = [tensor(site.build, each) for each in inputs[:count]]
    return site.build(OURS[site.op], *nodes)


_TWO = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "GatherNd", "LeftShift", "LogicalAnd",
        "LogicalOr", "LogicalXor", "RightShift")  # fmt: skip


@imports(*BINARY)
def import_binary(site: Site, x: Value, y: Value) -> Node:
    return site.build(OURS[site.op], *together(site.build, x, y))


@imports(*SCALAR)
def import_scalar(site: Site, x: Value, y: Value) -> Node:
    left, right = together(site.build, x, y)
    if site.op == "Divs" and left.aval.dtype.kind in "biu":
        left, right = (site.build.cast(each, np.dtype(np.float32)) for each in (left, right))
    return site.build(SCALAR[site.op], left, right)


@imports("Neg")
def import_neg(site: Site, x: Node) -> Node:
    return site.build("Neg", x)


@imports("Div", "RealDiv")
def import_div(site: Site, x: Value, y: Value) -> Node:
    left, right = together(site.build, x, y)
    if left.aval.dtype.kind in "biu":
        left, right = (site.build.cast(each, np.dtype(np.float32)) for each in (left, right))
    return site.build("Div", left, right)


@imports("TruncateDiv")
def import_truncate_div(site: Site, x: Value, y: Value) -> Node:
    return site.build("Div", *together(site.build, x, y))


@imports("FloorDiv", "ScalarFloorDiv")
def import_floor_div(site: Site, x: Value, y: Value) -> Node:
    return floor_div(site.build, *together(site.build, x, y))


@imports("Mod", "FloorMod", "ScalarMod")
def import_mod(site: Site, x: Value, y: Value) -> Node:
    return floor_mod(site.build, *together(site.build, x, y))


@imports("Cast")
def import_cast(site: Site, x: Value, *_: Value) -> Node:
    goal = site.get("dst_type")
    dtype = goal if isinstance(goal, np.dtype) else OF_ID[int(goal)]
    node = tensor(site.build, x)
    return site.build.cast(node, dtype)


# ------------------------------------------------------------------------------------- activations


@imports("ReLU6")
def import_relu6(site: Site, x: Node) -> Node:
    return site.build("Clip", x, low=0.0, high=6.0)


@imports("GeLU")
def import_gelu(site: Site, x: Node) -> Node:
    return site.build("Gelu", x, approximate=True)


@imports("Elu", "CeLU")
def import_elu(site: Site, x: Node, *rest: Value) -> Node:
    b = site.build
    alpha = float(rest[0] if rest else site.attributes.get("alpha", 1.0))
    if site.op == "Elu":
        return b("Elu", x, alpha=alpha)
    return b.mul(b("Elu", b.div(x, alpha), alpha=1.0), alpha)


@imports("FastGeLU")
def import_fast_gelu(site: Site, x: Node) -> Node:
    """``x * sigmoid(1.702 x)``."""
    return site.build.mul(x, site.build("Sigmoid", site.build.mul(x, 1.702)))


@imports("Sign")
def import_sign(site: Site, x: Node) -> Node:
    return site.build("Sign", x)


@imports("ClampScalar", "ClampTensor")
def import_clamp(site: Site, x: Node, low: Value, high: Value) -> Node:
    b = site.build
    if low is not None:
        x = b("Maximum", *together(b, x, low))
    return x if high is None else b("Minimum", *together(b, x, high))


@imports("ClipByNorm")
def import_clip_by_norm(site: Site, x: Node, limit: Value) -> Node:
    """Made shorter where the norm over its axes is longer than ``limit``."""
    b = site.build
    squares = reduced(b, "ReduceSum", b("Square", x), site.attributes.get("axis"), True)
    longest = b.cast(tensor(b, limit, x), x.aval.dtype)
    return b.div(b.mul(x, longest), b("Maximum", b("Sqrt", squares), longest))


@imports("SeLU")
def import_selu(site: Site, x: Node) -> Node:
    return selu(site.build, x)


@imports("PReLU")
def import_prelu(site: Site, x: Node, slope: Node) -> Node:
    return prelu(site.build, x, slope)


@imports("LeakyReLU", "LeakyRelu")
def import_leaky_relu(site: Site, x: Node, *rest: Value) -> Node:
    alpha = rest[0] if rest else site.attributes.get("alpha", 0.01)
    return site.build("LeakyRelu", x, alpha=float(alpha))


@imports("Softsign")
def import_softsign(site: Site, x: Node) -> Node:
    return softsign(site.build, x)


@imports("Softplus")
def import_softplus(site: Site, x: Node) -> Node:
    return site.build("Softplus", x)


@imports("HShrink", "SoftShrink")
def import_shrink(site: Site, x: Node, *rest: Value) -> Node:
    limit = float(rest[0] if rest else site.attributes.get("lambd", 0.5))
    return shrunk(site.build, x, limit, limit if site.op == "SoftShrink" else 0.0)


@imports("Softmax", "LogSoftmax")
def import_softmax(site: Site, x: Node, *_: Value) -> Node:
    """Of a last axis that was brought in front of an axis of 1, it is one along the last axis."""
    (axis,), b = whole(site.get("axis", -1)), site.build
    axis, source = axis_of(axis, len(x.aval.shape)), before_reshapes(x)
    behind = x.aval.shape[axis:]
    if behind[1:] == (1,) and source.aval.shape[-1:] == behind[:1]:
        return b.reshape(b(site.op, source, axis=len(source.aval.shape) - 1), x.aval.shape)
    return b(site.op, x, axis=axis)


@imports("MaskedFill")
def import_masked_fill(site: Site, x: Node, mask: Node, value: Value) -> Node:
    b = site.build
    fill = b.cast(tensor(b, value, x), x.aval.dtype)
    return b.where(mask, b.reshape(fill, ()), x)


# -------------------------------------------------------------------------------------- reductions

REDUCTIONS = {
    "ReduceAll": "ReduceAll", "ReduceAny": "ReduceAny", "ReduceMax": "ReduceMax",
    "ReduceMean": "ReduceMean", "ReduceMin": "ReduceMin", "ReduceProd": "ReduceProd",
    "ReduceSum": "ReduceSum",
}  # fmt: skip


@imports(*REDUCTIONS)
def import_reduction(site: Site, x: Node, *_: Value) -> Node:
    axes = site.get("axis")
    return reduced(site.build, REDUCTIONS[site.op], x, axes, site.flag("keep_dims"))


def reduced(b: Builder, op: str, x: Node, axes: Value, keepdims: bool) -> Node:
    """No axes are all of them."""
    rank = len(x.aval.shape)
    given = () if axes is None else whole(axes)
    over = tuple(sorted(axis_of(axis, rank) for axis in given)) or tuple(range(rank))
    return b(op, x, axes=over, keepdims=keepdims)


@imports("SumExt", "MeanExt", "ProdExt")
def import_ext(site: Site, x: Node, axes: Value = None, keepdims: Value = False, *_: Value) -> Node:
    op = {"SumExt": "ReduceSum", "MeanExt": "ReduceMean", "ProdExt": "ReduceProd"}[site.op]
    if x.aval.dtype.kind in "bi":
        x = site.build.cast(x, INT64)
    return reduced(site.build, op, x, axes, bool(keepdims))


@imports("Max", "Min")
def import_most_of_all(site: Site, x: Node) -> Node:
    return reduced(site.build, {"Max": "ReduceMax", "Min": "ReduceMin"}[site.op], x, None, False)


@imports("Argmax", "Argmin")
def import_arg(site: Site, x: Node, *_: Value) -> Node:
    (axis,) = whole(site.get("axis", -1))
    goal = site.get("output_type")
    dtype = goal if isinstance(goal, np.dtype) else OF_ID.get(goal, INT32)
    op = {"Argmax": "ArgMax", "Argmin": "ArgMin"}[site.op]
    return site.build(op, x, axis=axis_of(axis, len(x.aval.shape)), dtype=dtype)


@imports("ArgMaxWithValue", "ArgMinWithValue")
def import_arg_with_value(site: Site, x: Node, *_: Value) -> tuple[Node, Node]:
    b, keep, most = site.build, site.flag("keep_dims"), site.op[3:6]
    (axis,) = whole(site.get("axis", 0))
    place = axis_of(axis, len(x.aval.shape))
    index = b(f"Arg{most}", x, axis=place, dtype=INT64)
    value = b(f"Reduce{most}", x, axes=(place,), keepdims=keep)
    return (b.unsqueeze(index, place) if keep else index), value


@imports("CumSum", "CumProd")
def import_cumulative(site: Site, x: Node, *_: Value) -> Node:
    (axis,) = whole(site.get("axis"))
    rank = len(x.aval.shape)
    return site.build(site.op, x, axis=axis_of(axis, rank), reverse=site.flag("reverse"))


@imports("Cummax", "Cummin")
def import_cum_most(site: Site, x: Node, *_: Value) -> tuple[Node, None]:
    """Where the greatest were is not imported."""
    (axis,) = whole(site.get("axis"))
    op = {"Cummax": "CumMax", "Cummin": "CumMin"}[site.op]
    return site.build(op, x, axis=axis_of(axis, len(x.aval.shape)), reverse=False), None


@imports("CumulativeLogsumexp")
def import_cum_log_sum_exp(site: Site, x: Node, axis: Value, *_: Value) -> Node:
    if site.flag("exclusive"):
        raise Refusal("it leaves each element itself out; write it with exclusive=False")
    b, rank = site.build, len(x.aval.shape)
    place = axis_of(b.size(tensor(b, axis), "its axis"), rank)
    return b("CumLogSumExp", x, axis=place, reverse=site.flag("reverse"))


@imports("TopK")
def import_top_k(site: Site, x: Node, k: Value, *_: Value) -> tuple[Node, ...]:
    b = site.build
    count = b.size(k, "how many it finds") if isinstance(k, Node) else int(k)
    return b.items("TopK", x, k=count)
