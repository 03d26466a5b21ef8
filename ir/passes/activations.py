"""Recognition of activations, in the forms that jax.nn and Keras write them.

``RULES`` are for every target. ``FUSE`` are for ONNX, whose runtime was compared with JAX at NaN,
infinities, zeros of both signs, the ends of float32 and 5,000 numbers between: not further than
4e-7 from JAX's result, or from 1 where that is less.
"""

from ml_dtypes import finfo

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Any_, Op, Pattern, Rule, Scalar, rewrites

x, y = Any_("x"), Any_("y")
ZERO = Scalar(value=0.0)


def _of(root: CNode, op: str, x: Node, **attrs: float) -> Node | None:
    """``op`` of ``x`` in place of ``root``, for floats of the result's own shape."""
    if not is_float(x) or x.aval != root.aval:
        return None
    return apply(op, x, origin=root.origin, **attrs)


_REST = Op("Log1p", Op("Exp", Op("Neg", Op("Abs", x))))


@rewrites(
    Op("Select", Op("NotEqual", x, x), Op("Add", x, ZERO), Op("Add", Op("Maximum", x, ZERO), _REST))
)
def fuse_softplus(root: CNode, x: Node) -> Node | None:
    """x + 0 where x is NaN, else max(x, 0) + log1p(exp(-|x|)), is softplus(x)."""
    return _of(root, "Softplus", x)


@rewrites(_REST)
def fuse_softplus_below_zero(root: CNode, x: Node) -> Node | None:
    """log1p(exp(-|x|)) is softplus(-|x|): of numbers above 88 it would not be."""
    build = Build(root)
    return _of(root, "Softplus", build("Neg", build("Abs", x))) if is_float(x) else None


_DIFFERENCE = Op("Sub", x, y, users=0)
_BELOW_ZERO = Op("Neg", Op("Abs", _DIFFERENCE, users=0), users=0)
_GREATER = Op("Add", Op("Maximum", x, y), Op("Softplus", _BELOW_ZERO))


@rewrites(Op("Select", Op("IsNan", _DIFFERENCE), Op("Add", x, y), _GREATER))
def fuse_logaddexp(root: CNode, x: Node, y: Node) -> Node | None:
    """max(x, y) + softplus(min(x, y) - max(x, y)), in which no infinity is taken from itself.

    A greatest number that is as large as can be, in place of infinity, leaves what is right: the
    rest is 0 where the smaller one is less, and infinity where it is infinity too.
    """
    if not is_float(x):
        return None
    build, ends = Build(root), finfo(root.aval.dtype)
    greater = build("Maximum", x, y)
    finite = build("Clip", greater, low=float(ends.min), high=float(ends.max))
    rest = build("Softplus", build("Sub", build("Minimum", x, y), finite))
    return build("Add", greater, rest)


_TWICE = Op("Add", x, x, users=0)
_SIZE = Op("Maximum", x, Op("Neg", x, users=0))


@rewrites(
    Op(
        "Select",
        Op("IsNan", _TWICE),
        Op("Sub", x, x),
        Op("Add", _SIZE, Op("Softplus", Op("Neg", Op("Abs", _TWICE, users=0), users=0))),
    )
)
def fuse_log_of_two_cosh(root: CNode, x: Node) -> Node | None:
    """logaddexp(x, -x) is |x| + softplus(-|2 x|); where x + x is NaN, x is."""
    if not is_float(x):
        return None
    build = Build(root)
    size = build("Abs", x)
    rest = build("Softplus", build("Neg", build("Add", size, size)))
    return build("Add", size, rest)


@rewrites(Op("Select", Op("GreaterEqual", x, ZERO), x, Op("Mul", x, Scalar("alpha"))))
def fuse_leaky_relu(root: CNode, x: Node, alpha: float) -> Node | None:
    """x where x >= 0, else x * alpha."""
    return _of(root, "LeakyRelu", x, alpha=alpha)


_POSITIVE = Op("Greater", x, ZERO, users=2)
_BELOW = Op("Expm1", Op("Select", _POSITIVE, ZERO, x))


@rewrites(Op("Select", _POSITIVE, x, _BELOW))
def fuse_elu(root: CNode, x: Node) -> Node | None:
    """x where x > 0, else expm1(x)."""
    return _of(root, "Elu", x, alpha=1.0)


@rewrites(Op("Select", _POSITIVE, x, Op("Mul", _BELOW, Scalar("alpha"))))
def fuse_scaled_elu(root: CNode, x: Node, alpha: float) -> Node | None:
    """x where x > 0, else alpha * expm1(x)."""
    return _of(root, "Elu", x, alpha=alpha)


_LOW = Op("Select", Op("Less", x, Scalar("low")), Scalar("least"), x)


@rewrites(Op("Select", Op("Greater", x, Scalar("high")), Scalar("most"), _LOW))
def fuse_choices(
    root: CNode, x: Node, low: float, least: float, high: float, most: float
) -> Node | None:
    """b where x > b, else a where x < a, else x, is clip(x, a, b); NaN stays."""
    if (low, high) != (least, most) or low > high:
        return None
    return _of(root, "Clip", x, low=low, high=high)


def _sixth(of: Pattern) -> tuple[Op, Op]:
    return Op("Div", of, Scalar(value=6.0)), Op("Mul", of, Scalar(value=1 / 6))


_CLIPPED = Op("Clip", Op("Add", x, Scalar(value=3.0)), attrs={"low": "low", "high": "high"})


def fuse_hard_sigmoid(root: CNode, x: Node, low: float, high: float) -> Node | None:
    """clip(x + 3, 0, 6) / 6."""
    return _of(root, "HardSigmoid", x) if (low, high) == (0, 6) else None


@rewrites(Op("Mul", x, Op("HardSigmoid", x)))
def fuse_hard_swish(root: CNode, x: Node) -> Node | None:
    """x * hard_sigmoid(x)."""
    return _of(root, "HardSwish", x)


@rewrites(Op("Mul", x, Op("Tanh", Op("Softplus", x))))
def fuse_mish(root: CNode, x: Node) -> Node | None:
    """x * tanh(softplus(x))."""
    return _of(root, "Mish", x)


@rewrites("HardSigmoid")
def compose_hard_sigmoid(root: CNode) -> Node:
    """min(max(x + 3, 0), 6) / 6."""
    (x,), build = root.inputs, Build(root)
    six = build.number(6, x)
    above = build("Maximum", build("Add", x, build.number(3, x)), build.number(0, x))
    return build("Div", build("Minimum", above, six), six)


@rewrites("HardSwish")
def compose_hard_swish(root: CNode) -> Node:
    """x * hard_sigmoid(x)."""
    (x,), build = root.inputs, Build(root)
    return build("Mul", x, build("HardSigmoid", x))


@rewrites("Mish")
def compose_mish(root: CNode) -> Node:
    """x * tanh(softplus(x))."""
    (x,), build = root.inputs, Build(root)
    return build("Mul", x, build("Tanh", build("Softplus", x)))


RULES: tuple[Rule, ...] = (fuse_softplus,)
FUSE: tuple[Rule, ...] = (
    fuse_softplus_below_zero,
    fuse_logaddexp,
    fuse_log_of_two_cosh,
    fuse_leaky_relu,
    fuse_elu,
    fuse_scaled_elu,
    fuse_choices,
    *(Rule(form, fuse_hard_sigmoid) for form in _sixth(_CLIPPED)),
    fuse_hard_swish,
    fuse_mish,
)
COMPOSE: tuple[Rule, ...] = (compose_hard_swish, compose_hard_sigmoid, compose_mish)
