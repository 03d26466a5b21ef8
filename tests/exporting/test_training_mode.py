"""Modules in training mode are told by name, a function without outputs is refused."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from fnckpt.exporting.export import export

X = np.ones((2, 4, 4, 3), np.float32)
KEY = jax.random.key(0)


class Block(linen.Module):
    """BatchNorm and Dropout, and what looks like them."""

    training: bool

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.BatchNorm(use_running_average=not self.training)(x)
        x = linen.LayerNorm()(linen.GroupNorm(1)(x)).mean(0)
        return linen.Dropout(0.5, deterministic=not self.training)(x)


class Net(linen.Module):
    training: bool

    @linen.compact
    def __call__(self, x: jax.Array) -> Any:
        return Block(self.training, name="first")(x)


def of_linen(training: bool) -> tuple[Any, Callable[..., Any]]:
    variables = Net(False).init(KEY, X)

    def apply(variables: Any, x: jax.Array) -> Any:
        rngs = {"dropout": jax.random.key(1)}
        return Net(training).apply(variables, x, rngs=rngs, mutable=["batch_stats"])[0]

    return variables, apply


class Own(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.layer = nnx.LayerNorm(3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.layer(self.norm(x))


def of_nnx(training: bool) -> tuple[Any, Callable[..., Any]]:
    model = Own(nnx.Rngs(0))
    (model.train if training else model.eval)()
    graphdef, state = nnx.split(model)
    return state, lambda state, x: nnx.merge(graphdef, state)(x)


def of_haiku(training: bool) -> tuple[Any, Callable[..., Any]]:
    def net(x: jax.Array, training: bool) -> jax.Array:
        x = hk.BatchNorm(True, True, 0.9, name="bn")(x, training)
        return hk.dropout(jax.random.key(0), 0.5, x) if training else x

    transformed = hk.transform_with_state(net)
    both = transformed.init(KEY, X, True)
    return both, lambda both, x: transformed.apply(*both, None, x, training)[0]


def of_equinox(training: bool) -> tuple[Any, Callable[..., Any]]:
    drop = eqx.nn.Dropout(0.5, inference=not training)
    return {}, lambda params, x: drop(x, key=jax.random.key(0))


def attention(training: bool) -> tuple[Any, Callable[..., Any]]:
    net = linen.MultiHeadDotProductAttention(1, dropout_rate=0.5, deterministic=not training)
    variables = net.init(KEY, X)
    rngs = {"dropout": jax.random.key(1)}
    return variables, lambda variables, x: net.apply(variables, x, rngs=rngs)


def jitted(training: bool) -> tuple[Any, Callable[..., Any]]:
    variables, apply = of_linen(training)
    return variables, jax.jit(apply)


MODELS = {
    of_linen: [r"Net/first/BatchNorm_0 \(.*\) uses the stat", r"Net/first/Dropout_0 \(.*\) drops"],
    jitted: [r"Net/first/BatchNorm_0 \(.*\) uses the stat", r"Net/first/Dropout_0 \(.*\) drops"],
    of_nnx: [r"BatchNorm \(.*self\.norm\(x\).*\) uses .*; export it in .*: model\.eval\(\)"],
    of_haiku: [r"bn \(.*\) uses the statistics of the batch", r"Dropout \(.*hk\.dropout.*\) drops"],
    of_equinox: [r"Dropout \(.*drop\(x.*\) drops values, the same ones in every run"],
    attention: [r"Attention.* drops values"],
}


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_modules_in_training_mode_are_told_once_by_name(make: Any, tmp_path: Path):
    params, apply = make(True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export(params, apply, X, "ONNX", file_name=tmp_path / "net")
    told = [str(each.message) for each in caught if each.filename == __file__]
    assert len(told) == len(MODELS[make])
    for text in MODELS[make]:
        assert any(re.search(text, line) for line in told), told


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_modules_in_inference_mode_are_not(make: Any, tmp_path: Path):
    params, apply = make(False)
    assert export(params, apply, X, "ONNX", file_name=tmp_path / "net").path.exists()


def test_dropout_whose_key_is_a_weight_is_told_with_the_way_out(tmp_path: Path):
    def apply(weight: Any, x: jax.Array) -> Any:
        drop = linen.Dropout(0.5, deterministic=False)
        return drop.apply({}, x, rngs={"dropout": weight["key"]})

    told = r"unless its key is an input; .* model\.eval\(\) of NNX, deterministic=True of"
    with pytest.warns(UserWarning, match=told):
        export({"key": KEY}, apply, X, "ONNX", file_name=tmp_path / "net")


@pytest.mark.parametrize("returned", [None, {}, [], (None, {})])
@pytest.mark.parametrize("file_format", ["ONNX", "MINDIR", "AIR"])
def test_a_function_without_outputs_is_refused(returned: Any, file_format: str, tmp_path: Path):
    with pytest.raises(ValueError, match="has no output, there is nothing to export; it returned"):
        export({}, lambda params, x: returned, jnp.ones(3), file_format, file_name=tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: linen.Dropout(0.5, deterministic=False).apply({}, x),
        lambda x: nnx.Dropout(0.5)(x),
        lambda x: eqx.nn.Dropout(0.5)(x),
        lambda x: hk.transform(lambda x: hk.dropout(hk.next_rng_key(), 0.5, x)).apply({}, None, x),
    ],
    ids=["linen", "nnx", "equinox", "haiku"],
)
def test_a_missing_key_is_told_with_how_to_switch_dropout_off(drop: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - a kind of each library's own
        export(drop, X, "ONNX", file_name=tmp_path / "a")
    (note,) = [each for each in raised.value.__notes__ if each.startswith("fnckpt:")]
    assert "model.eval() of NNX, deterministic=True of linen" in note


def test_a_class_in_place_of_its_instance_is_told(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="got the class Own; give an instance of it"):
        export(Own, X, "ONNX", file_name=tmp_path / "a")


@pytest.mark.parametrize("returned", ["text", {"a": X, "b": object()}])
def test_what_is_returned_and_is_not_an_array_is_named(returned: Any, tmp_path: Path) -> None:
    told = (
        r"returns what is not an array; return an array or a tree of arrays:\n  (b|the result): a "
    )
    with pytest.raises(TypeError, match=told):
        export(lambda x: returned, X, "ONNX", file_name=tmp_path / "a")
