"""What a MindIR file holds as constants: tensors, numbers, texts, types, and tuples of them."""

from typing import Any

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.ir.targets.mindir.codes import DATA_TYPES, DTYPES, TYPE_IDS
from fnckpt.ir.targets.mindir.view import MOST_DEPTH
from fnckpt.proto.mind_ir_pb2 import AttributeProto, TensorProto

A = AttributeProto

INTEGERS = (A.UINT8, A.INT8, A.UINT16, A.INT16, A.INT32, A.INT64, A.UINT32, A.UINT64)


OF_ID = {number: DTYPES[DATA_TYPES[name]] for name, number in TYPE_IDS.items()}
"""The dtype by MindSpore's own number of it, where an argument is one."""


def dtype_of(tensor: TensorProto, source: str) -> np.dtype:
    """The dtype of a tensor.

    Raises:
      FormatError: there is no such type.
    """
    if tensor.data_type not in DTYPES:
        raise FormatError(f"{source}: {tensor.name!r}: there is no type {tensor.data_type}")
    return DTYPES[tensor.data_type]


def array_of(tensor: TensorProto, source: str, view: memoryview | None = None) -> np.ndarray:
    """The array of a tensor, from its own bytes or from ``view``.

    Raises:
      FormatError: its data is not what its shape says.
    """
    dtype, shape = dtype_of(tensor, source), tuple(tensor.dims)
    data = tensor.raw_data if view is None else view
    if any(size < 0 for size in shape):
        raise FormatError(f"{source}: {tensor.name!r}: its shape is {list(shape)[:8]}")
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{source}: {tensor.name!r}: its data: {error}") from None


def decoded(attribute: AttributeProto, source: str, depth: int = 0) -> Any:
    """The value of an attribute: an array, a number, a text, None, a dtype, or a tuple of them.

    Raises:
      FormatError: tuples in tuples, too deep.
    """
    if depth > MOST_DEPTH:
        raise FormatError(f"{source}: a value is nested too deeply")
    kind = attribute.type
    if kind in (A.TUPLE, A.LIST):
        return tuple(decoded(each, source, depth + 1) for each in attribute.values)
    if kind in (A.TENSORS, A.TENSOR):
        tensors = [attribute.t] if kind == A.TENSOR else list(attribute.tensors)
        found = [
            array_of(each, source) if each.raw_data or 0 in each.dims else dtype_of(each, source)
            for each in tensors
        ]
        return found[0] if len(found) == 1 else tuple(found)
    if kind in INTEGERS:
        several = depth == 0 or len(attribute.ints) > 1  # inside a tuple one is a number
        alone = attribute.ints[0] if attribute.ints else attribute.i
        return tuple(attribute.ints) if attribute.ints and several else alone
    if kind == A.BOOL:
        return bool(attribute.i)
    if kind == A.FLOAT:
        several = depth == 0 or len(attribute.floats) > 1
        alone = attribute.floats[0] if attribute.floats else attribute.f
        return tuple(attribute.floats) if attribute.floats and several else alone
    if kind == A.DOUBLE:
        return attribute.d
    if kind == A.STRING:
        return attribute.s.decode(errors="replace")
    return None
