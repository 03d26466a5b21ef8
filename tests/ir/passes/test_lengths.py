"""Masks that say how long each sequence is become the lengths of an LSTM or a GRU in ONNX.

``x`` is ``[time, batch, features]``; the loop is kept by ``max_unroll=1``.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as symbolic
from jax import lax

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.recurrent import recurrent
from fnckpt.ir.targets import target
from fnckpt.ir.traced import TracedFunction
from fnckpt.ir.verify import verify

TIME, BATCH, FEATURES, UNITS = 5, 3, 2, 4
RNG = np.random.default_rng(0)
S, T = jax.nn.sigmoid, jnp.tanh
Array = Any


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


PARAMS = {
    "x": normal(FEATURES, 4 * UNITS),
    "h": normal(UNITS, 4 * UNITS),
    "b": normal(4 * UNITS),
}
X = normal(TIME, BATCH, FEATURES)
LENGTHS = [[5, 0, 2], [0, 0, 0], [7, -3, 4], [1, 5, 3]]
LENGTH = np.array(LENGTHS[0], np.int32)


def lstm(w: Array, states: Array, x: Array) -> Array:
    h, c = states
    i, f, g, o = jnp.split(x @ w["x"] + h @ w["h"] + w["b"], 4, -1)
    c = S(f) * c + S(i) * T(g)
    return S(o) * T(c), c


def gru(w: Array, states: Array, x: Array) -> Array:
    (h,) = states
    r, z, n, _ = jnp.split(x @ w["x"], 4, -1)
    of_r, of_z, of_n, _ = jnp.split(h @ w["h"] + w["b"], 4, -1)
    z = S(z + of_z)
    return ((1 - z) * T(n + S(r + of_r) * of_n) + z * h,)


def steps(first: int = 0) -> Array:
    return jnp.arange(first, TIME + first)[:, None]


def zero(live: Array, new: Array, kept: Array) -> Array:
    return jnp.where(live, kept[0], 0)


def net(
    mask: Callable[[Array], Array] = lambda lengths: steps() < lengths[None],
    shown: Callable[[Array, Array, Array], Array] = zero,
    *,
    cell: Callable[..., Array] = lstm,
    first: float = 0.1,
    **how: bool,
) -> Callable[..., Any]:
    """A network whose state stays where its mask is false."""

    def run(params: Array, x: Array, lengths: Array) -> Array:
        states = (jnp.full((x.shape[1], UNITS), first),) * (2 if cell is lstm else 1)

        def step(states: Array, row: Array) -> Array:
            x, live = row
            live = live < lengths if live.ndim == 0 else live
            live = live.reshape(-1, 1)
            new = cell(params, states, x)
            kept = tuple(jnp.where(live, *both) for both in zip(new, states, strict=True))
            return kept, shown(live, new, kept)

        return lax.scan(step, states, (x, mask(lengths)), **how)

    return run


def past_end(params: Array, x: Array, lengths: Array) -> Array:
    """The mask says which steps do not count."""
    states = (jnp.full((BATCH, UNITS), 0.1),) * 2

    def step(states: Array, row: Array) -> Array:
        x, done = row
        new = lstm(params, states, x)
        kept = tuple(jnp.where(done[:, None], old, n) for n, old in zip(new, states, strict=True))
        return kept, jnp.where(done[:, None], 0, kept[0])

    return lax.scan(step, states, (x, steps() >= lengths[None]))


NETS: dict[str, Callable[..., Any]] = {
    "0 past the end": net(),
    "the new state, 0 past the end": net(shown=lambda live, new, kept: jnp.where(live, new[0], 0)),
    "the last state past the end": net(shown=lambda live, new, kept: kept[0]),
    "times the mask": net(shown=lambda live, new, kept: kept[0] * live),
    "two stacks": net(shown=lambda live, new, kept: (kept[0], zero(live, new, kept))),
    "of the first state 0": net(first=0.0),
    "from the end": net(reverse=True),
    "from the end, the first state before": net(
        shown=lambda live, new, kept: kept[0], reverse=True
    ),
    "GRU": net(cell=gru),
    "GRU from the end": net(cell=gru, reverse=True),
    "a mask by sequences, turned": net(lambda n: (jnp.arange(TIME)[None] < n[:, None]).T),
    "lengths on the left": net(lambda n: (n[:, None] > jnp.arange(TIME)[None]).T),
    "counted from 1": net(lambda n: steps(1) <= n[None]),
    "counted from 3": net(lambda n: steps(3) < n[None] + 3),
    "up to the last place": net(lambda n: steps() <= n[None] - 1),
    "a mask with an axis more": net(lambda n: (steps() < n[None])[..., None]),
    "lengths of 8 bits": net(lambda n: steps() < jnp.clip(n, 0, 9).astype(jnp.uint8)[None]),
    "one length for all": net(lambda n: steps() < n[:1][None]),
    "compared in the body": net(lambda n: jnp.arange(TIME)),
    "a mask of what is past": past_end,
}


def spoiled() -> np.ndarray:
    """NaN before and past the ends."""
    x = X.copy()
    x[3, 2, 0] = x[0, 1] = x[4, 0] = np.nan
    return x


def kernels(path: Path) -> Counter[str]:
    return Counter(node.op for node in target("ONNX").summarize(path).nodes)


@pytest.mark.parametrize("name", NETS)
def test_a_mask_of_lengths_is_the_lengths_of_the_operator(name: str, tmp_path: Path) -> None:
    apply = NETS[name]
    graph = recurrent(optimized(trace(PARAMS, apply, (X, LENGTH), name="net", max_unroll=1)))
    verify(graph)
    file = fnckpt.export(
        PARAMS, apply, (X, LENGTH), "ONNX", file_name=tmp_path / "net", max_unroll=1
    )
    found = kernels(file.path)
    assert found["LSTM"] + found["GRU"] == 1
    assert not found["Scan"]
    original, by_jax = jax.jit(apply), jax.jit(TracedFunction(graph, {}))
    for lengths in LENGTHS:
        for x in (X, spoiled()):
            given = x, np.array(lengths, np.int32)
            wanted = jax.tree.leaves(original(PARAMS, *given))
            for each in (fnckpt.run(file, given), evaluate(graph, given), by_jax(*given)):
                for one, two in zip(each, wanted, strict=True):
                    np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [("t", "b"), ("t", 3), (5, "b")])
def test_lengths_of_open_sizes_are_the_operators_too(
    shape: tuple[int | str, int | str], tmp_path: Path
) -> None:
    time, batch = symbolic.symbolic_shape(",".join(map(str, shape)))

    def apply(params: Array, x: Array, lengths: Array) -> Array:
        return net(lambda n: jnp.arange(x.shape[0])[:, None] < n[None])(params, x, lengths)

    sample = (
        jax.ShapeDtypeStruct((time, batch, FEATURES), jnp.float32),
        jax.ShapeDtypeStruct((batch,), jnp.int32),
    )
    file = fnckpt.export(PARAMS, apply, sample, "ONNX", file_name=tmp_path / "net", max_unroll=1)
    assert kernels(file.path)["LSTM"] == 1
    for t, b in ((5, 3), (2, 3), (5, 1)):
        if shape[0] in ("t", t) and shape[1] in ("b", b):
            given = normal(t, b, FEATURES), RNG.integers(-1, t + 2, b).astype(np.int32)
            wanted = jax.tree.leaves(apply(PARAMS, *given))
            for one, two in zip(fnckpt.run(file, given), wanted, strict=True):
                np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["0 past the end", "the last state past the end", "from the end", "counted from 1"]
)
def test_a_file_with_lengths_is_written_again_with_as_many_operators(
    name: str, tmp_path: Path
) -> None:
    apply = NETS[name]
    given = {"file_format": "ONNX", "max_unroll": 1}
    file = fnckpt.export(PARAMS, apply, (X, LENGTH), file_name=tmp_path / "net", **given)
    params, loaded = fnckpt.load_graph(file.path)
    again = fnckpt.export(params, loaded, (X, LENGTH), file_name=tmp_path / "again", **given)
    assert kernels(again.path) == kernels(file.path)
    for lengths in LENGTHS:
        given_now = spoiled(), np.array(lengths, np.int32)
        pairs = zip(fnckpt.run(again, given_now), fnckpt.run(file, given_now), strict=True)
        for one, two in pairs:
            np.testing.assert_array_equal(one, two)


OTHERS: dict[str, Callable[..., Any]] = {
    "the new state past the end": net(shown=lambda live, new, kept: new[0]),
    "a mask that is data": net(lambda n: steps() * 0 + n[None] > 1),
    "steps that begin later": net(lambda n: steps() >= n[None]),
    "every other step": net(lambda n: steps() * 2 % 3 < n[None]),
    "lengths that are floats": net(lambda n: steps() < n[None] * 0.5),
}


def one_state_alone(params: Array, x: Array, lengths: Array) -> Array:
    def step(states: Array, row: Array) -> Array:
        x, live = row
        h, c = lstm(params, states, x)
        return (jnp.where(live[:, None], h, states[0]), c), h

    return lax.scan(step, (jnp.zeros((BATCH, UNITS)),) * 2, (x, steps() < lengths[None]))


OTHERS["one state alone"] = one_state_alone


@pytest.mark.parametrize("name", OTHERS)
def test_what_no_lengths_say_stays_a_scan(name: str, tmp_path: Path) -> None:
    apply = OTHERS[name]
    file = fnckpt.export(
        PARAMS, apply, (X, LENGTH), "ONNX", file_name=tmp_path / "net", max_unroll=1
    )
    assert kernels(file.path)["Scan"] == 1
    wanted = jax.tree.leaves(apply(PARAMS, X, LENGTH))
    for one, two in zip(fnckpt.run(file, (X, LENGTH)), wanted, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)
