"""Operators that read or write at computed places. Every index lies inside, by construction."""

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.table import operator

Ints = tuple[int, ...]


def _gather_aval(x: Aval, indices: Aval, *, axis: int) -> Aval:
    return Aval((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)


@operator("Gather", _gather_aval, moves=True)
def gather(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    """The slices of ``x`` along ``axis`` at ``indices``, as ``numpy.take``."""
    return np.take(x, indices, axis)


def _gather_nd_aval(x: Aval, indices: Aval) -> Aval:
    return Aval((*indices.shape[:-1], *x.shape[indices.shape[-1] :]), x.dtype)


@operator("GatherNd", _gather_nd_aval, moves=True)
def gather_nd(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """``x[i]`` for each row ``i`` of the last axis of ``indices``, over the first axes of ``x``."""
    return x[tuple(np.moveaxis(indices, -1, 0))]


@operator(
    "GatherElements",
    lambda x, indices, *, axis: Aval(indices.shape, x.dtype),
    moves=True,
)
def gather_elements(x: np.ndarray, indices: np.ndarray, *, axis: int) -> np.ndarray:
    """As ``numpy.take_along_axis``."""
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


@operator("ScatterNd", lambda x, indices, updates, *, reduction: x)
def scatter_nd(
    x: np.ndarray, indices: np.ndarray, updates: np.ndarray, *, reduction: str
) -> np.ndarray:
    """``x`` with ``updates`` written, or combined by ``reduction``, at the rows of ``indices``.

    ``reduction`` is ``""`` (no index twice), ``"add"``, ``"mul"``, ``"min"`` or ``"max"``.
    """
    result = x.copy()
    WRITES[reduction](result, tuple(np.moveaxis(indices, -1, 0)), updates)
    return result


@operator("DynamicSlice", lambda x, starts, *, sizes: Aval(sizes, x.dtype), moves=True)
def dynamic_slice(x: np.ndarray, starts: np.ndarray, *, sizes: Ints) -> np.ndarray:
    """``sizes`` elements from ``starts``, one integer an axis; the whole lies inside."""
    return x[tuple(slice(s, s + n) for s, n in zip(starts.tolist(), sizes, strict=True))]


@operator("DynamicUpdateSlice", lambda x, update, starts: x, moves=True)
def dynamic_update_slice(x: np.ndarray, update: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """``x`` with ``update`` in place of what is at ``starts``; the whole lies inside."""
    result = x.copy()
    places = zip(starts.tolist(), update.shape, strict=True)
    result[tuple(slice(start, start + size) for start, size in places)] = update
    return result
