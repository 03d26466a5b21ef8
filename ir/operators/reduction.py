"""Operators that reduce or scan along axes. Axes are sorted and not negative."""

from collections.abc import Callable
from functools import partial

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.table import operator

Ints = tuple[int, ...]


def _reduced(x: Aval, *, axes: Ints, keepdims: bool) -> Aval:
    kept = enumerate(x.shape)
    if keepdims:
        return Aval(tuple(1 if axis in axes else size for axis, size in kept), x.dtype)
    return Aval(tuple(size for axis, size in kept if axis not in axes), x.dtype)


def _mean(x: np.ndarray, axis: Ints, keepdims: bool) -> np.ndarray:
    return np.mean(x, axis=axis, keepdims=keepdims, dtype=np.promote_types(x.dtype, np.float32))


def _log_sum_exp(x: np.ndarray, axis: Ints, keepdims: bool) -> np.ndarray:
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    greatest = wide.max(axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(greatest), greatest, 0).astype(wide.dtype)
    result = np.log(np.exp(wide - shift).sum(axis, keepdims=True)) + shift
    return result if keepdims else result.squeeze(axis)


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceAll": np.all,
    "ReduceAny": np.any,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": np.max,
    "ReduceMean": _mean,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
}

IDENTITIES: dict[str, float] = {"ReduceMax": -np.inf, "ReduceMin": np.inf}


def least_and_greatest(dtype: np.dtype) -> tuple[np.generic, np.generic]:
    """The ends of what ``dtype`` holds: infinities for floats."""
    if dtype.kind == "b":
        return np.False_, np.True_
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        return dtype.type(info.min), dtype.type(info.max)
    return dtype.type(-np.inf), dtype.type(np.inf)


def _reduce(
    name: str,
    function: Callable[..., np.ndarray],
    x: np.ndarray,
    *,
    axes: Ints,
    keepdims: bool,
) -> np.ndarray:
    with np.errstate(all="ignore"):
        if name in IDENTITIES:
            initial = least_and_greatest(x.dtype)[name == "ReduceMin"]
            return np.asarray(function(x, axis=axes, keepdims=keepdims, initial=initial))
        return np.asarray(function(x, axis=axes, keepdims=keepdims)).astype(x.dtype)


for _name, _function in REDUCTIONS.items():
    operator(_name, _reduced)(partial(_reduce, _name, _function))


def _arg_aval(x: Aval, *, axis: int, dtype: np.dtype) -> Aval:
    return Aval(x.shape[:axis] + x.shape[axis + 1 :], np.dtype(dtype))


@operator("ArgMax", _arg_aval)
def argmax(x: np.ndarray, *, axis: int, dtype: np.dtype) -> np.ndarray:
    """Where the first greatest element along ``axis`` is; NaN is greater than all."""
    return np.argmax(x, axis).astype(dtype)


@operator("ArgMin", _arg_aval)
def argmin(x: np.ndarray, *, axis: int, dtype: np.dtype) -> np.ndarray:
    """Where the first least element along ``axis`` is; NaN is less than all."""
    return np.argmin(x, axis).astype(dtype)


SCANS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "CumLogSumExp": lambda x, axis: np.logaddexp.accumulate(x, axis),
    "CumMax": lambda x, axis: np.maximum.accumulate(x, axis),
    "CumMin": lambda x, axis: np.minimum.accumulate(x, axis),
    "CumProd": lambda x, axis: np.cumprod(x, axis, dtype=x.dtype),
    "CumSum": lambda x, axis: np.cumsum(x, axis, dtype=x.dtype),
}


def _scan(
    function: Callable[[np.ndarray, int], np.ndarray],
    x: np.ndarray,
    *,
    axis: int,
    reverse: bool,
) -> np.ndarray:
    with np.errstate(all="ignore"):
        if reverse:
            return np.flip(function(np.flip(x, axis), axis), axis)
        return function(x, axis)


for _name, _function in SCANS.items():
    operator(_name, lambda x, *, axis, reverse: x)(partial(_scan, _function))


def _top_k_aval(x: Aval, *, k: int) -> tuple[Aval, Aval]:
    shape = (*x.shape[:-1], k)
    return Aval(shape, x.dtype), Aval(shape, np.dtype(np.int32))


@operator("TopK", _top_k_aval)
def top_k(x: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` greatest of the last axis, greatest first, and where: the first of equal ones."""
    reverse = np.flip(x, -1)
    order = np.flip(np.argsort(reverse, -1, kind="stable"), -1)[..., :k]
    indices = (x.shape[-1] - 1 - order).astype(np.int32)
    return np.take_along_axis(x, indices.astype(np.int64), -1), indices
