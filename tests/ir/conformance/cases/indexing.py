"""Reading and writing at computed places."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import BOOL, INTS, REALS, bools, integers, normal, sample
from tests.ir.conformance.case import Case

# Of float32[5, 6, 7] and int32[3, 2], some of the places outside.
READS = {
    "rows": lambda x, j: x[j],
    "second axis": lambda x, j: x[:, j],
    "last axis": lambda x, j: x[..., j],
    "two axes at once": lambda x, j: x[j, j],
    "two axes, apart": lambda x, j: x[j, :, j],
    "three axes": lambda x, j: x[j, j, j],
    "with a slice": lambda x, j: x[1:4, j, ::2],
    "with a number": lambda x, j: x[2, j],
    "outer": lambda x, j: x[j[:, None, 0], j[None, :, 1]],
    "take": lambda x, j: jnp.take(x, j, axis=1),
    "take, flat": jnp.take,
    "take, clip": lambda x, j: jnp.take(x, j, axis=0, mode="clip"),
    "take, wrap": lambda x, j: jnp.take(x, j, axis=2, mode="wrap"),
    "take, fill": lambda x, j: jnp.take(x, j, axis=0, mode="fill", fill_value=-1.0),
    "take, scalar": lambda x, j: jnp.take(x, j[0, 0], axis=1),
    "take_along_axis": lambda x, j: jnp.take_along_axis(x[:3, :2], j[..., None], 1),
    "take_along_axis of the last": lambda x, j: jnp.take_along_axis(x[:3, :2], j[..., None], -1),
    "choose": lambda x, j: jnp.choose(jnp.abs(j) % 2, [x[:3, :2, 0], x[:3, :2, 1]], mode="clip"),
    "compress by vmap": lambda x, j: jax.vmap(lambda a, b: a[b])(x[:3], j),
    "vmap over the second axis": lambda x, j: jax.vmap(lambda a, b: a[b], (1, 0), 1)(x[:, :3], j),
    "vmap twice": lambda x, j: jax.vmap(jax.vmap(lambda a, b: a[b]))(x[:3, :2], j),
    "one-hot": lambda x, j: jax.nn.one_hot(j, 5) @ x[:, 0],
    "get with a mode": lambda x, j: x.at[j].get(mode="fill", fill_value=7),
    "get, promised": lambda x, j: x.at[jnp.clip(j, 0, 4)].get(mode="promise_in_bounds"),
    "dynamic_slice": lambda x, j: lax.dynamic_slice(x, (j[0, 0], j[1, 0], j[1, 1]), (2, 6, 3)),
    "dynamic_slice_in_dim": lambda x, j: lax.dynamic_slice_in_dim(x, j[0, 0], 3, 1),
    "dynamic_index_in_dim": lambda x, j: lax.dynamic_index_in_dim(x, j[0, 1], 2, keepdims=False),
    "dynamic_slice by vmap": lambda x, j: jax.vmap(
        lambda a, b: lax.dynamic_slice(a, (b, b), (2, 3))
    )(x, jnp.resize(j, (5,))),
    "dynamic rows by vmap": lambda x, j: jax.vmap(
        lambda a: lax.dynamic_slice(x, (a, 7, -9), (2, 6, 4))
    )(j[0]),
    "scalar": lambda x, j: (x[j[0, 0]], x[j[0, 0], j[0, 1]], x[..., j[2, 0]]),
    "bool mask": lambda x, j: jnp.where(x > 0, x, 0),
    "constant places": lambda x, j: x[np.array([0, -1, 2])],
    "constant mask": lambda x, j: x[np.array([True, False, True, True, False])],
    "windows": lambda x, j: lax.gather(
        x, jnp.clip(j, 0, 3), lax.GatherDimensionNumbers((1, 2), (0,), (0, 2)), (1, 6, 3)
    ),
    "windows, filled": lambda x, j: lax.gather(
        x, j, lax.GatherDimensionNumbers((1, 2), (0,), (0, 2)), (1, 4, 3), mode="fill"
    ),
}
WRITES = {
    "rows": lambda x, j, v: x.at[j].add(v),
    "second axis": lambda x, j, v: x.at[:, j].add(v),
    "two axes": lambda x, j, v: x.at[j, j].add(v),
    "two axes, apart": lambda x, j, v: x.at[j, :, j].add(v),
    "multiply": lambda x, j, v: x.at[:, j].multiply(v),
    "subtract": lambda x, j, v: (
        x.at[j].subtract(v) if hasattr(x.at[j], "subtract") else x.at[j].add(-v)
    ),
    "divide": lambda x, j, v: x.at[0, jnp.abs(j) % 6].divide(v),
    "min": lambda x, j, v: x.at[j, :, j].min(v),
    "max": lambda x, j, v: x.at[..., j].max(v),
    "power": lambda x, j, v: x.at[np.array([0, 2])].power(2),
    "apply": lambda x, j, v: x.at[np.array([0, 2])].apply(jnp.sin),
    "apply, at computed places": lambda x, j, v: x.at[j[0, 0]].apply(lambda a: a * a + 1),
    "apply, known ones twice": lambda x, j, v: x.at[np.array([1, 1, 9])].apply(lambda a: a - 0.5),
    "set a row": lambda x, j, v: x.at[j[0, 0]].set(v),
    "set an element": lambda x, j, v: x.at[j[0, 0], j[0, 1], j[1, 0]].set(v),
    "set known rows": lambda x, j, v: x.at[np.array([1, 3])].set(v),
    "set a slice": lambda x, j, v: x.at[1:3, ::2].set(v),
    "set a column": lambda x, j, v: x.at[:, 2].set(v),
    "set, drop": lambda x, j, v: x.at[j[:, 0] * 100].set(v, mode="drop"),
    "set, clip": lambda x, j, v: x.at[j[0, 0] * 100].set(v, mode="clip"),
    "add, clip": lambda x, j, v: x.at[j * 3].add(v, mode="clip"),
    "add arrays": lambda x, j, v: x.at[j].add(x[:2] * v),
    "set by a mask": lambda x, j, v: jnp.where(x > 0, v, x),
    "dynamic_update_slice": lambda x, j, v: lax.dynamic_update_slice(
        x, jnp.full((2, 3, 2), v), (j[0, 0], j[0, 1], j[1, 1])
    ),
    "dynamic_update_index_in_dim": lambda x, j, v: lax.dynamic_update_index_in_dim(
        x, jnp.full((5, 7), v), j[0, 0], 1
    ),
    "by vmap": lambda x, j, v: jax.vmap(lambda a, b: a.at[b].add(v))(x[:3], j),
    "by vmap, set": lambda x, j, v: jax.vmap(lambda a, b: a.at[b[0]].set(v))(x[:3], j),
    "put_along_axis": lambda x, j, v: jnp.put_along_axis(
        x[:3, :2, 0], j[:, :1], v, 1, inplace=False
    ),
    "segment_sum": lambda x, j, v: jax.ops.segment_sum(x[:3], j[:, 0], 4),
    "segment_max": lambda x, j, v: jax.ops.segment_max(x[:3], jnp.abs(j[:, 0]), 4),
    "bincount": lambda x, j, v: jnp.bincount(jnp.abs(j).ravel(), length=6),
    "histogram by comparing": lambda x, j, v: (x.ravel()[:, None] > jnp.linspace(-2, 2, 5)).sum(0),
    "fill_diagonal": lambda x, j, v: jnp.fill_diagonal(x[0], v, inplace=False),
    "scatter windows": lambda x, j, v: lax.scatter_add(
        x,
        jnp.clip(j, 0, 3),
        jnp.full((3, 6, 2), v),
        lax.ScatterDimensionNumbers((1, 2), (0,), (0, 2)),
    ),
    "scatter windows, dropped": lambda x, j, v: lax.scatter_mul(
        x, j, jnp.full((3, 6, 4), v), lax.ScatterDimensionNumbers((1, 2), (0,), (0, 2))
    ),
}


def reads_and_writes() -> Iterator[Case]:
    x, inside, around = normal(5, 6, 7), integers(0, 5, 3, 2), integers(-6, 9, 3, 2, seed=3)
    for name, fn in READS.items():
        yield Case(f"read {name}: inside", fn, (x, inside))
        if name != "take, flat":
            yield Case(f"read {name}: also outside", fn, (x, around))
    for name, fn in WRITES.items():
        yield Case(f"write {name}: inside", fn, (x, inside, np.array(2, np.float32)))
        yield Case(f"write {name}: also outside", fn, (x, around, np.array(2, np.float32)))
    for dtype in (*REALS, BOOL):
        table, places = sample(dtype, 5, 3), integers(-7, 8, 6)
        yield Case(f"read rows: of {dtype}", lambda x, j: x[j], (table, places))
        yield Case(f"read take: of {dtype}", lambda x, j: jnp.take(x, j, axis=0), (table, places))
        yield Case(f"write set: of {dtype}", lambda x, j: x.at[j[0]].set(x[0]), (table, places))
        yield Case(
            f"dynamic_slice: of {dtype}",
            lambda x, j: lax.dynamic_slice(x, (j[0], j[1]), (2, 2)),
            (table, places),
        )
        if dtype != BOOL:
            yield Case(f"write add: of {dtype}", lambda x, j: x.at[j].add(1), (table, places))
            yield Case(f"write max: of {dtype}", lambda x, j: x.at[j].max(1), (table, places))
    name = "write apply, to some of them twice"
    fn = lambda x, j: x.at[:, j[0] % 2].apply(lambda a: a * 2 + 1)  # noqa: E731
    yield Case(name, fn, (x, inside), alike=False)
    for dtype in INTS:
        low = 0 if dtype.kind == "u" else -3
        places = integers(low, 9, 4, dtype=dtype)
        yield Case(f"read rows: by {dtype}", lambda x, j: x[j], (x, places))
        yield Case(
            f"dynamic_slice: by {dtype}",
            lambda x, j: lax.dynamic_slice(x, (j[0], j[1], j[2]), (2, 2, 2)),
            (x, places),
        )
        yield Case(f"write rows: by {dtype}", lambda x, j: x.at[j].add(1.0), (x, places))
    far = np.array([-(2**31), 2**31 - 1, 0, 4], np.int32)
    yield Case("read rows: at the ends of int32", lambda x, j: jnp.take(x, j, axis=0), (x, far))
    yield Case("write rows: at the ends of int32", lambda x, j: x.at[j].add(1.0), (x, far))
    yield Case(
        "dynamic_slice: at the ends of int32",
        lambda x, j: lax.dynamic_slice(x, (j[0], j[1], j[2]), (2, 2, 2)),
        (x, far),
    )
    yield Case(
        "read last axis: of one row",
        lambda x, j: x[:1].at[jnp.zeros_like(j), j].get(mode="promise_in_bounds"),
        (normal(2, 7), np.array([3, 6, 0], np.int32)),
    )
    yield Case("read rows: none", lambda x, j: x[j], (x, np.zeros((0,), np.int32)))
    yield Case("read rows: of no columns", lambda x, j: x[j], (normal(5, 0), inside))
    yield Case("write rows: none", lambda x, j: x.at[j].add(1.0), (x, np.zeros((0,), np.int32)))
    yield Case(
        "dynamic_slice: of nothing",
        lambda x, j: lax.dynamic_slice(x, (j[0], 0), (0, 2)),
        (normal(3, 2), far),
    )
    yield Case(
        "embedding, then its product",
        lambda w, i: w[i] @ w.T,
        (normal(11, 4), integers(0, 11, 2, 3)),
    )
    yield Case(
        "jnp.where with three arguments", lambda x, m: jnp.where(m, x, -x), (normal(4), bools(4))
    )
    yield Case(
        "jnp.interp",
        lambda x: jnp.interp(x, jnp.linspace(-1, 1, 5), jnp.arange(5.0)),
        (normal(7),),
    )
    yield Case(
        "nonzero of known size", lambda x: jnp.nonzero(x > 0, size=3, fill_value=0)[0], (normal(6),)
    )
    yield Case(
        "polyval, convolve", lambda x: (jnp.polyval(x, 2.0), jnp.convolve(x, x)), (normal(4),)
    )


CASES = [*reads_and_writes()]
