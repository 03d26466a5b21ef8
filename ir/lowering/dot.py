"""Products: dot_general with any batch and contracting dimensions becomes one MatMul."""

import math

import numpy as np

from fnckpt.ir.graph import Constant, Node, Parameter
from fnckpt.ir.lowering.registry import Site, lowers

Ints = tuple[int, ...]
DimensionNumbers = tuple[tuple[Ints, Ints], tuple[Ints, Ints]]


@lowers("dot_general")
def lower_dot_general(
    site: Site,
    a: Node,
    b: Node,
    *,
    dimension_numbers: DimensionNumbers,
    preferred_element_type: np.dtype | None,
) -> Node:
    """Batch axes first, then one axis of rows and one that is summed over, in either order."""
    (a_summed, b_summed), (a_batch, b_batch) = dimension_numbers
    if rank(a) == 2 and rank(b) == 1 and _is_weight(a) and not _is_weight(b):
        a, b, a_summed, b_summed = b, a, b_summed, a_summed  # w @ v is v @ w.T, a row
    a, b = site.cast(a, site.aval.dtype), site.cast(b, site.aval.dtype)
    batch = tuple(a.aval.shape[axis] for axis in a_batch)
    a_free, b_free = free_axes(a, a_batch, a_summed), free_axes(b, b_batch, b_summed)
    plain_rows = not a_batch and len(a_free) > 1 and a_summed == (*range(len(a_free), rank(a)),)
    if plain_rows and not b_batch:
        rows = tuple(a.aval.shape[axis] for axis in a_free)
        left, transpose_a = site.reshape(a, (*rows, _size(a, a_summed))), False
    else:
        left, transpose_a = matrix(site, a, a_batch, a_free, a_summed)
        if not a_free and not a_batch and transpose_a:  # a vector is a row
            left, transpose_a = site.reshape(left, left.aval.shape[::-1]), False
    right, summed_first = matrix(site, b, b_batch, b_free, b_summed)
    product = site.apply(
        "MatMul", left, right, transpose_a=transpose_a, transpose_b=not summed_first
    )
    free = tuple(x.aval.shape[i] for x, axes in ((a, a_free), (b, b_free)) for i in axes)
    return site.reshape(product, (*batch, *free))


def _is_weight(x: Node) -> bool:
    return isinstance(x, Constant) or (isinstance(x, Parameter) and x.value is not None)


def rank(x: Node) -> int:
    """The number of axes."""
    return len(x.aval.shape)


def free_axes(x: Node, batch: Ints, summed: Ints) -> Ints:
    """The axes that stay in the result and belong to ``x`` alone."""
    return tuple(axis for axis in range(rank(x)) if axis not in (*batch, *summed))


def _size(x: Node, axes: Ints) -> int:
    return math.prod(x.aval.shape[axis] for axis in axes)


def matrix(site: Site, x: Node, batch: Ints, free: Ints, summed: Ints) -> tuple[Node, bool]:
    """``x`` as ``[*batch, free, summed]``, or, and then True, ``[*batch, summed, free]``.

    The order is the one that leaves the axes nearest to where they are.
    """
    plain, turned = (*batch, *free, *summed), (*batch, *summed, *free)
    summed_first = turned == tuple(sorted(turned)) or (
        plain != tuple(sorted(plain)) and bool(free) and bool(summed) and summed[0] < free[0]
    )
    moved = site.transpose(x, turned if summed_first else plain)
    sizes = (
        [_size(x, summed), _size(x, free)] if summed_first else [_size(x, free), _size(x, summed)]
    )
    return site.reshape(moved, (*(x.aval.shape[i] for i in batch), *sizes)), summed_first
