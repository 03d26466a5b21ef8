"""Floats of 8 bits: which there are, and where their numbers end. ml_dtypes knows the rest."""

import ml_dtypes
import numpy as np

# Those of ONNX, which casts them since opset 19.
OF_ONNX = frozenset({"float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
EIGHT_BITS = OF_ONNX | {"float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz"}


def is_eight_bits(dtype: np.dtype) -> bool:
    """Whether a number of ``dtype`` has sign, exponent and digits in 8 bits."""
    return dtype.name in EIGHT_BITS


def greatest_that_fits(dtype: np.dtype, wide: np.dtype) -> float:
    """The greatest number of ``wide`` that is rounded to a finite one of ``dtype``."""
    info = ml_dtypes.finfo(dtype)
    greatest = wide.type(info.max)
    half = wide.type(np.ldexp(1.0, int(np.floor(np.log2(float(greatest)))) - info.nmant - 1))
    middle = np.asarray(greatest + half, wide)
    fits = float(middle.astype(dtype)) == float(greatest)
    return float(middle if fits else np.nextafter(middle, wide.type(0)))


def beyond(dtype: np.dtype) -> float:
    """What becomes of a number that is too great: infinity, or NaN where there is none."""
    return float(np.asarray(np.inf, np.float32).astype(dtype))
