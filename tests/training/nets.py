"""Trainings of the kinds that users write, on scikit-learn's digits: small and deterministic."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.training import train_state
from sklearn.datasets import load_digits

from fnckpt.checkpoints import leaf_names, storable

BATCH = 64
STEPS = 8  # an epoch


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """The images, shape (1797, 64), 0 to 16, and the labels."""
    images, labels = load_digits(return_X_y=True)
    return np.asarray(images), np.asarray(labels)


def epoch(number: int) -> list[dict[str, np.ndarray]]:
    """The batches of an epoch: another order each, the same every time."""
    images, labels = digits()
    order = np.random.default_rng(number).permutation(len(labels))[: BATCH * STEPS]
    image = (images[order].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    label = labels[order].astype(np.int32)
    cuts = range(0, BATCH * STEPS, BATCH)
    return [{"image": image[at : at + BATCH], "label": label[at : at + BATCH]} for at in cuts]


@dataclass(frozen=True)
class Net:
    """A state and a step over it; ``make`` is called anew for every training."""

    name: str
    make: Callable[[], tuple[Callable[..., tuple[Any, Any]], Any]]


def measured(logits: jax.Array, label: jax.Array) -> tuple[jax.Array, jax.Array]:
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()
    return loss, (logits.argmax(-1) == label).mean()


class Linen(linen.Module):
    """Conv, BatchNorm and Dropout."""

    @linen.compact
    def __call__(self, x: jax.Array, *, training: bool) -> jax.Array:
        x = linen.Conv(8, (3, 3))(x)
        x = linen.BatchNorm(use_running_average=not training)(x)
        x = linen.relu(x).reshape(x.shape[0], -1)
        x = linen.Dropout(0.2, deterministic=not training)(x)
        return linen.Dense(10)(x)


class TrainState(train_state.TrainState):
    batch_stats: Any
    key: jax.Array


def linen_train_state() -> tuple[Callable[..., tuple[Any, Any]], Any]:
    """A TrainState whose step is the Python int 0, an optax chain with a schedule, a typed key."""
    model = Linen()
    init = jax.jit(partial(model.init, training=False))
    variables = init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, 5, 60)
    state = TrainState.create(
        apply_fn=model.apply,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        tx=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule)),
        key=jax.random.key(1),
    )

    def step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Any]:
        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = state.apply_fn(
                {"params": params, "batch_stats": state.batch_stats},
                batch["image"],
                training=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(state.key, state.step)},
            )
            loss, accuracy = measured(logits, batch["label"])
            return loss, (accuracy, updates)

        (loss, (accuracy, updates)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        state = state.apply_gradients(grads=grads, batch_stats=updates["batch_stats"])
        return state, {"loss": loss, "accuracy": accuracy}

    return step, state


class Nnx(nnx.Module):
    """Conv, BatchNorm and Dropout, which keeps its own random state."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.2, rngs=rngs)
        self.dense = nnx.Linear(512, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(x))).reshape(x.shape[0], -1)
        return self.dense(self.drop(x))


def nnx_split() -> tuple[Callable[..., tuple[Any, Any]], Any]:
    """A module and its optimizer, split into graphdef and state."""
    model = Nnx(nnx.Rngs(0, dropout=1))
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    graphdef, state = nnx.split((model, optimizer))

    def step(state: Any, batch: dict[str, jax.Array]) -> tuple[Any, Any]:
        model, optimizer = nnx.merge(graphdef, state)

        def loss_of(model: Nnx) -> tuple[jax.Array, jax.Array]:
            return measured(model(batch["image"]), batch["label"])

        (loss, accuracy), grads = nnx.value_and_grad(loss_of, has_aux=True)(model)
        optimizer.update(model, grads)
        return nnx.state((model, optimizer)), {"loss": loss, "accuracy": accuracy}

    return step, state


def dict_and_optax() -> tuple[Callable[..., tuple[Any, Any]], Any]:
    """Plain dictionaries, NumPy leaves, a Python float, and a raw uint32 key."""
    rng = np.random.default_rng(0)
    tx = optax.sgd(0.1, momentum=0.9)
    params = {"w": rng.normal(0, 0.1, (64, 10)).astype(np.float32), "b": np.zeros(10, np.float32)}
    state = {"params": params, "opt": tx.init(params), "key": jax.random.PRNGKey(3), "seen": 0.0}

    def step(state: dict[str, Any], batch: dict[str, jax.Array]) -> tuple[dict[str, Any], Any]:
        key, noise = jax.random.split(state["key"])
        image = batch["image"].reshape(len(batch["image"]), -1)
        image += 0.01 * jax.random.normal(noise, image.shape)

        def loss_of(params: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            return measured(image @ params["w"] + params["b"], batch["label"])

        (loss, accuracy), grads = jax.value_and_grad(loss_of, has_aux=True)(state["params"])
        updates, opt = tx.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        seen = state["seen"] + len(image)
        return {"params": params, "opt": opt, "key": key, "seen": seen}, {
            "loss": loss,
            "accuracy": accuracy,
        }

    return step, state


NETS = [
    Net("linen TrainState", linen_train_state),
    Net("nnx split", nnx_split),
    Net("dict and optax", dict_and_optax),
]


def same_bits(one: Any, two: Any) -> bool:
    """Whether two trees are equal in structure, names, dtypes and bits."""
    plain_one, plain_two = map(plain, (one, two))
    return plain_one.keys() == plain_two.keys() and all(
        leaf.dtype == plain_two[name].dtype
        and leaf.shape == plain_two[name].shape
        and leaf.tobytes() == plain_two[name].tobytes()
        for name, leaf in plain_one.items()
    )


def plain(tree: Any) -> dict[str, np.ndarray]:
    """Copies of the leaves of a tree, by name."""
    return {name: storable.host(leaf).copy() for name, leaf in leaf_names.leaves(tree)}
