"""Norms and factors in front of a product, folded into its weights.

A product of ``x * f + c`` is one of ``x`` with other weights: f goes into each weight, and what the
weights make of c into the bias. A transpose between them moves the axis of f and c.

A norm whose mean is far from 0 stays (``is_near``): the sum over ``x * f`` would cancel with c.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.attributes import integer, ints, pairs
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.bounds import SAFE, bound
from fnckpt.ir.passes.build import known
from fnckpt.ir.passes.fuse import common_axis
from fnckpt.ir.passes.reshape import value_of
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Weight
from fnckpt.ir.passes.weights import is_near, norm_factor, rounded, scaled

x, b = Any_("x"), Any_("b")
w = Weight("w", users=1)  # one that is shared would be in the file twice


@dataclass(frozen=True)
class Affine:
    """``x * factor + shift``, in double, for vectors along ``axis``; numbers have none."""

    x: Node
    axis: int | None
    factor: np.ndarray
    shift: np.ndarray


def _of_norm(norm: CNode, x: Node) -> Affine | None:
    """norm(x) is x * f + (bias - mean * f), f = scale / sqrt(variance + epsilon)."""
    if not is_near(norm):
        return None
    factor = norm_factor(norm)
    _, bias, mean, _ = (value_of(v).astype(np.float64) for v in norm.inputs[1:])
    with np.errstate(all="ignore"):
        shift = bias - mean * factor
    return Affine(x, integer(norm, "axis"), factor, shift)


def _of_factor(root: CNode, x: Node, factor: Node, *, fast: bool) -> Affine | None:
    """x * c, x / c: of a vector, which is a norm; of a number only where x * c cannot overflow."""
    with np.errstate(all="ignore"):
        value = value_of(factor).astype(np.float64).reshape(-1)
        value = 1 / value if root.op == "Div" else value
    clipped = isinstance(x, CNode) and x.op == "Minimum"  # with a number it is a HardSigmoid
    if x.aval != root.aval or not value.size or (clipped and value.size == 1):
        return None
    if value.size > 1:
        axis = common_axis(root, factor)
        return None if axis is None else Affine(x, axis, value, np.zeros(1))
    largest = abs(float(value[0]))
    safe = fast or largest <= 1 or bound(x) * largest < SAFE
    return Affine(x, None, value, np.zeros(1)) if safe else None


def _of_normal(x: CNode, factor: Node | None, shift: Node) -> Affine | None:
    """standardize(x) * f + c. Its numbers are about 1, so that c cancels nothing that is larger."""
    vectors = [shift] if factor is None else [factor, shift]
    axis = common_axis(x, *vectors)
    if axis is None:
        return None
    f = np.ones(1) if factor is None else value_of(factor).astype(np.float64).reshape(-1)
    return Affine(x, axis, f, value_of(shift).astype(np.float64).reshape(-1))


def _moved(before: Affine, moved: CNode | None) -> Affine | None:
    """The same behind a transpose of it; behind a reshape where it is a number."""
    if moved is None:
        return before
    x = replace(moved, inputs=(before.x,))
    if before.axis is None:
        return replace(before, x=x)
    if moved.op == "Reshape":
        return None
    return replace(before, x=x, axis=ints(moved, "perm").index(before.axis))


def _into(weight: Node, factor: np.ndarray) -> Node | None:
    """``weight * factor``; None where a number is not finite, or is 0 that was none."""
    result = scaled(weight, factor)
    if result is None:
        return None
    vanished = (value_of(result) == 0) & (value_of(weight) != 0) & (factor != 0)
    return None if vanished.any() else result


def _into_conv(root: CNode, before: Affine, bias: Node | None) -> Node | None:
    """conv(x * f + c, w, b) is conv(x, w * f, b + sum(w * c)).

    With a c the padding must be nothing: it is 0, and not c.
    """
    (_, kernel, *own), groups = root.inputs, integer(root, "groups")
    if before.axis not in (None, 1):
        return None
    value = value_of(kernel)
    rows = _by_group(before.factor, value.shape, groups)
    weight = _into(kernel, rows)
    if weight is None or not before.shift.any():
        return None if weight is None else replace(root, inputs=(before.x, weight, *own))
    if any(n for pair in pairs(root, "pads") for n in pair) or any(known(n) is None for n in own):
        return None
    shift = _by_group(before.shift, value.shape, groups)
    with np.errstate(all="ignore"):
        sums = (value.astype(np.float64) * shift).sum(tuple(range(1, value.ndim)))
    if own:
        sums = value_of(own[0]).astype(np.float64) + sums
    name = own[0] if own else bias
    assert name is not None
    vector = rounded(name, sums)
    return None if vector is None else replace(root, inputs=(before.x, weight, vector))


def _by_group(vector: np.ndarray, kernel: tuple[int, ...], groups: int) -> np.ndarray:
    """What stands along the channels of the input, for each element of a kernel."""
    if vector.size == 1:
        return vector.reshape((1,) * len(kernel))
    outputs, inputs, *window = kernel
    rows = np.repeat(vector.reshape(groups, inputs), outputs // groups, axis=0)
    return rows.reshape(outputs, inputs, *(1,) * len(window))


def _into_product(root: CNode, before: Affine, bias: Node | None) -> Node | None:
    """matmul(x * f + c, w) is matmul(x, w * f) + c @ w."""
    kernel, last = root.inputs[1], len(before.x.aval.shape) - 1
    if before.axis not in (None, last) or root.attrs["transpose_a"] or last < 1:
        return None
    if len(kernel.aval.shape) != 2:
        return None
    turned = bool(root.attrs["transpose_b"])
    weight = _into(kernel, before.factor if turned else before.factor[:, None])
    if weight is None:
        return None
    product = replace(root, inputs=(before.x, weight))
    if not before.shift.any():
        return product
    value = value_of(kernel).astype(np.float64)
    assert bias is not None
    with np.errstate(all="ignore"):
        vector = rounded(bias, value @ before.shift if turned else before.shift @ value)
    return None if vector is None else apply("Add", product, vector, origin=root.origin)


INTO: dict[str, Callable[[CNode, Affine, Node | None], Node | None]] = {
    "Conv": _into_conv,
    "MatMul": _into_product,
}


def _fold_norm(
    root: CNode, x: Node, norm: CNode, bias: Node, moved: CNode | None = None, **_: Node
) -> Node | None:
    """A norm in front of a product."""
    found = _of_norm(norm, x)
    before = found and _moved(found, moved)
    return before and INTO[root.op](root, before, bias)


def _fold_normal(
    root: CNode,
    x: CNode,
    shift: Node,
    factor: Node | None = None,
    moved: CNode | None = None,
    **_: Node,
) -> Node | None:
    """A norm in parts in front of a product: LayerNorm over the channels of an image."""
    found = _of_normal(x, factor, shift)
    before = found and _moved(found, moved)
    return before and INTO[root.op](root, before, shift)


def _fold_factor(fast: bool) -> Callable[..., Node | None]:
    """A factor in front of a product; with ``fast`` any number."""

    def fold(
        root: CNode, x: Node, scaling: CNode, factor: Node, moved: CNode | None = None, **_: Node
    ) -> Node | None:
        found = _of_factor(scaling, x, factor, fast=fast) if is_float(x) else None
        before = found and _moved(found, moved)
        return before and INTO[root.op](root, before, None)

    return fold


_NORM = Op(
    "BatchNorm", x, Weight("scale"), Weight("bias"), Weight("mean"), Weight("variance"), name="norm"
)
_NORMAL = Op("Standardize", name="x")
_SHIFTED = tuple(
    Op("Add", each, Weight("shift")) for each in (_NORMAL, Op("Mul", _NORMAL, Weight("factor")))
)
_FACTORS = tuple(Op(op, x, Weight("factor"), name="scaling") for op in ("Mul", "Div"))


def _products(before: Op) -> Iterator[Op]:
    """The products that read ``before``, moved or not."""
    moved = (Op(op, before, name="moved") for op in ("Transpose", "Reshape"))
    for read in (before, *moved):
        yield Op("Conv", read, w)
        yield Op("Conv", read, w, b)
        yield Op("MatMul", read, w)


NORMS: tuple[Rule, ...] = (
    *(Rule(product, _fold_norm) for product in _products(_NORM)),
    *(Rule(product, _fold_normal) for each in _SHIFTED for product in _products(each)),
)


def _factors(fast: bool) -> tuple[Rule, ...]:
    fold = _fold_factor(fast)
    return tuple(Rule(product, fold) for each in _FACTORS for product in _products(each))


RULES: tuple[Rule, ...] = (*NORMS, *_factors(fast=False))
FAST: tuple[Rule, ...] = _factors(fast=True)
