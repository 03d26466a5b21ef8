"""The safetensors format, streamed: a JSON header of names, dtypes, shapes and places, then bytes.

Source: https://github.com/huggingface/safetensors, "Format". Texts, which the format has not, are
kept in its metadata under ``fnckpt.text.<name>``.
"""

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fnckpt.checkpoints.formats.bools import zeros_and_ones
from fnckpt.errors import FormatError
from fnckpt.files import replacing

TYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
}
"""The format's dtype -> NumPy's."""

_TYPE_OF = {dtype: name for name, dtype in TYPES.items()}
_TEXT = "fnckpt.text."
_METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000  # bytes; the library's limit


def holds(array: np.ndarray) -> bool:
    """Whether the format can say ``array``: a dtype of ``TYPES``, or a single text."""
    return array.dtype in _TYPE_OF or (array.dtype.kind == "U" and not array.shape)


def write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``arrays`` (each ``holds``) to the file ``path``, whole or not at all.

    Raises:
      ValueError: an array has the name of the format's own entry.
    """
    if _METADATA in arrays:
        raise ValueError(
            f"{path}: {_METADATA} is no name for an array in a .safetensors; rename it"
        )
    tensors = {name: array for name, array in arrays.items() if array.dtype.kind != "U"}
    texts = {_TEXT + name: str(array) for name, array in arrays.items() if name not in tensors}
    header: dict[str, Any] = {_METADATA: {"format": "np", **texts}}
    ordered = sorted(tensors, key=lambda name: -tensors[name].itemsize)  # so that all are aligned
    at = 0
    for name in ordered:
        array = tensors[name] = zeros_and_ones(tensors[name])
        place = [at, at + array.nbytes]
        header[name] = {
            "dtype": _TYPE_OF[array.dtype],
            "shape": list(array.shape),
            "data_offsets": place,
        }
        at += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in ordered:
            file.write(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file ``path``, read-only views of it; texts have dtype ``U``.

    Raises:
      FormatError: the file is damaged or foreign.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise FormatError(f"{path}: byte 0: a safetensors file has at least 8 bytes")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    length = int.from_bytes(data[:8], "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise FormatError(f"{path}: byte 0: the header claims {length} bytes, {size - 8} are left")
    header = _header(bytes(data[8 : 8 + length]), path)
    body = data[8 + length :]
    arrays = {
        name: _array(name, entry, body, path) for name, entry in header.items() if name != _METADATA
    }
    return arrays | _texts(header.get(_METADATA, {}), arrays, path)


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"{path}: byte 8: the header is no JSON") from None
    if not isinstance(header, dict):
        raise FormatError(f"{path}: byte 8: the header is no JSON object")
    return header


def _texts(metadata: Any, arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    if not isinstance(metadata, dict):
        raise FormatError(f"{path}: {_METADATA} is no JSON object")
    texts = {
        key.removeprefix(_TEXT): np.array(str(value))
        for key, value in metadata.items()
        if key.startswith(_TEXT)
    }
    if texts.keys() & arrays.keys():
        raise FormatError(f"{path}: a name is given twice: {sorted(texts.keys() & arrays.keys())}")
    return texts


def _array(name: str, entry: Any, body: memoryview, path: Path) -> np.ndarray:
    where = f"{path}: tensor {name!r}"
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            if kind not in TYPES:
                raise FormatError(f"{where}: the dtype {kind} is unknown")
        case _:
            raise FormatError(f"{where}: an entry has dtype, shape and data_offsets, found {entry}")
    if not all(type(dim) is int and 0 <= dim < 1 << 48 for dim in shape) or len(shape) > 64:
        raise FormatError(f"{where}: the shape {shape} is impossible")
    expected = math.prod(shape) * TYPES[kind].itemsize
    if not 0 <= start <= stop <= len(body) or stop - start != expected:
        raise FormatError(
            f"{where}: {kind} {shape} takes {expected} bytes, "
            f"found {start} to {stop} of {len(body)}"
        )
    return np.frombuffer(body[start:stop], np.uint8).view(TYPES[kind]).reshape(shape)
