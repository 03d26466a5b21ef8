"""Small networks, in which each node costs more than what it computes."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.zoo.images import Activation, Network, image, initialized


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


class Mlp(nn.Module):
    """Dense with an activation between."""

    features: Sequence[int]
    act: Activation

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.features[:-1]:
            x = self.act(nn.Dense(size)(x))
        return nn.Dense(self.features[-1])(x)


class Residual(nn.Module):
    """LayerNorm, Dense, GELU, Dense, a shortcut."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(3):
            x = x + nn.Dense(64)(nn.gelu(nn.Dense(128)(nn.LayerNorm()(x))))
        return nn.softmax(nn.Dense(10)(x))


class UpAndDown(nn.Module):
    """Convolutions with ELU down, transposed ones up, a shortcut of Dense between."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        for features in (8, 16):
            x = nn.elu(nn.Conv(features, (3, 3), 2)(x))
        flat = x.reshape(x.shape[0], -1)
        code = nn.elu(nn.Dense(32)(flat))
        x = x + nn.Dense(flat.shape[-1])(code).reshape(x.shape)
        for features in (16, 8):
            x = nn.elu(nn.ConvTranspose(features, (3, 3), (2, 2))(x))
        return nn.sigmoid(nn.Conv(3, (3, 3))(x)), code


class Variational(nn.Module):
    """An encoder to a mean and a deviation, the sample from given noise, a decoder."""

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = nn.relu(nn.Dense(128)(x))
        mean, log_var = jnp.split(nn.Dense(32)(h), 2, -1)
        z = mean + jnp.exp(0.5 * log_var) * noise
        y = nn.sigmoid(nn.Dense(x.shape[-1])(nn.relu(nn.Dense(128)(z))))
        return y, -0.5 * (1 + log_var - mean**2 - jnp.exp(log_var)).sum(-1)


class Coupling(nn.Module):
    """Four affine couplings: half of the columns scale and shift the other half."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        volume = jnp.zeros(x.shape[0])
        for _ in range(4):
            a, b = jnp.split(x, 2, -1)
            scale, shift = jnp.split(nn.Dense(x.shape[-1])(nn.tanh(nn.Dense(32)(a))), 2, -1)
            scale = jnp.tanh(scale)
            x, volume = jnp.concatenate([b * jnp.exp(scale) + shift, a], -1), volume + scale.sum(-1)
        return x, volume


class Set(nn.Module):
    """A function of sets: each element, the sum of what is seen, the whole."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        y = nn.relu(nn.Dense(32)(nn.relu(nn.Dense(32)(x))))
        y = (y * mask[..., None]).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)
        return nn.Dense(5)(nn.relu(nn.Dense(32)(y)))


class Dueling(nn.Module):
    """Values of actions, as in Q-learning from images."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(16, (8, 8), 4, padding="VALID")(x / 255.0))
        x = nn.relu(nn.Conv(32, (4, 4), 2, padding="VALID")(x))
        x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        value, advantage = nn.Dense(1)(x), nn.Dense(6)(x)
        return value + advantage - advantage.mean(-1, keepdims=True)


class LeNet(nn.Module):
    """Two convolutions with means, three Dense."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.avg_pool(nn.tanh(nn.Conv(6, (5, 5))(x)), window_shape=(2, 2), strides=(2, 2))
        x = nn.avg_pool(
            nn.tanh(nn.Conv(16, (5, 5), padding="VALID")(x)), window_shape=(2, 2), strides=(2, 2)
        )
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(10)(nn.tanh(nn.Dense(84)(nn.tanh(nn.Dense(120)(x)))))


class Radial(nn.Module):
    """Distances to known centres, Gaussians of them, a Dense."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        centres = self.param("centres", nn.initializers.normal(1.0), (64, x.shape[-1]))
        far = ((x[:, None] - centres) ** 2).sum(-1)
        return nn.Dense(3)(jnp.exp(-0.1 * far))


def slope() -> Network:
    """The derivative of an MLP by its input, as physics has it."""
    params, apply_fn, (x,) = initialized(Mlp((32, 32, 1), nn.tanh), rows(256, 2))

    def of_one(params: object, point: jax.Array) -> jax.Array:
        return apply_fn(params, point)[0]

    return params, lambda p, x: jax.vmap(jax.grad(of_one, 1), (None, 0))(p, x), (x,)


SMALL: dict[str, Callable[[], Network]] = {
    "MLP": lambda: initialized(Mlp((64, 64, 10), nn.relu), rows(8, 32)),
    "MLP, 6 layers": lambda: initialized(Mlp((32,) * 5 + (4,), nn.gelu), rows(4, 16)),
    "MLP, SiLU": lambda: initialized(Mlp((128, 128, 128, 10), nn.silu), rows(32, 64)),
    "MLP, sines": lambda: initialized(Mlp((64, 64, 3), lambda x: jnp.sin(30 * x)), rows(1024, 2)),
    "MLP, residual": lambda: initialized(Residual(), rows(16, 64)),
    "ELU, transposed": lambda: initialized(UpAndDown(), image(32)),
    "VAE": lambda: initialized(Variational(), rows(8, 196), rows(8, 16)),
    "coupling": lambda: initialized(Coupling(), rows(64, 8)),
    "set": lambda: initialized(Set(), rows(8, 20, 4), np.ones((8, 20), np.float32)),
    "Q, dueling": lambda: initialized(Dueling(), rows(1, 84, 84, 4)),
    "LeNet": lambda: initialized(LeNet(), image(28, 1)),
    "radial": lambda: initialized(Radial(), rows(32, 4)),
    "slope": slope,
}
