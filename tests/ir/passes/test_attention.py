"""Attention as each library writes it: what is left from opset 23 on, and JAX's numbers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx

import fnckpt
from fnckpt.exporting.export import trace
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.ir.cost import flops
from fnckpt.ir.evaluate import evaluate
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.passes.attention import COMPOSE
from fnckpt.ir.passes.pipeline import optimized
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets import target
from fnckpt.ir.targets.cost import file_costs
from fnckpt.ir.targets.target import preferred
from fnckpt.showing.inspect import check_file
from tests.networks.others import OTHERS
from tests.networks.zoo import Network

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 5, 16)).astype(np.float32)
Y = RNG.standard_normal((2, 7, 16)).astype(np.float32)
SEEN = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], np.float32)  # of the second one nothing
NEWEST = onnx.defs.onnx_opset_version()
Make = Callable[[], Network]


def linen(module: nn.Module, *inputs: np.ndarray) -> Network:
    return module.init(jax.random.key(0), *inputs), module.apply, inputs


def of_nnx(module: nnx.Module, *inputs: np.ndarray) -> Network:
    graphdef, state = nnx.split(module)
    return state, lambda state, *args: nnx.merge(graphdef, state)(*args), inputs


class Block(nn.Module):
    """Pre-norm attention with a mask, as in a transformer."""

    causal: bool = False
    norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, seen: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x) if self.norm else x
        mask = nn.make_causal_mask(seen) if self.causal else nn.make_attention_mask(seen, seen)
        return x + nn.MultiHeadDotProductAttention(4)(y, y, mask=mask)


class Cross(nn.Module):
    """Attention to another sequence of which some places are hidden."""

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        seen = jnp.arange(7) < 4
        x, y = nn.LayerNorm()(x), nn.LayerNorm()(y)
        return nn.MultiHeadDotProductAttention(4)(x, y, mask=seen[None, None, None])


class CausalBlock(nnx.Module):
    """One product makes queries, keys and values."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.norm, self.parts = nnx.RMSNorm(16, rngs=rngs), nnx.Linear(16, 48, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        parts = jnp.split(self.parts(self.norm(x)), 3, -1)
        q, k, v = (part.reshape(2, 5, 4, 4) for part in parts)
        y = nnx.dot_product_attention(q, k, v, mask=nnx.make_causal_mask(jnp.ones((2, 5))))
        return x + y.reshape(x.shape)


def heads(*lengths: int) -> tuple[np.ndarray, ...]:
    return tuple(RNG.standard_normal((2, n, 4, 4)).astype(np.float32) for n in lengths)


def of_jax(**options: Any) -> Network:
    def apply(params: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jax.nn.dot_product_attention(q, k, v, **options)

    return {}, apply, heads(5, 7, 7)


def haiku(masked: bool) -> Network:
    import haiku as hk

    def forward(x: jax.Array, seen: jax.Array) -> jax.Array:
        y = hk.LayerNorm(-1, True, True)(x)
        mask = seen[:, None, None] > 0 if masked else None
        return hk.MultiHeadAttention(4, 4, w_init=hk.initializers.RandomNormal(0.3))(
            y, y, y, mask=mask
        )

    net = hk.without_apply_rng(hk.transform(forward))
    return net.init(jax.random.key(0), X, SEEN), net.apply, (X, SEEN)


def keras(causal: bool) -> Network:
    from keras import Input, Model, layers

    given = Input((5, 16), batch_size=2)
    y = layers.LayerNormalization()(given)
    model = Model(given, layers.MultiHeadAttention(4, 4)(y, y, use_causal_mask=causal))
    trained = [np.asarray(v.value) for v in model.trainable_variables]
    return trained, lambda w, x: model.stateless_call(w, [], x, training=False)[0], (X,)


def with_bias(params: Any, x: jax.Array) -> jax.Array:
    """A learned number for each pair of places, as in Swin and T5."""
    q, k, v = (jnp.moveaxis((x @ params[name]).reshape(2, 5, 4, 4), 2, 1) for name in "qkv")
    weights = jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3) / 2 + params["bias"])
    return jnp.moveaxis(weights @ v, 1, 2).reshape(x.shape)


BIASED = {
    n: RNG.standard_normal(s).astype(np.float32)
    for n, s in (("q", (16, 16)), ("k", (16, 16)), ("v", (16, 16)), ("bias", (4, 5, 5)))
}

RECOGNIZED: dict[str, Make] = {
    "linen": lambda: linen(nn.MultiHeadDotProductAttention(4), X),
    "linen, of another sequence": lambda: linen(nn.MultiHeadDotProductAttention(4), X, Y),
    "linen, padding": lambda: linen(Block(), X, SEEN),
    "linen, causal": lambda: linen(Block(causal=True), X, SEEN),
    "linen, a batch of one": lambda: linen(Block(), X[:1], SEEN[:1]),
    "linen, no batch": lambda: linen(nn.MultiHeadDotProductAttention(4), X[0]),
    "NNX": lambda: of_nnx(nnx.MultiHeadAttention(4, 16, rngs=nnx.Rngs(0), decode=False), X),
    "NNX, causal": lambda: of_nnx(CausalBlock(), X),
    "jax.nn": of_jax,
    "Haiku": lambda: haiku(masked=False),
    "Haiku, padding": lambda: haiku(masked=True),
    "Keras": lambda: keras(causal=False),
    "Keras, causal": lambda: keras(causal=True),
    "a bias of each pair": lambda: (BIASED, with_bias, (X,)),
    **{f"transformers, {name}": OTHERS[name] for name in ("bert", "gpt2", "vit", "t5_encoder")},
}


def transposed_scores(params: Any, x: jax.Array) -> jax.Array:
    """The weights of the keys, not of the queries."""
    q, k, v = (jnp.moveaxis((x @ params[name]).reshape(2, 5, 4, 4), 2, 1) for name in "qkv")
    return jnp.moveaxis(jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3), 2) @ v, 1, 2)


def weights_too(params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    q, k, v = (jnp.moveaxis((x @ params[name]).reshape(2, 5, 4, 4), 2, 1) for name in "qkv")
    weights = jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3))
    return jnp.moveaxis(weights @ v, 1, 2), weights


def negative_scale(params: Any, x: jax.Array) -> jax.Array:
    q, k, v = (jnp.moveaxis((x @ params[name]).reshape(2, 5, 4, 4), 2, 1) for name in "qkv")
    return jnp.moveaxis(jax.nn.softmax(q @ jnp.swapaxes(k, 2, 3) * -0.5) @ v, 1, 2)


def given_mask(params: Any, x: jax.Array, mask: jax.Array) -> jax.Array:
    return with_bias(params | {"bias": mask}, x)


def hidden_by_infinity(params: Any, x: jax.Array, seen: jax.Array) -> jax.Array:
    return with_bias(params | {"bias": jnp.where(seen > 0, 0, -jnp.inf)[:, None, None]}, x)


MASK = np.where(SEEN > 0, 0, np.finfo(np.float32).min).astype(np.float32)[:, None, None]

LEFT_ALONE: dict[str, Make] = {
    "a mask that is given may hide all of a row": lambda: (BIASED, given_mask, (X, MASK)),
    "of a row hidden by -inf JAX makes NaN": lambda: (BIASED, hidden_by_infinity, (X, SEEN)),
    "products that are not bounded": lambda: linen(Block(norm=False), X, SEEN),
    "a hidden key of other rows may be NaN": lambda: linen(Cross(), X, Y),
    "heads that are given may be NaN": lambda: of_jax(is_causal=True),
    "softmax over the queries": lambda: (BIASED, transposed_scores, (X,)),
    "weights that are used elsewhere": lambda: (BIASED, weights_too, (X,)),
    "a scale below 0": lambda: (BIASED, negative_scale, (X,)),
    "float64": lambda: of_double(of_jax()),
}


def of_double(network: Network) -> Network:
    params, apply, inputs = network
    return params, apply, tuple(x.astype(np.float64) for x in inputs)


def preferred_graphs(network: Network, opset: int) -> tuple[FuncGraph, FuncGraph]:
    params, apply, inputs = network
    graph = trace(params, apply, inputs, name="case")
    return graph, preferred(optimized(graph, debug=True), target("ONNX"), opset=opset)


def ops(graph: FuncGraph) -> set[str]:
    return {node.op for node in graph.cnodes()}


def assert_same(found: FuncGraph, graph: FuncGraph, inputs: tuple[np.ndarray, ...]) -> None:
    for mine, wanted in zip(evaluate(found, inputs), evaluate(graph, inputs), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", RECOGNIZED)
def test_attention_is_one_operator_from_opset_23_on(name: str) -> None:
    network = RECOGNIZED[name]()
    graph, after = preferred_graphs(network, 23)
    assert "Attention" in ops(after)
    assert not {"Softmax", "Exp"} & ops(after)
    apart = rewrite(after, COMPOSE)
    assert "Attention" not in ops(apart)
    for each in (after, apart):
        assert_same(each, graph, network[2])
    again = preferred(after, target("ONNX"), opset=23)
    assert [(n.op, n.results) for n in again.cnodes()] == [
        (n.op, n.results) for n in after.cnodes()
    ]
    assert 0.5 < flops(after) / flops(apart) < 1
    _, older = preferred_graphs(network, 22)
    assert "Attention" not in ops(older)


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_no_attention_of_onnx_is_left_alone(name: str) -> None:
    with jax.enable_x64(name == "float64"):
        network = LEFT_ALONE[name]()
        graph, after = preferred_graphs(network, 23)
        assert "Attention" not in ops(after)
        assert_same(after, graph, network[2])


@pytest.mark.parametrize("opset", [20, 23, NEWEST])
@pytest.mark.parametrize("name", RECOGNIZED)
def test_the_runtime_gives_the_numbers_of_jax(name: str, opset: int, tmp_path: Path) -> None:
    params, apply, inputs = RECOGNIZED[name]()
    path = tmp_path / "net"
    model = fnckpt.export(params, apply, inputs, "ONNX", file_name=path, opset=opset)
    assert check_file(model.path) == []
    kinds = [node.op_type for node in onnx.load(model).graph.node]
    assert ("Attention" in kinds) == (opset >= 23)
    wanted = [np.asarray(x) for x in jax.tree.leaves(apply(params, *inputs))]
    for mine, theirs in zip(RUNTIMES["ONNX"][1](model, inputs), wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


STRANGE = ("linen", "linen, padding", "linen, causal", "NNX, causal", "jax.nn", "Haiku, padding")


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf, 1e10])
@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_number_stays_where_jax_has_it(
    name: str, strange: float, tmp_path: Path
) -> None:
    params, apply, inputs = RECOGNIZED[name]()
    path = tmp_path / "net"
    model = fnckpt.export(params, apply, inputs, "ONNX", file_name=path, opset=23)
    for place in ((0, 1, 2), (0, 4, 3)):  # of padding the second is hidden
        x = inputs[0].copy()
        x[place] = strange
        wanted = np.asarray(jax.jit(apply)(params, x, *inputs[1:]))
        (found,) = RUNTIMES["ONNX"][1](model, (x, *inputs[1:]))
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(np.isfinite(found), finite)
        np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["linen, padding", "NNX, causal", "transformers, t5_encoder"])
def test_a_narrow_network_attends_in_float32(name: str, dtype: str, tmp_path: Path) -> None:
    params, apply, inputs = RECOGNIZED[name]()
    path = tmp_path / "net"
    model = fnckpt.export(params, apply, inputs, "ONNX", file_name=path, opset=23, dtype=dtype)
    assert check_file(model.path) == []
    assert model.narrowing is not None
    assert model.narrowing.kept["Attention"] > 0
    wanted = np.asarray(jax.tree.leaves(apply(params, *inputs))[0])
    (found,) = RUNTIMES["ONNX"][1](model, inputs)
    limit = {"float16": 5e-3, "bfloat16": 5e-2}[dtype]
    assert np.abs(found - wanted).max() < limit * np.abs(wanted).max()


def test_a_file_tells_what_attention_costs(tmp_path: Path) -> None:
    params, apply, inputs = RECOGNIZED["linen"]()
    model = fnckpt.export(params, apply, inputs, "ONNX", file_name=tmp_path / "net", opset=23)
    total, unknown, heavy = file_costs(target("ONNX").summarize(model.path))
    assert (total, unknown) == (model.flops, 0)
    cost = 2 * 2 * 2 * 4 * 5 * 5 * 4  # two products of 4 heads, a batch of 2
    assert cost in [each.flops for each in heavy if each.op == "Attention"]


def test_sizes_may_stay_open(tmp_path: Path) -> None:
    batch, length = jax.export.symbolic_shape("b, n")
    params, apply, _ = RECOGNIZED["linen, padding"]()
    shapes = ((batch, length, 16), (batch, length))
    sample = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    path = tmp_path / "net"
    model = fnckpt.export(params, apply, sample, "ONNX", file_name=path, opset=23)
    assert "Attention" in [node.op_type for node in onnx.load(model).graph.node]
    (found,) = RUNTIMES["ONNX"][1](model, (X, SEEN))
    np.testing.assert_allclose(found, apply(params, X, SEEN), rtol=1e-3, atol=1e-4)
