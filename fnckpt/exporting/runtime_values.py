"""Arrays of ONNX Runtime whose dtypes NumPy does not have: bfloat16, and floats of 8 bits."""

import ctypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, OrtValue

# By what ONNX Runtime calls them: the dtype, and its number in ONNX's TensorProto.
NOT_OF_NUMPY: Mapping[str, tuple[np.dtype, int]] = {
    "tensor(bfloat16)": (np.dtype(ml_dtypes.bfloat16), 16),
    "tensor(float8e4m3fn)": (np.dtype(ml_dtypes.float8_e4m3fn), 17),
    "tensor(float8e4m3fnuz)": (np.dtype(ml_dtypes.float8_e4m3fnuz), 18),
    "tensor(float8e5m2)": (np.dtype(ml_dtypes.float8_e5m2), 19),
    "tensor(float8e5m2fnuz)": (np.dtype(ml_dtypes.float8_e5m2fnuz), 20),
}
NUMBERS = dict(NOT_OF_NUMPY.values())


def outputs(session: "InferenceSession", inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a session, given an array for each input in order."""
    names = [value.name for value in session.get_inputs()]
    feeds = dict(zip(names, inputs, strict=True))
    types = {value.type for value in (*session.get_inputs(), *session.get_outputs())}
    if not types & NOT_OF_NUMPY.keys():
        return [np.asarray(result) for result in session.run(None, feeds)]
    given = {name: _value(array) for name, array in feeds.items()}
    return [_array(value) for value in session.run_with_ort_values(None, given)]


def _value(array: np.ndarray) -> "OrtValue":
    from onnxruntime import OrtValue

    number = NUMBERS.get(array.dtype)
    if number is None:
        return OrtValue.ortvalue_from_numpy(array)
    bits = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
    return OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)


def _array(value: "OrtValue") -> np.ndarray:
    """A copy of ``value``; NumPy cannot read it where it does not know its dtype."""
    if value.data_type() not in NOT_OF_NUMPY:
        return np.asarray(value.numpy())
    dtype, _ = NOT_OF_NUMPY[value.data_type()]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    data = ctypes.string_at(value.data_ptr(), count * dtype.itemsize) if count else b""
    return np.frombuffer(bytearray(data), dtype).reshape(shape)
