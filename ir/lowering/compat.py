"""What differs between the versions of JAX that are supported, 0.8 to 0.12."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Protocol, runtime_checkable

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jax.interpreters import partial_eval

from fnckpt.ir.graph import Aval


def enable_x64() -> AbstractContextManager[object]:
    """In it, JAX keeps 64-bit numbers as they are."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return import_module("jax.experimental").enable_x64()


def is_wide(dtype: np.dtype) -> bool:
    """Whether JAX makes a narrower dtype of this one unless 64 bits are enabled."""
    return (dtype.kind in "iuf" and dtype.itemsize == 8) or dtype == np.complex128


def wide_numbers(values: Iterable[np.ndarray | Aval]) -> AbstractContextManager[object]:
    """Enables 64 bits where one of the values has them."""
    return enable_x64() if any(is_wide(value.dtype) for value in values) else nullcontext()


def bind(eqn: JaxprEqn, args: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """The results of an equation, computed by JAX.

    Before 0.10 an equation's functions are arguments, and since then parameters like others.
    """
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    results = eqn.primitive.bind(*functions, *args, **params)
    return results if eqn.primitive.multiple_results else [results]


def without_dead(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A jaxpr of the same arguments without the equations that no result and no effect needs."""
    every = [True] * len(closed.jaxpr.outvars)
    live, _ = partial_eval.dce_jaxpr(closed.jaxpr, every, instantiate=True)
    return ClosedJaxpr(live, closed.consts)


class Generator(Protocol):
    """What JAX keeps of a generator of random numbers: functions of one key's data."""

    key_shape: tuple[int, ...]

    def seed(self, seed: jax.Array) -> jax.Array: ...

    def split(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...

    def random_bits(self, key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array: ...

    def fold_in(self, key: jax.Array, data: jax.Array) -> jax.Array: ...


@runtime_checkable
class KeyType(Protocol):
    """The dtype of PRNG keys, which keeps their generator."""

    _impl: Generator


def generator(aval: object) -> Generator:
    """The generator that an array of keys is of."""
    assert isinstance(aval, jax.core.ShapedArray)
    assert isinstance(aval.dtype, KeyType)
    return aval.dtype._impl


class FlatTree(Protocol):
    """Where JAX 0.12 keeps how many leaves each group of arguments has."""

    def update(self, leaves: Sequence[object]) -> "FlatTree": ...

    def unpack(self) -> Iterable[Iterable[object]]: ...


def scan_counts(groups: FlatTree | None, count: int) -> tuple[int, int]:
    """How many of the ``count`` arguments of a scan are constants, and how many are carried."""
    assert groups is not None
    consts, carry, _ = (len(list(group)) for group in groups.update(range(count)).unpack())
    return consts, carry


class Flattened(Protocol):
    """JAX's ``PyTreeDef``, whose own name is no type."""

    def unflatten(self, leaves: Sequence[object]) -> Sequence[object]: ...


class HighPrimitive(Protocol):
    """What ``call_hi_primitive`` of JAX 0.12 holds."""

    in_tree: Flattened
    in_avals_flat: Sequence[Aval]

    def expand(self, *args: object) -> object: ...


def expanded(primitive: HighPrimitive) -> ClosedJaxpr:
    """The definition of a primitive that JAX keeps as an object, in terms of others."""

    def expand(*leaves: jax.Array) -> list[object]:
        return jax.tree.leaves(primitive.expand(*primitive.in_tree.unflatten(leaves)))

    avals = primitive.in_avals_flat
    with wide_numbers([Aval(tuple(a.shape), np.dtype(a.dtype)) for a in avals]):
        return jax.make_jaxpr(expand)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
