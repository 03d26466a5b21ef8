"""Nodes of networks that name no scopes are in the modules of their weights."""

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from flax import nnx

import fnckpt
from fnckpt.exporting.export import trace


class Block(nnx.Module):
    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.conv = nnx.Conv(width, width, (3, 3), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.conv(nnx.silu(self.norm(x)))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Block(8, rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return jax.nn.softmax(self.head(self.norm(x.mean((1, 2)))))


def nnx_network() -> tuple[Any, Any]:
    model = Net(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    return state, lambda state, x: nnx.merge(graph, state)(x)


def scopes(params: Any, apply_fn: Any, x: Any) -> set[tuple[str, str]]:
    graph = trace(params, apply_fn, [x], name="net")
    return {(node.op, node.origin.scope) for node in graph.cnodes()}


@pytest.mark.parametrize("kind", ["ONNX", "MINDIR", "AIR"])
def test_layers_of_an_nnx_network_are_in_their_modules_in_every_format(kind, tmp_path):
    exported = fnckpt.export(
        *nnx_network(), np.zeros((1, 8, 8, 1), np.float32), kind, file_name=tmp_path / "net"
    )
    assert exported.graph is not None
    found = {node.origin.scope for node in exported.graph.cnodes()}
    assert {"stem", "blocks/0/conv", "blocks/0/norm", "blocks/1/conv", "norm", "head"} <= found
    assert b"blocks/1/conv" in exported.path.read_bytes()


def test_names_in_the_file_begin_with_the_module(tmp_path):
    exported = fnckpt.export(
        *nnx_network(), np.zeros((1, 8, 8, 1), np.float32), "ONNX", file_name=tmp_path / "net"
    )
    names = [node.name for node in onnx.load(exported.path).graph.node]
    assert {"stem/Conv", "blocks/0/conv/Conv", "blocks/0/norm/BatchNorm", "head/Gemm"} <= set(names)


def test_what_uses_no_weight_is_in_the_module_around_it():
    found = scopes(*nnx_network(), np.zeros((1, 8, 8, 1), np.float32))
    assert ("Logistic", "blocks/0") in found or ("Sigmoid", "blocks/0") in found
    assert ("Maximum", "") in found  # between stem and blocks/0
    assert not {scope for _, scope in found} - {
        "",
        "stem",
        "norm",
        "head",
        *(f"blocks/{at}{inner}" for at in (0, 1) for inner in ("", "/conv", "/norm")),
    }


class InLines(nnx.Module):
    """Of a block with an activation in front, its parts on lines of their own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.a, self.b = (nnx.Linear(8, 8, rngs=rngs) for _ in range(2))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = jnp.tanh(x)
        y = self.a(y)
        y = nnx.relu(y)
        y = self.b(y)
        return x + y


class InOneLine(InLines):
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.b(nnx.relu(self.a(x)))


class Attending(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.attend(self.norm(x))


class Stacked(nnx.Module):
    def __init__(self, block: type[nnx.Module]) -> None:
        self.blocks = nnx.List([block(nnx.Rngs(i)) for i in range(3)])  # pyright: ignore

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return jnp.exp(x)


@pytest.mark.parametrize("block", [InLines, InOneLine, Attending])
def test_a_residual_sum_is_in_its_block(block: type[nnx.Module], tmp_path):
    x = np.ones((1, 5, 8), np.float32)
    file = fnckpt.export(Stacked(block), x, file_format="ONNX", file_name=tmp_path / "net")
    names = {node.name for node in onnx.load(file.path).graph.node}
    assert {f"blocks/{i}/Add" for i in range(3)} <= names
    assert not any("->" in name for name in names)
    if block is InLines:
        assert {f"blocks/{i}/Tanh" for i in range(3)} <= names


def test_a_loop_over_layers_puts_nothing_into_one_of_them():
    def apply(params, x):
        for layer in params["layers"]:
            x = x + jnp.tanh(x @ layer["w"])
        return x

    class Net:
        def __call__(self, params, x):
            for layer in params["layers"]:
                x = x + jnp.tanh(x @ layer["w"])
            return x

    params = {"layers": [{"w": np.ones((3, 3))} for _ in range(3)]}
    for function in (apply, Net()):
        found = scopes(params, function, np.ones((2, 3)))
        assert {scope for op, scope in found if op == "Add"} == {""}


@pytest.mark.parametrize("batched", [False, True])
def test_layers_of_equinox_are_told_apart(batched: bool):
    keys = jax.random.split(jax.random.key(0), 2)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(3, 4, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MLP(4, 2, 8, 2, key=keys[1]),
        ]
    )
    params, static = eqx.partition(model, eqx.is_array)

    def apply(params: Any, x: jax.Array) -> jax.Array:
        combined = eqx.combine(params, static)
        return jax.vmap(combined)(x) if batched else combined(x)

    found = scopes(params, apply, np.zeros((5, 3) if batched else 3, np.float32))
    products = {scope for op, scope in found if op == "MatMul"}
    assert products == {"layers/0", *(f"layers/2/layers/{at}" for at in range(3))}


def test_a_linen_network_keeps_the_names_of_its_name_stack():
    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.relu(nn.Dense(4)(x))

    x = np.zeros((1, 3), np.float32)
    found = scopes(Linen().init(jax.random.key(0), x), Linen().apply, x)
    assert {scope for _, scope in found} == {"Linen", "Linen/Dense_0"}


def test_a_scope_of_the_user_s_own_stays():
    def apply(params, x):
        with jax.named_scope("first"):
            x = jnp.tanh(x)
        return x @ params["a"]["w"] @ params["b"]["w"]

    params = {"a": {"w": np.ones((3, 3))}, "b": {"w": np.ones((3, 3))}}
    found = scopes(params, apply, np.ones((2, 3)))
    assert found == {("Tanh", "first"), ("MatMul", "a"), ("MatMul", "b")}


def test_weights_of_two_modules_are_in_the_one_that_holds_both():
    def apply(params, x):
        both = jnp.concatenate([params["net"]["q"]["w"], params["net"]["k"]["w"]], -1)
        return x @ both

    params = {"net": {"q": {"w": np.ones((3, 3))}, "k": {"w": np.ones((3, 3))}}}
    assert {scope for _, scope in scopes(params, apply, np.ones((2, 3)))} == {"net"}


def test_values_do_not_change(tmp_path):
    params, apply_fn = nnx_network()
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    exported = fnckpt.export(params, apply_fn, x, "ONNX", file_name=tmp_path / "net")
    (found,) = fnckpt.run(exported.path, [x])
    np.testing.assert_allclose(found, apply_fn(params, x), atol=1e-5)
