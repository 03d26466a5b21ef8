"""Networks of other people with random weights, as they come from their packages.

An entry is a function of no arguments that gives parameters, the pure function, and inputs.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np

from tests.networks.zoo import Network, drawn

OTHERS: dict[str, Callable[[], Network]] = {}
LARGE = ("keras_resnet50", "keras_mobilenetv2", "keras_efficientnetb0", "haiku_resnet18")

IDS = np.random.default_rng(0).integers(0, 99, (1, 16)).astype(np.int32)
MASK = np.ones((1, 16), np.int32)


def network(make: Callable[[], Network]) -> Callable[[], Network]:
    """Register the decorated function under its own name."""
    OTHERS[make.__name__] = make
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
    return pure(model, image(1, 64, 64, 3))


def pure(model: Any, x: np.ndarray) -> Network:
    """A Keras model as a function of its variables."""
    params = {
        "trained": [shaken(v.value) for v in model.trainable_variables],
        "rest": [shaken(v.value) for v in model.non_trainable_variables],
    }

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return model.stateless_call(params["trained"], params["rest"], x, training=False)[0]

    return params, apply, (x,)


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

    model = getattr(transformers, kind)(config, _do_init=False)
    init = partial(model.init_weights, input_shape=model.input_shape)

    def apply(params: Any, x: jax.Array, *mask: jax.Array) -> jax.Array:
        named = {"attention_mask": mask[0]} if mask else {}
        return model(x, params=params, **named)[0]

    return drawn(jax.eval_shape(init, jax.random.key(0))), apply, inputs


SMALL: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


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


@contextmanager
def old_clip() -> Iterator[None]:
    """transformers 4.57 calls ``jnp.clip`` by names of arguments that JAX 0.10 does not have."""
    new = jnp.clip
    jnp.clip = lambda x, a_min=None, a_max=None: new(x, a_min, a_max)
    try:
        yield
    finally:
        jnp.clip = new


@network
def t5_encoder() -> Network:
    from transformers import T5Config

    config = T5Config(vocab_size=99, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4)
    with old_clip():
        params, apply, inputs = of_transformers("FlaxT5EncoderModel", config, IDS, MASK)

    def clipped(params: Any, x: jax.Array, mask: jax.Array) -> jax.Array:
        with old_clip():
            return apply(params, x, mask)

    return params, clipped, inputs


@network
def keras_small() -> Network:
    """MobileNetV2's blocks are in the large ones; here are the layers that they lack."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((12, 12, 3)),
            layers.SeparableConv2D(8, 3, activation="hard_silu"),
            layers.LayerNormalization(),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="elu"),
            layers.GroupNormalization(2),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.AveragePooling2D(2, padding="same"),
            layers.Reshape((-1, 6)),
            layers.Dense(4, activation="gelu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    return pure(model, image(2, 12, 12, 3))
