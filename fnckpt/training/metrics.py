"""Metrics: what ``step_fn`` and ``eval_fn`` report, a tree of numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnckpt.checkpoints import leaf_names

BARE = "loss"  # the name of a metric that is a bare scalar, not a tree with names

_NUMBERS = {
    *("bool", "float16", "bfloat16", "float32", "float64"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
"""The dtypes of metrics: numbers that every checkpoint holds and a chart shows."""


def scalars(metrics: Any) -> dict[str, Any]:
    """The leaves of a tree of scalars by name; a bare scalar is the ``"loss"``.

    >>> scalars({"train": {"loss": 0.5}}), scalars(0.5)
    ({'train.loss': 0.5}, {'loss': 0.5})
    """
    return {name or BARE: leaf for name, leaf in leaf_names.leaves(metrics)}


def check_metrics(metrics: Any, source: str) -> None:
    """Refuse what is not a tree of scalars; ``source`` is what gave it.

    Raises:
      TypeError: naming the leaves.
    """
    faults = [
        f"  {name or 'metrics'}: {kind_of(leaf)}"
        for name, leaf in leaf_names.leaves(metrics)
        if not _is_number(leaf)
    ]
    if faults:
        told = (
            f"{source}: metrics must be scalars of real numbers, integers or bools; reduce them, "
            "for example with jnp.mean, or convert them:"
        )
        raise TypeError("\n".join([told, *faults]))


def measured(eval_fn: Callable[[Any], Any], state: Any) -> dict[str, float]:
    """What ``eval_fn`` gives of ``state``, by name.

    Raises:
      TypeError: it is not a tree of scalars.
    """
    metrics = eval_fn(state)
    check_metrics(metrics, "eval_fn")
    return {name: float(value) for name, value in scalars(metrics).items()}


def kind_of(leaf: Any) -> str:
    """The dtype and shape of ``leaf``, or its type where it is not an array."""
    if not _is_array(leaf):
        return f"a {type(leaf).__module__}.{type(leaf).__qualname__}"
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"


def _is_number(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.shape(leaf) == () and jnp.result_type(leaf).name in _NUMBERS


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)
