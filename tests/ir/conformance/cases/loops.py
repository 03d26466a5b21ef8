"""Branches and loops that depend on data, or are too long: graphs inside graphs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import BOOL, FLOATS, INTS, normal, sample
from tests.ir.conformance.case import Case

Array = jax.Array
Function = Callable[..., Any]

LONG = 2500  # trips, which no target with loops writes out
NO_LOOPS = "the format (has no loops|does not have)|control flow"

X = normal(4, 3)
UP = np.abs(X)

DTYPES = (*FLOATS, *INTS, BOOL)


# ---------------------------------------------------------------------------------- on data: cond


def by_sum(then: Function, other: Function) -> Function:
    return lambda x: lax.cond(x.sum() > 0, then, other, x)


def nested_cond(x: Array, depth: int) -> Array:
    if not depth:
        return x * 2
    inner = partial(nested_cond, depth=depth - 1)
    return lax.cond(x.sum() > depth, inner, lambda v: inner(v + 1), x)


CONDS: dict[str, Function] = {
    "two branches": by_sum(jnp.sin, jnp.cos),
    "a product in one": by_sum(lambda v: v @ v.T @ v, lambda v: v),
    "the operand as it is": by_sum(lambda v: v, lambda v: v * 2),
    "a constant": by_sum(lambda v: jnp.zeros_like(v), lambda v: v * 2),
    "constants in both": lambda x: lax.cond(x.sum() > 0, lambda: 1.0, lambda: 2.0),
    "several results": by_sum(lambda v: (v, v.sum()), lambda v: (v * 2, v.max())),
    "one result twice": by_sum(lambda v: (v * 3, v * 3), lambda v: (v, v)),
    "operands swapped": lambda x: lax.cond(
        x.sum() > 0, lambda a, b: (a, b), lambda a, b: (b, a), x, x + 1
    ),
    "an operand that is not used": lambda x: lax.cond(
        x.sum() > 0, lambda a, b: a * 2, lambda a, b: a - 1, x, x + 1
    ),
    "captured values": lambda x: lax.cond(x.sum() > 0, lambda: jnp.sin(x), lambda: jnp.cos(x)),
    "by an integer": lambda x: lax.cond(x.sum().astype(int) % 2, jnp.sin, jnp.cos, x),
    "by the input's element": lambda x: lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x),
    "in a branch": by_sum(by_sum(jnp.sin, jnp.tanh), by_sum(jnp.cos, jnp.exp)),
    "five deep": partial(nested_cond, depth=5),
    "two in a row": lambda x: by_sum(jnp.tanh, jnp.cos)(by_sum(jnp.sin, jnp.exp)(x)),
    "two on one condition": lambda x: (by_sum(jnp.sin, jnp.cos)(x), by_sum(jnp.exp, jnp.cos)(x)),
    "in jit": jax.jit(by_sum(jnp.sin, jnp.cos)),
    "its gradient": jax.grad(lambda x: by_sum(jnp.sin, lambda v: v**3)(x).sum()),
    "its gradient with residuals": jax.grad(
        lambda x: by_sum(lambda v: jnp.exp(jnp.sin(v)), lambda v: v)(x).sum()
    ),
    "under vmap with one condition": lambda x: jax.vmap(
        lambda r: lax.cond(x.sum() > 0, jnp.sin, jnp.cos, r)
    )(x),
    "under vmap with a condition each": jax.vmap(by_sum(jnp.sin, jnp.cos)),
    "guards a division": lambda x: lax.cond(x[0, 0] != 0, lambda v: v / x[0, 0], lambda v: v, x),
    "under remat": jax.checkpoint(by_sum(jnp.sin, jnp.cos)),
    "custom_jvp inside": by_sum(jax.nn.relu, jax.nn.silu),
    "a result that is not used": lambda x: by_sum(lambda v: (v, v * 2), lambda v: (v * 3, v))(x)[1],
    "an integer result": by_sum(lambda v: v.astype(int), lambda v: (v * 2).astype(int)),
    "a bool result": by_sum(lambda v: v > 0, lambda v: v < 0),
    "a rank 0 result": by_sum(jnp.sum, jnp.max),
    "no elements": by_sum(lambda v: v[:0] * 2, lambda v: v[:0]),
    "complex": lambda x: jnp.abs(lax.cond(x.sum() > 0, lambda v: v * 1j, lambda v: v, x + 1j)),
    "a scan in a branch": by_sum(
        lambda v: lax.scan(lambda c, r: (c + r, None), v[0], v)[0], lambda v: v[0]
    ),
    "a long scan in a branch": by_sum(
        lambda v: lax.fori_loop(0, 700, lambda i, u: jnp.sin(u) * jnp.cos(u) + i % 3, v),
        lambda v: v,
    ),
}

BRANCHES = [jnp.sin, jnp.cos, lambda v: (v @ v.T)[:, :3], lambda v: v, jnp.zeros_like]


def switched(x: Array, n: Array, count: int) -> object:
    return lax.switch(n, BRANCHES[:count], x)


def conds() -> Iterator[Case]:
    for name, fn in CONDS.items():
        for sign in (1, -1):
            air = {"AIR": NO_LOOPS} if "long scan" in name else {}
            yield Case(f"cond: {name}, {sign}", fn, (X * sign + sign,), alike=False, cannot=air)
    for count in (2, 3, 5):
        for n in (-1, 0, 1, 2, 4, 7):
            fn = partial(switched, count=count)
            yield Case(f"switch: {count}, {n}", fn, (X, np.array(n, np.int32)), alike=False)
    for dtype in DTYPES:
        fn = lambda x, n: lax.switch(n, [lambda v: v, lambda v: v[::-1]], x)  # noqa: E731
        name = f"cond: of {dtype}"
        yield Case(name, fn, (sample(dtype, 4, 3), np.array(1, np.int32)), alike=False)


# --------------------------------------------------------------------------------- on data: while


def until(limit: float, step: Function) -> Function:
    return lambda x: lax.while_loop(lambda v: v.sum() < limit, step, x)


def newton(x: Array) -> Array:
    def goes_on(state: tuple[Array, Array, Array]) -> Array:
        i, old, new = state
        return (i < 50) & (jnp.abs(new - old).max() > 1e-4)

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, _, y = state
        return i + 1, y, 0.5 * (y + x / y)

    return lax.while_loop(goes_on, step, (jnp.array(0, np.int32), x * 0, x + 1))[2]


def collatz(x: Array) -> Array:
    step = lambda s: (s[0] + 1, jnp.where(s[1] % 2 == 0, s[1] // 2, 3 * s[1] + 1))  # noqa: E731
    return lax.while_loop(lambda s: s[1] != 1, step, (jnp.array(0, np.int32), x))[0]


def decoded(x: Array) -> tuple[Array, Array]:
    """Tokens until one is 0, as a decoder writes them."""

    def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        i, token, tokens = state
        token = jnp.argmax(x[token % 4]).astype(jnp.int32) + (i % 2)
        return i + 1, token, tokens.at[i].set(token)

    start = (jnp.array(0, np.int32), jnp.array(3, np.int32), jnp.zeros(12, jnp.int32))
    i, _, tokens = lax.while_loop(lambda s: (s[0] < 12) & (s[1] != 0), step, start)
    return i, tokens


WHILES: dict[str, Function] = {
    "one carry": until(30, lambda v: v + 1),
    "a captured value": lambda x: lax.while_loop(lambda v: v.sum() < 50, lambda v: v + x, x),
    "captured by the condition": lambda x: lax.while_loop(
        lambda v: v.sum() < x.max() * 20, lambda v: v + 1, x
    ),
    "a weight": until(90, lambda v: v + jnp.asarray(UP)),
    "a product": until(90, lambda v: v @ jnp.asarray(UP.T @ UP) + 1),
    "a counter": lambda x: lax.while_loop(
        lambda s: (s[0] < 7) & (s[1].sum() < 40), lambda s: (s[0] + 1, s[1] + 1), (0, x)
    ),
    "a swap": lambda x: lax.while_loop(
        lambda s: s[0].sum() < 60, lambda s: (s[1] + 1, s[0] * 2), (x, x + 1)
    ),
    "permuted carries": lambda x: lax.while_loop(
        lambda s: s[0].sum() < 60, lambda s: (s[1] + x, s[2], s[0]), (x, x + 1, x + 2)
    ),
    "a carry that never changes": lambda x: lax.while_loop(
        lambda s: s[0].sum() < 60, lambda s: (s[0] + s[1], s[1]), (x, x)
    ),
    "a carry that is not used": lambda x: lax.while_loop(
        lambda s: s[0].sum() < 60, lambda s: (s[0] + 1, s[1] * 2), (x, x)
    )[0],
    "Newton": newton,
    "Collatz": lambda x: collatz(jnp.array(27, np.int32) + x[0, 0].astype(jnp.int32)),
    "tokens until the end": decoded,
    "a cond inside": until(
        40, lambda v: lax.cond(v.sum() > 20, lambda u: u + 3, lambda u: u + 1, v)
    ),
    "a while inside": until(90, lambda v: until(5, lambda u: u + 1)(v) + 2),
    "a scan inside": until(90, lambda v: v + lax.scan(lambda c, r: (c + r, c), v[0] * 0, v)[0]),
    "under vmap": jax.vmap(until(9, lambda v: v + 0.7)),
    "under vmap twice": lambda x: jax.vmap(jax.vmap(until(9, lambda v: v + 0.7)))(x[None]),
    "in a branch": by_sum(until(30, lambda v: v + 1), lambda v: v),
    "fori_loop to a number that is data": lambda x: lax.fori_loop(
        0, x[0, 0].astype(int) + 4, lambda i, v: v * 1.1 + i, x
    ),
    "fori_loop from a number that is data": lambda x: lax.fori_loop(
        x[0, 0].astype(int), 6, lambda i, v: v * 1.1 + i, x
    ),
    "fori_loop that indexes": lambda x: lax.fori_loop(
        0, x.shape[0] + x[0, 0].astype(int), lambda i, v: v + x[i % 4], x[0]
    ),
    "complex": lambda x: jnp.abs(
        lax.fori_loop(0, x[0, 0].astype(int) + 3, lambda i, v: v * (0.5 + 1j), x + 1j)
    ),
    "gcd": lambda x: jnp.gcd(jnp.array(84, np.int32) + x.astype(jnp.int32), 36),
    "custom_jvp inside": until(30, lambda v: jax.nn.relu(v) + 1),
    "no elements carried": lambda x: lax.while_loop(
        lambda s: s[0].sum() < 30, lambda s: (s[0] + 1, s[1] * 2), (x, x[:0])
    ),
}

TRIPS = {
    "no trip": np.array(100, np.float32),
    "one trip": np.array(29, np.float32),
    "many trips": np.array(0, np.float32),
}


def whiles() -> Iterator[Case]:
    air = {"AIR": NO_LOOPS}
    for name, fn in WHILES.items():
        yield Case(f"while: {name}", fn, (UP,), alike=False, cannot=air)
    for name, start in TRIPS.items():
        fn = lambda x: lax.while_loop(lambda v: v < 30, lambda v: v + 2, x)  # noqa: E731
        yield Case(f"while: {name}", fn, (start,), alike=False, cannot=air)
    for dtype in DTYPES:
        for trips in (0, 1, 5):
            fn = lambda x, n: lax.fori_loop(0, n, lambda i, v: v[::-1], x)  # noqa: E731
            args = (sample(dtype, 4, 3), np.array(trips, np.int32))
            yield Case(f"while: {trips} trips of {dtype}", fn, args, alike=False, cannot=air)
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "float32", "float16"):
        fn = lambda x: lax.while_loop(lambda i: i < 7, lambda i: i + 2, x)  # noqa: E731
        counter = np.asarray(1, dtype)
        yield Case(f"while: a counter of {dtype}", fn, (counter,), alike=False, cannot=air)


# -------------------------------------------------------------------------------------- long scans


def tiled(x: Array) -> Array:
    return jnp.tile(x, (LONG // 4, 1))


def over_rows(step: Function, *, reverse: bool = False) -> Function:
    return lambda x: lax.scan(step, x[0] * 0, tiled(x), reverse=reverse)


def cell(c: Array, r: Array) -> tuple[Array, Array]:
    c = jnp.tanh(c * 0.5 + r)
    return c, c * 2


SCANS: dict[str, Function] = {
    "rows": over_rows(cell),
    "rows, reversed": over_rows(cell, reverse=True),
    "results alone": lambda x: over_rows(cell)(x)[1],
    "the carry alone": lambda x: over_rows(cell)(x)[0],
    "the old carry": over_rows(lambda c, r: (jnp.tanh(c + r), c)),
    "the row as it is": over_rows(lambda c, r: (jnp.tanh(c + r), r)),
    "a captured value": lambda x: lax.scan(
        lambda c, r: (jnp.tanh(c + r * x[1]), c), x[0], tiled(x)
    ),
    "a product with a weight": over_rows(
        lambda c, r: (jnp.tanh(r @ jnp.asarray(UP.T @ UP) * 0.1 + c), c)
    ),
    "a product with the carry": over_rows(
        lambda c, r: (jnp.tanh(c @ jnp.asarray(UP.T @ UP) * 0.1 + r), c)
    ),
    "two carries": lambda x: lax.scan(
        lambda s, r: ((jnp.tanh(s[1] + r), s[0] * 0.5), s[0].sum()), (x[0], x[1]), tiled(x)
    ),
    "a carry that never changes": lambda x: lax.scan(
        lambda s, r: ((jnp.tanh(s[0] + r * s[1]), s[1]), s[0]), (x[0], x[1]), tiled(x)
    ),
    "a result that is constant": over_rows(lambda c, r: (jnp.tanh(c + r), jnp.float32(3))),
    "no rows": lambda x: lax.scan(lambda c, _: (jnp.tanh(c * 1.1), c.sum()), x, None, length=LONG),
    "no rows, reversed": lambda x: lax.scan(
        lambda c, _: (jnp.tanh(c * 1.1), c.sum()), x, None, length=LONG, reverse=True
    ),
    "no results": lambda x: lax.scan(lambda c, r: (jnp.tanh(c + r), None), x[0], tiled(x))[0],
    "no carry": lambda x: lax.scan(lambda c, r: (c, jnp.tanh(r).sum()), None, tiled(x))[1],
    "map": lambda x: lax.map(lambda r: jnp.tanh(r) @ r, tiled(x)),
    "fori_loop": lambda x: lax.fori_loop(0, LONG, lambda i, v: jnp.tanh(v + i % 3), x),
    "fori_loop over rows": lambda x: lax.fori_loop(
        0, LONG, lambda i, v: jnp.tanh(v + x[i % 4]), x[0]
    ),
    "fori_loop that writes": lambda x: lax.fori_loop(
        0, LONG, lambda i, v: v.at[i % 4].set(jnp.tanh(v[(i + 1) % 4] + 0.1)), x
    ),
    "a while of known length": lambda x: lax.while_loop(
        lambda s: s[0] < LONG, lambda s: (s[0] + 1, jnp.tanh(s[1] + 0.1)), (0, x)
    ),
    "its gradient": jax.grad(lambda x: over_rows(cell)(x)[0].sum()),
    "its gradient by results": jax.grad(lambda x: over_rows(cell)(x)[1].mean()),
    "its jvp": lambda x: jax.jvp(lambda v: over_rows(cell)(v)[0], (x,), (x,)),
    "under vmap": lambda x: jax.vmap(
        lambda r: lax.scan(
            lambda c, v: (jnp.tanh(c + v), c), jnp.float32(0), jnp.tile(r, LONG // 3)
        )[0]
    )(x),
    "under remat": jax.checkpoint(lambda x: over_rows(cell)(x)[0]),
    "a scan inside": over_rows(
        lambda c, r: (lax.scan(lambda a, b: (jnp.tanh(a + b), None), c, jnp.stack([r, c]))[0], c)
    ),
    "a long scan inside": lambda x: lax.scan(
        lambda c, r: (lax.fori_loop(0, LONG, lambda i, a: jnp.tanh(a + r), c), c), x[0], x
    ),
    "a cond inside": over_rows(
        lambda c, r: (lax.cond(c.sum() > 1, jnp.tanh, lambda v: v + r, c), c.max())
    ),
    "a cond inside by the counter": lambda x: lax.fori_loop(
        0, LONG, lambda i, v: lax.cond(i % 2 == 0, jnp.sin, jnp.tanh, v), x
    ),
    "a while inside": lambda x: lax.scan(
        lambda c, r: (until(5, lambda u: u + 1)(c + r) * 0.1, c), x[0], tiled(x)
    ),
    "integers": lambda x: lax.scan(
        lambda c, r: (c * 3 + r, c & 7), jnp.array(1, np.int32), jnp.arange(LONG, dtype=jnp.int32)
    ),
    "booleans": lambda x: lax.scan(lambda c, r: (c ^ (r > 0), c), jnp.zeros(3, bool), tiled(x)),
    "complex": lambda x: jnp.abs(lax.scan(lambda c, r: (c * 0.5j + r, c), x[0] * 1j, tiled(x))[1]),
    "a pytree": lambda x: lax.scan(
        lambda c, r: ({"a": jnp.tanh(c["a"] + r[0])}, {"b": r[1]}), {"a": x[0]}, (tiled(x),) * 2
    ),
    "a row of rank 0": lambda x: lax.scan(
        lambda c, r: (jnp.tanh(c + r), c), jnp.float32(0), tiled(x)[:, 0]
    ),
    "an LSTM": lambda x: lax.scan(lambda s, r: (lstm_step(s, r), s[1]), (x[0], x[1]), tiled(x)),
    "searchsorted": lambda x: jnp.searchsorted(jnp.sort(x.ravel()), x.ravel(), method="scan"),
    "associative_scan": lambda x: lax.associative_scan(jnp.add, x),
    "cumulative by scan": lambda x: lax.scan(lambda c, r: (c + r, c + r), x[0] * 0, tiled(x))[1][
        -3:
    ],
}


def lstm_step(state: tuple[Array, Array], row: Array) -> tuple[Array, Array]:
    c, h = state
    gate = jax.nn.sigmoid(row + h)
    c = gate * c + (1 - gate) * jnp.tanh(row - h)
    return c, gate * jnp.tanh(c)


NO_LOOP = ("associative_scan", "map", "no carry", "searchsorted")  # in the end


def scans() -> Iterator[Case]:
    for name, fn in SCANS.items():
        air = {} if name in NO_LOOP else {"AIR": NO_LOOPS}
        tolerance = 1e-4 if "gradient" in name or name == "integers" else None
        yield Case(f"long scan: {name}", fn, (X,), tolerance, alike=False, cannot=air)
    for dtype in DTYPES:
        for reverse in (False, True):
            fn = partial(_swapped, reverse=reverse)
            name = f"long scan: of {dtype}{', reversed' if reverse else ''}"
            yield Case(name, fn, (sample(dtype, 4, 3),), alike=False, cannot={"AIR": NO_LOOPS})


def _swapped(x: Array, *, reverse: bool) -> tuple[Array, Array]:
    rows = jnp.tile(x, (LONG // 4, 1))
    carry, stacked = lax.scan(lambda c, r: (r[::-1], c), x[0], rows, reverse=reverse)
    return carry, stacked[:5]


CASES = [*conds(), *whiles(), *scans()]
