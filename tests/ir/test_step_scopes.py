"""The nodes of a train step are in the modules of the leaves of its state."""

from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.lowering.literal import literal
from fnckpt.ir.step_scopes import step_scoped
from fnckpt.training.step import compile_step

ADAM = optax.adam(0.1)
BATCH = {"x": np.ones((2, 3), np.float32)}


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 3, rngs=rngs)
        self.second = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(nnx.silu(self.first(x)))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.head = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def of_nnx() -> tuple[Any, Any]:
    model = Net(nnx.Rngs(0))
    graph, state = nnx.split((model, nnx.Optimizer(model, ADAM, wrt=nnx.Param)))

    def step(state: Any, batch: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        loss, grads = nnx.value_and_grad(lambda model: model(batch["x"]).sum())(model)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer)), {"loss": loss}

    return step, state


def of_equinox() -> tuple[Any, Any]:
    keys = jax.random.split(jax.random.key(0), 2)
    params = [eqx.nn.Linear(3, 3, key=keys[0]), eqx.nn.Linear(3, 1, key=keys[1])]

    def step(state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            return jax.vmap(params[1])(jax.vmap(params[0])(batch["x"])).sum()

        loss, grads = jax.value_and_grad(loss_of)(state["layers"])
        updates, opt = ADAM.update(grads, state["opt"])
        return {"layers": optax.apply_updates(state["layers"], updates), "opt": opt}, {"loss": loss}

    return step, {"layers": params, "opt": ADAM.init(eqx.filter(params, eqx.is_array))}


def of_linen() -> tuple[Any, Any]:
    net = nn.Sequential([nn.Dense(3), nn.Dense(1)])
    params = net.init(jax.random.key(0), BATCH["x"])

    def step(state: Any, batch: Any) -> Any:
        def loss_of(params: Any) -> Any:
            return jnp.asarray(net.apply(params, batch["x"])).sum()

        loss, grads = jax.value_and_grad(loss_of)(state["params"])
        updates, opt = ADAM.update(grads, state["opt"])
        return {"params": optax.apply_updates(state["params"], updates), "opt": opt}, {"loss": loss}

    return step, {"params": params, "opt": ADAM.init(params)}


def graph_of(step: Any, state: Any) -> FuncGraph:
    compiled = compile_step(step, state, BATCH, donated=False)
    return step_scoped(literal(compiled.graph, compiled.names, name="step"), "state")


def scopes(of: Any) -> set[str]:
    return {node.origin.scope for node in graph_of(*of()).cnodes()}


def test_the_layers_of_an_nnx_step_are_in_their_modules():
    layers = [f"blocks/{at}/{layer}" for at in (0, 1) for layer in ("first", "second")] + ["head"]
    found = scopes(of_nnx)
    for layer in layers:
        assert {f"jvp()/{layer}", f"update/{layer}"} <= found
    assert any(scope.startswith("transpose(jvp())/blocks/1") for scope in found)


LAYERS = {
    of_nnx: {"blocks/0/first", "blocks/1/second", "head"},
    of_equinox: {"layers/0", "layers/1"},
    of_linen: {"layers_0", "layers_1"},
}


@pytest.mark.parametrize("of", LAYERS)
def test_each_weight_is_updated_in_its_own_module(of: Any):
    roots = [node for node in graph_of(*of()).cnodes() if node.op == "sqrt"]  # of Adam: a weight's
    inside = {node.origin.scope for node in roots}
    assert {f"update/{layer}" for layer in LAYERS[of]} <= inside
    assert "update" not in inside


def test_what_a_name_stack_tells_stays():
    found = scopes(of_linen)
    assert any(scope.startswith("jvp(Sequential)/layers_0") for scope in found)
    assert any(scope.startswith("transpose(jvp(Sequential))/layers_1") for scope in found)


def test_what_the_gradient_needs_is_no_part_of_the_update():
    def step(state: Any, batch: Any) -> Any:
        key, used = jax.random.split(state["key"])
        x = batch["x"] + jax.random.normal(used, (2, 3))
        grads = jax.grad(lambda w: (x @ w).sum())(state["w"])
        return {"w": state["w"] - grads, "key": key}, {}

    graph = graph_of(step, {"w": jnp.ones(3), "key": jax.random.key(0)})
    by = {node.op: node.origin.scope for node in graph.cnodes()}
    assert by["random_split"] == ""
    assert by["sub"] == "update"


def test_a_step_without_a_gradient_has_no_update():
    graph = graph_of(lambda state, batch: (state + batch["x"].sum(), {}), jnp.ones(()))
    assert {node.origin.scope for node in graph.cnodes()} == {""}
