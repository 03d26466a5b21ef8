"""The numbers that cases compute with: the same at every run, and the edges of each dtype."""

import zlib
from collections.abc import Sequence

import ml_dtypes
import numpy as np

BF16 = np.dtype(ml_dtypes.bfloat16)
F16, F32, F64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
BOOL = np.dtype(bool)
C64 = np.dtype(np.complex64)
SIGNED = tuple(map(np.dtype, ("int8", "int16", "int32", "int64")))
UNSIGNED = tuple(map(np.dtype, ("uint8", "uint16", "uint32", "uint64")))
INTS = (*SIGNED, *UNSIGNED)
FLOATS = (F16, BF16, F32, F64)
NARROW_INTS = tuple(d for d in INTS if d.itemsize < 8)
REALS = (*FLOATS, *INTS)
SHAPES = ((), (5,), (2, 3), (0, 3), (2, 1, 4), (2, 2, 1, 3), (1, 2, 1, 3, 2))

Shape = Sequence[int]


def _generator(*key: object) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def normal(*shape: int, dtype: np.dtype = F32, seed: int = 0) -> np.ndarray:
    """Numbers around 0, about 1 large."""
    return _generator(shape, seed).standard_normal(shape).astype(dtype)


def uniform(*shape: int, low: float, high: float, dtype: np.dtype = F32, seed: int = 0):
    """Numbers from ``low`` to ``high``."""
    return _generator(shape, seed).uniform(low, high, shape).astype(dtype)


def integers(low: int, high: int, *shape: int, dtype: np.dtype = SIGNED[2], seed: int = 0):
    """Integers from ``low`` to below ``high``."""
    return _generator(shape, seed).integers(low, high, shape).astype(dtype)


def bools(*shape: int, seed: int = 0) -> np.ndarray:
    """True and False, about equally often."""
    return _generator(shape, seed).random(shape) < 0.5


def complexes(*shape: int, seed: int = 0) -> np.ndarray:
    """complex64 numbers around 0."""
    return (normal(*shape, seed=seed) + 1j * normal(*shape, seed=seed + 1)).astype(C64)


def sample(dtype: np.dtype, *shape: int, seed: int = 0) -> np.ndarray:
    """Ordinary numbers of any dtype: small integers, floats around 0."""
    if dtype == BOOL:
        return bools(*shape, seed=seed)
    if dtype == C64:
        return complexes(*shape, seed=seed)
    if dtype in INTS:
        return integers(0 if dtype.kind == "u" else -9, 10, *shape, dtype=dtype, seed=seed)
    return normal(*shape, dtype=dtype, seed=seed)


def edges(dtype: np.dtype) -> np.ndarray:
    """The ends of a dtype, its zeros, NaN, infinities, ties of rounding."""
    if dtype == BOOL:
        return np.array([False, True])
    if dtype in INTS:
        info = np.iinfo(dtype)
        few = [info.min, info.min + 1, 0, 1, 2, 3, 7, info.max // 2, info.max - 1, info.max]
        return np.array([*few, *([-1, -2, -7] if dtype in SIGNED else [])], dtype)
    info = ml_dtypes.finfo(dtype)
    some = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.7, 10.0, float(info.max), float(info.tiny), np.inf]
    return np.array([*some, *(-x for x in some), np.nan, 0.49999997], np.float64).astype(dtype)


def every_pair(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Each edge against each other one, as two arrays that broadcast."""
    ends = edges(dtype)
    return ends[:, None], ends[None, :]
