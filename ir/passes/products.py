"""What some runtimes have as one operator: a product with a bias, a number between two limits.

A target that has them names these rules in ``fused``; the others never meet the operators, and
``COMPOSE`` takes them apart again.
"""

import math
from dataclasses import replace

from fnckpt.ir.attributes import Ints, number, pairs
from fnckpt.ir.graph import CNode, Constant, Node, Parameter
from fnckpt.ir.operators import OPERATORS, apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.build import FLOAT16, Build
from fnckpt.ir.passes.fuse import common_axis
from fnckpt.ir.passes.parts import part_of
from fnckpt.ir.passes.reshape import reshaped, transposed
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, Weight, rewrites

x, y = Any_("x"), Any_("y")

CLIPPED = ("bfloat16", "float16", "float32", "float64", "int32")  # and what a double holds exactly


@rewrites(Op("Minimum", Op("Relu", x), Scalar("high")))
def fuse_relu_limit(root: CNode, x: Node, high: float) -> Node | None:
    """min(relu(x), c) is clip(x, 0, c)."""
    return _clip(root, x, 0.0, high)


@rewrites(Op("Minimum", Op("Maximum", x, Scalar("low")), Scalar("high")))
def fuse_clip(root: CNode, x: Node, low: float, high: float) -> Node | None:
    """min(max(x, a), b) is clip(x, a, b)."""
    return _clip(root, x, low, high)


def _clip(root: CNode, x: Node, low: float, high: float) -> Node | None:
    if x.aval.dtype.name not in CLIPPED or x.aval != root.aval or not low <= high:
        return None
    ends = (low, high) if is_float(root) else (int(low), int(high))
    return apply("Clip", x, origin=root.origin, low=ends[0], high=ends[1])


@rewrites(Op("Add", Op("ConvTranspose", x, y, name="conv"), Weight("b")))
def fuse_transposed_bias(root: CNode, x: Node, y: Node, conv: CNode, b: Node) -> Node | None:
    """conv_transpose(x, w) + b is conv_transpose(x, w, b), for a b along the channels."""
    channels = conv.aval.shape[1]
    along = common_axis(root, b) == 1 or (b.aval.size == 1 == channels)
    grows = any(max(pair) > 0 for pair in pairs(conv, "pads"))
    if not along or grows or conv.aval != root.aval:
        return None
    return replace(conv, inputs=(x, y, reshaped(b, (channels,), root)))


@rewrites(Op("Mul", x, Op("Rsqrt", y)))
def divide_by_root(root: CNode, x: Node, y: Node) -> Node | None:
    """x * rsqrt(y) is x / sqrt(y), which ONNX has in two operators, not three."""
    if not is_float(root):
        return None
    return apply("Div", x, apply("Sqrt", y, origin=root.origin), origin=root.origin)


@rewrites(Op("Mul", x, Op("Minimum", Op("Rsqrt", y), Scalar("most"))))
def divide_by_limited_root(root: CNode, x: Node, y: Node, most: float) -> Node | None:
    """x * min(rsqrt(y), c) is x / max(sqrt(y), 1 / c), for a sum of squares y: it is never -0."""
    if not _is_sum_of_squares(y) or y.aval.dtype == FLOAT16 or not 1e-37 < most < 1e37:
        return None
    build = Build(root)
    return build("Div", x, build("Maximum", build("Sqrt", y), build.number(1 / most, y)))


def _is_sum_of_squares(y: Node) -> bool:
    """Whether ``y`` is that, casts of the squares and of the sum not counted."""
    total = _uncast(y)
    if not isinstance(total, CNode) or total.op != "ReduceSum":
        return False
    squares = _uncast(total.inputs[0])
    if not isinstance(squares, CNode) or not is_float(squares):
        return False
    return squares.op == "Square" or (
        squares.op == "Mul" and squares.inputs[0] is squares.inputs[1]
    )


def _uncast(node: Node) -> Node:
    return node.inputs[0] if isinstance(node, CNode) and node.op == "Cast" else node


@rewrites(Op("MatMul", x, Weight("w"), attrs={"transpose_a": "turned"}))
def flatten_product(root: CNode, x: Node, w: Node, turned: bool) -> Node | None:
    """matmul(x[..., k], w[k, n]) is matmul of x as one matrix, reshaped."""
    shape = x.aval.shape
    if turned or len(shape) < 3 or len(w.aval.shape) != 2 or not is_float(root):
        return None
    rows = reshaped(x, (math.prod(shape[:-1]), shape[-1]), root)
    flat = apply("MatMul", rows, w, origin=root.origin, **root.attrs)
    return reshaped(flat, root.aval.shape, root)


@rewrites(Op("MatMul", Weight("w"), x))
def flatten_columns(root: CNode, x: Node, w: Node) -> Node | None:
    """matmul(w[n, k], x[1, k, m]) is a product of matrices, reshaped."""
    shape = x.aval.shape
    if len(shape) < 3 or len(w.aval.shape) != 2 or set(shape[:-2]) != {1} or not is_float(root):
        return None
    flat = apply("MatMul", w, reshaped(x, shape[-2:], root), origin=root.origin, **root.attrs)
    return reshaped(flat, root.aval.shape, root)


def multiply_place(root: CNode, x: Node, w: Node, b: Node | None = None) -> Node | None:
    """conv(x[n, c, 1, 1], w[o, c, 1, 1], b) is a product of matrices: squeeze-and-excite."""
    places = (*x.aval.shape[2:], *w.aval.shape[2:], *root.aval.shape[2:])
    padded = any(max(pair) > 0 for pair in pairs(root, "pads"))
    if set(places) != {1} or padded or x.aval.shape[1] != w.aval.shape[1] or not is_float(root):
        return None
    build = Build(root)
    rows, weight = (build.reshape(each, each.aval.shape[:2]) for each in (x, w))
    found: Node = build("MatMul", rows, weight, transpose_a=False, transpose_b=True)
    if b is not None:
        found = build("Add", found, b)
    return build.reshape(found, root.aval.shape)


@rewrites(Op("Add", Op("MatMul", name="product"), Weight("b")))
def fuse_gemm(root: CNode, product: CNode, b: Node) -> Node | None:
    """matmul(x, w) + b is gemm(x, w, b), for matrices and a b along the columns or the rows."""
    columns = root.aval.shape[-1]
    if len(product.aval.shape) != 2 or product.aval != root.aval or not is_float(root):
        return None
    if b.aval.shape == (root.aval.shape[0], 1):
        return apply("Gemm", *product.inputs, b, origin=product.origin, **product.attrs)
    if b.aval.size != columns or b.aval.shape[-1:] != (columns,):
        return None
    bias = reshaped(b, (columns,), root)
    return apply("Gemm", *product.inputs, bias, origin=product.origin, **product.attrs)


def _is_plain(node: Node) -> bool:
    known = isinstance(node, Constant) or (isinstance(node, Parameter) and node.value is not None)
    return not known


@rewrites(Op("Add", Op("MatMul", name="product"), y))
def fuse_gemm_sum(root: CNode, product: CNode, y: Node) -> Node | None:
    """matmul(x, w) + y is gemm(x, w, y), for matrices of one shape."""
    same = product.aval == y.aval == root.aval and len(root.aval.shape) == 2
    if not same or not is_float(root):
        return None
    return apply("Gemm", *product.inputs, y, origin=product.origin, **product.attrs)


@rewrites(Op("Slice", Op("Reshape", x, users=0)))
def slice_rows(root: CNode, x: Node) -> Node | None:
    """slice(reshape(x)) along the last axis, which the reshape keeps, is reshape(slice(x))."""
    part = part_of(root)
    columns, rank = root.inputs[0].aval.shape[-1:], len(root.aval.shape)
    if part is None or part.axis != rank - 1 or x.aval.shape[-1:] != columns:
        return None
    cut = Build(root).slice(x, len(x.aval.shape) - 1, part.start, part.stop)
    return reshaped(cut, root.aval.shape, root)


@rewrites(Op("Add", x, Op("Reshape", y)))
def join_rows(root: CNode, x: Node, y: Node) -> Node | None:
    """x + reshape(y) is reshape(reshape(x) + y), for a matrix y of the rows of x."""
    if x.aval != root.aval or len(y.aval.shape) != 2 or len(x.aval.shape) < 3:
        return None
    if y.aval.shape[-1] != x.aval.shape[-1] or y.aval.size != x.aval.size or not _is_plain(x):
        return None
    total = apply("Add", reshaped(x, y.aval.shape, root), y, origin=root.origin)
    return reshaped(total, root.aval.shape, root)


def _along_last(root: CNode) -> Node | None:
    """f(reshape(x)) is reshape(f(x)) for an f along the last axis, which the reshape keeps."""
    moved, *rest = root.inputs
    if not isinstance(moved, CNode) or moved.op != "Reshape":
        return None
    (x,) = moved.inputs
    last = len(moved.aval.shape) - 1
    if x.aval.shape[-1:] != moved.aval.shape[-1:] or root.attrs.get("axis", last) != last:
        return None
    attrs = dict(root.attrs)
    if "axis" in attrs:
        attrs["axis"] = len(x.aval.shape) - 1
    return reshaped(apply(root.op, x, *rest, origin=root.origin, **attrs), root.aval.shape, root)


@rewrites("MatMul")
def turn_operands(root: CNode) -> Node | None:
    """A product that transposes an operand is one of the transposed operand, which may merge."""
    if len(root.aval.shape) < 3:
        return None
    inputs, attrs = list(root.inputs), dict(root.attrs)
    for i, flag in enumerate(("transpose_a", "transpose_b")):
        rank = len(inputs[i].aval.shape)
        if attrs[flag] and (rank > 2 or _is_plain(inputs[i])):
            inputs[i] = transposed(inputs[i], (*range(rank - 2), rank - 1, rank - 2), root)
            attrs[flag] = False
    return None if attrs == root.attrs else replace(root, inputs=tuple(inputs), attrs=attrs)


@rewrites(Op("Transpose", Op("Reshape", x, users=0), attrs={"perm": "perm"}))
def transpose_without_ones(root: CNode, x: Node, perm: Ints) -> Node | None:
    """transpose(reshape(x)) is reshape(transpose(x)), for a reshape that only puts in ones."""
    shape, source = root.inputs[0].aval.shape, x.aval.shape
    if len(source) >= len(shape) or [n for n in shape if n != 1] != [n for n in source if n != 1]:
        return None
    axes = iter([axis for axis, size in enumerate(source) if size != 1])
    places = {axis: next(axes) for axis, size in enumerate(shape) if size != 1}
    moved = iter([places[axis] for axis in perm if axis in places])
    inner = tuple(axis if size == 1 else next(moved) for axis, size in enumerate(source))
    return reshaped(transposed(x, inner, root), root.aval.shape, root)


@rewrites("Clip")
def compose_clip(root: CNode) -> Node:
    """clip(x, a, b) is min(max(x, a), b)."""
    (x,), build = root.inputs, Build(root)
    above = build("Maximum", x, build.number(number(root, "low"), x))
    return build("Minimum", above, build.number(number(root, "high"), x))


@rewrites("Gemm")
def compose_gemm(root: CNode) -> Node:
    """gemm(x, w, b) is matmul(x, w) + b."""
    (x, w, b), build = root.inputs, Build(root)
    return build("Add", build("MatMul", x, w, **root.attrs), b)


LAST = ("LayerNorm", "RmsNorm", "Softmax", "LogSoftmax")

# A stack of rows is one matrix, from product to product.
ROWS: tuple[Rule, ...] = (
    flatten_product,
    fuse_gemm,
    slice_rows,
    join_rows,
    *(Rule(Op(op), _along_last) for op in LAST if op in OPERATORS),
)
FUSE: tuple[Rule, ...] = (
    fuse_relu_limit,
    fuse_clip,
    fuse_transposed_bias,
    divide_by_root,
    divide_by_limited_root,
    turn_operands,
    transpose_without_ones,
    flatten_columns,
    Rule(Op("Conv", x, Weight("w")), multiply_place),
    Rule(Op("Conv", x, Weight("w"), Weight("b")), multiply_place),
    *ROWS,
    fuse_gemm_sum,
)
COMPOSE: tuple[Rule, ...] = (compose_clip, compose_gemm)
