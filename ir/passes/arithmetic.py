"""Identities of arithmetic, and reductions brought to one form."""

import math
from dataclasses import replace

import ml_dtypes
import numpy as np

from fnckpt.ir.attributes import ints, sizes
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import OPERATORS, apply, constant, is_elementwise
from fnckpt.ir.operators.reduction import REDUCTIONS
from fnckpt.ir.passes.axes import axes_before, before
from fnckpt.ir.passes.build import BOOL, Build, known
from fnckpt.ir.passes.reshape import reshaped, without_ones
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites, scalar_of
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import broadcast_shapes

Ints = tuple[int, ...]

MOST_SHRUNK = 1 << 18  # elements of a constant that are compared
LEAST_ADDED = 1 << 12  # elements, of which a choice costs more than another node

x = Any_("x")
_FACTOR = Any_("factor")
_ZERO = Scalar(value=0.0)
MOST_EXACT = 2.0**53  # integers that a float holds exactly


def is_float(node: Node) -> bool:
    """Whether the elements are floating-point numbers, bfloat16 among them."""
    return node.aval.dtype.kind not in "biuc"


@rewrites(Op("Maximum", x, Scalar(value=-np.inf)))
def drop_maximum(root: CNode, x: Node) -> Node | None:
    """max(x, -inf) is x, NaN included."""
    return x if x.aval == root.aval else None


@rewrites(Op("Minimum", x, Scalar(value=np.inf)))
def drop_minimum(root: CNode, x: Node) -> Node | None:
    """min(x, inf) is x, NaN included."""
    return x if x.aval == root.aval else None


_CLAMPED = Op(
    "Minimum",
    Op("Maximum", x, Scalar("least"), users=0),
    Scalar("greatest"),
    users=0,
    name="clamped",
)


@rewrites(Op("Minimum", Op("Maximum", _CLAMPED, Scalar("low")), Scalar("high")))
def drop_clamp(
    root: CNode, x: Node, clamped: CNode, least: float, greatest: float, low: float, high: float
) -> Node | None:
    """A place that is inside is not brought inside again: a switch that comes back from a file."""
    inside = low <= least <= greatest <= high and max(abs(low), abs(high)) < MOST_EXACT
    same = clamped.aval == root.aval and root.aval.dtype.kind in "iu"
    return clamped if inside and same else None


@rewrites(Op("Mul", x, Scalar(value=1.0)))
def drop_mul(root: CNode, x: Node) -> Node | None:
    """x * 1 is x."""
    return x if x.aval == root.aval else None


def multiply_by_one_element(root: CNode, x: Node, factor: Node) -> Node | None:
    """matmul(x[..., n, 1], c[1, 1]) is x * c: a mask of heads in an einsum."""
    same = x.aval.shape[:-2] == root.aval.shape[:-2] and x.aval.size == root.aval.size
    if not same or factor.aval.shape[-2:] != (1, 1) or not is_float(x):
        return None
    number = scalar_of(factor)
    if number is None:
        return None
    product = apply("Mul", x, constant(number, x.aval.dtype), origin=root.origin)
    return reshaped(product, root.aval.shape, root)


@rewrites("MatMul")
def multiply_by_elements(root: CNode) -> Node | None:
    """matmul(x[..., 1, 1], y[..., 1, m]) of many pairs is x * y; an einsum leaves such."""
    (a, b), (*batch, rows, columns) = root.inputs, root.aval.shape
    inner = a.aval.shape[-2 if root.attrs["transpose_a"] else -1]
    if inner != 1 or 1 not in (rows, columns) or math.prod(batch) == 1 or _any_known(a, b):
        return None
    left, right = ((rows,), (1,)) if columns == 1 else ((1,), (columns,))  # the axis of one goes
    a = reshaped(_unreshaped(a), (*a.aval.shape[:-2], *left), root)
    b = reshaped(_unreshaped(b), (*b.aval.shape[:-2], *right), root)
    return reshaped(apply("Mul", a, b, origin=root.origin), root.aval.shape, root)


@rewrites(Op("Div", x, Scalar(value=1.0)))
def drop_div(root: CNode, x: Node) -> Node | None:
    """x / 1 is x."""
    return x if x.aval == root.aval else None


@rewrites(Op("Div", x, Scalar("divisor")))
def multiply_by_power(root: CNode, x: Node, divisor: float) -> Node | None:
    """x / 2^k is x * 2^-k, bit for bit; runtimes multiply faster than they divide."""
    mantissa, exponent = math.frexp(divisor)
    least = int(ml_dtypes.finfo(root.aval.dtype).minexp) if is_float(root) else 0
    if abs(mantissa) != 0.5 or not least < 1 - exponent < -least:
        return None
    factor = constant(math.ldexp(math.copysign(1.0, divisor), 1 - exponent), x.aval.dtype)
    product = apply("Mul", x, factor, origin=root.origin)
    return product if product.aval == root.aval else None


@rewrites(Op("Sub", x, Scalar("zero")))
def drop_sub(root: CNode, x: Node, zero: float) -> Node | None:
    """x - 0 is x, its sign too; x - (-0) is not."""
    return x if zero == 0 and math.copysign(1, zero) > 0 and x.aval == root.aval else None


def _drop_add(root: CNode, x: Node) -> Node | None:
    """x + 0 is x for whole numbers; of floating-point numbers -0 would become 0."""
    return x if x.aval == root.aval and x.aval.dtype.kind in "iu" else None


@rewrites(Op("NotEqual", x, Scalar(value=0.0)))
def drop_not_equal(root: CNode, x: Node) -> Node | None:
    """c != false is c."""
    return x if x.aval == root.aval else None


@rewrites(Op("Equal", x, Scalar("number")))
def nothing_is_nan(root: CNode, x: Node, number: float) -> Node | None:
    """x == nan is false: what |x| == inf is of a float8 that has no infinity."""
    if not math.isnan(number):
        return None
    return Build(root).broadcast(constant(np.zeros((), bool)), root.aval.shape)


@rewrites(Op("LogicalOr", x, Scalar(value=0.0)))
def drop_or(root: CNode, x: Node) -> Node | None:
    """c or false is c."""
    return x if x.aval == root.aval else None


@rewrites(Op("LogicalAnd", x, Scalar(value=1.0)))
def drop_and(root: CNode, x: Node) -> Node | None:
    """c and true is c."""
    return x if x.aval == root.aval else None


@rewrites(Op("Select", x, Scalar("then"), Scalar("other")))
def choose_flag(root: CNode, x: Node, then: float, other: float) -> Node | None:
    """true where c, else false, is c; the other way round it is not c. ``jnp.tril`` says it so."""
    if root.aval.dtype != BOOL or x.aval != root.aval or then == other:
        return None
    return x if then else apply("LogicalNot", x, origin=root.origin)


@rewrites(Op("Select", x, Any_("then"), Scalar(value=0.0)))
def choose_or_false(root: CNode, x: Node, then: Node) -> Node | None:
    """a where c, else false, is c and a."""
    return _of_flags("LogicalAnd", x, then, root)


@rewrites(Op("Select", x, Scalar(value=1.0), Any_("other")))
def choose_true(root: CNode, x: Node, other: Node) -> Node | None:
    """true where c, else b, is c or b."""
    return _of_flags("LogicalOr", x, other, root)


def _of_flags(op: str, a: Node, b: Node, root: CNode) -> Node | None:
    """``op`` of two booleans that has the dtype and shape of ``root``."""
    if root.aval.dtype != BOOL or broadcast_shapes(a.aval.shape, b.aval.shape) != root.aval.shape:
        return None
    return apply(op, a, b, origin=root.origin)


@rewrites(
    Op(
        "LogicalAnd",
        Op("Less", x, Scalar(value=0.0), users=0, name="below"),
        Op("NotEqual", x, Scalar(value=0.0), users=0),
    )
)
def below_is_unequal(root: CNode, x: Node, below: CNode) -> Node | None:
    """x < 0 and x != 0 is x < 0: the sign in JAX's remainder by a positive number."""
    return below if below.aval == root.aval else None


@rewrites(Op("Select", Op("Equal", x, Scalar(value=0.0), users=0, name="zero"), Scalar("c"), x))
def add_where_zero(root: CNode, x: Node, zero: CNode, c: float) -> Node | None:
    """c where x is 0, else x, is x + c * (x == 0), for a large x and a finite c.

    A choice costs a runtime several times a product; so numbers are kept from a division by 0.
    """
    alike = x.aval == root.aval and x.aval.size >= LEAST_ADDED
    if not alike or not is_float(x) or x.aval.dtype.itemsize < 4 or not math.isfinite(c) or not c:
        return None
    amount: Node = apply("Cast", zero, origin=root.origin, dtype=x.aval.dtype)
    if c != 1:
        amount = apply("Mul", amount, constant(c, x.aval.dtype), origin=root.origin)
    return apply("Add", x, amount, origin=root.origin)


@rewrites(Op("Select", Any_("which"), Op("Add", x, Scalar("c")), x))
def add_where(root: CNode, which: Node, x: Node, c: float) -> Node | None:
    """x + c where it is so, else x, is x + c * (0 or 1), for a large x and a finite c."""
    alike = x.aval == root.aval == replace(which.aval, dtype=x.aval.dtype)
    large = x.aval.size >= LEAST_ADDED and is_float(x) and x.aval.dtype.itemsize >= 4
    if not alike or not large or not math.isfinite(c):
        return None
    amount = apply("Cast", which, origin=root.origin, dtype=x.aval.dtype)
    product = apply("Mul", amount, constant(c, x.aval.dtype), origin=root.origin)
    return apply("Add", x, product, origin=root.origin)


@rewrites("MatMul")
def drop_product(root: CNode) -> Node | None:
    """matmul(0, w) is 0 for a w that is known and finite: the first step of a recurrent network."""
    a, b = root.inputs
    if not ((_is_zero(a) and _is_finite(b)) or (_is_zero(b) and _is_finite(a))):
        return None
    nothing = constant(np.zeros((1,) * len(root.aval.shape), root.aval.dtype))
    return apply("BroadcastTo", nothing, origin=root.origin, shape=root.aval.shape)


def _is_zero(node: Node) -> bool:
    """Whether it is 0 everywhere, repeated or not."""
    while isinstance(node, CNode) and node.op == "BroadcastTo":
        (node,) = node.inputs
    return scalar_of(node) == 0


def _unreshaped(node: Node) -> Node:
    return node.inputs[0] if isinstance(node, CNode) and node.op == "Reshape" else node


def _any_known(*nodes: Node) -> bool:
    return any(known(node) is not None for node in nodes)


def _is_finite(node: Node) -> bool:
    value = known(node)
    return value is not None and value.dtype.kind != "c" and bool(np.isfinite(value).all())


@rewrites(Op("Select", Scalar("which"), x, Any_("y")))
def drop_select(root: CNode, which: float, x: Node, y: Node) -> Node | None:
    """A choice that is known."""
    chosen = x if which else y
    return chosen if chosen.aval == root.aval else None


@rewrites(Op("Select", Any_("which"), x, x))
def drop_choice(root: CNode, which: Node, x: Node) -> Node | None:
    """A choice between a value and itself, as a branch of ``lax.switch`` has under ``vmap``."""
    return x if x.aval == root.aval else None


@rewrites(Op("Div", Op("Mul", x, Scalar("factor")), Scalar("divisor")))
def cancel_factor(root: CNode, x: Node, factor: float, divisor: float) -> Node | None:
    """x * c / c is x within rounding, for a c that cannot overflow what x comes from.

    Only over AvgPool, where the factor undoes its division.
    """
    pool = isinstance(x, CNode) and x.op == "AvgPool"
    return x if pool and factor == divisor and x.aval == root.aval else None


@rewrites(Op("Div", Op("ReduceSum", x, attrs={"axes": "axes", "keepdims": "keep"}), Scalar("n")))
def recognize_mean(root: CNode, x: Node, axes: Ints, keep: bool, n: float) -> Node | None:
    """sum(x) / count is mean(x)."""
    if not is_float(root) or n != math.prod(x.aval.shape[i] for i in axes) or not n:
        return None
    return apply("ReduceMean", x, origin=root.origin, axes=axes, keepdims=keep)


_SIZE = Op("Cast", Op("Reshape", Op("Sizes", name="vector", users=0), users=0), users=0)
_SUM = Op("ReduceSum", x, name="total")


def _mean_of_symbolic(root: CNode, x: Node, total: CNode, vector: CNode) -> Node | None:
    """sum(x) / count is mean(x), where the count is a symbolic size."""
    axes = ints(total, "axes")
    count = math.prod(x.aval.shape[i] for i in axes)
    if not is_float(root) or sizes(vector, "sizes") != (count,):
        return None
    keep = total.attrs["keepdims"]
    mean = apply("ReduceMean", x, origin=root.origin, axes=axes, keepdims=keep)
    return reshaped(mean, root.aval.shape, root)


def _keep_dimensions(root: CNode) -> Node | None:
    """reduce(x) is reduce(x, keepdims) reshaped; the reshape then moves on and often cancels."""
    if root.attrs["keepdims"]:
        return _of_one(root)
    kept = apply(root.op, *root.inputs, origin=root.origin, axes=root.attrs["axes"], keepdims=True)
    return reshaped(kept, root.aval.shape, root)


def _of_one(root: CNode) -> Node | None:
    """A reduction of one element is that element."""
    (x,), axes = root.inputs, ints(root, "axes")
    return x if root.op != "ReduceLogSumExp" and all(x.aval.shape[i] == 1 for i in axes) else None


def _drop_dimensions(root: CNode, reduced: CNode, shape: Ints) -> Node | None:
    """reduce(x, keepdims) reshaped to what is left is reduce(x): the reverse, at the end."""
    axes = ints(reduced, "axes")
    left = tuple(n for i, n in enumerate(reduced.aval.shape) if i not in axes)
    if not reduced.attrs["keepdims"] or left != shape:
        return None
    return apply(reduced.op, *reduced.inputs, origin=reduced.origin, axes=axes, keepdims=False)


def _reshape_later(root: CNode) -> Node | None:
    """f(reshape(a), reshape(b), c) is reshape(f(a, b, c)), a and b of one shape, c known.

    A c that is not a number is reshaped at export; it must repeat along whole axes of a. So may a
    computed c that is itself a reshape of what repeats along them.
    """
    moved = [n for n in root.inputs if isinstance(n, CNode) and n.op == "Reshape"]
    moved = [n for n in moved if n.aval.shape == root.aval.shape]
    if not moved:
        return None
    shape = moved[0].inputs[0].aval.shape
    inputs = [
        n.inputs[0] if n in moved and isinstance(n, CNode) else _known_before(n, shape, root)
        for n in root.inputs
    ]
    if any(
        n is None or (o in moved and n.aval.shape != shape)
        for n, o in zip(inputs, root.inputs, strict=True)
    ):
        return None
    found = tuple(n for n in inputs if n is not None)
    result = replace(root, inputs=found, results=(replace(root.aval, shape=shape),))
    return reshaped(result, root.aval.shape, root)


def _drop_leading(root: CNode) -> Node | None:
    """f(reshape(x), c) is reshape(f(x, c')), where all that puts ones before x is dropped."""
    sources = [without_ones(node) for node in root.inputs]
    rank = max((len(n.aval.shape) for n in sources if known(n) is None), default=0)
    shape, extra = root.aval.shape, len(root.aval.shape) - rank
    if not rank or extra <= 0 or set(shape[:extra]) != {1}:
        return None
    inputs = tuple(reshaped(n, n.aval.shape[-rank:], root) for n in sources)
    result = replace(root, inputs=inputs, results=(replace(root.aval, shape=shape[extra:]),))
    return reshaped(result, shape, root)


def _shrink_constants(root: CNode) -> Node | None:
    """A constant that is repeated along an axis, which the others have too, is there once."""
    for i, node in enumerate(root.inputs):
        if not isinstance(node, Constant) or node.aval.size <= 1 or node.aval.size > MOST_SHRUNK:
            continue
        small = _once(node.value)
        inputs = (*root.inputs[:i], constant(small), *root.inputs[i + 1 :])
        same = broadcast_shapes(*(n.aval.shape for n in inputs)) == root.aval.shape
        if small.size < node.aval.size and same:
            return replace(root, inputs=inputs)
    return None


def _once(value: np.ndarray) -> np.ndarray:
    """``value`` with one element along each axis where all are alike, bit by bit."""
    bits = np.ascontiguousarray(value).view(f"V{value.dtype.itemsize}")
    for axis, size in enumerate(value.shape):
        first = bits.take([0], axis)
        if size > 1 and np.array_equal(bits, np.broadcast_to(first, bits.shape)):
            bits = first
    return bits.view(value.dtype)


def _known_before(node: Node, shape: Ints, root: CNode) -> Node | None:
    """A number, or a value as it was before ``root``'s shape was ``shape`` reshaped.

    A weight is reshaped at export; what is computed must be such a reshape.
    """
    if isinstance(node, Constant) and scalar_of(node) is not None:
        return Constant(node.value.reshape(-1)[0:1].reshape(()))
    earlier = before(node.aval.shape, shape, root.aval.shape)
    if earlier is None:
        return None
    if known(node) is not None:
        return reshaped(node, earlier, root)
    if not isinstance(node, CNode) or node.op != "Reshape":
        return None
    return node.inputs[0] if node.inputs[0].aval.shape == earlier else None


def _reduce_before_reshape(root: CNode) -> Node | None:
    """reduce(reshape(x)) is reshape(reduce(x)), where the axes are whole ones of x."""
    (moved,) = root.inputs
    if not isinstance(moved, CNode) or moved.op != "Reshape" or not root.attrs["keepdims"]:
        return None
    (x,) = moved.inputs
    axes = axes_before(ints(root, "axes"), x.aval.shape, moved.aval.shape)
    if not axes:
        return None
    result = apply(root.op, x, origin=root.origin, axes=axes, keepdims=True)
    return reshaped(result, root.aval.shape, root)


def _reshape_earlier(root: CNode, inner: CNode, shape: Ints) -> Node | None:
    """reshape(f(x, y, c)) is f(reshape(x), reshape(y), c) where x and y come from reductions.

    The reshapes merge with these: what ``_reshape_later`` moved for nothing goes back.
    """
    sources = [n for n in inner.inputs if scalar_of(n) is None]
    if not _reduces_to(inner, shape):
        return None
    inputs = tuple(reshaped(n, shape, root) if n in sources else n for n in inner.inputs)
    if broadcast_shapes(*(n.aval.shape for n in inputs)) != shape:
        return None
    return replace(inner, inputs=inputs, results=(replace(inner.aval, shape=shape),))


@bounded(otherwise=False)
def _reduces_to(node: Node, shape: Ints) -> bool:
    """Whether a tree of elementwise operators starts at reductions alone that leave ``shape``."""
    if isinstance(node, CNode) and is_elementwise(node):
        sources = [n for n in node.inputs if scalar_of(n) is None]
        return bool(sources) and all(_reduces_to(source, shape) for source in sources)
    if not isinstance(node, CNode) or node.op not in REDUCTIONS or not node.attrs["keepdims"]:
        return False
    axes = node.attrs["axes"]
    assert isinstance(axes, tuple)
    return tuple(n for i, n in enumerate(node.aval.shape) if i not in axes) == shape


ELEMENTWISE = tuple(op.name for op in OPERATORS.values() if op.elementwise)

KEEP = tuple(Rule(Op(op), _keep_dimensions) for op in REDUCTIONS)
DROP = tuple(
    Rule(Op("Reshape", Op(op, name="reduced"), attrs={"shape": "shape"}), _drop_dimensions)
    for op in REDUCTIONS
)
SHRINK = tuple(Rule(Op(op), _shrink_constants) for op in ELEMENTWISE)
LATER = (
    *(Rule(Op(op), _drop_leading) for op in ELEMENTWISE),
    *(Rule(Op(op), _reshape_later) for op in ELEMENTWISE),
    *(Rule(Op(op), _reduce_before_reshape) for op in REDUCTIONS),
)
EARLIER = tuple(
    Rule(Op("Reshape", Op(op, name="inner"), attrs={"shape": "shape"}), _reshape_earlier)
    for op in ELEMENTWISE
)

RULES = (
    drop_maximum,
    drop_minimum,
    drop_clamp,
    drop_mul,
    *(Rule(Op("MatMul", *each), multiply_by_one_element) for each in ((x, _FACTOR), (_FACTOR, x))),
    multiply_by_elements,
    drop_div,
    drop_sub,
    *(Rule(Op("Add", *each), _drop_add) for each in ((x, _ZERO), (_ZERO, x))),
    drop_select,
    drop_choice,
    drop_not_equal,
    nothing_is_nan,
    drop_or,
    drop_and,
    choose_flag,
    choose_or_false,
    choose_true,
    below_is_unequal,
    cancel_factor,
    recognize_mean,
    Rule(Op("Div", _SUM, _SIZE), _mean_of_symbolic),
    Rule(Op("Div", Op("Reshape", _SUM), _SIZE), _mean_of_symbolic),
)
