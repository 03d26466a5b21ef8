"""Functions of kinds that no other list has: each was slower than jax2onnx's file, or than JAX."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.zoo.images import Network
from benchmarks.zoo.pixels import function

RANDOM = np.random.default_rng(1)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def brighter(x: jax.Array) -> jax.Array:
    """Of images of bytes."""
    return jnp.clip(x.astype(jnp.float32) * 1.2 + 10, 0, 255).astype(jnp.uint8)


def of_logits(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def log_cosh(a: jax.Array, b: jax.Array) -> jax.Array:
    return optax.log_cosh(a, b).mean()


def divergence(p: jax.Array, q: jax.Array) -> jax.Array:
    log_p = jax.nn.log_softmax(p)
    return (jax.nn.softmax(p) * (log_p - jax.nn.log_softmax(q))).sum(-1).mean()


def tversky(logits: jax.Array, masks: jax.Array) -> jax.Array:
    p, axes = jax.nn.sigmoid(logits), (1, 2, 3)
    both = (p * masks).sum(axes)
    other = 0.3 * (p * (1 - masks)).sum(axes) + 0.7 * ((1 - p) * masks).sum(axes)
    return 1 - (both / (both + other + 1e-6)).mean()


def quantized(x: jax.Array, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Oord et al., "Neural discrete representation learning": the nearest code."""
    far = (x**2).sum(1, keepdims=True) - 2 * x @ codes.T + (codes**2).sum(1)
    nearest = far.argmin(1)
    return x + jax.lax.stop_gradient(codes[nearest] - x), nearest


def drawn(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """By Gumbel's trick."""
    return (logits - jnp.log(-jnp.log(uniform))).argmax(-1)


def best(logits: jax.Array) -> jax.Array:
    """All but the best 40 are hidden."""
    values, _ = jax.lax.top_k(logits, 40)
    return jnp.where(logits < values[:, -1:], -1e9, logits)


def warped(images: jax.Array, flow: jax.Array) -> jax.Array:
    """Each pixel from where the flow says, between four."""
    axes = jnp.meshgrid(jnp.arange(96.0), jnp.arange(96.0), indexing="ij")
    places = jnp.stack(axes, -1)[None] + flow

    def one(image: jax.Array, at: jax.Array) -> jax.Array:
        order = [at[..., 0], at[..., 1]]
        return jax.scipy.ndimage.map_coordinates(image, order, 1, mode="nearest")

    return jax.vmap(one)(images, places)


def in_pieces(x: jax.Array) -> jax.Array:
    tests = [x < -1, (x >= -1) & (x < 1)]
    return jnp.piecewise(x, tests, [lambda x: -x, lambda x: x**2, lambda x: x + 1])


def best_path(scores: jax.Array, moves: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Viterbi's algorithm over 20 steps of 9 states."""

    def step(best: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = best[:, :, None] + moves
        return each.max(1) + row, each.argmax(1)

    best, places = jax.lax.scan(step, scores[:, 0], scores.swapaxes(0, 1)[1:])
    return best.max(-1), places


def all_paths(scores: jax.Array, moves: jax.Array) -> jax.Array:
    """The normalizer of a conditional random field."""

    def step(sums: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        return jax.nn.logsumexp(sums[:, :, None] + moves, 1) + row, None

    sums, _ = jax.lax.scan(step, scores[:, 0], scores.swapaxes(0, 1)[1:])
    return jax.nn.logsumexp(sums, -1)


def rotated(matrices: jax.Array, points: jax.Array) -> jax.Array:
    return jnp.einsum("bij,bj->bi", matrices, points)


def interpolated(x: jax.Array, xp: jax.Array, fp: jax.Array) -> jax.Array:
    return jnp.interp(x, xp, fp)


def classes(maps: jax.Array) -> jax.Array:
    """What a network for segmentation ends with."""
    return jax.nn.softmax(maps, 1)


BYTES = RANDOM.integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
LABELS = (RANDOM.random((256, 64)) > 0.5).astype(np.float32)
UNIFORM = RANDOM.uniform(0.01, 0.99, (64, 100)).astype(np.float32)
MASKS = (RANDOM.random((4, 64, 64, 1)) > 0.5).astype(np.float32)
KNOTS = np.sort(RANDOM.random(16).astype(np.float32))
FUNCTIONS: dict[str, Callable[[], Network]] = {
    "bytes": function(brighter, BYTES),
    "logits": function(of_logits, normal(256, 64), LABELS),
    "log-cosh": function(log_cosh, normal(256, 64), normal(256, 64)),
    "divergence": function(divergence, normal(64, 500), normal(64, 500)),
    "Tversky": function(tversky, normal(4, 64, 64, 1), MASKS),
    "codes": function(quantized, normal(256, 32), normal(128, 32)),
    "Gumbel": function(drawn, normal(64, 100), UNIFORM),
    "best 40": function(best, normal(8, 500)),
    "warped": function(warped, RANDOM.random((2, 96, 96), np.float32), 3 * normal(2, 96, 96, 2)),
    "pieces": function(in_pieces, normal(4096)),
    "Viterbi": function(best_path, normal(4, 20, 9), normal(9, 9)),
    "CRF": function(all_paths, normal(4, 20, 9), normal(9, 9)),
    "rotations": function(rotated, normal(1024, 3, 3), normal(1024, 3)),
    "interpolated": function(interpolated, RANDOM.random(1000, np.float32), KNOTS, normal(16)),
    "classes": function(classes, normal(1, 21, 64, 64)),
}
