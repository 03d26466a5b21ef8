"""Stored arrays made into leaves of the kind that a tree expects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, NamedSharding


@dataclass(frozen=True)
class Wanted:
    """What one leaf of a tree expects of its stored array.

    Attributes:
      like: the leaf.
      shape: of the stored array, so with the last dimension of the data of a PRNG key.
      dtype: of the stored array; or bool, int, float, complex or str, where any width will do:
        for a Python scalar, or a weakly typed array of rank 0, which came from one.
      restore: makes the leaf from the array.
    """

    like: Any
    shape: tuple[int, ...]
    dtype: np.dtype | type
    restore: Callable[[np.ndarray], Any]

    def accepts(self, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
        """Whether an array of this dtype and shape will do."""
        if isinstance(self.dtype, np.dtype):
            return shape == self.shape and dtype == self.dtype
        return shape == self.shape and self.dtype is _scalar(dtype)

    def __str__(self) -> str:
        kind = self.dtype if isinstance(self.dtype, np.dtype) else self.dtype.__name__
        return f"{kind} {self.shape}"


_SCALARS = {
    bool: jnp.bool_,
    int: jnp.integer,
    float: jnp.floating,
    complex: jnp.complexfloating,
    str: np.str_,
}


def _scalar(dtype: np.dtype) -> type:
    """The type of a Python scalar of this dtype."""
    return next(kind for kind, over in _SCALARS.items() if jnp.issubdtype(dtype, over))


def is_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> bool:
    """Whether ``leaf`` is a PRNG key array (``jax.random.key``)."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def wanted(leaf: Any, name: str) -> Wanted:
    """What ``leaf``, called ``name`` in errors, expects.

    Raises:
      TypeError: it is nothing that a checkpoint can restore.
    """
    if isinstance(leaf, np.ndarray):
        return Wanted(leaf, leaf.shape, leaf.dtype.newbyteorder("="), _as_it_is)
    if isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
        return _wanted_key(leaf) if is_key(leaf) else _wanted_array(leaf)
    if isinstance(leaf, np.generic):
        return Wanted(leaf, (), leaf.dtype.newbyteorder("="), lambda stored: stored[()])
    if type(leaf) in _SCALARS:
        return Wanted(leaf, (), type(leaf), np.ndarray.item)
    kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
    raise TypeError(f"like: {name}: a {kind} is not an array, number or text")


def _as_it_is(stored: np.ndarray) -> np.ndarray:
    return stored


def _wanted_array(leaf: jax.Array | jax.ShapeDtypeStruct) -> Wanted:
    dtype = np.dtype(leaf.dtype)
    if leaf.weak_type and not leaf.shape:  # a Python scalar once; it was stored in 64 bits then
        return Wanted(leaf, (), _scalar(dtype), lambda stored: _weak(_cast(stored, dtype), leaf))
    place = _weak if leaf.weak_type else _placed
    return Wanted(leaf, leaf.shape, dtype, lambda stored: place(stored, leaf))


def _cast(stored: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The scalar ``stored`` in another width; OverflowError where it does not fit."""
    return np.array(stored.item(), dtype)


def _weak(stored: np.ndarray, leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """A weakly typed array: an update keeps the weak type of what it updates."""
    zeros = jnp.broadcast_to(jnp.asarray(_scalar(stored.dtype)(0)), stored.shape)
    if zeros.dtype != stored.dtype:  # made under another jax_enable_x64; the dtype matters more
        return _placed(stored, leaf)
    return _placed(zeros.at[...].set(stored), leaf)


def _placed(stored: np.ndarray | jax.Array, leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """``stored`` on the devices where ``leaf`` is, or on the default one."""
    sharding = _devices(leaf)
    if sharding is None:
        return jax.device_put(stored)
    if isinstance(stored, jax.Array) or sharding.is_fully_addressable:
        return spread(stored, sharding)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: stored[index])


def spread(array: jax.Array | np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """``array`` under ``sharding``; of all its processes each has the same ``array``.

    ``device_put`` would refuse devices of other processes; as an input of ``jit`` an array that is
    not committed may go anywhere, and keeps its weak type, or its kind of key.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.jit(lambda value: value, out_shardings=sharding)(array)


def _devices(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.sharding.Sharding | None:
    """Where ``leaf`` was put on purpose; None if JAX chose, or it names no actual devices."""
    sharding = leaf.sharding
    if isinstance(leaf, jax.Array) and not leaf.committed:
        return None
    if isinstance(sharding, NamedSharding) and isinstance(sharding.mesh, AbstractMesh):
        return None
    return sharding


def _wanted_key(leaf: jax.Array | jax.ShapeDtypeStruct) -> Wanted:
    implementation: list[str] = []

    def data(key: jax.Array) -> jax.Array:
        implementation.append(str(jax.random.key_impl(key)))
        return jax.random.key_data(key)

    stored_as = jax.eval_shape(data, leaf)

    def restore(stored: np.ndarray) -> jax.Array:
        key = jax.random.wrap_key_data(jnp.asarray(stored), impl=implementation[0])
        sharding = _devices(leaf)
        return key if sharding is None else spread(key, sharding)

    return Wanted(leaf, stored_as.shape, np.dtype(stored_as.dtype), restore)
