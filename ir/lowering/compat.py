"""What differs between the versions of JAX that are supported, 0.8 to 0.10."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module

import jax
import numpy as np
from jax.extend.core import JaxprEqn

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
