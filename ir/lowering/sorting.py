"""Sorting by TopK, which keeps the order of equal elements, and the greatest elements."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from fnckpt.ir.eight_bits import is_eight_bits
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.lowering.parts import each_part
from fnckpt.ir.lowering.registry import Pair, Site, Value, lowers, lowers_complex
from fnckpt.ir.operators import constant

INT32, FLOAT32 = np.dtype(np.int32), np.dtype(np.float32)


@lowers_complex("sort")
@lowers("sort")
def lower_sort(
    site: Site, *operands: Value, dimension: int, is_stable: bool, num_keys: int
) -> Sequence[Value]:
    """Stable sorts by one key after the other, the least important first.

    The keys of a complex one are its real part and then its imaginary part.
    """
    size = operands[0].aval.shape[dimension]
    if size < 2 or not operands[0].aval.size:
        return operands
    rows = [each_part(partial(moved, site, axis=dimension), x) for x in operands]
    keys = [k for row in rows[:num_keys] for k in _parts(row)]
    order: Node | None = None
    for key in reversed(keys):
        order = ordered_by(site, sort_key(site, key), order)
    assert order is not None
    places = order
    put = lambda x: moved_back(site, taken(site, x, places), dimension)  # noqa: E731
    return [
        site.cast(moved_back(site, places, dimension), operand.aval.dtype)
        if counts(operand, dimension)
        else each_part(put, row)
        for operand, row in zip(operands, rows, strict=True)
    ]


def counts(x: Value, axis: int) -> bool:
    """Whether ``x`` is 0, 1, 2 and so on along an axis: what it has at a place is the place."""
    behind = len(x.aval.shape) - axis  # axes from it on, as many where ones are put in front
    while isinstance(x, CNode) and x.op == "BroadcastTo":
        (x,) = x.inputs
    if not isinstance(x, Constant) or behind > x.value.ndim:
        return False
    along = x.value.shape[x.value.ndim - behind]
    return along == x.value.size and np.array_equal(x.value.ravel(), np.arange(along))


def _parts(x: Value) -> Sequence[Node]:
    return (x.real, x.imag) if isinstance(x, Pair) else (x,)


def moved(site: Site, x: Node, axis: int) -> Node:
    """``x`` with ``axis`` last."""
    rank = len(x.aval.shape)
    return site.transpose(x, (*(i for i in range(rank) if i != axis % rank), axis % rank))


def moved_back(site: Site, x: Node, axis: int) -> Node:
    """``x`` with its last axis at ``axis``."""
    rank = len(x.aval.shape)
    before = [*range(rank - 1)]
    before.insert(axis % rank, rank - 1)
    return site.transpose(x, before)


def ordered_by(site: Site, key: Node, order: Node | None) -> Node:
    """``order``, or the plain order, sorted by ``key``, greatest first; equal ones stay."""
    arranged = key if order is None else taken(site, key, order)
    found = site.apply("TopK", arranged, k=key.aval.shape[-1])
    places = site.apply("TupleGetItem", found, index=1)
    return places if order is None else taken(site, order, places)


def taken(site: Site, x: Node, places: Node) -> Node:
    """What is at places along the last axis."""
    last = len(x.aval.shape) - 1
    return site.apply("GatherElements" if last else "Gather", x, places, axis=last)


def sort_key(site: Site, x: Node) -> Node:
    """Numbers that are greatest where ``x`` is least.

    They are of the few dtypes that every runtime sorts: float32, float64, int32, int64. NaN is
    above infinity, as JAX orders it: it has the place of infinity, and infinity that of the
    greatest number, beyond all others since these are halved. Both zeros are 0 - 0, which is 0.
    """
    dtype = x.aval.dtype
    if dtype.kind in "biu":
        return site.apply("BitwiseNot", signed(site, x))
    wide = site.cast(x, FLOAT32) if dtype.itemsize <= 2 else x
    half = site.apply("Mul", wide, site.constant(0.5, wide))
    least = site.constant(float(np.finfo(wide.aval.dtype).min), wide)
    finite = site.apply("Maximum", site.apply("Sub", site.constant(0, wide), half), least)
    return site.apply("Select", site.apply("IsNan", x), site.constant(-np.inf, wide), finite)


def signed(site: Site, x: Node) -> Node:
    """Integers as int32 or int64, in the same order."""
    dtype = x.aval.dtype
    if dtype.kind == "b" or dtype.itemsize < 4:
        return site.cast(x, INT32)
    if dtype.kind == "i":
        return x
    wide = np.dtype(dtype.name.removeprefix("u"))
    half = site.constant(1 << (dtype.itemsize * 8 - 1), x)
    return site.cast(site.apply("BitwiseXor", x, half), wide)


@lowers("top_k")
def lower_top_k(
    site: Site, x: Node, *, k: int, axis: int = -1, is_stable: bool = True
) -> tuple[Node, Node]:
    """Always stable: where the order of equal elements is free, this one is as good."""
    return greatest(site, x, k, axis)


def greatest(site: Site, x: Node, k: int, axis: int) -> tuple[Node, Node]:
    """The greatest of an axis, and where: after moving it last and back."""
    if not k or not x.aval.size:
        empty = (constant(np.zeros(a.shape, a.dtype)) for a in site.results)
        values, places = empty
        return values, places
    row = moved(site, x, axis)
    narrow = is_eight_bits(x.aval.dtype)
    found = site.apply("TopK", site.cast(row, FLOAT32) if narrow else row, k=int(k))
    values, places = (site.apply("TupleGetItem", found, index=i) for i in (0, 1))
    turned = moved_back(site, values, axis), moved_back(site, places, axis)
    return site.cast(turned[0], x.aval.dtype), site.cast(turned[1], site.results[1].dtype)


@lowers("approx_top_k")
def lower_approx_top_k(
    site: Site,
    x: Node,
    *,
    k: int,
    reduction_dimension: int,
    is_max_k: bool,
    recall_target: float,
    reduction_input_size_override: int,
    aggregate_to_topk: bool,
) -> tuple[Node, Node]:
    """The exact answer, which is what JAX gives too where it has no faster kernel."""
    if is_max_k:
        return greatest(site, x, k, reduction_dimension)
    row = moved(site, x, reduction_dimension)
    order = ordered_by(site, sort_key(site, row), None)
    shape = order.aval.shape
    first = site.apply(
        "Slice", order, start=(0,) * len(shape), limit=(*shape[:-1], int(k)),
        strides=(1,) * len(shape),
    )  # fmt: skip
    values, places = (
        moved_back(site, n, reduction_dimension) for n in (taken(site, row, first), first)
    )
    return values, site.cast(places, site.results[1].dtype)
