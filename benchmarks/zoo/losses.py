"""Losses of optax and such as are written by hand."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.zoo.images import Network
from benchmarks.zoo.pixels import function

RANDOM = np.random.default_rng(0)
ROWS, CLASSES = 64, 1000
LOGITS = RANDOM.standard_normal((ROWS, CLASSES), np.float32)
LABELS = RANDOM.integers(0, CLASSES, ROWS).astype(np.int32)
VECTORS = RANDOM.standard_normal((ROWS, 128), np.float32)
OTHERS = RANDOM.standard_normal((ROWS, 128), np.float32)
MASKS = (RANDOM.random((4, 64, 64, 1)) > 0.5).astype(np.float32)
MAPS = RANDOM.standard_normal((4, 64, 64, 1), np.float32)


def with_integers(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def one_hot(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy(logits, jax.nn.one_hot(labels, CLASSES)).mean()


def smooth(logits: jax.Array, labels: jax.Array) -> jax.Array:
    wanted = optax.smooth_labels(jax.nn.one_hot(labels, CLASSES), 0.1)
    return optax.softmax_cross_entropy(logits, wanted).mean()


def picked(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """As nanoGPT in JAX has it."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], -1).mean()


def of_tokens(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Four sentences of 16 words, of which those numbered 0 are padding."""
    by_word = optax.softmax_cross_entropy_with_integer_labels(
        logits.reshape(4, 16, -1), labels.reshape(4, 16)
    )
    seen = (labels.reshape(4, 16) != 0).astype(logits.dtype)
    return (by_word * seen).sum() / seen.sum()


def ctc(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Two sentences of 24 frames and up to 6 sounds."""
    frames, sounds = logits[:48, :32].reshape(2, 24, 32), labels[:12].reshape(2, 6) % 31 + 1
    ends = jnp.zeros((2, 24)), (jnp.arange(6) >= jnp.array([[6], [4]])).astype(logits.dtype)
    return optax.ctc_loss(frames, ends[0], sounds, ends[1])


def focal(logits: jax.Array, masks: jax.Array) -> jax.Array:
    return optax.sigmoid_focal_loss(logits, masks, alpha=0.25).mean((1, 2, 3))


def dice(logits: jax.Array, masks: jax.Array) -> jax.Array:
    p = jax.nn.sigmoid(logits)
    both, each = (p * masks).sum((1, 2, 3)), p.sum((1, 2, 3)) + masks.sum((1, 2, 3))
    return 1 - (2 * both + 1) / (each + 1)


def contrastive(a: jax.Array, b: jax.Array) -> jax.Array:
    """Oord et al.: of each row, its partner among all."""
    a, b = (x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return optax.softmax_cross_entropy_with_integer_labels(a @ b.T / 0.07, jnp.arange(ROWS)).mean()


def divergence(a: jax.Array, b: jax.Array) -> jax.Array:
    p, q = jax.nn.log_softmax(a / 2), jax.nn.log_softmax(b / 2)
    return (jnp.exp(p) * (p - q)).sum(-1).mean() * 4


def gradient(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.grad(with_integers)(logits, labels)


LOSSES: dict[str, Callable[[], Network]] = {
    "cross-entropy": function(with_integers, LOGITS, LABELS),
    "one-hot": function(one_hot, LOGITS, LABELS),
    "smooth labels": function(smooth, LOGITS, LABELS),
    "picked": function(picked, LOGITS, LABELS),
    "words": function(of_tokens, LOGITS, LABELS),
    "CTC": function(ctc, LOGITS, LABELS),
    "focal": function(focal, MAPS, MASKS),
    "dice": function(dice, MAPS, MASKS),
    "InfoNCE": function(contrastive, VECTORS, OTHERS),
    "distillation": function(divergence, LOGITS, LOGITS[::-1].copy()),
    "its gradient": function(gradient, LOGITS, LABELS),
}
