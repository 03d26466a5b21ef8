"""``fnckpt demo``: the whole road on real data, in less than two minutes.

A convolutional network learns scikit-learn's 1,797 handwritten digits under a checkpoint policy;
the last checkpoint is restored and exported to three formats; each file is run by its runtime.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState

from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.exporting.export import export
from fnckpt.exporting.result import ExportResult
from fnckpt.exporting.runtimes import RUNTIMES, is_installed
from fnckpt.extras import require
from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy

NOT_INSTALLED = "not installed"
BATCH = 64
HELD_OUT = 360

Batch = dict[str, np.ndarray]


class DigitsNet(nn.Module):
    """Two convolutions and a dense layer: images ``[N, 8, 8, 1]`` to ten numbers each."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """The probability of each digit; in training its logarithm but for a constant."""
        x = images
        for features in (16, 32):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Dense(10)(x.reshape(x.shape[0], -1))
        return x if train else nn.softmax(x)


class State(TrainState):
    """A linen train state with the running statistics of BatchNorm."""

    batch_stats: Any

    def variables(self) -> dict[str, Any]:
        """What ``DigitsNet().apply`` takes first."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def digits() -> tuple[Batch, Batch]:
    """The images ``[N, 8, 8, 1]`` in 0..1 with their labels: 1,437 to train on, 360 held out."""
    require("sklearn", "the data of handwritten digits")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    shaped = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    named = labels[order].astype(np.int32)
    train, held = slice(0, -HELD_OUT), slice(-HELD_OUT, None)
    return (
        {"image": shaped[train], "label": named[train]},
        {"image": shaped[held], "label": named[held]},
    )


def batches(data: Batch, epoch: int) -> Iterator[Batch]:
    """The whole batches of one epoch, in an order that depends on the epoch alone."""
    order = np.random.default_rng(epoch).permutation(len(data["label"]))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        yield {name: array[order[start : start + BATCH]] for name, array in data.items()}


def first_state(seed: int = 0) -> State:
    """A fresh network with its optimizer."""
    init = jax.jit(DigitsNet().init)  # without it each operation is compiled alone
    variables = init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))
    return State.create(
        apply_fn=DigitsNet().apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=optax.adam(3e-3),
    )


def train_step(state: State, batch: Batch) -> tuple[State, dict[str, jax.Array]]:
    """One step of Adam on the cross entropy of a batch."""

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updated = state.apply_fn(
            variables, batch["image"], train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return losses.mean(), (logits, updated["batch_stats"])

    (loss, (logits, stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    accuracy = (logits.argmax(-1) == batch["label"]).mean()
    return state.apply_gradients(grads=grads, batch_stats=stats), {
        "loss": loss,
        "accuracy": accuracy,
    }


@dataclass(frozen=True)
class Row:
    """One line of the demo's table; ``accuracy`` and ``error`` are None where nothing ran."""

    file: str
    bytes: int
    nodes: int | None
    runtime: str
    accuracy: float | None
    error: float | None

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        return (
            self.file,
            f"{self.bytes:,}",
            "" if self.nodes is None else str(self.nodes),
            self.runtime,
            "" if self.accuracy is None else f"{self.accuracy:.2%}",
            "" if self.error is None else f"{self.error:.1e}",
        )


def run_demo(directory: Path, *, epochs: int = 12) -> tuple[TrainResult, list[Row]]:
    """Train, save, restore, export three times and run what was written.

    Args:
      directory: where the files go; made when missing.
      epochs: of 22 steps each.

    Returns:
      What ``train`` gave, and the table.
    """
    training, held_out = digits()
    result = train(
        train_step,
        first_state(),
        partial(batches, training),
        epochs=epochs,
        policy=CheckpointPolicy(step=20, keep_max=5),
        directory=directory,
        prefix="digits",
    )
    newest = result.checkpoints[-1]
    state = load_checkpoint(newest, like=first_state())
    images = held_out["image"]
    expected = np.asarray(jax.jit(DigitsNet().apply)(state.variables(), images))
    accuracy = float((expected.argmax(-1) == held_out["label"]).mean())
    rows = [Row(newest.name, newest.stat().st_size, None, "JAX, restored", accuracy, None)]
    for file_format in RUNTIMES:
        exported = export(
            state.variables(),
            DigitsNet().apply,
            images,
            file_format,
            file_name=directory / "digits",
        )
        rows.append(_judged(exported, images, held_out["label"], expected))
    return result, rows


def _judged(
    exported: ExportResult, images: np.ndarray, labels: np.ndarray, expected: np.ndarray
) -> Row:
    """What the format's own runtime makes of the file, where it is installed."""
    runtime, run = RUNTIMES[exported.file_format]
    about = (exported.path.name, exported.bytes, exported.nodes)
    if not is_installed(exported.file_format):
        return Row(*about, NOT_INSTALLED, None, None)
    (found,) = run(exported, [images])
    accuracy = float((found.argmax(-1) == labels).mean())
    return Row(*about, runtime, accuracy, float(np.abs(found - expected).max()))
