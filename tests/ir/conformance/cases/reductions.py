"""Reductions and scans along axes, sorting."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import (
    BF16,
    BOOL,
    F16,
    F32,
    FLOATS,
    INTS,
    REALS,
    bools,
    edges,
    integers,
    normal,
    sample,
    uniform,
)
from tests.ir.conformance.case import Case

AXES = {
    (): ((),),
    (5,): (None, (0,), ()),
    (2, 3): (None, (0,), (1,)),
    (0, 3): ((1,), (0,)),
    (2, 1, 4): ((0, 2), (1,), (-1,)),
    (2, 2, 1, 3): ((1, 3), None, (0, 1, 2)),
    (1, 2, 1, 3, 2): ((0, 4), (1, 2, 3)),
}
SUMS = {"sum": jnp.sum, "prod": jnp.prod, "max": jnp.max, "min": jnp.min, "mean": jnp.mean}
STATISTICS = {
    "var": jnp.var,
    "std": jnp.std,
    "all": jnp.all,
    "any": jnp.any,
    "ptp": jnp.ptp,
    "nansum": jnp.nansum,
    "nanmax": jnp.nanmax,
    "count_nonzero": jnp.count_nonzero,
    "logsumexp": jax.scipy.special.logsumexp,
    "average": jnp.average,
    "median": jnp.median,
}
SCANS = {
    "cumsum": lax.cumsum,
    "cumprod": lax.cumprod,
    "cummax": lax.cummax,
    "cummin": lax.cummin,
    "cumlogsumexp": lax.cumlogsumexp,
}


def reductions() -> Iterator[Case]:
    for name, fn in SUMS.items():
        for shape, several in AXES.items():
            for axes in several:
                if name in ("max", "min") and axes == (0,) and shape == (0, 3):
                    continue
                yield Case(
                    f"reduce {name}: {list(shape)} over {axes}",
                    lambda x, fn=fn, axes=axes: fn(x, axis=axes),
                    (normal(*shape),),
                )
        for dtype in REALS:
            yield Case(
                f"reduce {name}: {dtype}", lambda x, fn=fn: fn(x, axis=1), (sample(dtype, 3, 4),)
            )
        yield Case(
            f"reduce {name}: keepdims", lambda x, fn=fn: fn(x, 1, keepdims=True), (normal(2, 5),)
        )
    for name in ("max", "min"):
        fn = SUMS[name]
        for dtype in REALS:
            yield Case(f"reduce {name}: edges of {dtype}", fn, (edges(dtype),))
    for name, fn in STATISTICS.items():
        for axis in (None, 0, 1):
            yield Case(
                f"{name}: over {axis}",
                lambda x, fn=fn, axis=axis: fn(x, axis=axis),
                (normal(4, 5),),
            )
    for name, fn in {"and": jnp.all, "or": jnp.any}.items():
        for shape in ((), (4,), (2, 3), (0, 2)):
            yield Case(f"reduce_{name}: bool{list(shape)}", fn, (bools(*shape),))
    for name in ("and", "or", "xor"):
        ufunc = {"and": jnp.bitwise_and, "or": jnp.bitwise_or, "xor": jnp.bitwise_xor}[name]
        for dtype in INTS:
            yield Case(
                f"reduce_{name}: {dtype}",
                lambda x, f=ufunc: f.reduce(x, axis=1),
                (sample(dtype, 2, 7),),
            )
        yield Case(
            f"reduce_{name}: two axes",
            lambda x, f=ufunc: f.reduce(x, axis=None),
            (integers(0, 99, 3, 5),),
        )
    for dtype in INTS:
        large = np.array([[np.iinfo(dtype).max, 7, 1], [np.iinfo(dtype).max // 3, 6, 5]], dtype)
        for name, fn in {
            "reduce_sum": jnp.sum,
            "reduce_prod": jnp.prod,
            "cumsum": jnp.cumsum,
        }.items():
            yield Case(
                f"{name}: {dtype} that overflows",
                lambda x, fn=fn: fn(x, axis=1, dtype=x.dtype),
                (large,),
            )
    yield Case("reduce_xor: bool", lambda x: jnp.logical_xor.reduce(x, axis=0), (bools(5, 3),))
    yield Case("sum: no axes", lambda x: jnp.sum(x, axis=()), (normal(2, 3),))


def by_functions() -> Iterator[Case]:
    """lax.reduce and lax.reduce_window with functions of the user."""
    x = uniform(4, 5, low=0.5, high=1.5)
    functions = {
        "a * b": (1.0, lambda a, b: a * b),
        "sum of logs": (-np.inf, lambda a, b: jnp.log(jnp.exp(a) + jnp.exp(b))),
        "greater size": (0.0, lambda a, b: jnp.where(jnp.abs(a) > jnp.abs(b), a, b)),
    }
    for name, (start, fn) in functions.items():
        for axes in ((0,), (1,), (0, 1), ()):
            yield Case(
                f"reduce by {name}: over {axes}",
                lambda x, s=start, f=fn, a=axes: lax.reduce(x, np.float32(s), f, a),
                (x,),
            )
        yield Case(
            f"reduce_window by {name}",
            lambda x, s=start, f=fn: lax.reduce_window(x, np.float32(s), f, (2, 3), (1, 2), "SAME"),
            (x,),
        )
    yield Case(
        "reduce: place and value",
        lambda x: lax.reduce(
            (x, lax.iota(np.int32, 6)),
            (np.float32(-9), np.int32(0)),
            lambda a, b: (jnp.maximum(a[0], b[0]), jnp.where(a[0] >= b[0], a[1], b[1])),
            (0,),
        ),
        (normal(6),),
    )
    yield Case(
        "reduce: no elements",
        lambda x: lax.reduce(x, np.float32(2), lambda a, b: a * b + a * 0, (0,)),
        (normal(0, 3),),
    )
    yield Case(
        "reduce: and of int32",
        lambda x: lax.reduce(x, np.int32(-1), lax.bitwise_and, (0,)),
        (integers(0, 64, 5, 2),),
    )
    yield Case(
        "reduce_window: two operands",
        lambda x: lax.reduce_window(
            (x, x * 2),
            (np.float32(0), np.float32(1)),
            lambda a, b: (a[0] + b[0], a[1] * b[1]),
            (2,),
            (1,),
            "VALID",
        ),
        (x[0],),
    )


def places() -> Iterator[Case]:
    for name, fn in {"argmax": jnp.argmax, "argmin": jnp.argmin}.items():
        for axis in (None, 0, 1, 2, -1):
            yield Case(
                f"{name}: over {axis}", lambda x, f=fn, a=axis: f(x, axis=a), (normal(3, 4, 5),)
            )
        for dtype in REALS:
            yield Case(
                f"{name}: {dtype} with ties", lambda x, f=fn: f(x, axis=-1), (sample(dtype, 4, 30),)
            )
        for dtype in FLOATS:
            yield Case(f"{name}: edges of {dtype}", fn, (edges(dtype),))
        place = {"argmax": lax.argmax, "argmin": lax.argmin}[name]
        for kind in (np.int8, np.uint32, np.int32):
            yield Case(
                f"{name}: places as {np.dtype(kind)}",
                lambda x, f=place, k=kind: f(x, 1, k),
                (normal(2, 9),),
            )
        yield Case(
            f"{name}: keepdims", lambda x, f=fn: f(x, axis=0, keepdims=True), (normal(3, 2),)
        )
    yield Case("nanargmax", jnp.nanargmax, (np.array([1, np.nan, 3], F32),))


def scans() -> Iterator[Case]:
    for name, fn in SCANS.items():
        for axis in (0, 1, 2):
            for reverse in (False, True):
                yield Case(
                    f"{name}: over {axis}, reverse={reverse}",
                    lambda x, f=fn, a=axis, r=reverse: f(x, axis=a, reverse=r),
                    (normal(2, 4, 3),),
                )
        for dtype in FLOATS if name == "cumlogsumexp" else REALS:
            yield Case(f"{name}: {dtype}", fn, (sample(dtype, 6),))
        yield Case(f"{name}: no elements", fn, (normal(0, 3),))
    yield Case("cumsum: int8 wraps", lax.cumsum, (np.full(9, 100, np.int8),))
    rows = normal(3, 40, 2)
    rows[0, 7, 0], rows[1, :, 1], rows[2, 3, 0] = np.nan, -np.inf, np.inf
    for name, reduce in (("max", jnp.max), ("min", jnp.min)):
        yield Case(f"{name}: a long axis with NaN", lambda x, f=reduce: f(x, axis=1), (rows,))
        yield Case(
            f"{name}: a long axis that stays, of no NaN",
            lambda x, f=reduce: f(jnp.isinf(x) * 2.0, axis=1, keepdims=True),
            (rows,),
        )
    yield Case("cumsum: NaN stays", lax.cumsum, (np.array([1, np.nan, 2, 3], F32),))
    yield Case("cummax: NaN stays", lax.cummax, (np.array([1, np.nan, 2, 3], F32),))
    yield Case("cumsum: of bools", lambda x: jnp.cumsum(x), (bools(9),))
    yield Case(
        "cummulative_sum", lambda x: jnp.cumulative_sum(x, include_initial=True), (normal(4),)
    )
    yield Case("diff, ediff1d", lambda x: (jnp.diff(x), jnp.ediff1d(x)), (normal(6),))
    yield Case("associative_scan", lambda x: lax.associative_scan(jnp.multiply, x), (normal(7, 2),))


def sorting() -> Iterator[Case]:
    for dtype in (*REALS, BOOL):
        x = sample(dtype, 3, 9)
        yield Case(f"sort: {dtype}", jnp.sort, (x,))
        yield Case(f"argsort: {dtype} with ties", jnp.argsort, (x,))
        yield Case(f"sort: edges of {dtype}", jnp.sort, (edges(dtype)[::-1].copy(),))
    for axis in (0, 1, 2):
        x = normal(3, 4, 2)
        yield Case(f"sort: over {axis}", lambda x, a=axis: lax.sort(x, dimension=a), (x,))
        yield Case(
            f"top_k: over {axis}", lambda x, a=axis: lax.top_k(jnp.moveaxis(x, a, -1), 2), (x,)
        )
    for name, fn in {
        "descending": lambda x: jnp.sort(x, descending=True),
        "argsort descending": lambda x: jnp.argsort(x, descending=True),
        "flat": lambda x: jnp.sort(x, axis=None),
        "three operands": lambda x: lax.sort((x, x * 2, x > 0)),
        "two keys": lambda x: lax.sort((jnp.round(x), x, -x), num_keys=2),
        "two keys of three, the last a bool": lambda x: lax.sort(
            (x > 0, jnp.round(x), x), num_keys=2
        ),
        "lexsort": lambda x: jnp.lexsort((x, jnp.round(x))),
        "with a number": lambda x: lax.sort((x, jnp.full_like(x, 3)), dimension=0, num_keys=1),
        "rows, with what counts columns": lambda x: lax.sort(
            (x, lax.broadcasted_iota(jnp.int32, x.shape, 1)), dimension=0, num_keys=1
        ),
        "rows, with what counts them as floats": lambda x: lax.sort(
            (x, lax.broadcasted_iota(jnp.float32, x.shape, 0)), dimension=0, num_keys=1
        ),
        "median": jnp.median,
        "quantile": lambda x: jnp.quantile(x, np.array([0.1, 0.5], F32), axis=1),
        "searchsorted by comparing": lambda x: jnp.searchsorted(
            jnp.sort(x[0]), x[1], method="compare_all"
        ),
        "partition": lambda x: jnp.sort(jnp.partition(x, 2)[..., :3]),
        "sort_key_val": lambda x: lax.sort_key_val(x, x + 1),
        "rank": lambda x: jnp.argsort(jnp.argsort(x)),
        "one element": lambda x: lax.sort((x[:, :1], x[:, 1:2])),
        "no elements": lambda x: jnp.sort(x[:, :0]),
        "approx_max_k": lambda x: lax.approx_max_k(x, 2),
        "approx_min_k": lambda x: lax.approx_min_k(x, 2, reduction_dimension=0),
        "top_k of all": lambda x: lax.top_k(x, x.shape[-1]),
        "top_k of none": lambda x: lax.top_k(x, 0),
    }.items():
        yield Case(f"sort: {name}", fn, (normal(4, 7),))
    for dtype in REALS:
        yield Case(f"top_k: {dtype} with ties", lambda x: lax.top_k(x, 5), (sample(dtype, 3, 20),))
    for dtype in (F32, F16, BF16):
        most = float(ml_dtypes.finfo(dtype).max)
        x = np.array([np.nan, 1, np.inf, -0.0, 0.0, np.inf, np.nan, -np.inf, most], dtype)
        yield Case(f"argsort: NaN is above infinity, {dtype}", jnp.argsort, (x,))
        yield Case(f"top_k: NaN is above infinity, {dtype}", lambda x: lax.top_k(x, 6), (x,))
        yield Case(
            f"top_k: rows at the places, {dtype}",
            lambda x, rows: (rows[(places := lax.top_k(x, 6)[1])], x[places], places),
            (x, sample(dtype, 9, 4)),
        )
        yield Case(
            f"sort: two keys with NaN, {dtype}",
            lambda x: lax.sort((-x, x, x > 0), num_keys=2),
            (x,),
        )


CASES = [*reductions(), *by_functions(), *places(), *scans(), *sorting()]
