"""The bits of numbers as other numbers, wider and narrower ones, and floats of 8 bits."""

from collections.abc import Iterator

import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax import Array, lax

from tests.ir.conformance.arrays import BF16, F16, F32, integers, normal
from tests.ir.conformance.case import Case

WIDTHS = (
    ("uint32", "uint8"), ("int32", "int8"), ("float32", "uint8"), ("float32", "int16"),
    ("float32", "bfloat16"), ("float16", "uint8"), ("uint8", "uint32"), ("int8", "int16"),
    ("uint8", "float32"), ("uint16", "int32"), ("uint8", "float16"), ("bfloat16", "uint32"),
    ("float64", "uint32"), ("uint8", "int64"),
)  # fmt: skip
EIGHT_BITS = (
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e4m3",
    "float8_e3m4", "float8_e4m3b11fnuz",
)  # fmt: skip

# Halves between two numbers, those that are too small and too great, and the ends of each dtype.
SIXTEEN = np.arange(0, 65536, 37, dtype=np.uint16).view(F16).astype(F32)
ENDS = np.array(
    [15.5, 15.75, 30, 31, 240, 248, 448, 464, 464.1, 480, 57344, 61439, 61440, 1e9, np.inf, np.nan,
     2**-6, 2**-7, 2**-8, 1.5 * 2**-9, 2**-10, 2**-16, 1.5 * 2**-17, 2**-18, 1e-9, 0],
    np.float32,
)  # fmt: skip
WIDE = np.concatenate([SIXTEEN, ENDS, -ENDS])


def dtype_of(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def cases() -> Iterator[Case]:
    for source, to in WIDTHS:
        before, after = dtype_of(source), dtype_of(to)
        raw = integers(0, 60, 4, 2, 8, dtype=np.dtype(np.uint8))
        x = normal(4, 2).astype(before) if before.kind in "fV" else raw.view(before)
        if before.itemsize < after.itemsize:
            x = x.reshape(-1, after.itemsize // before.itemsize)
        turn = lambda x, to=after: lax.bitcast_convert_type(x, to)  # noqa: E731
        yield Case(
            f"bitcast: {source} to {to}, of another width", turn, (x,), x64=after.itemsize == 8
        )
    for name in EIGHT_BITS:
        yield from of_eight_bits(dtype_of(name))
    yield Case("nextafter: float8_e4m3fn", next_of_eight_bits, (normal(20), normal(20, seed=1)))


def next_of_eight_bits(x: Array, y: Array) -> Array:
    narrow = (each.astype(jnp.float8_e4m3fn) for each in (x, y))
    return lax.nextafter(*narrow).astype(np.float32)


def of_eight_bits(dtype: np.dtype) -> Iterator[Case]:
    yield Case(f"convert: float32 to {dtype}", lambda x: x.astype(dtype).astype(F32), (WIDE,))
    there = lambda *xs: [x.astype(dtype).astype(x.dtype) for x in xs]  # noqa: E731
    others = (normal(40, dtype=F16), normal(40, dtype=BF16), np.arange(-30, 30, 7, dtype=np.int32))
    yield Case(f"convert: float16, bfloat16 and int32 to {dtype}", there, others)
    bits = lambda x: lax.bitcast_convert_type(x.astype(dtype), np.uint8)  # noqa: E731
    yield Case(f"bitcast: {dtype} to uint8", bits, (normal(60) * 3,))
    back = lambda x: lax.bitcast_convert_type(x, dtype).astype(F32)  # noqa: E731
    yield Case(f"bitcast: uint8 to {dtype}", back, (np.arange(256, dtype=np.uint8),))

    def moved_and_added(x: Array) -> tuple[Array, ...]:
        narrow = x.astype(dtype)
        total = jnp.concatenate([narrow, narrow[::-1]]).T[1:] + narrow[0, :1]
        return total.astype(F32), lax.top_k(narrow, 2)[0].astype(F32)

    yield Case(f"values of {dtype}: moved and added", moved_and_added, (normal(2, 4),))


CASES = list(cases())
