"""Recognition: the operators of neural networks in what the libraries write them with."""

import math
from dataclasses import replace

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.build import FLOAT16, FLOAT32
from fnckpt.ir.passes.reshape import reshaped
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, Weight, rewrites, scalar_of

Ints = tuple[int, ...]

x = Any_("x")


@rewrites(Op("Maximum", x, Scalar(value=0.0)))
def fuse_relu(root: CNode, x: Node) -> Node | None:
    """max(x, 0) is relu(x)."""
    return _of(root, "Relu", x)


@rewrites(Op("Mul", x, Op("Sigmoid", x)))
def fuse_silu(root: CNode, x: Node) -> Node | None:
    """x * sigmoid(x) is silu(x)."""
    return _of(root, "Silu", x)


_CUBE = Op("Mul", x, Op("Square", x))
_INNER = Op(
    "Mul",
    Scalar(value=math.sqrt(2 / math.pi)),
    Op("Add", x, Op("Mul", Scalar(value=0.044715), _CUBE)),
)
_ONE_PLUS = Op("Add", Scalar(value=1.0), Op("Tanh", _INNER))


@rewrites(Op("Mul", x, Op("Mul", Scalar(value=0.5), _ONE_PLUS)))
def fuse_gelu_tanh(root: CNode, x: Node) -> Node | None:
    """x * (0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))) is gelu(x) by tanh."""
    return _of(root, "Gelu", x, approximate=True)


_HALF = math.sqrt(0.5)


@rewrites(
    Op(
        "Mul",
        Op("Mul", Scalar(value=0.5), x),
        Op("Erfc", Op("Mul", Op("Neg", x), Scalar(value=_HALF))),
    )
)
def fuse_gelu_erfc(root: CNode, x: Node) -> Node | None:
    """0.5 * x * erfc(-x * sqrt(0.5)) is gelu(x)."""
    return _of(root, "Gelu", x, approximate=False)


def _of(root: CNode, op: str, x: Node, **attrs: bool) -> Node | None:
    """``op`` of ``x`` in place of ``root``, for floats of the result's own shape."""
    if not is_float(x) or x.aval != root.aval:
        return None
    return apply(op, x, origin=root.origin, **attrs)


def reduced(op: str, of: Any_ | Op, axes: str, users: int = 1) -> Op:
    return Op(op, of, attrs={"axes": axes, "keepdims": f"keep_{axes}"}, users=users)


def sums(of: Op, axes: str) -> tuple[Op, Op]:
    """The sum of ``of``, and the sum in ``wide`` numbers, which is JAX's for narrow floats."""
    wide = reduced("ReduceSum", Op("Cast", of, attrs={"dtype": "wide"}), axes)
    return reduced("ReduceSum", of, axes), Op("Cast", wide)


def is_wide_enough(x: Node, axes: Ints, wide: np.dtype | None) -> bool:
    """Whether a sum of numbers up to 1 along ``axes`` of ``x`` is plain, or in float32.

    That must fit into float16, where it is rounded to it.
    """
    if wide is None:
        return True
    fits = x.aval.dtype != FLOAT16 or math.prod(x.aval.shape[i] for i in axes) < 65504
    return wide == FLOAT32 and x.aval.dtype.itemsize == 2 and fits


_POWERS = Op("Exp", Op("Sub", x, reduced("ReduceMax", x, "a")), users=2, name="powers")


def fuse_softmax(
    root: CNode,
    x: Node,
    powers: Node,
    a: Ints,
    b: Ints,
    keep_a: bool,
    keep_b: bool,
    wide: np.dtype | None = None,
) -> Node | None:
    """exp(x - max(x)) / sum(exp(x - max(x))) is softmax(x)."""
    if not (len(a) == 1 and a == b and keep_a and keep_b and is_float(x)):
        return None
    if x.aval != root.aval or not is_wide_enough(x, a, wide):
        return None
    return apply("Softmax", x, origin=root.origin, axis=a[0])


_SHIFTED = Op("Sub", x, reduced("ReduceMax", x, "a"), users=2, name="shifted")


def fuse_log_softmax(
    root: CNode,
    x: Node,
    shifted: Node,
    a: Ints,
    b: Ints,
    keep_a: bool,
    keep_b: bool,
    wide: np.dtype | None = None,
) -> Node | None:
    """x - max(x) - log(sum(exp(x - max(x)))) is log_softmax(x)."""
    if not (len(a) == 1 and a == b and keep_a and keep_b and is_float(x)):
        return None
    if x.aval != root.aval or not is_wide_enough(x, a, wide):
        return None
    return apply("LogSoftmax", x, origin=root.origin, axis=a[0])


SOFTMAXES = (
    *(Rule(Op("Div", Any_("powers"), total), fuse_softmax) for total in sums(_POWERS, "b")),
    *(
        Rule(Op("Sub", Any_("shifted"), Op("Log", total)), fuse_log_softmax)
        for total in sums(Op("Exp", _SHIFTED), "b")
    ),
)


_SPREAD = Op("Add", Weight("variance"), Scalar("eps"))
_CENTRED = Op("Sub", x, Weight("mean"))
_SCALED = Op("Mul", Op("Rsqrt", _SPREAD), Weight("scale"))
_FACTORS = (  # as Keras writes it, who uses it twice
    Op("Mul", Op("Rsqrt", _SPREAD), Weight("scale"), name="factor", users=2),
    Op("Rsqrt", _SPREAD, name="factor", users=2),
)
_LESS_MEAN = Op("Mul", Op("Neg", Weight("mean")), Any_("factor"))

BATCH_NORMS: tuple[Op, ...] = (
    Op("Mul", _CENTRED, Op("Rsqrt", _SPREAD)),
    Op("Div", _CENTRED, Op("Sqrt", _SPREAD)),
    Op("Mul", _CENTRED, _SCALED),  # Flax
    *(Op("Add", Op("Mul", x, each), _LESS_MEAN) for each in _FACTORS),  # Keras
    *(Op("Add", Op("Mul", x, each), Op("Add", _LESS_MEAN, Weight("bias"))) for each in _FACTORS),
)


def _batch_norm(
    root: CNode,
    x: Node,
    mean: Node,
    variance: Node,
    eps: float,
    scale: Node | None = None,
    bias: Node | None = None,
    factor: Node | None = None,
) -> Node | None:
    """(x - mean) * (rsqrt(variance + eps) * scale) + bias, vectors along one axis."""
    given = [node for node in (mean, variance, scale, bias) if node is not None]
    axis = common_axis(root, *given)
    if axis is None or x.aval != root.aval or not is_float(x):
        return None
    size = (x.aval.shape[axis],)
    one, zero = (constant(np.full(size, number, x.aval.dtype)) for number in (1, 0))
    vectors = (reshaped(node, size, root) for node in (scale or one, bias or zero, mean, variance))
    return apply("BatchNorm", x, *vectors, origin=root.origin, axis=axis, epsilon=eps)


_NORM = Op("BatchNorm", name="norm", attrs={"axis": "axis"})


@rewrites(Op("Mul", _NORM, Weight("w")))
def scale_batch_norm(root: CNode, norm: CNode, axis: int, w: Node) -> Node | None:
    """norm(x) * w is norm(x, w)."""
    x, scale, bias, *moments = norm.inputs
    plain = scalar_of(scale) == 1 and scalar_of(bias) == 0
    if not plain or common_axis(root, w) != axis or norm.aval != root.aval:
        return None
    return replace(norm, inputs=(x, reshaped(w, scale.aval.shape, root), bias, *moments))


@rewrites(Op("Add", _NORM, Weight("w")))
def shift_batch_norm(root: CNode, norm: CNode, axis: int, w: Node) -> Node | None:
    """norm(x, scale) + w is norm(x, scale, w)."""
    x, scale, bias, *moments = norm.inputs
    if scalar_of(bias) != 0 or common_axis(root, w) != axis or norm.aval != root.aval:
        return None
    return replace(norm, inputs=(x, scale, reshaped(w, bias.aval.shape, root), *moments))


def common_axis(root: CNode, *vectors: Node) -> int | None:
    """The one axis of ``root`` along which all ``vectors`` lie whole, else None."""
    axes: set[int] = set()
    for vector in vectors:
        rank, ndim = len(vector.aval.shape), len(root.aval.shape)
        wide = (1,) * (ndim - rank) + vector.aval.shape
        axes |= {i for i, n in enumerate(wide) if n != 1}
        if vector.aval.size == 1:
            return None
    if len(axes) != 1:
        return None
    (axis,) = axes
    whole = all(v.aval.size == root.aval.shape[axis] for v in vectors)
    return axis if whole else None


@rewrites(Op("Add", Op("Conv", name="conv"), Weight("bias")))
def fuse_conv_bias(root: CNode, conv: CNode, bias: Node) -> Node | None:
    """conv(x, w) + b is conv(x, w, b), for a b along the channels."""
    channels = conv.aval.shape[1]
    along = common_axis(root, bias) == 1 or (bias.aval.size == 1 == channels)
    if len(conv.inputs) != 2 or not along or conv.aval != root.aval:
        return None
    vector = reshaped(bias, (channels,), root)
    return apply("Conv", *conv.inputs, vector, origin=conv.origin, **conv.attrs)


RULES: tuple[Rule, ...] = (
    fuse_silu,
    fuse_gelu_tanh,
    fuse_gelu_erfc,
    *SOFTMAXES,
    *(Rule(form, _batch_norm) for form in BATCH_NORMS),
    scale_batch_norm,
    shift_batch_norm,
    fuse_conv_bias,
)
