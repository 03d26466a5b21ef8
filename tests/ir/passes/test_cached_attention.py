"""Attention to a cache as decoders write it: one operator, and JAX's numbers in ONNX Runtime."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.cached_attention import cached_attention, caches_of
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.reshape import RULES as RESHAPE
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.passes.rotary import RULES as ROTARY
from fnckpt.ir.specialize import specialized

HEADS, GROUPS, SIZE, LONGEST = 4, 2, 8, 32
WIDTH = HEADS * SIZE
Array = jax.Array
Mask = Callable[[Array, Array, Array], Array]  # of the padding, rows' and keys' places: who is seen


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


PARAMS = {
    "words": normal(11, WIDTH, seed=0),
    "q": normal(WIDTH, WIDTH, seed=1) / 4,
    "k": normal(WIDTH, GROUPS * SIZE, seed=2) / 4,
    "v": normal(WIDTH, GROUPS * SIZE, seed=3) / 4,
}


def halves(x: Array, angles: Array) -> Array:
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def twice(x: Array, angles: Array) -> Array:
    both = jnp.concatenate([angles, angles], -1)
    moved = jnp.concatenate([-x[..., SIZE // 2 :], x[..., : SIZE // 2]], -1)
    return x * jnp.cos(both) + moved * jnp.sin(both)


def neighbours(x: Array, angles: Array) -> Array:
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


def pairs(x: Array, angles: Array) -> Array:
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    a, b = (x.reshape(*x.shape[:-1], SIZE // 2, 2)[..., i] for i in (0, 1))
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


def complex_numbers(x: Array, angles: Array) -> Array:
    apart = x.reshape(*x.shape[:-1], SIZE // 2, 2)
    turned = jax.lax.complex(apart[..., 0], apart[..., 1]) * jnp.exp(1j * angles)
    return jnp.stack([turned.real, turned.imag], -1).reshape(x.shape)


def by_einsum(q: Array, k: Array, v: Array, weigh: Callable[[Array], Array]) -> Array:
    q = q.reshape(*q.shape[:2], GROUPS, HEADS // GROUPS, SIZE)
    weights = weigh(jnp.einsum("bsgrd,btgd->bgrst", q, k))
    return jnp.einsum("bgrst,btgd->bsgrd", weights, v)


def by_repeat(q: Array, k: Array, v: Array, weigh: Callable[[Array], Array]) -> Array:
    k, v = (jnp.repeat(x, HEADS // GROUPS, 2) for x in (k, v))
    return jnp.einsum("bhst,bthd->bshd", weigh(jnp.einsum("bshd,bthd->bhst", q, k)), v)


def by_matmul(q: Array, k: Array, v: Array, weigh: Callable[[Array], Array]) -> Array:
    q = q.transpose(0, 2, 1, 3).reshape(q.shape[0], GROUPS, HEADS // GROUPS, -1, SIZE)
    k, v = (x.transpose(0, 2, 1, 3)[:, :, None] for x in (k, v))
    return (weigh(q @ k.swapaxes(-1, -2)) @ v).transpose(0, 3, 1, 2, 4)


def causal(mask: Array, row: Array, key: Array) -> Array:
    return (key <= row) & (mask > 0)


def of_a_table(mask: Array, row: Array, key: Array) -> Array:
    table = jnp.tril(jnp.ones((LONGEST, LONGEST), bool))
    start = (key.shape[-1] - row.shape[-2], 0)
    part = jax.lax.dynamic_slice(table, start, (row.shape[-2], key.shape[-1]))
    return part & (mask != 0)


def triangle(mask: Array, row: Array, key: Array) -> Array:
    new, total = row.shape[-2], key.shape[-1]
    return jnp.tril(jnp.ones((total, total), bool))[total - new :] & (mask > 0)


def not_above(mask: Array, row: Array, key: Array) -> Array:
    new, total = row.shape[-2], key.shape[-1]
    return jnp.logical_not(jnp.triu(jnp.ones((total, total), bool), 1)[total - new :]) & (mask > 0)


def product(mask: Array, row: Array, key: Array) -> Array:
    return ((key <= row) * mask).astype(bool)


@dataclass(frozen=True)
class Form:
    """How an attention is written."""

    turned: Callable[[Array, Array], Array] | None = halves
    heads: Callable[..., Array] = by_einsum
    seen: Mask = causal
    added: bool = False
    flag: bool = False
    fill: float = -1e30
    cap: float = 0.0
    axis: int = 2
    bias: float = 0.0

    def __call__(self, params: Any, ids: Array, mask: Array, past: Any) -> Any:
        new, total = ids.shape[1], mask.shape[1]
        x = params["words"][ids]
        q, k, v = ((x @ params[n]).reshape(*ids.shape, -1, SIZE) for n in "qkv")
        if self.turned is not None:
            places = jnp.maximum(jnp.cumsum(mask, 1) - 1, 0)[:, total - new :]
            angles = places[..., None, None] * 100.0 ** (-jnp.arange(0, SIZE, 2) / SIZE)
            q, k = self.turned(q, angles), self.turned(k, angles)
        k, v = (self.grown(old, now) for old, now in zip(past, (k, v), strict=True))
        own = (k, v) if self.axis == 1 else (k.swapaxes(1, 2), v.swapaxes(1, 2))
        row, key = jnp.arange(new)[:, None] + total - new, jnp.arange(total)[None]
        seen = self.seen(mask[:, None], row, key)
        return self.attended(q, own, seen, key - row).reshape(*ids.shape, WIDTH), (k, v)

    def attended(self, q: Array, own: tuple[Array, Array], seen: Array, distance: Array) -> Array:
        def weigh(scores: Array) -> Array:
            scores = scores * SIZE**-0.5
            scores = self.cap * jnp.tanh(scores / self.cap) if self.cap else scores
            where = seen.reshape(seen.shape[0], *(1,) * (scores.ndim - 3), *seen.shape[1:])
            if self.bias:
                scores = scores + self.bias * distance
            if self.flag:
                return jax.nn.softmax(scores + (1 - where.astype(np.float32)) * self.fill)
            if self.added:
                return jax.nn.softmax(scores + jnp.where(where, 0.0, self.fill))
            return jax.nn.softmax(jnp.where(where, scores, self.fill))

        return self.heads(q, *own, weigh)

    def grown(self, old: Array, now: Array) -> Array:
        now = now if self.axis == 1 else now.swapaxes(1, 2)
        return jnp.concatenate([old, now], self.axis)


class OfJax(Form):
    """``jax.nn.dot_product_attention``, which groups the heads itself."""

    def attended(self, q: Array, own: tuple[Array, Array], seen: Array, distance: Array) -> Array:
        mask = seen[:, None]
        if self.bias:  # a mask that is not the same for all heads
            mask = mask & (jnp.arange(HEADS) > 0)[:, None, None]
        return jax.nn.dot_product_attention(q, *own, mask=mask)


FORMS: dict[str, Form] = {
    "halves, einsum": Form(),
    "halves that stand twice, repeated heads": Form(twice, by_repeat, axis=2),
    "neighbours, products of matrices": Form(neighbours, by_matmul),
    "no rotary, a mask that is added": Form(None, added=True, fill=-1e9),
    "the lowest number, added": Form(heads=by_repeat, added=True, fill=float(np.finfo("f").min)),
    "a table of who sees whom": Form(seen=of_a_table, heads=by_repeat),
    "a triangle, cut": Form(seen=triangle),
    "not what is above a triangle": Form(seen=not_above, heads=by_repeat),
    "a product of masks, pairs": Form(pairs, by_repeat, seen=product),
    "one less a flag, complex numbers": Form(complex_numbers, by_repeat, flag=True, fill=-1e9),
    "added, repeated heads": Form(heads=by_repeat, added=True),
    "JAX's own": OfJax(),
    "JAX's own, a table": OfJax(pairs, seen=of_a_table),
    "a soft cap": Form(cap=2.0),
    "a soft cap, products of matrices": Form(cap=2.0, heads=by_matmul, added=True),
}
WINDOWS: dict[str, Form] = {
    "a window": Form(seen=lambda m, i, j: causal(m, i, j) & (j > i - 3)),
    "JAX's own, a window": OfJax(seen=lambda m, i, j: causal(m, i, j) & (j > i - 3)),
    "a window by distance": Form(seen=lambda m, i, j: (m > 0) & (i - j < 3) & (i - j >= 0)),
}
ALONE: dict[str, Form] = {
    "ALiBi": Form(bias=0.5),
    "JAX's own, one head blind": OfJax(bias=0.5),
    "JAX's own, the future is seen": OfJax(seen=lambda m, i, j: (j <= i + 1) & (m > 0)),
    "the future is seen": Form(seen=lambda m, i, j: (j <= i + 1) & (m > 0)),
    "padding alone": Form(seen=lambda m, i, j: (m > 0) & (j + 0 * i >= 0)),
    "one of two conditions": Form(seen=lambda m, i, j: (j <= i) | (m > 0)),
    "what is hidden has weight": Form(fill=-10.0),
    "a flag that is added with weight": Form(flag=True, fill=-10.0),
    "not what is below a triangle": Form(
        seen=lambda m, i, j: jnp.logical_not(jnp.tril(j + 0 * i >= 0, -1)) & (m > 0)
    ),
}


def sample() -> tuple[Any, ...]:
    batch, new, past = jax.export.symbolic_shape(
        "batch, new, past", constraints=[f"past + new <= {LONGEST}"]
    )
    layer = jax.ShapeDtypeStruct((batch, GROUPS, past, SIZE), np.float32)
    ids = jax.ShapeDtypeStruct((batch, new), np.int64)
    return ids, jax.ShapeDtypeStruct((batch, past + new), np.int64), (layer, layer)


def operators(graph: FuncGraph) -> Counter[str]:
    return Counter(node.op for node in graph.cnodes())


def of_graph(form: Form) -> tuple[FuncGraph, FuncGraph]:
    before = optimized(trace(PARAMS, form, sample(), name="net"))
    return before, cached_attention(rewrite(before, (*ROTARY, *RESHAPE)))


def calls() -> list[tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """A prompt of four rows padded at the left, a step behind it, and three tokens of one row."""
    mask = np.array([[0, 0, 1, 1, 1], [1] * 5, [0, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
    more = np.concatenate([mask, np.ones((4, 1), int)], 1)
    sizes = ((mask, 5, 0), (more, 1, 5), (np.ones((1, 7), int), 3, 4))
    return [
        (
            np.random.default_rng(1).integers(0, 11, (len(m), new)),
            m,
            (
                normal(len(m), GROUPS, past, SIZE, seed=4),
                normal(len(m), GROUPS, past, SIZE, seed=5),
            ),
        )
        for m, new, past in sizes
    ]


@pytest.mark.parametrize("name", [*FORMS, *WINDOWS])
def test_an_attention_and_its_cache_are_one_operator_with_the_numbers_of_jax(
    name: str, tmp_path: Path
) -> None:
    form = (FORMS | WINDOWS)[name]
    result = fnckpt.export(
        PARAMS, form, sample(), "ONNX", file_name=tmp_path / "net", opset=23,
        runtime="onnxruntime-genai",
    )  # fmt: skip
    nodes = {node.op_type: node for node in onnx.load(str(result)).graph.node}
    assert ("RotaryEmbedding" in nodes) == (form.turned is not None)
    assert not {"Softmax", "Cos" if form.turned is None else "Softmax", "Tanh"} & set(nodes)
    facts = {
        a.name: onnx.helper.get_attribute_value(a) for a in nodes["GroupQueryAttention"].attribute
    }
    assert facts["local_window_size"] == (3 if name in WINDOWS else -1)
    assert (facts["num_heads"], facts["kv_num_heads"]) == (HEADS, GROUPS)
    assert facts["softcap"] == form.cap
    for ids, mask, past in calls():
        found = fnckpt.run(result, [ids, mask, *past])
        wanted, caches = jax.jit(form)(PARAMS, ids, mask, past)
        real = mask[:, -ids.shape[1] :] > 0  # what padding gets, nobody reads
        np.testing.assert_allclose(found[0][real], np.asarray(wanted)[real], rtol=1e-4, atol=1e-5)
        for one, other in zip(found[1:], caches, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALONE)
def test_another_attention_is_left_alone(name: str) -> None:
    _, after = of_graph(ALONE[name])
    assert operators(after)["CachedAttention"] == 0
    assert operators(after)["Softmax"] == 1
    assert caches_of(after) == []


@pytest.mark.parametrize("name", FORMS)
def test_the_rewrite_is_an_equation(name: str) -> None:
    """Evaluated in NumPy, with a prompt that has no padding."""
    before, after = of_graph(FORMS[name])
    counts = operators(after)
    assert (counts["CachedAttention"], counts["Softmax"], counts["Concat"]) == (1, 0, 0)
    assert len(caches_of(after)) == 2
    sizes = {"batch": 2, "new": 3, "past": 4}
    past = [normal(2, GROUPS, 4, SIZE, seed=seed) for seed in (4, 5)]
    given = [np.arange(6).reshape(2, 3), np.ones((2, 7), int), *past]
    pairs = zip(
        *(evaluate(specialized(each, sizes), given) for each in (before, after)), strict=True
    )
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_cache_may_lie_in_a_longer_buffer(tmp_path: Path) -> None:
    """Sizes are read off the mask, so that the same numbers come from a longer past."""
    result = fnckpt.export(
        PARAMS, Form(), sample(), "ONNX", file_name=tmp_path / "net", runtime="onnxruntime-genai"
    )
    for ids, mask, past in calls():
        room = [np.pad(x, ((0, 0), (0, 0), (0, 9), (0, 0)), constant_values=7.0) for x in past]
        exact, longer = (fnckpt.run(result, [ids, mask, *each]) for each in (past, room))
        np.testing.assert_array_equal(exact[0], longer[0])
        for one, other in zip(exact[1:], longer[1:], strict=True):
            np.testing.assert_array_equal(one, other[:, :, : mask.shape[1]])
