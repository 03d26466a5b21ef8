"""Arrays of ONNX Runtime whose dtypes NumPy does not have: bfloat16, and floats of 8 bits."""

import ctypes
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from fnckpt.ir.eight_bits import OF_ONNX

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

NARROW = tuple(np.dtype(getattr(ml_dtypes, name)) for name in ("bfloat16", *sorted(OF_ONNX)))
BY_TYPE = {f"tensor({dtype.name.replace('_', '')})": dtype for dtype in NARROW}


def outputs(session: "InferenceSession", inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a session, given an array for each input in order."""
    names = [value.name for value in session.get_inputs()]
    feeds = dict(zip(names, inputs, strict=True))
    types = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if not types & BY_TYPE.keys():
        return [np.asarray(result) for result in session.run(None, feeds)]
    given = {name: _value(array) for name, array in feeds.items()}
    return [_array(value) for value in session.run_with_ort_values(None, given)]


def _value(array: np.ndarray) -> "OrtValue":
    from onnx.helper import np_dtype_to_tensor_dtype
    from onnxruntime import OrtValue

    if array.dtype not in NARROW:
        return OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    number = np_dtype_to_tensor_dtype(array.dtype)
    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)


def _array(value: "OrtValue") -> np.ndarray:
    """A copy of ``value``; NumPy cannot read it where it does not know its dtype."""
    dtype = BY_TYPE.get(value.data_type())
    if dtype is None:
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    count = math.prod(shape)
    data = ctypes.string_at(value.data_ptr(), count * dtype.itemsize) if count else b""
    return np.frombuffer(bytearray(data), dtype).reshape(shape)
