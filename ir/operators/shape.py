"""Operators that move elements, and compute nothing."""

import math

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JNP, LAX, is_jax, module_of
from fnckpt.ir.operators.table import operator
from fnckpt.ir.sizes import broadcast_shapes, not_below_zero

Ints = tuple[int, ...]


def _reshape_aval(x: Aval, *, shape: Ints) -> Aval:
    if math.prod(shape) != x.size:
        raise ValueError(f"{x} cannot be reshaped to {shape}: the numbers of elements differ")
    return Aval(shape, x.dtype)


@operator("Reshape", _reshape_aval, moves=True)
def reshape(x: np.ndarray, *, shape: Ints) -> np.ndarray:
    """The elements in row-major order as another shape, each size written out."""
    return x.reshape(shape)


@operator(
    "Transpose",
    lambda x, *, perm: Aval(tuple(x.shape[p] for p in perm), x.dtype),
    moves=True,
)
def transpose(x: np.ndarray, *, perm: Ints) -> np.ndarray:
    """Axis ``i`` of the result is axis ``perm[i]`` of ``x``."""
    return x.transpose(perm)


def _broadcast_aval(x: Aval, *, shape: Ints) -> Aval:
    if broadcast_shapes(x.shape, shape) != shape:
        raise ValueError(f"{x} does not broadcast to {shape}")
    return Aval(shape, x.dtype)


@operator("BroadcastTo", _broadcast_aval, moves=True)
def broadcast_to(x: np.ndarray, *, shape: Ints) -> np.ndarray:
    """``x`` repeated to ``shape``, axes aligned at the right as in numpy."""
    return module_of(x).broadcast_to(x, shape)


def _concat_aval(*xs: Aval, axis: int) -> Aval:
    sizes = sum(x.shape[axis] for x in xs)
    return Aval((*xs[0].shape[:axis], sizes, *xs[0].shape[axis + 1 :]), xs[0].dtype)


@operator("Concat", _concat_aval, moves=True)
def concat(*xs: np.ndarray, axis: int) -> np.ndarray:
    """The inputs one after the other along ``axis``, which is not negative."""
    return module_of(*xs).concatenate(xs, axis)


@operator(
    "Split",
    lambda x, *, axis, sizes: tuple(
        Aval((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in sizes
    ),
    moves=True,
)
def split(x: np.ndarray, *, axis: int, sizes: Ints) -> tuple[np.ndarray, ...]:
    """All of ``x`` in parts along ``axis``, of ``sizes`` in order."""
    return tuple(module_of(x).split(x, np.cumsum(sizes)[:-1], axis))


def _pad_aval(x: Aval, fill: Aval, *, low: Ints, high: Ints) -> Aval:
    if fill.shape or fill.dtype != x.dtype:
        raise ValueError(f"the fill value of a pad of {x} is {fill}")
    shape = zip(x.shape, low, high, strict=True)
    return Aval(tuple(size + before + after for size, before, after in shape), x.dtype)


@operator("Pad", _pad_aval, moves=True)
def pad(x: np.ndarray, fill: np.ndarray, *, low: Ints, high: Ints) -> np.ndarray:
    """``low`` copies of the scalar ``fill`` before and ``high`` after each axis; none negative."""
    if is_jax(x, fill):
        filled = JNP.asarray(fill, x.dtype)
        return LAX.pad(x, filled, [(*ends, 0) for ends in zip(low, high, strict=True)])
    pads = tuple(zip(low, high, strict=True))
    return np.pad(x, pads, constant_values=fill) if pads else x  # np.pad takes no rank 0


def _slice_aval(x: Aval, *, start: Ints, limit: Ints, strides: Ints) -> Aval:
    parts = zip(start, limit, strides, strict=True)
    shape = (not_below_zero(-(-(end - begin) // step)) for begin, end, step in parts)
    return Aval(tuple(shape), x.dtype)


@operator("Slice", _slice_aval, moves=True)
def slice_(x: np.ndarray, *, start: Ints, limit: Ints, strides: Ints) -> np.ndarray:
    """Every ``strides``-th element from ``start`` to before ``limit``, all inside the array."""
    if is_jax(x):
        return LAX.slice(x, start, limit, strides)
    return x[tuple(map(slice, start, limit, strides))]


@operator("Reverse", lambda x, *, axes: x, moves=True)
def reverse(x: np.ndarray, *, axes: Ints) -> np.ndarray:
    """The elements backwards along ``axes``."""
    return module_of(x).flip(x, axes)


@operator("Sizes", lambda *, sizes, dtype: Aval((len(sizes),), np.dtype(dtype)))
def sizes_(*, sizes: Ints, dtype: np.dtype) -> np.ndarray:
    """``sizes`` as a vector of integers; they are known only when the function runs."""
    return np.array(sizes, dtype)


@operator("Range", lambda *, size, dtype: Aval((size,), np.dtype(dtype)))
def range_(*, size: int, dtype: np.dtype) -> np.ndarray:
    """0, 1, 2, ... to before ``size``, which is known only when the function runs."""
    return np.arange(size).astype(dtype)
