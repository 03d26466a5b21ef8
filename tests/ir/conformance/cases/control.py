"""Functions that hold functions: calls, loops of known length, branches, random numbers."""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.ir.conformance.arrays import F16, F32, integers, normal
from tests.ir.conformance.case import Case

KEY = jax.random.PRNGKey


@jax.custom_jvp
def clipped(x: jax.Array) -> jax.Array:
    return jnp.clip(x, -1, 1)


clipped.defjvp(lambda primals, tangents: (clipped(primals[0]), tangents[0]))


@jax.custom_vjp
def doubled(x: jax.Array) -> jax.Array:
    return x * 2


doubled.defvjp(lambda x: (doubled(x), None), lambda _, g: (g,))


def rows(x: jax.Array, reverse: bool = False, unroll: int = 1) -> tuple[jax.Array, jax.Array]:
    start = jnp.zeros(x.shape[1:], x.dtype)
    return lax.scan(lambda c, r: (c + r, c * r), start, x, reverse=reverse, unroll=unroll)


def nested(x: jax.Array) -> jax.Array:
    inner = lambda c, v: (c * 0.5 + v, c)  # noqa: E731
    return lax.scan(lambda c, r: (lax.scan(inner, c, r)[0], c), jnp.float32(1), x)[1]


FUNCTIONS = {
    "debug.print": lambda x: (jax.debug.print("{}", x), x)[1],
    "jit": lambda x: jax.jit(lambda v: jnp.sin(v) + v)(x),
    "jit in jit": lambda x: jax.jit(lambda v: jax.jit(jnp.cos)(v) * 2)(x),
    "the same jit twice": lambda x: (lambda f: f(f(x)))(jax.jit(jnp.tanh)),
    "custom_jvp": clipped,
    "custom_vjp": doubled,
    "gradient of custom_jvp": jax.grad(lambda x: (clipped(x) ** 2).sum()),
    "gradient of custom_vjp": jax.grad(lambda x: (doubled(x) ** 2).sum()),
    "remat": jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))),
    "gradient through remat": jax.grad(
        lambda x: jax.checkpoint(lambda v: jnp.sin(v) ** 2)(x).sum()
    ),
    "remat with a policy": jax.checkpoint(
        lambda x: jnp.sin(x @ x.T), policy=jax.checkpoint_policies.dots_saveable
    ),
    "stop_gradient": lambda x: x * lax.stop_gradient(x),
    "vmap": jax.vmap(lambda r: r / jnp.linalg.norm(r)),
    "vmap of a scan": jax.vmap(
        lambda r: lax.cumsum(r) + lax.scan(lambda c, v: (c + v, c), 0.0, r)[1]
    ),
    "gradient": jax.grad(lambda x: jnp.sum(jnp.tanh(x) ** 3)),
    "jacobian": jax.jacfwd(lambda x: jnp.sin(x).sum(0)),
    "jvp": lambda x: jax.jvp(jnp.tanh, (x,), (x * 2,)),
    "hessian": lambda x: jax.hessian(lambda v: jnp.sum(v**3))(x[0]),
    "linearize": lambda x: jax.linearize(jnp.sin, x)[1](x),
    "named_call": jax.named_call(lambda x: x + 1, name="a/b"),
    "scan": rows,
    "scan, reverse": partial(rows, reverse=True),
    "scan, unrolled twice": partial(rows, unroll=2),
    "scan, nested": nested,
    "scan without inputs": lambda x: lax.scan(lambda c, _: (c * 1.1, c.sum()), x, None, length=3),
    "scan without outputs": lambda x: lax.scan(lambda c, r: (c + r, None), x[0] * 0, x)[0],
    "scan of length 1": lambda x: rows(x[:1]),
    "scan of length 0": lambda x: rows(x[:0]),
    "scan over a pytree": lambda x: lax.scan(
        lambda c, r: ({"a": c["a"] + r[0]}, {"b": r[1]}), {"a": x[0]}, (x, x * 2)
    ),
    "scan whose counter is a dtype": lambda x: lax.scan(
        lambda c, r: ((c[0] + 1, c[1] + r * c[0]), c[0]), (np.int32(0), x[0]), x
    ),
    "map": lambda x: lax.map(lambda r: r @ r, x),
    "map in batches": lambda x: lax.map(lambda r: r * 2, x, batch_size=2),
    "fori_loop": lambda x: lax.fori_loop(0, 5, lambda i, v: v * 1.1 + i, x),
    "fori_loop backwards in steps": lambda x: lax.fori_loop(
        2, 4, lambda i, v: v.at[i % 3].add(1), x
    ),
    "fori_loop of none": lambda x: lax.fori_loop(3, 3, lambda i, v: v * 0, x),
    "fori_loop with a counter as index": lambda x: lax.fori_loop(
        0, 3, lambda i, v: v + lax.dynamic_index_in_dim(x, i, keepdims=False), x[0]
    ),
    "while with a known length": lambda x: lax.while_loop(
        lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * 1.5), (0, x)
    ),
    "while that never runs": lambda x: lax.while_loop(lambda c: False, lambda c: c * 2, x),
    "while with constants": lambda x: lax.while_loop(
        lambda c: c[0] < jnp.int32(6), lambda c: (c[0] + 2, c[1] + x), (jnp.int32(0), x)
    ),
    "cond, True": lambda x: lax.cond(True, jnp.sin, jnp.cos, x),
    "cond by a constant": lambda x: lax.cond(jnp.ones(()) > 2, jnp.sin, jnp.cos, x),
    "switch": lambda x: lax.switch(2, [jnp.sin, jnp.cos, jnp.tan], x),
    "switch, clamped": lambda x: lax.switch(jnp.int32(9), [jnp.sin, jnp.cos], x),
    "cond in a scan by its counter": lambda x: lax.fori_loop(
        0, 4, lambda i, v: lax.cond(i % 2 == 0, jnp.sin, jnp.cos, v), x
    ),
    "platform_dependent": lambda x: lax.platform_dependent(x, default=lambda v: v + 1),
    "composite": lambda x: lax.composite(lambda v: jnp.sin(v), name="my.sin")(x),
    "custom_root": lambda x: jnp.sqrt(jnp.abs(x)),
    "linear solve": lambda x: lax.custom_linear_solve(
        lambda v: v * 4.0, x, lambda _, b: b / 4.0, symmetric=True
    ),
}

REFUSED = {
    "pure_callback": (lambda x: jax.pure_callback(np.sin, x, x), "Python code"),
}

RANDOM = {
    "normal": lambda k: jax.random.normal(k, (3, 4)),
    "uniform": lambda k: jax.random.uniform(k, (3, 4), minval=-1, maxval=2),
    "bits": lambda k: jax.random.bits(k, (5,)),
    "randint": lambda k: jax.random.randint(k, (6,), 0, 100),
    "bernoulli": lambda k: jax.random.bernoulli(k, 0.3, (4, 5)),
    "categorical": lambda k: jax.random.categorical(k, jnp.zeros((3, 5))),
    "permutation": lambda k: jax.random.permutation(k, 7),
    "gamma": lambda k: jax.random.gamma(k, 2.0, (3,)),
    "truncated_normal": lambda k: jax.random.truncated_normal(k, -1, 1, (4,)),
    "gumbel": lambda k: jax.random.gumbel(k, (4,)),
    "choice": lambda k: jax.random.choice(k, 9, (3,), replace=False),
    "split and fold_in": lambda k: jax.random.normal(
        jax.random.fold_in(jax.random.split(k, 3)[1], 7), (3,)
    ),
    "keys in a vmap": lambda k: jax.vmap(lambda q: jax.random.normal(q, (2,)))(
        jax.random.split(k, 3)
    ),
    "keys in a scan": lambda k: lax.scan(
        lambda c, q: (c, jax.random.normal(q, (2,))), 0, jax.random.split(k, 3)
    )[1],
    "keys carried by a loop": lambda k: lax.fori_loop(
        0,
        2,
        lambda i, c: (jax.random.split(c[0])[0], c[1] + jax.random.normal(c[0])),
        (k, jnp.float32(0)),
    )[1],
    "key_data": lambda k: (
        jax.random.key_data(jax.random.split(k)[0])
        if jnp.issubdtype(k.dtype, jax.dtypes.prng_key)
        else k
    ),
}


def control() -> Iterator[Case]:
    for name, fn in FUNCTIONS.items():
        yield Case(f"control: {name}", fn, (normal(4, 3),))
    for name, (fn, reason) in REFUSED.items():
        yield Case(f"control: {name} is refused", fn, (normal(2, 3),), cannot={"graph": reason})
    yield Case(
        "control: cond by an input",
        lambda p, x: lax.cond(p > 0, jnp.sin, jnp.cos, x),
        (np.array(1, np.int32), normal(3)),
        alike=False,
    )
    yield Case(
        "control: where instead",
        lambda p, x: jnp.where(p > 0, jnp.sin(x), jnp.cos(x)),
        (np.array(1, np.int32), normal(3)),
    )
    for name, draw in RANDOM.items():
        for kind, make in (("key", jax.random.key), ("PRNGKey", KEY)):
            if kind == "PRNGKey" and name == "key_data":
                continue
            mixed = lambda x, d=draw, m=make: d(m(7)) + x[0].astype(np.int32)  # noqa: E731
            yield Case(
                f"random: {name} by {kind}", lambda x, d=draw, m=make: (x, d(m(7))), (normal(3),)
            )
            if name in ("bits", "randint"):
                yield Case(f"random: {name} by {kind}, and an input", mixed, (normal(3),))
    dropout = lambda x: jnp.where(jax.random.bernoulli(jax.random.key(1), 0.8, x.shape), x / 0.8, 0)  # noqa: E731
    yield Case("random: dropout with a constant key", dropout, (normal(3, 4),))
    yield Case(
        "random: rbg",
        lambda x: x + jax.random.normal(jax.random.key(3, impl="rbg"), (2,)),
        (normal(2),),
    )
    big = lambda x: x + jax.random.normal(jax.random.key(0), (1200, 1000)).sum()  # noqa: E731
    yield Case("random: more than 4 MiB", big, (normal(2),))
    yield Case("control: lstm", lstm, (normal(5, 2, 3), normal(3 + 4, 16, seed=1)))
    yield Case(
        "control: integers through a scan",
        lambda x: lax.scan(lambda c, r: (c + r, c * r), np.int32(0), x),
        (integers(0, 9, 6),),
    )
    yield Case(
        "control: float16 through a loop",
        lambda x: lax.fori_loop(0, 3, lambda i, v: v * x, x),
        (normal(4, dtype=F16),),
    )


def lstm(x: jax.Array, w: jax.Array) -> jax.Array:
    def step(state: tuple[jax.Array, jax.Array], row: jax.Array):
        h, c = state
        i, f, g, o = jnp.split(jnp.concatenate([row, h], -1) @ w, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], 4), F32)
    return lax.scan(step, (start, start), x)[1]


CASES = [*control()]
