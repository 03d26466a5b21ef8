"""Random programs of branches and loops, as data: what each is in JAX, and how they are drawn.

A program turns a state into a state. Every step keeps numbers small, and what narrow floats give
never decides where a program goes, so that rounding cannot send two runtimes different ways.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax import lax

from tests.ir.conformance.arrays import bools, integers, normal

Array = jax.Array


class State(NamedTuple):
    """What a program computes on: pairs of one type, so that they can change places."""

    x: Array  # float32 [2,3]
    y: Array
    s: Array  # float32 []
    n: Array  # int32 []
    m: Array
    k: Array  # int32 [4]
    b: Array  # bool [3]
    h: Array  # float16 or bfloat16 [3]
    i: Array  # a narrow integer, or uint32 [2,2]


NARROW_FLOATS = ("float16", "bfloat16")
OTHER_INTEGERS = ("int8", "int16", "uint8", "uint16", "uint32")

WEIGHTS = {"w": normal(3, 3), "rows": normal(4, 3, seed=1), "bias": normal(3, seed=2)}
Weights = dict[str, Array]


def start(seed: int, narrow: str, integer: str) -> State:
    """A state to begin with."""
    made = (
        *(normal(2, 3, seed=seed), normal(2, 3, seed=seed + 7), normal(seed=seed)),
        *(integers(0, 8, seed=seed), integers(0, 8, seed=seed + 5), integers(0, 9, 4, seed=seed)),
        *(bools(3, seed=seed), normal(3, seed=seed).astype(jnp.dtype(narrow))),
        integers(0, 9, 2, 2, dtype=np.dtype(integer), seed=seed),
    )
    return State(*map(jnp.asarray, made))


# -------------------------------------------------------------------------------- what a step does

Step = Callable[[State, Weights], State]

STEPS: dict[str, Step] = {
    "mix": lambda v, w: v._replace(x=jnp.tanh(v.x * 0.5 + v.y)),
    "product": lambda v, w: v._replace(y=jnp.tanh(v.x @ w["w"] * 0.3 + w["bias"])),
    "a weight": lambda v, w: v._replace(x=jnp.tanh(v.x + w["rows"][:2])),
    "work on a weight": lambda v, w: v._replace(x=jnp.tanh(v.x @ (jnp.sin(w["w"]).T * 0.3))),
    "change places": lambda v, w: v._replace(x=v.y, y=v.x, n=v.m, m=v.n),
    "hand on": lambda v, w: v._replace(y=v.x),
    "a constant": lambda v, w: v._replace(x=jnp.full((2, 3), 0.25), m=jnp.int32(3)),
    "sum": lambda v, w: v._replace(s=jnp.tanh(v.x.sum() + v.s * 0.5)),
    "spread": lambda v, w: v._replace(x=v.x * 0.5 + v.s, y=jnp.sin(v.y + v.n)),
    "count": lambda v, w: v._replace(n=(v.n + 1) & 7),
    "arithmetic": lambda v, w: v._replace(n=(v.n * 3 + v.m) & 7, m=v.n ^ 1),
    "index": lambda v, w: v._replace(k=v.k.at[v.n & 3].set(v.m), m=v.k[v.m & 3] & 7),
    "turn": lambda v, w: v._replace(k=v.k[::-1], b=~v.b, x=v.x[::-1]),
    "booleans": lambda v, w: v._replace(b=v.b ^ (v.k[:3] > 3)),
    "row": lambda v, w: v._replace(y=v.y + w["rows"][v.n & 3] * 0.1),
    "narrow": lambda v, w: v._replace(h=jnp.tanh(v.h * 0.5 + v.x[0].astype(v.h.dtype) * 0.5)),
    "narrow bias": lambda v, w: v._replace(h=v.h * 0.5 + w["bias"].astype(v.h.dtype) * 0.25),
    "integers": lambda v, w: v._replace(i=(v.i * 3 + v.i.T) & 31, n=v.i[0, 1].astype(int) & 7),
    "where": lambda v, w: v._replace(x=jnp.where(v.b, v.x, v.y * 0.5)),
}

PREDICATES: dict[str, Callable[[State], Array]] = {
    "odd": lambda v: (v.n & 1) == 1,
    "less": lambda v: v.m < 4,
    "any": lambda v: v.b.any(),
    "element": lambda v: v.k[v.n & 3] > 4,
    "float": lambda v: v.x.sum() > 0.3719,
    "integer": lambda v: (v.i.sum() & 3) != 0,
}


# ---------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Cond:
    """A branch by the number of a predicate; ``given``: as operands, else as captured values."""

    predicate: str
    branches: tuple["Block", ...]
    given: bool


@dataclass(frozen=True)
class While:
    """At most ``n & 3`` trips, or ``most``; ``before`` is computed in the condition."""

    predicate: str
    most: int | None
    before: "Block"
    body: "Block"


@dataclass(frozen=True)
class Fori:
    """``trips``, or as many as the state says."""

    trips: int | None
    body: "Block"


@dataclass(frozen=True)
class Scan:
    """Over the rows of a weight, or of the state; ``stacked`` results are used afterwards."""

    length: int
    reverse: bool
    of_weight: bool
    stacked: tuple[str, ...]
    body: "Block"


@dataclass(frozen=True)
class Under:
    """A block under a transformation of JAX."""

    what: str
    body: "Block"


Statement: TypeAlias = str | Cond | While | Fori | Scan | Under
Block = tuple[Statement, ...]


def run(block: Block, v: State, w: Weights) -> State:
    """What JAX makes of a program."""
    for each in block:
        v = STEPS[each](v, w) if isinstance(each, str) else _MEANS[type(each)](each, v, w)
    return v


def _cond(each: Cond, v: State, w: Weights) -> State:
    holds = PREDICATES[each.predicate](v)
    if each.given:
        branches = [lambda s, w, b=b: run(b, s, w) for b in each.branches]
        if len(branches) == 2:
            return lax.cond(holds, *branches, v, w)
        return lax.switch(v.m + holds, branches, v, w)
    captured = [lambda b=b: run(b, v, w) for b in each.branches]
    return lax.cond(holds, *captured) if len(captured) == 2 else lax.switch(v.n - 1, captured)


def _while(each: While, v: State, w: Weights) -> State:
    most = v.n & 3 if each.most is None else each.most

    def goes_on(carried: tuple[Array, State]) -> Array:
        count, s = carried
        return (count < most) & PREDICATES[each.predicate](run(each.before, s, w))

    first = jnp.asarray(0, jnp.int32)
    step = lambda c: (c[0] + 1, run(each.body, c[1], w))  # noqa: E731
    count, v = lax.while_loop(goes_on, step, (first, v))
    return v._replace(n=(v.n + count) & 7)


def _fori(each: Fori, v: State, w: Weights) -> State:
    trips = v.m & 3 if each.trips is None else each.trips
    return lax.fori_loop(0, trips, lambda i, s: run(each.body, s._replace(m=(s.m + i) & 7), w), v)


def _scan(each: Scan, v: State, w: Weights) -> State:
    rows = (w["rows"] if each.of_weight else jnp.tile(v.y, (2, 1)))[: each.length]

    def step(s: State, row: Array) -> tuple[State, tuple[Array, ...]]:
        old = s
        s = run(each.body, s._replace(x=jnp.tanh(s.x * 0.5 + row)), w)
        return s, tuple(getattr(old if name == "b" else s, name) for name in each.stacked)

    v, stacks = lax.scan(step, v, rows, reverse=each.reverse)
    if not each.length:
        return v
    last = {name: stack[0] for name, stack in zip(each.stacked, stacks, strict=True)}
    return v._replace(**last)


def _under(each: Under, v: State, w: Weights) -> State:
    if each.what == "remat":
        return jax.checkpoint(lambda s: run(each.body, s, w))(v)
    if each.what == "jit":
        return jax.jit(lambda s: run(each.body, s, w))(v)
    if each.what == "jvp":
        of_x = lambda x: run(each.body, v._replace(x=x), w).x  # noqa: E731
        x, along = jax.jvp(of_x, (v.x,), (jnp.cos(v.y),))
        return v._replace(x=x, y=jnp.tanh(along))
    other = v._replace(x=v.y, n=(v.n + 3) & 7, m=v.m ^ 5, b=~v.b, k=v.k[::-1])
    both = jax.tree.map(lambda *parts: jnp.stack(parts), v, other)
    both = jax.vmap(lambda s: run(each.body, s, w))(both)
    first, second = (jax.tree.map(lambda part, i=i: part[i], both) for i in range(2))
    return first._replace(y=second.x, m=second.n, b=second.b)


_MEANS: dict[type, Callable[..., State]] = {
    Cond: _cond, While: _while, Fori: _fori, Scan: _scan, Under: _under,
}  # fmt: skip


# ------------------------------------------------------------------------------------------- draws


def blocks(depth: int, least: int = 1) -> st.SearchStrategy[Block]:
    """Blocks with at most ``depth`` statements inside each other."""
    steps: st.SearchStrategy[Statement] = st.sampled_from(sorted(STEPS))
    each = st.one_of(steps, _statements(depth)) if depth else steps
    return st.lists(each, min_size=least, max_size=3).map(tuple)


def _statements(depth: int) -> st.SearchStrategy[Statement]:
    inner, maybe = blocks(depth - 1), blocks(depth - 1, 0)
    predicate = st.sampled_from(sorted(PREDICATES))
    branches = st.lists(maybe, min_size=2, max_size=4).map(tuple)
    stacked = st.lists(st.sampled_from("xsnkbhi"), unique=True, max_size=3).map(tuple)
    trips = st.none() | st.integers(0, 4)
    return st.one_of(
        st.builds(Cond, predicate, branches, st.booleans()),
        st.builds(While, predicate, trips, st.just(()) | maybe, inner),
        st.builds(Fori, trips, inner),
        st.builds(Scan, st.integers(0, 4), st.booleans(), st.booleans(), stacked, inner),
        st.builds(Under, st.sampled_from(["vmap", "remat", "jvp", "jit"]), inner),
    )


@dataclass(frozen=True)
class Program:
    """A block, the types of its state, and how many trips of a loop may be written out."""

    block: Block
    narrow: str
    integer: str
    max_unroll: int

    def __call__(self, weights: Weights, *values: Array) -> State:
        return run(self.block, State(*values), weights)

    def starts(self) -> Sequence[State]:
        """States that it is run on."""
        return [start(seed, self.narrow, self.integer) for seed in range(3)]


def programs(depth: int) -> st.SearchStrategy[Program]:
    """Programs with at most ``depth`` statements inside each other."""
    types = st.sampled_from(NARROW_FLOATS), st.sampled_from(OTHER_INTEGERS)
    return st.builds(Program, blocks(depth), *types, st.sampled_from([0, 2, 512]))
