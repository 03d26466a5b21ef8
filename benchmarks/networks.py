"""Networks of other people, random weights: exported to every format and run where that is read.

    pip install -e '.[networks,run,mindspore]'
    python benchmarks/networks.py [NAME ...]

For each network and format: nodes, transposes left, the greatest difference from JAX relative to
the greatest number, and the seconds of the export.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np

import fnckpt
from fnckpt.ir.targets import target
from fnckpt.runtimes import RUNTIMES, is_installed

Network = tuple[Any, Callable[..., Any], tuple[np.ndarray, ...]]
NETWORKS: dict[str, Callable[[], Network]] = {}

IDS = np.random.default_rng(0).integers(0, 99, (1, 16)).astype(np.int32)
MASK = np.ones((1, 16), np.int32)


def network(make: Callable[[], Network]) -> Callable[[], Network]:
    """Register the decorated function under its own name."""
    NETWORKS[make.__name__] = make
    return make


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def shaken(value: jax.Array) -> np.ndarray:
    """As if trained: fresh statistics and scales are all alike."""
    x = np.asarray(value)
    return x + 0.1 * np.cos(np.arange(x.size, dtype=x.dtype)).reshape(x.shape) * max(x.std(), 0.5)


def of_keras(name: str) -> Network:
    import keras

    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3))
    params = {
        "trained": [shaken(v.value) for v in model.trainable_variables],
        "rest": [shaken(v.value) for v in model.non_trainable_variables],
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return model.stateless_call(params["trained"], params["rest"], x, training=False)[0]

    return params, apply, (image(1, 64, 64, 3),)


@network
def keras_resnet50() -> Network:
    return of_keras("ResNet50")


@network
def keras_mobilenetv2() -> Network:
    return of_keras("MobileNetV2")


@network
def keras_efficientnetb0() -> Network:
    return of_keras("EfficientNetB0")


@network
def haiku_resnet18() -> Network:
    import haiku as hk

    def forward(training: bool) -> Any:
        return hk.transform_with_state(lambda x: hk.nets.ResNet18(10)(x, is_training=training))

    x = image(1, 64, 64, 3)
    params, state = forward(True).init(jax.random.key(0), x)
    both = {"params": jax.tree.map(shaken, params), "state": state}
    return both, lambda p, x: forward(False).apply(p["params"], p["state"], None, x)[0], (x,)


@network
def equinox_mlp() -> Network:
    import equinox as eqx

    net = eqx.nn.MLP(8, 4, 32, 3, key=jax.random.key(0))
    return net, lambda net, x: jax.vmap(net)(x), (image(5, 8),)


@network
def equinox_cnn() -> Network:
    import equinox as eqx

    first, last = jax.random.split(jax.random.key(0))
    layers = [
        eqx.nn.Conv2d(3, 8, 3, key=first),
        eqx.nn.Lambda(jax.nn.relu),
        eqx.nn.MaxPool2d(2, 2),
        eqx.nn.GroupNorm(2, 8),
        eqx.nn.Lambda(jnp.ravel),
        eqx.nn.Linear(8 * 15 * 15, 10, key=last),
    ]
    return eqx.nn.Sequential(layers), lambda net, x: jax.vmap(net)(x), (image(2, 3, 32, 32),)


@network
def equinox_transformer() -> Network:
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 3)
    net = {
        "embed": eqx.nn.Embedding(99, 32, key=keys[0]),
        "attend": eqx.nn.MultiheadAttention(4, 32, key=keys[1]),
        "norm": eqx.nn.LayerNorm(32),
        "mlp": eqx.nn.MLP(32, 32, 64, 1, key=keys[2], activation=jax.nn.gelu),
    }

    def apply(net: Any, tokens: jax.Array) -> jax.Array:
        x = jax.vmap(net["embed"])(tokens)
        y = jax.vmap(net["norm"])(x)
        x = x + net["attend"](y, y, y)
        return x + jax.vmap(lambda row: net["mlp"](net["norm"](row)))(x)

    return net, apply, (IDS[0],)


def of_transformers(kind: str, config: Any, *inputs: np.ndarray) -> Network:
    import transformers

    model = getattr(transformers, kind)(config, seed=0)

    def apply(params: Any, x: jax.Array, *mask: jax.Array) -> jax.Array:
        named = {"attention_mask": mask[0]} if mask else {}
        return model(x, params=params, **named)[0]

    return model.params, apply, inputs


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


@network
def bert() -> Network:
    from transformers import BertConfig

    return of_transformers(
        "FlaxBertModel", BertConfig(vocab_size=99, intermediate_size=128, **SMALL), IDS, MASK
    )


@network
def gpt2() -> Network:
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=99, n_embd=64, n_layer=2, n_head=4, n_positions=64)
    return of_transformers("FlaxGPT2Model", config, IDS, MASK)


@network
def vit() -> Network:
    from transformers import ViTConfig

    config = ViTConfig(intermediate_size=128, image_size=32, patch_size=8, **SMALL)
    return of_transformers("FlaxViTModel", config, image(1, 3, 32, 32))


@network
def resnet() -> Network:
    from transformers import ResNetConfig

    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1])
    return of_transformers("FlaxResNetModel", config, image(1, 3, 64, 64))


def measured(network: Network, file_format: str, path: Path) -> str:
    """The line of one file."""
    params, apply, inputs = network
    wanted = [np.asarray(leaf) for leaf in jax.tree.leaves(apply(params, *inputs))]
    result = fnckpt.export(params, apply, inputs, file_format, file_name=path)
    found = RUNTIMES[file_format][1](result.path, inputs)
    errors = [
        np.abs(a.astype(np.float64) - b).max() / np.abs(b).max()
        for a, b in zip(found, wanted, strict=True)
    ]
    nodes = target(file_format).summarize(result.path).nodes
    transposes = sum("ranspose" in node.op for node in nodes)
    return (
        f"{result.nodes:5} of {result.traced_nodes:5} nodes  {transposes:3} transposes  "
        f"error {max(errors):.1e}  {result.seconds:5.1f} s"
    )


def main() -> None:
    """Print the table."""
    names = sys.argv[1:] or list(NETWORKS)
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            made = NETWORKS[name]()
            for file_format in filter(is_installed, RUNTIMES):
                line = measured(made, file_format, Path(directory, name))
                print(f"{name:22}{file_format:8}{line}", flush=True)


if __name__ == "__main__":
    main()
