"""Normalization: the forms in which libraries write it become ``Standardize``, then larger norms.

``Standardize`` is ``(x - mean) / sqrt(variance + epsilon)``. Each rule takes one step: the variance
to one form, the quotient to ``Standardize``, that over the last axis to a LayerNorm without scale
and bias, and what is multiplied with it or added to it into the norm.

``RmsNorm`` takes no mean off: ``x / sqrt(mean(x^2) + epsilon)`` along an axis, times a vector.
"""

from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import Ints, integer, ints, number
from fnckpt.ir.graph import CNode, Node, Origin
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.axes import before
from fnckpt.ir.passes.build import BFLOAT16, FLOAT32, Build, known, through
from fnckpt.ir.passes.fuse import common_axis
from fnckpt.ir.passes.reshape import reshaped
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, Weight, rewrites, scalar_of

x, g, mean, w = Any_("x"), Any_("g"), Any_("mean"), Weight("w")


def _mean_of(of: Any_ | Op, axes: str, name: str = "", users: int = 1) -> Op:
    attrs = {"axes": axes, "keepdims": f"keep_{axes}"}
    return Op("ReduceMean", of, attrs=attrs, name=name, users=users)


_SQUARE_OF_MEAN = Op("Square", _mean_of(g, "b", "mean", users=0))


@rewrites(
    Op(
        "Maximum",
        Op("Sub", _mean_of(Any_("squares"), "a"), _SQUARE_OF_MEAN),
        Scalar(value=0.0),
    )
)
def centre_variance(
    root: CNode, g: Node, squares: Node, mean: Node, a: Ints, b: Ints, keep_a: bool, keep_b: bool
) -> Node | None:
    """max(mean(x^2) - mean(x)^2, 0) is mean((x - mean(x))^2)."""
    if a != b or not (keep_a and keep_b) or not _is_square(squares, g) or not is_float(g):
        return None
    build = Build(root)
    return build("ReduceMean", build("Square", build("Sub", g, mean)), axes=a, keepdims=True)


def _is_square(squares: Node, x: Node) -> bool:
    """Whether ``squares`` is the square of ``x``, or both are one reshape of such a pair."""
    if not isinstance(squares, CNode):
        return False
    if squares.op == "Square":
        return squares.inputs[0] is x
    if not isinstance(x, CNode) or x.op != "Reshape" or squares.op != "Reshape":
        return False
    return x.aval == squares.aval and _is_square(squares.inputs[0], x.inputs[0])


@rewrites(Op("Maximum", Op("ReduceMean", Op("Square"), name="variance"), Scalar(value=0.0)))
def drop_least_variance(root: CNode, variance: CNode) -> Node | None:
    """A mean of squares is not below 0; NaN is NaN."""
    return variance if variance.aval == root.aval else None


def _rsqrt(variance: Op) -> Op:
    return Op("Rsqrt", Op("Add", variance, Scalar("eps")))


def _repeated(of: Op | Any_, name: str) -> Op:
    """A number a group, repeated for each channel of the group."""
    return Op("BroadcastTo", Op("Reshape", of, users=0), users=0, name=name)


_OUTER = Op("Sub", x, mean, users=0)
_VARIANCE = _mean_of(Op("Square", Op("Sub", g, mean, users=0)), "axes")
_FACTOR = Op("Mul", _rsqrt(_VARIANCE), w, users=2, name="factor")
_SHIFT = Op("Add", Op("Mul", Op("Neg", mean), Any_("factor")), Weight("bias"))
_OUTER_OF_GROUPS = Op("Sub", x, Op("Reshape", _repeated(mean, "means"), users=0))
_FACTOR_RESHAPED = Op("Mul", Op("Reshape", _rsqrt(_VARIANCE), name="shaped"), w)
_FACTOR_OF_GROUPS = Op("Mul", _rsqrt(_repeated(_VARIANCE, "variances")), w)

FORMS: tuple[Op, ...] = (
    Op("Mul", _OUTER, _rsqrt(_VARIANCE)),
    Op("Div", _OUTER, Op("Sqrt", Op("Add", _VARIANCE, Scalar("eps")))),
    Op("Mul", _OUTER, Op("Mul", _rsqrt(_VARIANCE), w)),  # Flax
    Op("Add", Op("Mul", x, _FACTOR), _SHIFT),  # Keras
    Op("Mul", _OUTER_OF_GROUPS, Op("Reshape", _FACTOR_OF_GROUPS)),  # Flax's GroupNorm
    Op("Mul", Op("Reshape", _OUTER), _FACTOR_RESHAPED),  # Flax behind a reshape
)


def standardize(
    root: CNode,
    x: Node,
    g: Node,
    mean: Node,
    axes: Ints,
    keep_axes: bool,
    eps: float,
    w: Node | None = None,
    bias: Node | None = None,
    factor: Node | None = None,
    shaped: Node | None = None,
    means: CNode | None = None,
    variances: CNode | None = None,
) -> Node | None:
    """(x - m) / sqrt(mean((x - m)^2) + eps), times ``w``, plus ``bias``, with m = mean(x).

    Or of the groups ``g`` of the channels of ``x``, the mean repeated for each channel. Or that
    reshaped, the factor reshaped as well.
    """
    if not _is_mean(mean, g, axes) or not keep_axes or not is_float(x):
        return None
    shape, found = root.aval.shape, x.aval.shape
    if shaped is not None:
        found = shape if before(shaped.aval.shape, found, shape) == mean.aval.shape else ()
    if shape != found:
        return None
    repeats = [node for node in (means, variances) if node is not None]
    if not (_are_groups(x, g, axes, repeats) if repeats else x is g):
        return None
    result: Node = apply("Standardize", g, origin=root.origin, axes=axes, epsilon=eps)
    if repeats and w is not None:
        if w.aval.size != x.aval.shape[-1]:
            return None
        w = reshaped(w, x.aval.shape[-1:], root)
    result = reshaped(result, shape, root)
    for op, operand in (("Mul", w), ("Add", bias)):
        if operand is not None:
            result = apply(op, result, operand, origin=root.origin)
    return result


_NARROW_OUTER = Op("Sub", x, Op("Cast", mean, users=0), users=0)
_NARROW_FACTOR = _rsqrt(Op("Cast", _VARIANCE))

NARROW_FORMS: tuple[Op, ...] = (
    Op("Mul", _NARROW_OUTER, _NARROW_FACTOR),
    Op("Mul", _NARROW_OUTER, Op("Mul", _NARROW_FACTOR, w)),  # Haiku
)


def standardize_narrow(
    root: CNode,
    x: Node,
    g: Node,
    mean: Node,
    axes: Ints,
    keep_axes: bool,
    eps: float,
    w: Node | None = None,
) -> Node | None:
    """The same of a bfloat16 x whose mean and variance are computed in float32, then rounded."""
    if not _is_mean(mean, g, axes) or not keep_axes or not _is_widened(g, x):
        return None
    if x.aval != root.aval:
        return None
    result = apply("Standardize", x, origin=root.origin, axes=axes, epsilon=eps)
    return result if w is None else apply("Mul", result, w, origin=root.origin)


def _is_widened(g: Node, x: Node) -> bool:
    """Whether ``g`` is a bfloat16 ``x`` in float32, or both are one reshape of such a pair."""
    if x.aval.dtype != BFLOAT16 or g.aval.dtype != FLOAT32 or not isinstance(g, CNode):
        return False
    if g.op == "Cast":
        return g.inputs[0] is x
    if not isinstance(x, CNode) or x.op != "Reshape" or g.op != "Reshape":
        return False
    return x.aval.shape == g.aval.shape and _is_widened(g.inputs[0], x.inputs[0])


def _is_mean(mean: Node, x: Node, axes: Ints) -> bool:
    if not isinstance(mean, CNode) or mean.op != "ReduceMean" or mean.inputs[0] is not x:
        return False
    return bool(mean.attrs["keepdims"]) and ints(mean, "axes") == axes


def _are_groups(x: Node, g: Node, axes: Ints, repeats: list[CNode]) -> bool:
    """Whether ``g`` is ``x`` with its channels in groups, and each group's number is repeated."""
    rank, each = len(g.aval.shape), g.aval.shape[-1]
    if g is x:
        whole = axes == tuple(range(1, rank))
    elif isinstance(g, CNode) and g.op == "Reshape" and g.inputs[0] is x:
        joined = (*g.aval.shape[:-2], g.aval.shape[-2] * each)
        whole = joined == x.aval.shape and axes == (*range(1, rank - 2), rank - 1)
    else:
        return False
    shapes = [(node.inputs[0].aval.shape, node.aval.shape) for node in repeats]
    return whole and all((*one[:-1], each) == all_ and one[-1] == 1 for one, all_ in shapes)


@rewrites("Standardize")
def standardize_rows(root: CNode) -> Node | None:
    """Over the last axis it is LayerNorm without scale and bias."""
    (x,), last = root.inputs, len(root.aval.shape) - 1
    if ints(root, "axes") != (last,):
        return None
    return unit_norm("LayerNorm", root, x, x.aval.shape[last])


def unit_norm(op: str, root: CNode, x: Node, size: int) -> Node:
    """A norm with a scale of 1 and a bias of 0."""
    vectors = (constant(np.full(size, value, x.aval.dtype)) for value in (1, 0))
    return apply(op, x, *vectors, origin=root.origin, epsilon=number(root, "epsilon"))


def _by_square(square: Op) -> tuple[Op, ...]:
    mean = _mean_of(square, "axes")
    return (
        Op("Mul", x, _rsqrt(mean)),
        Op("Div", x, Op("Sqrt", Op("Add", mean, Scalar("eps")))),  # T5
        Op("Mul", x, Op("Mul", _rsqrt(mean), w)),  # Flax
        Op("Mul", Op("Mul", x, w), _rsqrt(mean)),  # Haiku
    )


RMS_FORMS: tuple[Op, ...] = (*_by_square(Op("Square", x)), *_by_square(Op("Mul", x, x)))


def normalize_by_square(
    root: CNode, x: Node, axes: Ints, keep_axes: bool, eps: float, w: Node | None = None
) -> Node | None:
    """x / sqrt(mean(x^2) + eps) is rms_norm(x), times a vector ``w`` along its axis."""
    narrow = x.aval.dtype.itemsize < FLOAT32.itemsize
    if len(axes) != 1 or not keep_axes or x.aval != root.aval or not is_float(x) or narrow:
        return None
    (axis,) = axes
    if w is None:
        scale: Node = constant(np.ones(x.aval.shape[axis], x.aval.dtype))
    elif common_axis(root, w) == axis:
        scale = reshaped(w, (w.aval.size,), root)
    else:
        return None
    return apply("RmsNorm", x, scale, origin=root.origin, axis=axis, epsilon=eps)


@rewrites(Op("Mul", Op("RmsNorm", name="norm"), w))
def scale_rms_norm(root: CNode, norm: CNode, w: Node) -> Node | None:
    """rms_norm(x) * w is rms_norm(x, w)."""
    x, scale = norm.inputs
    along = common_axis(root, w) == integer(norm, "axis")
    if scalar_of(scale) != 1 or norm.aval != root.aval or not along:
        return None
    return replace(norm, inputs=(x, reshaped(w, (w.aval.size,), root)), origin=_inner(root, norm))


NORMS = {"LayerNorm": -1, "InstanceNorm": 1}  # the axis of their scale and bias


def scale_norm(root: CNode, norm: CNode, w: Node) -> Node | None:
    """norm(x) * w is norm(x, w)."""
    x, scale, bias = norm.inputs
    return _with_vectors(root, norm, w, (x, w, bias)) if scalar_of(scale) == 1 else None


def shift_norm(root: CNode, norm: CNode, w: Node) -> Node | None:
    """norm(x, scale) + w is norm(x, scale, w)."""
    x, scale, _ = norm.inputs
    return _with_vectors(root, norm, w, (x, scale, w))


@rewrites(Op("Add", Op("LayerNorm", name="norm", users=0), Scalar(value=0.0)))
def drop_zero_shift(root: CNode, norm: CNode) -> Node | None:
    """norm(x, scale, b) + 0 is norm(x, scale, b), which has no -0 where b is 0."""
    bias = known(norm.inputs[2])
    positive = bias is not None and not np.signbit(bias.astype(np.float64)).any()
    return norm if positive and norm.aval == root.aval else None


def _with_vectors(root: CNode, norm: CNode, w: Node, inputs: tuple[Node, ...]) -> Node | None:
    rank = len(norm.aval.shape)
    plain = scalar_of(norm.inputs[2]) == 0
    if not plain or norm.aval != root.aval or common_axis(root, w) != NORMS[norm.op] % rank:
        return None
    vectors = (reshaped(each, (each.aval.size,), root) for each in inputs[1:])
    return replace(norm, inputs=(inputs[0], *vectors), origin=_inner(root, norm))


def _inner(root: CNode, norm: CNode) -> Origin:
    """The origin of the inner of two modules: that with the weights, where weights say it."""
    inside = root.origin.scope.startswith(norm.origin.scope)
    return root.origin if inside else norm.origin


VECTORS = tuple(
    Rule(Op(op, Op(norm, name="norm"), w), rewrite)
    for norm in NORMS
    for op, rewrite in (("Mul", scale_norm), ("Add", shift_norm))
)


@rewrites("Standardize")
def compose_standardize(root: CNode) -> Node:
    """Its formula, in float32 at least."""
    (x,), build = root.inputs, Build(root)
    if x.aval.dtype.itemsize == 2:
        return through(root, FLOAT32)
    along = {"axes": ints(root, "axes"), "keepdims": True}
    centred = build("Sub", x, build("ReduceMean", x, **along))
    variance = build("ReduceMean", build("Square", centred), **along)
    spread = build("Add", variance, build.number(number(root, "epsilon"), x))
    return build("Div", centred, build("Sqrt", spread))


@rewrites("RmsNorm")
def compose_rms_norm(root: CNode) -> Node:
    """Its formula, in float32 at least; without a scale of 1."""
    (x, scale), build, axis = root.inputs, Build(root), integer(root, "axis")
    if x.aval.dtype.itemsize == 2:
        return through(root, FLOAT32)
    square = build("ReduceMean", build("Square", x), axes=(axis,), keepdims=True)
    spread = build("Add", square, build.number(number(root, "epsilon"), x))
    normal = build("Div", x, build("Sqrt", spread))
    if scalar_of(scale) == 1:
        return normal
    after = (1,) * (len(x.aval.shape) - 1 - axis)
    return build("Mul", normal, build.reshape(scale, (scale.aval.size, *after)))


# vectors that are known, maybe later
INTO: tuple[Rule, ...] = (drop_zero_shift, *VECTORS, scale_rms_norm)
RULES: tuple[Rule, ...] = (
    centre_variance,
    drop_least_variance,
    *(Rule(form, standardize) for form in FORMS),
    *(Rule(form, standardize_narrow) for form in NARROW_FORMS),
    standardize_rows,
    *(Rule(form, normalize_by_square) for form in RMS_FORMS),
    *INTO,
)
COMPOSE: tuple[Rule, ...] = (compose_standardize, compose_rms_norm)
