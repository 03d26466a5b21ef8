"""Whose arrays an operator computes with: NumPy's, or JAX's where one of them is JAX's.

Each operator says once what it computes, in functions that both have. Where an algorithm of NumPy
is none for a compiler, or a compiler has a better one, the operator asks ``is_jax``. In types both
are ``np.ndarray``, whose methods JAX's have.
"""

from collections.abc import Callable
from types import ModuleType

import jax
import jax.numpy
import jax.scipy.special
import numpy as np

JIT: Callable[..., Callable[..., np.ndarray]] = jax.jit
LAX: ModuleType = jax.lax
JNP: ModuleType = jax.numpy
NN: ModuleType = jax.nn


def is_jax(*arrays: object) -> bool:
    """Whether one of ``arrays`` is JAX's, a traced one too."""
    return any(isinstance(array, jax.Array) for array in arrays)


def module_of(*arrays: object) -> ModuleType:
    """``jax.numpy`` or ``numpy``: what computes with ``arrays``.

    >>> module_of(np.ones(2)).__name__, module_of(np.ones(2), jax.numpy.ones(2)).__name__
    ('numpy', 'jax.numpy')
    """
    return JNP if is_jax(*arrays) else np


def special_of(*arrays: object) -> ModuleType:
    """The same of the special functions: SciPy's, or JAX's."""
    if is_jax(*arrays):
        return jax.scipy.special
    import scipy.special  # 0.2 s, which most exports do not need

    return scipy.special


def wide(x: np.ndarray) -> np.ndarray:
    """``x`` in what rounding is lost in: float64, or float32 at least where JAX computes."""
    if not is_jax(x):
        return x.astype(np.float64)
    return x.astype(jax.numpy.promote_types(x.dtype, np.float32))
