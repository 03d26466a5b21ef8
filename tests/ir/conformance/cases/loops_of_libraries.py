"""Loops as libraries write them: recurrent networks, solvers, searches, transformations of JAX."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import equinox as eqx
import equinox.internal as eqxi
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jax.experimental.ode import odeint
from jax.scipy.sparse.linalg import bicgstab, cg, gmres

from tests.ir.conformance.arrays import BF16, F16, normal, sample
from tests.ir.conformance.case import Case

Array = jax.Array
Function = Callable[..., Any]

os.environ.setdefault("KERAS_BACKEND", "jax")  # before keras is imported

STEPS = 600  # more than max_unroll, so that they stay a loop
NO_LOOPS = "the format (has no loops|does not have)|control flow"

X = normal(2, 3)
ROWS = normal(2, STEPS, 3)  # batch, time, features
LENGTHS = np.array([STEPS, 7], np.int32)
SQUARE = normal(3, 3) * 0.2 + np.eye(3, dtype=np.float32) * 2


# ---------------------------------------------------------------------------- recurrent networks


def eagerly(make: Callable[[], Any]) -> Callable[[], Any]:
    """``make``, called once, whose arrays are known though the first call may be traced."""

    @cache
    def made() -> Any:
        with jax.ensure_compile_time_eval():
            return make()

    return made


@cache
def linen(cell: str, **options: Any) -> tuple[nn.Module, Any]:
    net = nn.RNN(getattr(nn, cell)(4), **options)
    with jax.ensure_compile_time_eval():  # the first call may be one that is traced
        return net, net.init(jax.random.key(0), jnp.asarray(ROWS))


def of_linen(cell: str, **options: Any) -> Function:
    def run(x: Array, *lengths: Array) -> Any:
        net, params = linen(cell, **options)
        return net.apply(params, x, seq_lengths=lengths[0] if lengths else None)

    return run


def lstm_of_lengths(x: Array, lengths: Array) -> Any:
    """The states stay from the end of each sequence on."""
    _, params = linen("LSTMCell")
    params = {"params": params["params"]["cell"]}
    cell: Any = nn.LSTMCell(4)

    def step(carry: Any, row: Any) -> Any:
        x, live = row
        new, shown = cell.apply(params, carry, x)
        kept = jax.tree.map(lambda new, old: jnp.where(live[:, None], new, old), new, carry)
        return kept, jnp.where(live[:, None], shown, 0)

    live = (jnp.arange(x.shape[1]) < lengths[:, None]).T
    return lax.scan(step, (jnp.ones((2, 4)) * 0.1,) * 2, (x.swapaxes(0, 1), live))


class Scanned(nn.Module):
    """``nn.scan`` over time, with weights that all steps have."""

    reverse: bool = False

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        step = nn.scan(
            nn.GRUCell,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=self.reverse,
        )
        return step(4)(jnp.zeros((2, 4)), x)


class Layer(nn.Module):
    """A layer of a stack, as ``nn.scan`` repeats it with weights of its own."""

    @nn.compact
    def __call__(self, x: Array, _: None) -> tuple[Array, None]:
        return x + jnp.tanh(nn.Dense(3)(x)), None


class Stack(nn.Module):
    """Layers whose weights lie along a first axis."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True},
                         length=STEPS)  # fmt: skip
        return layers()(x * 0.1, None)[0]


def of_module(net: nn.Module) -> Function:
    params = eagerly(lambda: net.init(jax.random.key(0), jnp.zeros((2, STEPS, 3))))
    return lambda x: net.apply(params(), x)


def of_nnx(name: str) -> Function:
    """Made at once: NNX knows the trace that a module was made in."""
    cell = getattr(nnx, name)(3, 4, rngs=nnx.Rngs(0))
    graph, state = nnx.split(nnx.RNN(cell))
    start = cell.initialize_carry((2, 3), rngs=nnx.Rngs(0))
    return lambda x: nnx.merge(graph, jax.tree.map(jnp.asarray, state))(x, initial_carry=start)


class Counted(nnx.Module):
    """What ``nnx.while_loop`` and ``nnx.scan`` carry."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jnp.asarray(SQUARE) * 0.3)

    def __call__(self, x: Array) -> Array:
        return jnp.tanh(x @ self.weight[...])


def nnx_while(x: Array) -> Array:
    net = Counted()
    goes_on = lambda s: s[1].sum() < 20  # noqa: E731
    return nnx.while_loop(goes_on, lambda s: (s[0], s[1] + s[0](s[1]) ** 2 + 0.1), (net, x))[1]


def nnx_fori(x: Any) -> Any:
    step = lambda _, s: (s[0], s[1] + s[0](s[1]))  # noqa: E731
    return nnx.fori_loop(0, x.shape[0] + (x[0, 0] > 0).astype(int), step, (Counted(), x))[1]


def nnx_scan(x: Array) -> Any:
    net = Counted()
    step = nnx.scan(
        lambda c, net, r: (net(c) + r, c.sum()), in_axes=(nnx.Carry, None, 1),
        out_axes=(nnx.Carry, 0),
    )  # fmt: skip
    return step(x[:, 0] * 0, net, x)


def of_haiku(core: Callable[[], hk.RNNCore], unroll: Function) -> Function:
    def forward(x: Array) -> Any:
        made = core()
        return unroll(made, x, made.initial_state(2))

    net = hk.without_apply_rng(hk.transform(forward))
    params = eagerly(lambda: net.init(jax.random.key(0), jnp.zeros((STEPS, 2, 3))))
    return lambda x: net.apply(params(), jnp.moveaxis(x, 1, 0))


def of_equinox(name: str) -> Function:
    made = eagerly(lambda: getattr(eqx.nn, name)(3, 4, key=jax.random.key(0)))

    def run(x: Array) -> Array:
        cell = made()
        start = (jnp.zeros(4),) * 2 if name == "LSTMCell" else jnp.zeros(4)
        step = lambda s, r: (cell(r, s), s)  # noqa: E731
        return jax.vmap(lambda rows: lax.scan(step, start, rows)[0])(x)

    return run


def in_own_type(x: Array) -> Any:
    """A network whose weights have the type of its input."""
    net = nn.RNN(nn.GRUCell(4, dtype=x.dtype))
    params = eagerly(lambda: net.init(jax.random.key(0), jnp.zeros((2, 5, 3))))()
    return net.apply(jax.tree.map(lambda w: w.astype(x.dtype), params), x)


@cache
def of_keras(name: str, masked: bool, bidirectional: bool, options: tuple[str, ...]) -> Any:
    import keras

    with jax.ensure_compile_time_eval():
        layer = getattr(keras.layers, name)(4, **dict.fromkeys(options, True))
        layer = keras.layers.Bidirectional(layer) if bidirectional else layer
        given = keras.Input((STEPS, 3))
        value = keras.layers.Masking()(given) if masked else given
        return keras.Model(given, layer(value))


def in_keras(name: str, *options: str, masked: bool = False, bidirectional: bool = False):
    def run(x: Array) -> Any:
        net = of_keras(name, masked, bidirectional, options)
        return net.stateless_call(
            [v.value for v in net.trainable_variables],
            [v.value for v in net.non_trainable_variables],
            x,
        )[0]

    return run


def masked_rows() -> np.ndarray:
    rows = ROWS.copy()
    rows[1, 9:] = 0
    return rows


RECURRENT: dict[str, Function] = {
    "flax RNN of LSTMCell": of_linen("LSTMCell"),
    "flax RNN of OptimizedLSTMCell": of_linen("OptimizedLSTMCell"),
    "flax RNN of GRUCell": of_linen("GRUCell"),
    "flax RNN of MGUCell": of_linen("MGUCell"),
    "flax RNN of SimpleCell": of_linen("SimpleCell"),
    "flax RNN, reversed": of_linen("GRUCell", reverse=True, keep_order=True),
    "flax RNN, the carry too": of_linen("LSTMCell", return_carry=True),
    "flax scan": of_module(Scanned()),
    "flax scan, reversed": of_module(Scanned(reverse=True)),
    "flax scan of layers": lambda x: of_module(Stack())(x[:, 0]),
    "nnx RNN of LSTMCell": of_nnx("LSTMCell"),
    "nnx RNN of OptimizedLSTMCell": of_nnx("OptimizedLSTMCell"),
    "nnx RNN of GRUCell": of_nnx("GRUCell"),
    "nnx RNN of SimpleCell": of_nnx("SimpleCell"),
    "nnx scan": nnx_scan,
    "haiku dynamic_unroll of LSTM": of_haiku(lambda: hk.LSTM(4), hk.dynamic_unroll),
    "haiku dynamic_unroll of GRU": of_haiku(lambda: hk.GRU(4), hk.dynamic_unroll),
    "haiku dynamic_unroll of VanillaRNN": of_haiku(lambda: hk.VanillaRNN(4), hk.dynamic_unroll),
    "haiku dynamic_unroll, reversed": of_haiku(
        lambda: hk.GRU(4), lambda core, x, s: hk.dynamic_unroll(core, x, s, reverse=True)
    ),
    "equinox LSTMCell": of_equinox("LSTMCell"),
    "equinox GRUCell": of_equinox("GRUCell"),
    "keras SimpleRNN": in_keras("SimpleRNN", "return_sequences"),
    "keras LSTM": in_keras("LSTM"),
    "keras LSTM, all steps and the state": in_keras("LSTM", "return_sequences", "return_state"),
    "keras LSTM, backwards": in_keras("LSTM", "go_backwards"),
    "keras GRU": in_keras("GRU"),
    "keras GRU, all steps": in_keras("GRU", "return_sequences"),
    "keras Bidirectional LSTM": in_keras("LSTM", "return_sequences", bidirectional=True),
    "keras Bidirectional GRU": in_keras("GRU", bidirectional=True),
}

MASKED: dict[str, Function] = {
    "keras LSTM, masked": in_keras("LSTM", masked=True),
    "keras LSTM, masked, all steps": in_keras("LSTM", "return_sequences", masked=True),
    "keras GRU, masked": in_keras("GRU", masked=True),
    "keras Bidirectional LSTM, masked": in_keras(
        "LSTM", "return_sequences", masked=True, bidirectional=True
    ),
    "keras Bidirectional GRU, masked": in_keras("GRU", masked=True, bidirectional=True),
}


def recurrent() -> Iterator[Case]:
    long = {"AIR": NO_LOOPS}
    for name, fn in RECURRENT.items():
        yield Case(f"library loop: {name}", fn, (ROWS,), 1e-4, alike=False, cannot=long)
    for name, fn in MASKED.items():
        yield Case(f"library loop: {name}", fn, (masked_rows(),), 1e-4, alike=False, cannot=long)
    for cell in ("LSTMCell", "GRUCell"):
        fn, name = of_linen(cell), f"library loop: flax RNN of {cell} with lengths"
        yield Case(name, fn, (ROWS, LENGTHS), 1e-4, alike=False, cannot=long)
    name = "library loop: flax LSTMCell with a mask of lengths"
    yield Case(name, lstm_of_lengths, (ROWS, LENGTHS), 1e-4, alike=False, cannot=long)
    for dtype in (F16, BF16):
        fn = in_own_type
        few = sample(dtype, 2, 5, 3)
        yield Case(f"library loop: flax RNN of {dtype}", fn, (few,), 5e-2, alike=False)


# -------------------------------------------------------------------------- solvers and searches


def eqx_while(x: Array) -> Array:
    return eqxi.while_loop(lambda v: v.sum() < 20, lambda v: v * 1.5 + 0.5, x, kind="lax")


def eqx_while_steps(x: Array) -> Any:
    return eqxi.while_loop(
        lambda s: s[1].sum() < 90, lambda s: (s[0] + 1, s[1] + 2.0), (0, x), max_steps=5, kind="lax"
    )


def decay(x: Array) -> Array:
    """An exponential decay that is solved with an adaptive step."""
    return odeint(lambda y, t: -y * (1 + t), x, jnp.linspace(0.0, 1.0, 4))


def line_search(search: Callable[[], Any]) -> Function:
    """Two steps down a bowl."""

    def run(x: Any) -> Any:
        value = lambda v: ((v - 1) ** 2).sum() + (v**4).sum() * 0.1  # noqa: E731
        solver = search()
        state = solver.init(x)
        for _ in range(2):
            loss, slope = jax.value_and_grad(value)(x)
            given = {"value": loss, "grad": slope, "value_fn": value}
            updates, state = solver.update(slope, state, x, **given)
            x = optax.apply_updates(x, updates)
        return x

    return run


def bisected(x: Array) -> Array:
    """The cube root of each element, by halving."""

    def step(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        return jnp.where(middle**3 < x, middle, low), jnp.where(middle**3 < x, high, middle)

    trips = 20 + (x[0, 0] > 0).astype(jnp.int32)
    return lax.fori_loop(0, trips, step, (jnp.full_like(x, -2.0), jnp.full_like(x, 2.0)))[0]


SOLVERS: dict[str, tuple[Function, tuple[np.ndarray, ...]]] = {
    "equinox while_loop": (eqx_while, (X + 2,)),
    "equinox while_loop with most steps": (eqx_while_steps, (X,)),
    "nnx while_loop": (nnx_while, (X,)),
    "nnx fori_loop": (nnx_fori, (X,)),
    "odeint": (decay, (X,)),
    "cg": (lambda b: cg(jnp.asarray(SQUARE.T @ SQUARE), b)[0], (X[0],)),
    "gmres": (lambda b: gmres(jnp.asarray(SQUARE), b, restart=3, maxiter=3)[0], (X[0],)),
    "bicgstab": (lambda b: bicgstab(jnp.asarray(SQUARE), b, maxiter=4)[0], (X[0],)),
    "expm": (jax.scipy.linalg.expm, (SQUARE,)),
    "backtracking line search": (
        line_search(
            lambda: optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(9))
        ), (X,),
    ),
    "zoom line search": (
        line_search(lambda: optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(4))), (X,),
    ),
    "bisection": (bisected, (X,)),
    "polyval": (lambda p, x: jnp.polyval(p, x), (normal(5), X)),
    "polyval, long": (lambda p, x: jnp.polyval(p, x, unroll=4), (normal(700) * 0.1, X * 0.2)),
    "gcd": (jnp.gcd, (np.array([84, 36, 7, 0], np.int32), np.array([36, 84, 0, 0], np.int32))),
    "lcm": (jnp.lcm, (np.array([4, 6, 7, 1], np.int32), np.array([6, 4, 3, 9], np.int32))),
}  # fmt: skip


def solvers() -> Iterator[Case]:
    for name, (fn, args) in SOLVERS.items():
        air = {} if name in ("polyval", "expm") else {"AIR": NO_LOOPS}
        yield Case(f"library loop: {name}", fn, args, 1e-4, alike=False, cannot=air)
    for side in ("left", "right"):
        for method in ("scan", "scan_unrolled", "sort", "compare_all"):
            fn = lambda v, s=side, m=method: jnp.searchsorted(  # noqa: E731
                jnp.sort(v.ravel()), v.ravel() + 0.1, side=s, method=m
            )
            yield Case(f"library loop: searchsorted {side} by {method}", fn, (X,), alike=False)


# ---------------------------------------------------------------------- transformations of loops


def cell(c: Array, r: Array) -> tuple[Array, Array]:
    c = jnp.tanh(c * 0.7 + r)
    return c, c


def rows_of(x: Array) -> Array:
    return jnp.tile(x, (STEPS // 2, 1))


def scanned(step: Function, **options: Any) -> Function:
    return lambda x: lax.scan(step, x[0] * 0, rows_of(x), **options)


@jax.custom_jvp
def clipped(x: Array) -> Array:
    return jnp.clip(x, -1, 1)


@clipped.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return clipped(*primals), tangents[0] * 0.5


@jax.custom_vjp
def passed(x: Array) -> Array:
    return jnp.round(x)


passed.defvjp(lambda x: (jnp.round(x), None), lambda _, g: (g,))


def by_data(x: Array) -> Array:
    return jnp.sum(x > 0).astype(jnp.int32)


TRANSFORMED: dict[str, Function] = {
    "grad through scan": jax.grad(lambda x: scanned(cell)(x)[1].sum() * 0.01),
    "grad through a reversed scan": jax.grad(lambda x: scanned(cell, reverse=True)(x)[0].sum()),
    "grad through fori_loop": jax.grad(
        lambda x: lax.fori_loop(0, STEPS, lambda i, v: jnp.tanh(v + x * 0.1), x).sum()
    ),
    "grad through a checkpointed step": jax.grad(
        lambda x: scanned(jax.checkpoint(cell))(x)[0].sum()
    ),
    "grad through nested scans": jax.grad(
        lambda x: scanned(
            lambda c, r: (lax.scan(lambda a, b: (jnp.tanh(a + b), None), c, jnp.stack([r, c]))[0],
                          None)
        )(x)[0].sum()
    ),
    "grad of custom_jvp in a scan": jax.grad(
        lambda x: scanned(lambda c, r: (clipped(c * 0.5 + r), c))(x)[0].sum()
    ),
    "grad of custom_vjp in a scan": jax.grad(
        lambda x: scanned(lambda c, r: (passed(c) * 0.1 + r, c))(x)[0].sum()
    ),
    "grad of cond in a scan": jax.grad(
        lambda x: scanned(
            lambda c, r: (lax.cond(r.sum() > 0, lambda v: jnp.sin(v) + r, lambda v: v * 0.5, c), c)
        )(x)[0].sum()
    ),
    "jvp through while": lambda x: jax.jvp(
        lambda v: lax.fori_loop(0, by_data(x), lambda i, u: jnp.sin(u) + i, v), (x,), (x,)
    ),
    "vmap of grad of scan": jax.vmap(
        jax.grad(lambda v: lax.scan(cell, v[0], jnp.tile(v, STEPS // 3))[0])
    ),
    "hessian of scan": lambda x: jax.hessian(
        lambda v: lax.scan(cell, v[0], jnp.tile(v, STEPS // 3))[0]
    )(x[0]),
    "checkpoint of scan": jax.checkpoint(lambda x: scanned(cell)(x)[0]),
    "scan with unroll": scanned(cell, unroll=7),
    "map in batches": lambda x: lax.map(lambda r: jnp.sin(r) @ r, rows_of(x), batch_size=50),
    "associative_scan of products": lambda x: lax.associative_scan(
        lambda a, b: a @ b, jnp.tile(jnp.asarray(SQUARE) * 0.4 + x[0, 0] * 0, (9, 1, 1))
    ),
    "associative_scan, reversed": lambda x: lax.associative_scan(
        jnp.maximum, rows_of(x)[:9], reverse=True
    ),
    "vmap of cond with a predicate each": jax.vmap(
        lambda r: lax.cond(r.sum() > 0, jnp.sin, lambda v: v * 2, r)
    ),
    "vmap of switch with an index each": jax.vmap(
        lambda r: lax.switch(by_data(r), [jnp.sin, jnp.cos, jnp.tanh, lambda v: v], r)
    ),
    "vmap of while with a predicate each": jax.vmap(
        lambda r: lax.while_loop(lambda v: v.sum() < 5, lambda v: v + 1, r)
    ),
    "vmap of fori_loop with trips each": jax.vmap(
        lambda r: lax.fori_loop(0, by_data(r), lambda i, v: v * 2 + i, r)
    ),
    "vmap of scan over a batch of carries": lambda x: jax.vmap(
        lambda c: lax.scan(cell, c, rows_of(x))[0]
    )(x),
    "vmap of while over captured values": lambda x: jax.vmap(
        lambda w: lax.while_loop(lambda v: v.sum() < 9, lambda v: v + jnp.abs(w), x[0])
    )(x),
    "a loop in a condition of a batch": jax.vmap(
        lambda r: lax.while_loop(
            lambda v: lax.fori_loop(0, by_data(r), lambda i, u: u + 1, v).sum() < 12,
            lambda v: v + 1, r,
        )
    ),
    "a loop in a condition": lambda x: lax.while_loop(
        lambda v: lax.while_loop(lambda u: u.sum() < 3, lambda u: u + 1, v).sum() < 30,
        lambda v: v + 1, x,
    ),
    "a boolean that a loop goes on by": lambda x: lax.while_loop(
        lambda s: s[0], lambda s: (s[1].sum() < 9, s[1] + 1), (True, x)
    ),
    "two booleans that are one": lambda x: lax.while_loop(
        lambda s: s[0] & s[1], lambda s: (s[2].sum() < 9, s[2].sum() < 9, s[2] + 1),
        (True, True, x),
    ),
}  # fmt: skip


def transformed() -> Iterator[Case]:
    short = ("associative_scan", "map in batches", "vmap of cond", "vmap of switch")
    for name, fn in TRANSFORMED.items():
        air = {} if name.startswith(short) else {"AIR": NO_LOOPS}
        tolerance = 1e-4 if "grad" in name or "hessian" in name else None
        yield Case(f"loop: {name}", fn, (X,), tolerance, alike=False, cannot=air)


CASES = [*recurrent(), *solvers(), *transformed()]
