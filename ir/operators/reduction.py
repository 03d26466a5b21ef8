"""Operators that reduce or scan along axes. Axes are sorted and not negative."""

from collections.abc import Callable
from functools import partial

import numpy as np

from fnckpt.ir.graph import Aval
from fnckpt.ir.operators.arrays import LAX, is_jax, module_of
from fnckpt.ir.operators.table import operator

Ints = tuple[int, ...]


def _reduced(x: Aval, *, axes: Ints, keepdims: bool) -> Aval:
    kept = enumerate(x.shape)
    if keepdims:
        return Aval(tuple(1 if axis in axes else size for axis, size in kept), x.dtype)
    return Aval(tuple(size for axis, size in kept if axis not in axes), x.dtype)


def _named(name: str) -> Callable[..., np.ndarray]:
    """The function that NumPy and JAX both call ``name``."""
    return lambda x, **options: vars(module_of(x))[name](x, **options)


def _mean(x: np.ndarray, axis: Ints, keepdims: bool) -> np.ndarray:
    wide = np.promote_types(x.dtype, np.float32)
    return module_of(x).mean(x, axis=axis, keepdims=keepdims, dtype=wide)


def _log_sum_exp(x: np.ndarray, axis: Ints, keepdims: bool) -> np.ndarray:
    xp = module_of(x)
    wide = x.astype(np.promote_types(x.dtype, np.float32))
    greatest = wide.max(axis, keepdims=True, initial=-np.inf)
    shift = xp.where(xp.isfinite(greatest), greatest, 0).astype(wide.dtype)
    result = xp.log(xp.exp(wide - shift).sum(axis, keepdims=True)) + shift
    return result if keepdims else result.squeeze(axis)


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceAll": _named("all"),
    "ReduceAny": _named("any"),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _named("max"),
    "ReduceMean": _mean,
    "ReduceMin": _named("min"),
    "ReduceProd": _named("prod"),
    "ReduceSum": _named("sum"),
}

KEEPS_DTYPE = frozenset({"ReduceProd", "ReduceSum"})  # JAX would sum integers in 64 bits

# In one walk, where a runtime has them.
OF_MAGNITUDES: dict[str, Callable[..., np.ndarray]] = {
    "ReduceL1": lambda x, axis, keepdims: abs(x).sum(axis, keepdims=keepdims),
    "ReduceSumSquare": lambda x, axis, keepdims: (x * x).sum(axis, keepdims=keepdims),
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
    asarray = module_of(x).asarray
    with np.errstate(all="ignore"):
        if is_jax(x) and all(x.shape[axis] for axis in axes):  # JAX computes with ``initial``
            own = {"dtype": x.dtype} if name in KEEPS_DTYPE else {}
            return function(x, axis=axes, keepdims=keepdims, **own).astype(x.dtype)
        if name in IDENTITIES:
            initial = least_and_greatest(x.dtype)[name == "ReduceMin"]
            return asarray(function(x, axis=axes, keepdims=keepdims, initial=initial))
        return asarray(function(x, axis=axes, keepdims=keepdims)).astype(x.dtype)


for _name, _function in (REDUCTIONS | OF_MAGNITUDES).items():
    operator(_name, _reduced)(partial(_reduce, _name, _function))


def _arg_aval(x: Aval, *, axis: int, dtype: np.dtype) -> Aval:
    return Aval(x.shape[:axis] + x.shape[axis + 1 :], np.dtype(dtype))


@operator("ArgMax", _arg_aval)
def argmax(x: np.ndarray, *, axis: int, dtype: np.dtype) -> np.ndarray:
    """Where the first greatest element along ``axis`` is; NaN is greater than all."""
    if is_jax(x):
        return LAX.argmax(x, axis, dtype)
    return module_of(x).argmax(x, axis).astype(dtype)


@operator("ArgMin", _arg_aval)
def argmin(x: np.ndarray, *, axis: int, dtype: np.dtype) -> np.ndarray:
    """Where the first least element along ``axis`` is; NaN is less than all."""
    if is_jax(x):
        return LAX.argmin(x, axis, dtype)
    return module_of(x).argmin(x, axis).astype(dtype)


Along = Callable[[np.ndarray, int], np.ndarray]

# NumPy's function, and JAX's, which goes backwards itself.
SCANS: dict[str, tuple[Along, Callable[..., np.ndarray]]] = {
    "CumLogSumExp": (lambda x, axis: np.logaddexp.accumulate(x, axis), LAX.cumlogsumexp),
    "CumMax": (lambda x, axis: np.maximum.accumulate(x, axis), LAX.cummax),
    "CumMin": (lambda x, axis: np.minimum.accumulate(x, axis), LAX.cummin),
    "CumProd": (lambda x, axis: np.cumprod(x, axis, dtype=x.dtype), LAX.cumprod),
    "CumSum": (lambda x, axis: np.cumsum(x, axis, dtype=x.dtype), LAX.cumsum),
}


def _scan(
    functions: tuple[Along, Callable[..., np.ndarray]], x: np.ndarray, *, axis: int, reverse: bool
) -> np.ndarray:
    of_numpy, of_jax = functions
    if is_jax(x):
        return of_jax(x, axis, reverse=reverse)
    with np.errstate(all="ignore"):
        return np.flip(of_numpy(np.flip(x, axis), axis), axis) if reverse else of_numpy(x, axis)


for _name, _functions in SCANS.items():
    operator(_name, lambda x, *, axis, reverse: x)(partial(_scan, _functions))


def _top_k_aval(x: Aval, *, k: int, ordered: bool = True) -> tuple[Aval, Aval]:
    shape = (*x.shape[:-1], k)
    return Aval(shape, x.dtype), Aval(shape, np.dtype(np.int32))


@operator("TopK", _top_k_aval)
def top_k(x: np.ndarray, *, k: int, ordered: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` greatest of the last axis, greatest first, and where: the first of equal ones.

    With ``ordered=False`` a file may have them in any order; here they are in order, too.
    """
    if is_jax(x):
        return tuple(LAX.top_k(x, k))
    reverse = np.flip(x.astype(np.float32) if x.dtype.kind == "V" else x, -1)  # bfloat16
    order = np.flip(np.argsort(reverse, -1, kind="stable"), -1)[..., :k]
    indices = (x.shape[-1] - 1 - order).astype(np.int32)
    return np.take_along_axis(x, indices.astype(np.int64), -1), indices
