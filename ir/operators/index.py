"""Operators that read or write at computed places. Every index lies inside, by construction."""

from typing import Any

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import JNP, LAX, is_jax
from fnckpt.ir.operators.table import operator

Ints = tuple[int, ...]

# What JAX is told of the indices, so that it does not compute whether they lie inside.
INSIDE = "promise_in_bounds"


def _gather_aval(x: Aval, indices: Aval, *, axis: int) -> Aval:
    return Aval((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@operator("Gather", _gather_aval, moves=True)
def gather(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    """The slices of ``x`` along ``axis`` at ``indices``, as ``numpy.take``."""
    if is_jax(x, indices):
        whole, places = JNP.asarray(x), JNP.expand_dims(indices, -1)
        windows = (*range(axis), *range(axis + indices.ndim, x.ndim + indices.ndim - 1))
        numbers = LAX.GatherDimensionNumbers(windows, (axis,), (axis,))
        sizes = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return LAX.gather(whole, places, numbers, sizes, mode=INSIDE)
    return np.take(x, indices, axis)


def _read_numbers(x: np.ndarray, indices: np.ndarray) -> Any:
    """Of a gather whose rows of indices are places along the first axes."""
    width, batch = indices.shape[-1], indices.ndim - 1
    named = tuple(range(width))
    return LAX.GatherDimensionNumbers(tuple(range(batch, batch + x.ndim - width)), named, named)


def _write_numbers(x: np.ndarray, indices: np.ndarray) -> Any:
    """The same of a scatter."""
    d = _read_numbers(x, indices)
    return LAX.ScatterDimensionNumbers(d.offset_dims, d.collapsed_slice_dims, d.start_index_map)


def _rows(indices: np.ndarray) -> tuple[np.ndarray, ...]:
    """An index of each axis, as indexing takes them."""
    return tuple(indices[..., i] for i in range(indices.shape[-1]))


def _gather_nd_aval(x: Aval, indices: Aval) -> Aval:
    return Aval((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype)


@operator("GatherNd", _gather_nd_aval, moves=True)
def gather_nd(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``x[i]`` for each row ``i`` of the last axis of ``indices``, over the first axes of ``x``."""
    if is_jax(x, indices):
        whole, places = JNP.asarray(x), JNP.asarray(indices)
        sizes = (*(1 for _ in range(places.shape[-1])), *x.shape[places.shape[-1] :])
        numbers = _read_numbers(whole, places)
        return LAX.gather(whole, places, numbers, sizes, mode=INSIDE)
    return x[_rows(indices)]


def _along(x: Any, indices: Any, axis: int) -> np.ndarray:
    """A gather whose other axes are batches; JAX's own counts from the end, too."""
    others = tuple(i for i in range(x.ndim) if i != axis)
    numbers = LAX.GatherDimensionNumbers(
        (), (axis,), (axis,), operand_batching_dims=others, start_indices_batching_dims=others
    )
    places = JNP.expand_dims(indices, -1)
    return LAX.gather(x, places, numbers, (1,) * x.ndim, mode=INSIDE)


@operator(
    "GatherElements",
    lambda x, indices, *, axis: Aval(indices.shape, x.dtype),
    moves=True,
)
def gather_elements(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    """As ``numpy.take_along_axis``."""
    if is_jax(x, indices):
        return _along(JNP.asarray(x), JNP.asarray(indices), axis)
    return np.take_along_axis(x, indices, axis)


def _write(x: np.ndarray, at: tuple[np.ndarray, ...], updates: np.ndarray) -> None:
    x[at] = updates


WRITES = {
    "": _write,
    "add": np.add.at,
    "mul": np.multiply.at,
    "min": np.minimum.at,
    "max": np.maximum.at,
}


PRIMITIVES = {
    "": "scatter",
    "add": "scatter_add",
    "mul": "scatter_mul",
    "min": "scatter_min",
    "max": "scatter_max",
}


@operator("ScatterNd", lambda x, indices, updates, *, reduction: x)
def scatter_nd(
    x: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, reduction: str
) -> np.ndarray:
    """``x`` with ``updates`` written, or combined by ``reduction``, at the rows of ``indices``.

    ``reduction`` is ``""`` (no index twice), ``"add"``, ``"mul"``, ``"min"`` or ``"max"``.
    """
    if is_jax(x, indices, updates):
        whole, places, written = map(JNP.asarray, (x, indices, updates))
        numbers = _write_numbers(whole, places)
        write = vars(LAX)[PRIMITIVES[reduction]]
        return write(whole, places, written, numbers, mode=INSIDE)
    result = x.copy()
    WRITES[reduction](result, _rows(indices), updates)
    return result


@operator("DynamicSlice", lambda x, starts, *, sizes: Aval(sizes, x.dtype), moves=True)
def dynamic_slice(x: np.ndarray, starts: np.ndarray, *, sizes: Ints) -> np.ndarray:
    """``sizes`` elements from ``starts``, one integer an axis; the whole lies inside."""
    if is_jax(x, starts):
        return LAX.dynamic_slice(x, list(starts), sizes, allow_negative_indices=False)
    return x[tuple(slice(s, s + n) for s, n in zip(starts.tolist(), sizes, strict=True))]


@operator("DynamicUpdateSlice", lambda x, update, starts: x, moves=True)
def dynamic_update_slice(x: np.ndarray, update: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``x`` with ``update`` in place of what is at ``starts``; the whole lies inside."""
    if is_jax(x, update, starts):
        whole, part = JNP.asarray(x), JNP.asarray(update)
        return LAX.dynamic_update_slice(whole, part, list(starts), allow_negative_indices=False)
    result = x.copy()
    places = zip(starts.tolist(), update.shape, strict=True)
    result[tuple(slice(start, start + size) for start, size in places)] = update
    return result
