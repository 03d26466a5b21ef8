"""``step_fn`` compiled: its state owned and donated, what it returns checked while it is traced."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.sharding import NamedSharding, PartitionSpec

from fnckpt.checkpoints import leaf_names
from fnckpt.checkpoints.restoring import spread
from fnckpt.training.metrics import check_metrics, kind_of

_NO_NUMBERS = "OUSMm"  # kinds of NumPy dtypes: objects, texts, bytes, dates

State = TypeVar("State")
Batch = TypeVar("Batch")
Metrics = TypeVar("Metrics")
StepFn = Callable[[State, Batch], tuple[State, Metrics]]


@dataclass(frozen=True)
class Step:
    """A compiled training step.

    Attributes:
      run: ``(state, batch) -> (state, metrics)``; the state given is used up when ``donated``.
      state: the initial state on the devices, nobody else's.
      graph: the step as a jaxpr.
      names: of the arguments of ``graph``: the leaves of state and batch.
    """

    run: StepFn
    state: Any
    graph: ClosedJaxpr
    names: list[str]


def owned(state: Any) -> Any:
    """A copy of ``state`` on the devices; a Python scalar becomes a weakly typed array.

    Where leaves are placed on a mesh, those that are not placed at all are copied to all of its
    devices: there the step would leave them, and be compiled once more for it.

    Raises:
      TypeError: naming the leaves that are not arrays.
    """
    _check_arrays(state, "state", "keep them in step_fn or in static fields")
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)
    placed = [leaf.sharding for leaf in jax.tree.leaves(copied) if leaf.committed]
    meshes = {sharding.mesh for sharding in placed if isinstance(sharding, NamedSharding)}
    if len(meshes) != 1:
        return copied
    everywhere = NamedSharding(meshes.pop(), PartitionSpec())
    return jax.tree.map(lambda leaf: leaf if leaf.committed else spread(leaf, everywhere), copied)


def _check_arrays(tree: Any, what: str, remedy: str) -> None:
    faults = [
        f"  {name or what}: a {type(leaf).__module__}.{type(leaf).__qualname__}"
        for name, leaf in leaf_names.leaves(tree)
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)
        or (isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in _NO_NUMBERS)
        or isinstance(leaf, np.ma.MaskedArray)  # JAX drops the mask
    ]
    if faults:
        raise TypeError("\n".join([f"{what}: leaves that are not arrays; {remedy}:", *faults]))


def compile_step(step_fn: StepFn, state: Any, batch: Any, *, donated: bool) -> Step:
    """Trace ``step_fn`` once for ``state``, which must be ``owned``, and ``batch``.

    Raises:
      TypeError, ValueError: a batch has leaves that are not arrays; ``step_fn`` returns something
        else than a state of the same structure, shapes and dtypes and a tree of scalars; all
        differences are named.
    """

    _check_arrays(batch, "batch", "data must give trees of arrays")

    @wraps(step_fn)
    def checked(state: Any, batch: Any) -> tuple[Any, Any]:
        returned = step_fn(state, batch)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise TypeError(
                f"step_fn: must return (state, metrics), returned a {type(returned).__qualname__}"
            )
        _check_state(state, returned[0])
        check_metrics(returned[1], "step_fn")
        return jax.tree.map(_as_strong_as, state, returned[0]), returned[1]

    run = jax.jit(checked, donate_argnums=(0,) if donated else ())
    traced = run.trace(state, batch)
    settled = jax.tree.map(_as_strong_as, traced.out_info[0], state)
    if _weak(settled) != _weak(state):  # as lax.scan does with its carry
        state, traced = settled, run.trace(settled, batch)
    names = [f"state.{name}" for name, _ in leaf_names.leaves(state)]
    names += [f"batch.{name}" if name else "batch" for name, _ in leaf_names.leaves(batch)]
    return Step(run, state, traced.jaxpr, names)


def _as_strong_as(model: Any, leaf: Any) -> Any:
    """``leaf`` strongly typed where ``model`` is: else the next call would compile once more."""
    if _is_weak(leaf) and not _is_weak(model):
        return jax.lax.convert_element_type(leaf, model.dtype)
    return leaf


def _is_weak(leaf: Any) -> bool:
    kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return kind.weak_type


def _weak(state: Any) -> list[bool]:
    return [_is_weak(leaf) for leaf in jax.tree.leaves(state)]


def _check_state(before: Any, after: Any) -> None:
    old, new = dict(leaf_names.leaves(before)), dict(leaf_names.leaves(after))
    faults = [
        f"  {name}: expected {kind_of(leaf)}, returned {kind_of(new[name])}"
        for name, leaf in old.items()
        if name in new and kind_of(leaf) != kind_of(new[name])
    ]
    faults += [f"  {name}: {kind_of(old[name])}, not returned" for name in old if name not in new]
    faults += [
        f"  {name}: returned {kind_of(new[name])}, not expected" for name in new - old.keys()
    ]
    if not faults and jax.tree.structure(before) != jax.tree.structure(after):
        faults = [
            f"  expected {jax.tree.structure(before)}",
            f"  returned {jax.tree.structure(after)}",
        ]
    if faults:
        told = "step_fn: the state it returns differs from the state it was given; return one of "
        raise TypeError("\n".join([told + "the same structure, shapes and dtypes:", *faults]))
