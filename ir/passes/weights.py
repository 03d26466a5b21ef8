"""Arithmetic on weights done at export: factors and norms behind a product go into its weights.

Each is left alone where a number of the new weight is not finite. The weight keeps its name.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import number
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS, apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.bounds import stays_finite
from fnckpt.ir.passes.build import Build, mapped
from fnckpt.ir.passes.fuse import common_axis
from fnckpt.ir.passes.reshape import value_of
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Weight, rewrites

x, w, b = Any_("x"), Weight("w"), Weight("b")

_CONV = Op("Conv", name="conv")


def scaled(weight: Node, factor: np.ndarray, shift: np.ndarray | None = None) -> Node | None:
    """``weight * factor + shift`` in double, rounded once; None where it is not finite."""
    value = value_of(weight).astype(np.float64)
    with np.errstate(all="ignore"):
        return rounded(weight, value * factor + (0.0 if shift is None else shift))


def rounded(weight: Node, wide: np.ndarray) -> Node | None:
    """``wide`` in the type of ``weight``, whose place it takes; None where it is not finite."""
    with np.errstate(over="ignore"):
        result = wide.astype(weight.aval.dtype)
    finite = np.isfinite(result.astype(np.float64)).all()
    return mapped(weight, lambda _: result) if finite else None


_VECTORS = (Weight("scale"), Weight("bias"), Weight("mean"), Weight("variance"))


def _norm_of(of: Op) -> Op:
    return Op("BatchNorm", of, *_VECTORS, attrs={"axis": "axis"})


def norm_factor(norm: CNode) -> np.ndarray:
    """scale / sqrt(variance + epsilon) of a BatchNorm, in double."""
    _, scale, _, _, variance = norm.inputs
    with np.errstate(all="ignore"):
        spread = value_of(variance).astype(np.float64) + number(norm, "epsilon")
        return value_of(scale).astype(np.float64) / np.sqrt(spread)


def _norm_shift(norm: CNode, own: Node | None) -> Node | None:
    """(own - mean) * f + bias."""
    _, _, bias, mean, _ = norm.inputs
    value = 0.0 if own is None else value_of(own).astype(np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        shift = (value - value_of(mean).astype(np.float64)) * norm_factor(norm)
    return scaled(bias, np.ones(1), shift)


def _fold_conv_norm(root: CNode, conv: CNode, axis: int, **_: Node) -> Node | None:
    """norm(conv(x, w, b)) is conv(x, w * f, (b - mean) * f + bias), f = scale / sqrt(var + eps)."""
    x, kernel, *biases = conv.inputs
    if axis != 1 or any(not _is_known(each) for each in (kernel, *biases)):
        return None
    folded = scaled(kernel, norm_factor(root).reshape(-1, *(1,) * (len(root.aval.shape) - 1)))
    vector = _norm_shift(root, biases[0] if biases else None)
    if folded is None or vector is None:
        return None
    return replace(conv, inputs=(x, folded, vector))


def _fold_product_norm(
    root: CNode, product: CNode, w: Node, axis: int, b: Node | None = None, **_: Node
) -> Node | None:
    """norm(matmul(x, w) + b) is matmul(x, w * f) + ((b - mean) * f + bias)."""
    columns = root.aval.shape[-1:]
    if axis != len(root.aval.shape) - 1 or len(w.aval.shape) != 2 or product.aval != root.aval:
        return None
    if b is not None and (b.aval.shape[-1:] != columns or (b.aval.size,) != columns):
        return None
    factor = norm_factor(root)
    weight = scaled(w, factor[:, None] if product.attrs["transpose_b"] else factor)
    vector = _norm_shift(root, b)
    if weight is None or vector is None:
        return None
    inner = replace(product, inputs=(product.inputs[0], weight))
    return apply("Add", inner, vector, origin=root.origin)


MOST_DEVIATIONS = 4.0


def is_near(norm: CNode) -> bool:
    """Whether each mean is few deviations from 0, so that ``x * f + c`` is as good as the norm.

    Where x lies around the mean by the deviation, ``x * f`` is larger than the norm of x by
    ``|mean| / deviation``, and so is what it is rounded by before c cancels it.
    """
    scale, _, mean, variance = (value_of(v).astype(np.float64) for v in norm.inputs[1:])
    with np.errstate(all="ignore"):
        deviation = np.sqrt(variance + number(norm, "epsilon"))
        near = (scale == 0) | (np.abs(mean) <= MOST_DEVIATIONS * deviation)
    return bool(near.all())


@rewrites(Op("BatchNorm", x, *_VECTORS, attrs={"axis": "axis"}))
def spread_norm(root: CNode, x: Node, axis: int, scale: Node, bias: Node, **_: Node) -> Node | None:
    """norm(x) is x * f + (bias - mean * f), along an axis that no runtime's norm has."""
    if axis == 1 or not is_near(root):
        return None
    factor, shift = norm_factor(root), _norm_shift(root, None)
    vector = rounded(scale, factor)
    if vector is None or shift is None:
        return None
    build, shape = Build(root), tuple(-1 if i == axis else 1 for i in range(len(x.aval.shape)))
    along = (mapped(each, lambda value: value.reshape(shape)) for each in (vector, shift))
    f, c = (each for each in along if each is not None)
    return build("Add", build("Mul", x, f), c)


def _is_known(node: Node) -> bool:
    return isinstance(node, Constant) or (isinstance(node, Parameter) and node.value is not None)


def _factor(root: CNode, factor: Node) -> np.ndarray | None:
    """What ``root`` multiplies with, as a vector along its last axis or one number."""
    value = value_of(factor).astype(np.float64)
    if not is_float(root) or value.size not in (1, root.aval.shape[-1]):
        return None
    if value.size > 1 and value.shape[-1] != value.size:
        return None
    with np.errstate(all="ignore"):
        return (1 / value if root.op == "Div" else value).reshape(-1)


def _fold_factor(root: CNode, product: CNode, w: Node, factor: Node) -> Node | None:
    """matmul(x, w) * c is matmul(x, w * c); a division is a product with 1 / c."""
    vector = _factor(root, factor)
    if vector is None or product.aval != root.aval or len(w.aval.shape) != 2:
        return None
    turned = bool(product.attrs["transpose_b"]) and vector.size > 1
    weight = scaled(w, vector[:, None] if turned else vector)
    return None if weight is None else replace(product, inputs=(product.inputs[0], weight))


def _fold_factor_and_bias(
    root: CNode, total: CNode, product: CNode, w: Node, b: Node, factor: Node
) -> Node | None:
    """(matmul(x, w) + b) * c is matmul(x, w * c) + b * c."""
    inner = _fold_factor(root, product, w, factor)
    vector = _factor(root, factor)
    if inner is None or vector is None or total.aval != root.aval or b.aval.size == 1:
        return None
    bias = scaled(b, vector)
    return None if bias is None else replace(total, inputs=(inner, bias))


def _merge_biases(
    root: CNode, total: CNode, product: CNode, w: Node, b: Node, more: Node
) -> Node | None:
    """(matmul(x, w) + b) + c is matmul(x, w) + (b + c), for vectors along the columns."""
    columns = root.aval.shape[-1:]
    along = all(each.aval.shape[-1:] == columns for each in (b, more))
    if not along or product.aval != root.aval or (b.aval.size, more.aval.size) != columns * 2:
        return None
    vector = scaled(b, np.ones(1), value_of(more).astype(np.float64).reshape(b.aval.shape))
    return None if vector is None else replace(total, inputs=(product, vector))


# One that is shared, by the steps of a recurrent network or as a table of words, stays as it is: it
# would be in the file once more for each.
_PRODUCT = Op("MatMul", x, Weight("w", users=1), name="product")
_TOTAL = Op("Add", _PRODUCT, b, name="total")


def _without_x(function: Callable[..., Node | None]) -> Callable[..., Node | None]:
    return lambda root, x, **rest: function(root, **rest)


@rewrites(Op("Gather", w, Weight("indices"), attrs={"axis": "axis"}))
def gather_weight(root: CNode, w: Node, indices: Node, axis: int) -> Node | None:
    """Rows that are known are taken out of a weight at export, where that is not more."""
    if root.aval.size > w.aval.size or not isinstance(indices, Constant):
        return None
    value = compute(root, [value_of(w), indices.value])
    assert isinstance(value, np.ndarray)
    return mapped(w, lambda _: value)


MOST_BYTES = 64 << 10  # of a vector that is computed; what it is made of may stay in the file too


def _compute_vector(root: CNode) -> Node | None:
    """Elementwise arithmetic on weights alone is done at export: norms that are written out."""
    if root.aval.size * root.aval.dtype.itemsize > MOST_BYTES or not root.inputs:
        return None
    if not all(map(_is_known, root.inputs)):
        return None
    value = compute(root, [value_of(node) for node in root.inputs])
    assert isinstance(value, np.ndarray)
    largest = max(root.inputs, key=lambda node: (isinstance(node, Parameter), node.aval.size))
    return mapped(largest, lambda _: value)


def _conv_vector(root: CNode, conv: CNode, known: Node) -> np.ndarray | None:
    """What is known, in double, for each channel of a convolution; None where it is not so."""
    channels = conv.aval.shape[1]
    along = common_axis(root, known) == 1 or known.aval.size == 1
    if not along or conv.aval != root.aval or not all(map(_is_known, conv.inputs[1:])):
        return None
    return np.broadcast_to(value_of(known).astype(np.float64).reshape(-1), (channels,))


def _fold_conv_factor(root: CNode, conv: CNode, factor: Node) -> Node | None:
    """conv(x, w, b) * c is conv(x, w * c, b * c); a division is a product with 1 / c."""
    vector = _conv_vector(root, conv, factor)
    if vector is None:
        return None
    with np.errstate(all="ignore"):
        vector = 1 / vector if root.op == "Div" else vector
    rows = vector.reshape(-1, *(1,) * (len(root.aval.shape) - 1))
    new = [scaled(w, f) for w, f in zip(conv.inputs[1:], (rows, vector), strict=False)]
    known = [node for node in new if node is not None]
    return replace(conv, inputs=(conv.inputs[0], *known)) if len(known) == len(new) else None


def _fold_conv_shift(root: CNode, conv: CNode, shift: Node) -> Node | None:
    """conv(x, w, b) + c is conv(x, w, b + c)."""
    if len(conv.inputs) != 3:
        return None
    vector = _conv_vector(root, conv, shift)
    if vector is None:
        return None
    bias = scaled(conv.inputs[2], np.ones(1), -vector if root.op == "Sub" else vector)
    return None if bias is None else replace(conv, inputs=(*conv.inputs[:2], bias))


def _safely(function: Callable[..., Node | None], product: str) -> Callable[..., Node | None]:
    """``function`` of a vector, which is a norm; of a number only where nothing can overflow.

    Between a product and its factor a sum can be infinite that is finite with the factor inside.
    """

    def fold(root: CNode, factor: Node, **rest: Node) -> Node | None:
        before = rest[product]
        assert isinstance(before, CNode)
        with np.errstate(all="ignore"):
            value = value_of(factor).astype(np.float64)
            number = 1 / value if root.op == "Div" else value
        if factor.aval.size == 1 and not (is_float(root) and stays_finite(before, number)):
            return None
        return function(root, factor=factor, **rest)

    return fold


ELEMENTWISE = tuple(op.name for op in OPERATORS.values() if op.elementwise)

_FACTORS: tuple[tuple[Op, str, Callable[..., Node | None]], ...] = (
    (_CONV, "conv", _fold_conv_factor),
    (_PRODUCT, "product", _without_x(_fold_factor)),
    (_TOTAL, "total", _without_x(_fold_factor_and_bias)),
)

RULES: tuple[Rule, ...] = (
    *(Rule(Op(op), _compute_vector) for op in ELEMENTWISE),
    *(Rule(Op(op, _CONV, Weight("shift")), _fold_conv_shift) for op in ("Add", "Sub")),
    Rule(Op("Add", _TOTAL, Weight("more")), _without_x(_merge_biases)),
    Rule(_norm_of(_CONV), _fold_conv_norm),
    *(Rule(_norm_of(each), _without_x(_fold_product_norm)) for each in (_PRODUCT, _TOTAL)),
    gather_weight,
    *(
        Rule(Op(op, pattern, Weight("factor")), _safely(fold, name))
        for op in ("Mul", "Div")
        for pattern, name, fold in _FACTORS
    ),
)

SPREAD: tuple[Rule, ...] = (spread_norm,)

# With fast_math: any number, whatever the product is of.
FAST: tuple[Rule, ...] = tuple(
    Rule(Op(op, pattern, Weight("factor")), fold)
    for op in ("Mul", "Div")
    for pattern, _, fold in _FACTORS
)
