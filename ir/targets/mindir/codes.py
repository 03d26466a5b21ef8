"""The numbers by which MindIR calls dtypes.

Source: ``TensorProto.DataType`` of mind_ir.proto, and the type ids that MindSpore 2.10 prints with
``mindspore._c_expression.typing.type_to_type_id``.
"""

import ml_dtypes
import numpy as np

from fnckpt.ir.targets.target import Refusal
from fnckpt.proto import mind_ir_pb2 as mind_ir

_TENSOR = mind_ir.TensorProto

DATA_TYPES: dict[str, int] = {
    "float16": _TENSOR.FLOAT16,
    "float32": _TENSOR.FLOAT,
    "float64": _TENSOR.DOUBLE,
    "bfloat16": _TENSOR.BFLOAT16,
    "int8": _TENSOR.INT8,
    "int16": _TENSOR.INT16,
    "int32": _TENSOR.INT32,
    "int64": _TENSOR.INT64,
    "uint8": _TENSOR.UINT8,
    "uint16": _TENSOR.UINT16,
    "uint32": _TENSOR.UINT32,
    "uint64": _TENSOR.UINT64,
    "bool": _TENSOR.BOOL,
    "complex64": _TENSOR.COMPLEX64,
    "complex128": _TENSOR.COMPLEX128,
}

TYPE_IDS: dict[str, int] = {
    "bool": 30, "int8": 32, "int16": 33, "int32": 34, "int64": 35, "uint8": 37, "uint16": 38,
    "uint32": 39, "uint64": 40, "float16": 42, "float32": 43, "float64": 44, "bfloat16": 45,
    "complex64": 51, "complex128": 52,
}  # fmt: skip

DTYPES: dict[int, np.dtype] = {
    code: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    for name, code in DATA_TYPES.items()
} | {_TENSOR.FLOAT64: np.dtype(np.float64)}


def no_dtype(dtype: np.dtype) -> str:
    """Why a value cannot be written."""
    return f"MindIR has no dtype {dtype}; cast to one that it has"


def data_type(dtype: np.dtype) -> int:
    """The number of a dtype in a ``TensorProto``.

    Raises:
      Refusal: MindIR has no such dtype.
    """
    if dtype.name not in DATA_TYPES:
        raise Refusal(no_dtype(dtype))
    return DATA_TYPES[dtype.name]
