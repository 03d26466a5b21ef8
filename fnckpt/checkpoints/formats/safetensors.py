"""The safetensors format, streamed: a JSON header of names, dtypes, shapes and places, then bytes.

Source: https://github.com/huggingface/safetensors, "Format". Texts, which the format has not, are
kept in its metadata under ``fnckpt.text.<name>``.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from fnckpt.checkpoints.formats.bools import zeros_and_ones
from fnckpt.errors import FormatError
from fnckpt.files import opened_regular, replacing
from fnckpt.visible import visible

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
_LARGEST = (1 << 63) - 1


def holds(array: np.ndarray) -> bool:
    """Whether the format can say ``array``: a dtype of ``TYPES``, or a single text."""
    return array.dtype in _TYPE_OF or (array.dtype.kind == "U" and not array.shape)


def has(dtype: np.dtype) -> bool:
    """Whether the format has ``dtype``; bytes are stored little-endian."""
    return dtype.newbyteorder("=") in _TYPE_OF


def write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``arrays`` (each ``holds``) to the file ``path``, whole or not at all.

    Raises:
      ValueError: an array has the name of the format's own entry.
    """
    if _METADATA in arrays:
        raise ValueError(
            f"{path}: {_METADATA} cannot be the name of an array in a .safetensors file; rename it"
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
    """The arrays of the file ``path``, read-only; texts have dtype ``U``.

    Raises:
      FormatError: the file is damaged or foreign.
    """
    with opened_regular(path) as file:
        data = memoryview(file.read())  # not mapped: a file that is cut off would end the process
    size = len(data)
    if size < 8:
        raise FormatError(f"{path}: byte 0: a safetensors file has at least 8 bytes")
    length = int.from_bytes(data[:8], "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise FormatError(f"{path}: byte 0: the header claims {length} bytes, {size - 8} are left")
    header = _header(bytes(data[8 : 8 + length]), path)
    body = data[8 + length :]
    arrays: dict[str, np.ndarray] = {}
    places: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name != _METADATA:
            arrays[name], place = _array(name, entry, body, path)
            places.append((*place, name))
    _check_places(places, len(body), path)
    return arrays | _texts(header.get(_METADATA, {}), arrays, path)


def _check_places(places: list[tuple[int, int, str]], size: int, path: Path) -> None:
    """The tensors lie side by side, so that each byte is one tensor's, as the format says."""
    at = 0
    for start, stop, name in sorted(places):
        if start != at:
            fault = "overlaps another" if start < at else f"leaves the bytes from {at} unused"
            raise FormatError(f"{path}: tensor {name!r}: it begins at byte {start}, which {fault}")
        at = stop
    if at != size:
        raise FormatError(f"{path}: its tensors end at byte {at} of {size}")


def _header(text: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_once)
    except _Twice as error:
        raise FormatError(f"{path}: byte 8: the name {error.args[0]!r} is given twice") from None
    except (ValueError, RecursionError):
        raise FormatError(f"{path}: byte 8: the header is not JSON") from None
    if not isinstance(header, dict):
        raise FormatError(f"{path}: byte 8: the header is not a JSON object")
    for name in header:
        _check_text(name, path)
    return header


class _Twice(Exception):
    """A key stands twice in an object of JSON."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def _check_text(text: str, path: Path) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise FormatError(f"{path}: byte 8: a text has a lone surrogate: {text[:40]!r}")


def _texts(metadata: Any, arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    if not isinstance(metadata, dict):
        raise FormatError(f"{path}: {_METADATA} is not a JSON object")
    for text in (str(each) for pair in metadata.items() for each in pair):
        _check_text(text, path)
    texts = {
        key.removeprefix(_TEXT): np.array(str(value))
        for key, value in metadata.items()
        if key.startswith(_TEXT)
    }
    if texts.keys() & arrays.keys():
        raise FormatError(f"{path}: a name is given twice: {sorted(texts.keys() & arrays.keys())}")
    return texts


def _array(
    name: str, entry: Any, body: memoryview, path: Path
) -> tuple[np.ndarray, tuple[int, int]]:
    """A tensor, and where in the body it lies."""
    where = f"{path}: tensor {name!r}"
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            if kind not in TYPES:
                raise FormatError(f"{where}: the dtype {kind} is unknown")
        case _:
            found = visible(repr(entry))[:200]
            raise FormatError(f"{where}: an entry has dtype, shape and data_offsets, found {found}")
    if not all(type(dim) is int and 0 <= dim < 1 << 48 for dim in shape) or len(shape) > 64:
        raise FormatError(f"{where}: the shape {str(shape)[:200]} is impossible")
    if math.prod(filter(None, shape)) * TYPES[kind].itemsize > _LARGEST:
        raise FormatError(f"{where}: the shape {str(shape)[:200]} is impossible")
    expected = math.prod(shape) * TYPES[kind].itemsize
    if not 0 <= start <= stop <= len(body) or stop - start != expected:
        raise FormatError(
            f"{where}: {kind} {shape} takes {expected} bytes, "
            f"found {start} to {stop} of {len(body)}"
        )
    content = np.frombuffer(body[start:stop], np.uint8)
    if kind == "BOOL":  # other libraries write any byte for True
        content = content != 0
    return content.view(TYPES[kind]).reshape(shape), (start, stop)
