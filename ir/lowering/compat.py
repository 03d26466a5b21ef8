"""What differs between the versions of JAX that are supported, 0.8 to 0.10."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import jax
import jax.experimental
import numpy as np

from fnckpt.ir.graph import Aval


def enable_x64() -> AbstractContextManager[object]:
    """In it, JAX keeps 64-bit numbers as they are."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return jax.experimental.enable_x64()


def is_wide(dtype: np.dtype) -> bool:
    """Whether JAX makes a narrower dtype of this one unless 64 bits are enabled."""
    return dtype.kind in "iuf" and dtype.itemsize == 8 or dtype == np.complex128


def wide_numbers(values: Iterable[np.ndarray | Aval]) -> AbstractContextManager[object]:
    """Enables 64 bits where one of the values has them."""
    return enable_x64() if any(is_wide(value.dtype) for value in values) else nullcontext()
