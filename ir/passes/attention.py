"""Attention: ``softmax(q k^T * scale + mask) v`` of heads that lie side by side is one operator.

For ONNX from opset 23 on. ONNX Runtime 1.32 gives the numbers of JAX there, NaN and infinities
included, but for one case: where a whole row of the mask is -3.4e38 or less it gives 0, and JAX the
mean of ``v``, or NaN. So a mask must be known to be more in each row. A choice between a number and
-3.4e38 is made one between it and -1e38, which hides as well, as long as the products are bounded.

A choice between the products and a number hides a NaN of a key that is not looked at, and a sum
does not. But then that key's value is NaN, and with it the result, if queries, keys and values are
products of the same rows with known weights.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fnckpt.ir.attributes import Ints, ints
from fnckpt.ir.graph import CNode, Constant, Node, before_reshapes
from fnckpt.ir.passes.bounds import bound
from fnckpt.ir.passes.build import FLOAT32, Build, known, through
from fnckpt.ir.passes.reshape import keeps_order, reshaped, transposed
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites, scalar_of
from fnckpt.ir.recursion import bounded

LOWEST = float(np.finfo(np.float32).min)
HIDDEN = -1e38  # in place of LOWEST: a sum of it and a number below MOST_SEEN is it
LEAST_HIDDEN, MOST_SEEN = -1e20, 1e19  # the first has no weight beside the second

_PRODUCT = Op("MatMul", Any_("q"), Any_("k"), name="product")
SCALED: tuple[Op, ...] = (
    _PRODUCT,
    Op("Mul", _PRODUCT, Scalar("factor")),
    Op("Div", _PRODUCT, Scalar("divisor")),
)


def _weighted(logits: Op) -> Op:
    return Op("MatMul", Op("Softmax", logits, name="weights"), Any_("v"))


def attend(
    root: CNode, weights: CNode, product: CNode, q: Node, k: Node, v: Node,
    factor: float = 1.0, divisor: float = 1.0,
) -> Node | None:  # fmt: skip
    """softmax(q k^T * scale) v is attention."""
    operands = _side_by_side(root, weights, product, (q, k, v))
    if operands is None:
        return None
    return _attention(root, product, operands, factor / (divisor or np.nan))


def attend_by_sum(
    root: CNode, weights: CNode, product: CNode, q: Node, k: Node, v: Node, mask: Node,
    factor: float = 1.0, divisor: float = 1.0,
) -> Node | None:  # fmt: skip
    """softmax(q k^T * scale + mask) v is attention with a mask."""
    scale, operands = factor / (divisor or np.nan), _side_by_side(root, weights, product, (q, k, v))
    if operands is None:
        return None
    shown = _above_lowest(mask)
    if shown is None and bound(product) * max(scale, 1.0) < MOST_SEEN:
        shown = _with_finite_fill(mask)
    return shown and _attention(root, product, operands, scale, shown)


def attend_by_choice(
    root: CNode, weights: CNode, product: CNode, q: Node, k: Node, v: Node, fill: float,
    seen: Node | None = None, hidden: Node | None = None,
    factor: float = 1.0, divisor: float = 1.0,
) -> Node | None:  # fmt: skip
    """softmax(where(seen, q k^T * scale, -1e30)) v is attention with 0 and -1e38 as its mask."""
    scale, operands = factor / (divisor or np.nan), _side_by_side(root, weights, product, (q, k, v))
    where = hidden if seen is None else seen
    if operands is None or where is None or not LOWEST <= fill <= LEAST_HIDDEN:
        return None
    sources = {_rows_of(x) for x in operands}
    if len(sources) > 1 or None in sources or not bound(product) * max(scale, 1.0) < MOST_SEEN:
        return None
    numbers = (HIDDEN, 0.0) if seen is None else (0.0, HIDDEN)
    return _attention(root, product, operands, scale, _chosen(root, where, numbers))


def _side_by_side(
    root: CNode, weights: CNode, product: CNode, operands: Sequence[Node]
) -> list[Node] | None:
    """``[B, S, H * D]`` of each, where that moves nothing, and all is as attention has it."""
    shape, dtype = product.aval.shape, product.aval.dtype
    rank, turned = len(shape), (*product.attrs.values(), *root.attrs.values())
    if rank not in (3, 4) or dtype != FLOAT32 or 0 in (*shape, *root.aval.shape) or any(turned):
        return None
    stacks = {x.aval.shape[: rank - 2] for x in operands}
    if weights.aval.shape != shape or weights.attrs["axis"] != rank - 1 or len(stacks) > 1:
        return None
    found = [_joined(x, _order(rank, i == 1), root) for i, x in enumerate(operands)]
    joined = [x for x in found if x is not None]
    return joined if len(joined) == len(found) else None


def _order(rank: int, turned: bool = False) -> Ints:
    """``[B, H, S, D]``, or turned ``[B, H, D, T]``, as ``[B, S, H, D]``; B may be missing."""
    batch, head = tuple(range(rank - 3)), rank - 3
    return (*batch, rank - 1, head, rank - 2) if turned else (*batch, rank - 2, head, rank - 1)


def _joined(x: Node, perm: Ints, root: CNode) -> Node | None:
    """``x`` transposed, its heads joined, where it is the transpose of that."""
    if isinstance(x, CNode) and x.op == "Transpose":
        inner = ints(x, "perm")
        (x,), perm = x.inputs, tuple(inner[p] for p in perm)
    if not keeps_order(x.aval.shape, perm):
        return None
    *batch, rows, heads, size = (x.aval.shape[p] for p in perm)
    return reshaped(x, (batch[0] if batch else 1, rows, heads * size), root)


def _attention(
    root: CNode, product: CNode, operands: Sequence[Node], scale: float, *mask: Node
) -> Node | None:
    """Attention of joined heads, which come apart again."""
    if not 0 < scale < np.inf:
        return None
    rank, heads = len(root.aval.shape), int(root.aval.shape[-3])
    whole = [_whole(root, each, product.aval.shape) for each in mask]
    build = Build(root)
    found = build("Attention", *operands, *whole, scale=scale, heads=(heads, heads))
    apart = reshaped(found, tuple(root.aval.shape[i] for i in _order(rank)), root)
    return transposed(apart, _order(rank), root)


def _whole(root: CNode, mask: Node, shape: Ints) -> Node:
    """``mask`` with all queries and keys, which the runtime does not repeat."""
    wide = (1,) * (2 - len(mask.aval.shape)) + mask.aval.shape
    wanted = (*wide[:-2], *shape[-2:])
    value = known(mask)
    if isinstance(mask, Constant) and value is not None:
        return Constant(np.array(np.broadcast_to(value, wanted)))
    return Build(root).broadcast(mask, wanted)


def _chosen(root: CNode, where: Node, numbers: tuple[float, float]) -> Node:
    first, other = (np.float32(number) for number in numbers)
    value = known(where)
    if value is not None:
        return Constant(np.where(value, first, other))
    return Build(root).where(where, Constant(np.array(first)), Constant(np.array(other)))


def _above_lowest(mask: Node) -> Node | None:
    """``mask`` if a number of each row is known to be above the lowest."""
    value = known(mask)
    if value is None:
        return mask if bound(mask) < -LOWEST else None
    return mask if value.ndim and np.any(value > LOWEST, -1).all() else None


@bounded(otherwise=None)
def _with_finite_fill(mask: Node) -> Node | None:
    """``mask`` with ``HIDDEN`` for the lowest number, which one choice puts into it."""
    if not isinstance(mask, CNode):
        return None
    if mask.op == "Select":
        where, *numbers = mask.inputs
        shown = [_shown(each) for each in numbers]
        found = [each for each in shown if each is not None]
        return replace(mask, inputs=(where, *found)) if len(found) == 2 else None
    if mask.op == "Add":
        first, other = mask.inputs
        if bound(first) < MOST_SEEN:
            first, other = other, first
        found = _with_finite_fill(first) if bound(other) < MOST_SEEN else None
        return found and replace(mask, inputs=(found, other))
    if mask.op not in ("Reshape", "Transpose", "BroadcastTo"):
        return None
    found = _with_finite_fill(mask.inputs[0])
    return found and replace(mask, inputs=(found,))


def _shown(number: Node) -> Node | None:
    value = scalar_of(number)
    if value is None or not (LOWEST <= value <= LEAST_HIDDEN or abs(value) < MOST_SEEN):
        return None
    return Constant(np.array(HIDDEN, np.float32)) if value < HIDDEN else number


def _rows_of(x: Node) -> tuple[int, int] | None:
    """What the rows of ``x`` are products of with known weights, by its id and their length.

    A NaN in such a row is one in all of the row of ``x``.
    """
    while isinstance(x, CNode):
        first, shape = x.inputs[0], x.aval.shape
        if x.op in ("MatMul", "Gemm"):
            weight, inner = x.inputs[1], first.aval.shape[-1]
            plain = known(weight) is not None and len(weight.aval.shape) == 2
            return (
                (id(before_reshapes(first)), inner)
                if plain and not x.attrs["transpose_a"]
                else None
            )
        first = before_reshapes(first) if x.op == "Reshape" else first
        kept = x.op == "Reshape" and first.aval.shape[-1:] == shape[-1:]
        cut = x.op == "Slice" and first.aval.shape[:-1] == shape[:-1]
        moved = x.op in ("Add", "Sub", "Mul", "Div") and first.aval == x.aval
        if not (kept or cut or (moved and known(x.inputs[1]) is not None)):
            return None
        x = first
    return None


@rewrites("Attention")
def compose_attention(root: CNode) -> Node:
    """Its formula, in float32 at least."""
    (q, k, v, *mask), build = root.inputs, Build(root)
    if q.aval.dtype.itemsize == 2:
        return through(root, FLOAT32)
    of_query, of_key = ints(root, "heads")
    queries, keys, values = (
        _apart(build, x, heads, of_query // heads)
        for x, heads in ((q, of_query), (k, of_key), (v, of_key))
    )
    logits: Node = build("MatMul", queries, keys, transpose_a=False, transpose_b=True)
    scale = root.attrs["scale"]
    assert isinstance(scale, float)
    logits = build("Mul", logits, build.number(scale, q))
    for each in mask:
        logits = build("Add", logits, each)
    weights = build("Softmax", logits, axis=3)
    found = build("MatMul", weights, values, transpose_a=False, transpose_b=False)
    return build.reshape(build.transpose(found, (0, 2, 1, 3)), root.aval.shape)


def _apart(build: Build, x: Node, heads: int, repeats: int) -> Node:
    """``[B, S, H * D]`` as ``[B, H, S, D]``, each head as often as asked."""
    batch, rows, size = x.aval.shape
    found = build.transpose(build.reshape(x, (batch, rows, heads, size // heads)), (0, 2, 1, 3))
    if repeats == 1:
        return found
    shape = (batch, heads, repeats, rows, size // heads)
    wide = build.broadcast(build.reshape(found, (batch, heads, 1, rows, size // heads)), shape)
    return build.reshape(wide, (batch, heads * repeats, rows, size // heads))


FUSE: tuple[Rule, ...] = (
    *(Rule(_weighted(each), attend) for each in SCALED),
    *(Rule(_weighted(Op("Add", each, Any_("mask"))), attend_by_sum) for each in SCALED),
    *(
        Rule(_weighted(Op("Select", *inputs)), attend_by_choice)
        for each in SCALED
        for inputs in (
            (Any_("seen"), each, Scalar("fill")),
            (Any_("hidden"), Scalar("fill"), each),
        )
    ),
)
COMPOSE: tuple[Rule, ...] = (compose_attention,)
