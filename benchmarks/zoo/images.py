"""Convolutional networks in Flax linen, and the mixer, on one image of 224 x 224."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.networks.zoo import drawn

Network = tuple[Any, Callable[..., Any], tuple[np.ndarray, ...]]
Activation = Callable[[jax.Array], jax.Array]


def initialized(module: nn.Module, *inputs: np.ndarray) -> Network:
    """A module with weights as if trained: Flax's own take XLA seconds to compile."""
    variables = drawn(jax.eval_shape(module.init, jax.random.key(0), *inputs))
    return jax.tree.map(jnp.asarray, variables), module.apply, inputs


def image(size: int = 224, channels: int = 3) -> np.ndarray:
    """One image of normally distributed numbers, always the same."""
    shape = (1, size, size, channels)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


norm = partial(nn.BatchNorm, use_running_average=True)


class Bottleneck(nn.Module):
    """He et al., "Deep residual learning", version 1.5: the stride is in the 3 x 3."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False)
        y = nn.relu(norm()(conv(self.features, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.features, (3, 3), self.stride)(y)))
        y = norm(scale_init=nn.initializers.ones)(conv(4 * self.features, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.features, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """Four stages of 3, 4, 6 and 3 blocks."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(norm()(nn.Conv(64, (7, 7), 2, padding=3, use_bias=False)(x)))
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding="SAME")
        for stage, blocks in enumerate((3, 4, 6, 3)):
            for block in range(blocks):
                x = Bottleneck(64 << stage, 2 if stage and not block else 1)(x)
        return nn.Dense(1000)(x.mean((1, 2)))


def squeeze_excite(x: jax.Array, reduced: int) -> jax.Array:
    """Each channel times a number from the means of all."""
    s = x.mean((1, 2), keepdims=True)
    s = nn.silu(nn.Conv(reduced, (1, 1))(s))
    return x * nn.sigmoid(nn.Conv(x.shape[-1], (1, 1))(s))


class InvertedResidual(nn.Module):
    """Wide, each channel for itself, narrow; with ``squeeze`` as in EfficientNet."""

    features: int
    expand: int
    kernel: int
    stride: int
    act: Activation
    squeeze: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        conv = partial(nn.Conv, use_bias=False)
        wide, y = x.shape[-1] * self.expand, x
        if self.expand > 1:
            y = self.act(norm()(conv(wide, (1, 1))(y)))
        depthwise = conv(wide, (self.kernel,) * 2, self.stride, feature_group_count=wide)
        y = self.act(norm()(depthwise(y)))
        if self.squeeze:
            y = squeeze_excite(y, max(1, x.shape[-1] // 4))
        y = norm()(conv(self.features, (1, 1))(y))
        return x + y if x.shape == y.shape else y


class Inverted(nn.Module):
    """A stem, inverted residuals in stages ``(expand, features, blocks, stride, kernel)``."""

    stages: Sequence[tuple[int, int, int, int, int]]
    act: Activation
    squeeze: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.act(norm()(nn.Conv(32, (3, 3), 2, use_bias=False)(x)))
        for expand, features, blocks, stride, kernel in self.stages:
            for block in range(blocks):
                step = stride if not block else 1
                x = InvertedResidual(features, expand, kernel, step, self.act, self.squeeze)(x)
        x = self.act(norm()(nn.Conv(1280, (1, 1), use_bias=False)(x)))
        return nn.Dense(1000)(x.mean((1, 2)))


MOBILE = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3), (6, 320, 1, 1, 3),
)  # fmt: skip
EFFICIENT = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5), (6, 320, 1, 1, 3),
)  # fmt: skip


class ConvNeXtBlock(nn.Module):
    """A 7 x 7 of each channel, LayerNorm, two Dense, a scale, a shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = x.shape[-1]
        y = nn.Conv(features, (7, 7), feature_group_count=features)(x)
        y = nn.gelu(nn.Dense(4 * features)(nn.LayerNorm(1e-6)(y)), approximate=False)
        scale = self.param("scale", nn.initializers.constant(0.1), (features,))
        return x + scale * nn.Dense(features)(y)


class ConvNeXtTiny(nn.Module):
    """Liu et al., "A ConvNet for the 2020s"."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for stage, (features, blocks) in enumerate(((96, 3), (192, 3), (384, 9), (768, 3))):
            if stage:
                x = nn.Conv(features, (2, 2), 2)(nn.LayerNorm(1e-6)(x))
            else:
                x = nn.LayerNorm(1e-6)(nn.Conv(features, (4, 4), 4)(x))
            for _ in range(blocks):
                x = ConvNeXtBlock()(x)
        return nn.Dense(1000)(nn.LayerNorm(1e-6)(x.mean((1, 2))))


class UNet(nn.Module):
    """Three levels down and up, GroupNorm and SiLU, shortcuts across."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def twice(x: jax.Array, features: int) -> jax.Array:
            for _ in range(2):
                x = nn.silu(nn.GroupNorm(8)(nn.Conv(features, (3, 3))(x)))
            return x

        across = []
        for features in (16, 32, 64):
            x = twice(x, features)
            across.append(x)
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = twice(x, 128)
        for features in (64, 32, 16):
            x = nn.ConvTranspose(features, (2, 2), (2, 2))(x)
            x = twice(jnp.concatenate([x, across.pop()], -1), features)
        return nn.Conv(2, (1, 1))(x)


class Vgg16(nn.Module):
    """Simonyan and Zisserman: 13 convolutions of 3 x 3, three Dense, here of 1024."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(1024)(x))
        return nn.Dense(1000)(x)


class MixerBlock(nn.Module):
    """An MLP over the patches, then one over the channels."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def mlp(y: jax.Array, wide: int) -> jax.Array:
            return nn.Dense(y.shape[-1])(nn.gelu(nn.Dense(wide)(y)))

        y = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
        x = x + jnp.swapaxes(mlp(y, 256), 1, 2)
        return x + mlp(nn.LayerNorm()(x), 2048)


class Mixer(nn.Module):
    """Tolstikhin et al., "MLP-Mixer", S/16."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(512, (16, 16), 16)(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        for _ in range(8):
            x = MixerBlock()(x)
        return nn.Dense(1000)(nn.LayerNorm()(x).mean(1))


IMAGES: dict[str, Callable[[], Network]] = {
    "ResNet-50": lambda: initialized(ResNet50(), image()),
    "MobileNetV2": lambda: initialized(Inverted(MOBILE, nn.relu6, False), image()),
    "EfficientNetB0": lambda: initialized(Inverted(EFFICIENT, nn.silu, True), image()),
    "ConvNeXt-Tiny": lambda: initialized(ConvNeXtTiny(), image()),
    "MLP-Mixer": lambda: initialized(Mixer(), image()),
    "VGG-16": lambda: initialized(Vgg16(), image()),
    "UNet": lambda: initialized(UNet(), image(128)),
}
