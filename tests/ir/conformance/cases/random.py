"""Random numbers of keys that are inputs: bit for bit, in both layouts, and all that is above."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from tests.ir.conformance.case import Case

Draw = Callable[[Array], Array]
Function = Callable[[Array], object]

KEY = np.array([7, 123456789], np.uint32)
KEYS = np.array([[0, 1], [4294967295, 2147483648], [99991, 17]], np.uint32)


def typed(draw: Function, impl: str = "threefry2x32") -> Function:
    return lambda data: draw(random.wrap_key_data(data, impl=impl))


# What JAX draws in another layout with jax_threefry_partitionable=False.
LAYOUTS: dict[str, Draw] = {
    "bits of 8": lambda k: random.bits(k, (5, 3), "uint8"),
    "bits of 16": lambda k: random.bits(k, (5, 3), "uint16"),
    "bits of 32": lambda k: random.bits(k, (5, 3), "uint32"),
    "one number": lambda k: random.uniform(k),
    "no numbers": lambda k: random.bits(k, (0, 3)),
    "split": lambda k: random.key_data(random.split(k, (3, 2))),
    "fold_in": lambda k: random.key_data(random.fold_in(k, 2**31 + 5)),
}

DRAWS: dict[str, Draw] = {
    "uniform": lambda k: random.uniform(k, (3, 4), minval=-1, maxval=2),
    "uniform of float16": lambda k: random.uniform(k, (3, 4), "float16"),
    "uniform of bfloat16": lambda k: random.uniform(k, (3, 4), "bfloat16"),
    "normal": lambda k: random.normal(k, (3, 4)),
    "normal of complex numbers": lambda k: jnp.abs(random.normal(k, (3,), "complex64")),
    "truncated_normal": lambda k: random.truncated_normal(k, -1, 1, (4,)),
    "multivariate_normal": lambda k: random.multivariate_normal(k, jnp.zeros(2), jnp.eye(2)),
    "bernoulli": lambda k: random.bernoulli(k, 0.3, (4, 5)),
    "rademacher": lambda k: random.rademacher(k, (7,)),
    "categorical": lambda k: random.categorical(k, jnp.zeros((3, 5))),
    "gumbel": lambda k: random.gumbel(k, (4,)),
    "exponential": lambda k: random.exponential(k, (4,)),
    "laplace": lambda k: random.laplace(k, (4,)),
    "logistic": lambda k: random.logistic(k, (4,)),
    "cauchy": lambda k: random.cauchy(k, (4,)),
    "geometric": lambda k: random.geometric(k, 0.3, (4,)),
    "randint": lambda k: random.randint(k, (6,), -3, 100),
    "randint of uint8": lambda k: random.randint(k, (6,), 0, 100, "uint8"),
    "permutation": lambda k: random.permutation(k, 7),
    "permutation of rows": lambda k: random.permutation(k, jnp.arange(12.0).reshape(4, 3)),
    "choice": lambda k: random.choice(k, 9, (3,), replace=False),
    "choice by weights": lambda k: random.choice(k, 3, (3,), p=jnp.array([0.2, 0.5, 0.3])),
}

# XLA's own generators: a state of two numbers of 64 bits, whose counter is about to overflow.
STATE = np.array([4294967295, 1, 4294967294, 4294967295], np.uint32)
DEFAULT, THREE_FRY, PHILOX = lax.RandomAlgorithm
GENERATED = {
    "by default": (DEFAULT, (5, 3), "uint32"),
    "philox, one number": (PHILOX, (), "uint32"),
    "philox, nothing": (PHILOX, (0, 3), "uint32"),
    "philox, bits of 8": (PHILOX, (9,), "uint8"),
    "philox, bits of 64": (PHILOX, (2, 3), "uint64"),
    "threefry, one number": (THREE_FRY, (), "uint32"),
    "threefry, nothing": (THREE_FRY, (0, 3), "uint32"),
    "threefry, an even axis": (THREE_FRY, (3, 4, 2), "uint32"),
    "threefry, odd axes": (THREE_FRY, (3, 5), "uint32"),
    "threefry, bits of 16": (THREE_FRY, (5, 3), "uint16"),
    "threefry, bits of 64": (THREE_FRY, (3,), "uint64"),
}

# Keys of these generators: what of JAX differs for them.
OTHER_KEYS: dict[str, Draw] = {
    "normal": lambda k: random.normal(k, (3, 4)),
    "bits of 16": lambda k: random.bits(k, (3,), "uint16"),
    "split": lambda k: random.key_data(random.split(k, 3)),
    "fold_in": lambda k: random.key_data(random.fold_in(k, 5)),
    "each draws": lambda k: jax.vmap(random.bits)(random.split(k, 3)),
}

# Drawn until one is accepted, a loop on data.
REJECTED: dict[str, Draw] = {
    "gamma": lambda k: random.gamma(k, jnp.array([0.3, 1.0, 7.5])),
    "loggamma": lambda k: random.loggamma(k, jnp.array([0.3, 7.5])),
    "beta": lambda k: random.beta(k, jnp.array([0.5, 2.0]), 3.0),
    "dirichlet": lambda k: random.dirichlet(k, jnp.array([1.0, 2.0, 3.0])),
    "poisson": lambda k: random.poisson(k, jnp.array([0.5, 4.0, 30.0])),
    "binomial": lambda k: random.binomial(k, 10.0, jnp.array([0.2, 0.7])),
    "t": lambda k: random.t(k, 4.0, (3,)),
    "a key in a loop on data": lambda k: lax.while_loop(
        lambda c: c[1] < 2,
        lambda c: (random.split(c[0])[0], c[1] + random.uniform(c[0])),
        (k, jnp.zeros(())),
    )[1],
}
NO_LOOPS = {"AIR": "length depends on the data"}

# Keys as values like others; the argument is an array of three.
MOVES: dict[str, Draw] = {
    "index": lambda k: k[1],
    "indices": lambda k: k[jnp.array([2, 0])],
    "index out of range": lambda k: k[jnp.array([5, 0])],
    "slice": lambda k: k[::-2],
    "concatenate": lambda k: jnp.concatenate([k, k[:1]]),
    "stack": lambda k: jnp.stack([k, k], 1),
    "where": lambda k: jnp.where(jnp.array([True, False, True]), k, k[::-1]),
    "reshape": lambda k: k.reshape(3, 1, 1),
    "transpose": lambda k: jnp.broadcast_to(k, (2, 3)).T,
    "repeat": lambda k: jnp.repeat(k, 2),
    "dynamic_slice": lambda k: lax.dynamic_slice(k, (start(k),), (2,)),
    "dynamic_update_slice": lambda k: lax.dynamic_update_slice(k, k[2:], (start(k),)),
    "set": lambda k: k.at[1].set(k[0]),
    "jit": lambda k: jax.jit(lambda q: random.split(q[0]))(k),
    "clone": random.clone,
    "split each": jax.vmap(random.split),
    "fold_in one number": lambda k: jax.vmap(random.fold_in, (0, None))(k, 5),
    "loop": lambda k: lax.fori_loop(0, 3, lambda i, c: random.split(c)[1], k[0]),
}


def start(keys: Array) -> Array:
    return random.key_data(keys)[0, 0].astype(np.int32) % 2


def cases() -> Iterator[Case]:
    for name, draw in LAYOUTS.items():
        for kind, on in (("as one can part it", True), ("in the older layout", False)):
            yield Case(f"draw: {name} {kind}", typed(draw), (KEY,), partitionable=on)
    for name, draw in DRAWS.items():
        yield Case(f"draw: {name}", typed(draw), (KEY,))
    for name, draw in REJECTED.items():
        yield Case(f"draw: {name}", typed(draw), (KEY,), alike=False, cannot=NO_LOOPS)
    for name, (algorithm, shape, dtype) in GENERATED.items():
        draw = partial(lax.rng_bit_generator, shape=shape, dtype=dtype, algorithm=algorithm)
        yield Case(f"rng_bit_generator: {name}", draw, (STATE,), x64=dtype == "uint64")
    whole = lambda state: lax.rng_bit_generator(state, (3,))  # noqa: E731
    yield Case("rng_bit_generator: of uint64", whole, (STATE.view(np.uint64),))
    for impl in ("rbg", "unsafe_rbg"):
        for name, draw in OTHER_KEYS.items():
            yield Case(f"{impl} keys: {name}", typed(draw, impl), (STATE,))
    for name, move in MOVES.items():
        yield Case(f"keys: {name}", typed(lambda k, f=move: random.key_data(f(k))), (KEYS,))
    yield Case("keys: equal", typed(lambda k: (k == k[::-1], k != k[1])), (KEYS,))
    yield Case("keys: each draws", typed(jax.vmap(lambda k: random.normal(k, (2,)))), (KEYS,))
    yield Case("keys: raw ones", lambda k: random.normal(random.split(k, 3)[1], (3,)), (KEY,))
    yield Case(
        "keys: of a seed", lambda x: random.bits(random.key(x), (3,)), (np.array(-5, np.int32),)
    )
    wide = lambda k: random.bits(k, (3,), "uint64")  # noqa: E731
    yield Case("draw: bits of 64", typed(wide), (KEY,), x64=True)
    doubles = lambda k: random.uniform(k, (3,), "float64")  # noqa: E731
    yield Case("draw: uniform of float64", typed(doubles), (KEY,), x64=True)


CASES = [*cases()]
