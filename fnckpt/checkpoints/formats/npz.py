"""NumPy's ``.npz``, with the dtypes that NumPy itself has not.

The bits of a bfloat16, float8 or int4 array are stored as unsigned integers, and the text
``fnckpt.dtypes`` (JSON, name -> dtype) says what they are; ``numpy.load`` shows the bits.
"""

import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fnckpt.checkpoints.formats.ckpt_index import TYPE_OF
from fnckpt.errors import FormatError
from fnckpt.files import opened_regular, replacing
from fnckpt.visible import visible

_DTYPES = "fnckpt.dtypes"
_BY_NAME = {str(dtype): dtype for dtype in TYPE_OF}
_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}  # bytes of an item -> stored as

_UNPACKED, _RATIO = 1 << 28, 200  # bytes that any file may unpack to; times its size for a large
_LARGEST, _MOST_AXES = 1 << 59, 64  # elements and axes of a NumPy array
_LONGEST = 300  # characters of a message that quotes the file
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGED = (  # what zipfile, zlib and the .npy reader raise of a damaged file
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


def holds(array: np.ndarray) -> bool:
    """Whether ``array`` can be stored: every dtype of a checkpoint can."""
    return array.dtype.kind != "O"


def write(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write ``arrays`` to the file ``path``, uncompressed, whole or not at all.

    Raises:
      ValueError: a name that a zip file cannot have, or two that ``numpy.load`` takes for one.
    """
    bad = [name for name in arrays if "\0" in name or name == _DTYPES]
    # NumPy looks for a member of that name first: asked for "a.npy", it gives the array "a".
    bad += [f"{name}.npy" for name in arrays if f"{name}.npy" in arrays]
    if bad:
        raise ValueError(f"{path}: names that a .npz cannot have: {', '.join(map(repr, bad))}")
    foreign = {name: str(a.dtype) for name, a in arrays.items() if a.dtype.isbuiltin == 2}
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            stored = array.view(_BITS[array.itemsize]) if name in foreign else array
            _write_member(archive, name, stored)
        if foreign:
            _write_member(archive, _DTYPES, np.array(json.dumps(foreign)))


def _write_member(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asanyarray(array, order="C"), allow_pickle=False)


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file ``path``; nothing in it is executed.

    Raises:
      FormatError: the file is damaged, holds Python objects or dtypes that no checkpoint has, or
        would unpack to far more than its own size.
    """
    try:
        with opened_regular(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_sizes(members, os.fstat(file.fileno()).st_size)
            arrays: dict[str, np.ndarray] = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError(f"the name {name!r} is given twice")
                arrays[name] = _read_member(archive, member)
            return _restored(arrays)
    except _DAMAGED as error:
        told = visible(" ".join(str(error).split()))[:_LONGEST]
        raise FormatError(f"{path}: not an .npz of plain arrays: {told}") from None


def _check_sizes(members: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Compare what the archive says it unpacks to with the file."""
    claimed = sum(member.file_size for member in members)
    if claimed > max(_UNPACKED, _RATIO * size):
        raise ValueError(
            f"its {size} bytes claim to unpack to {claimed}; numpy.load reads it, if you trust it"
        )
    if any(member.flag_bits & 1 for member in members):
        raise ValueError("it is encrypted")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array of one member, whose bytes are compared with its header before it is made."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename!r}: version {version} of .npy is unknown")
        shape, fortran, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(
                f"{member.filename!r}: Python objects are not read: allow_pickle=False"
            )
        if not (dtype.newbyteorder("=") in TYPE_OF or dtype.kind == "U"):
            raise ValueError(f"{member.filename!r}: a checkpoint cannot hold the dtype {dtype}")
        if len(shape) > _MOST_AXES or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"{member.filename!r}: its shape is impossible")
        nbytes, left = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if nbytes != left or math.prod(max(n, 1) for n in shape) > _LARGEST:
            raise ValueError(f"{member.filename!r}: its array does not take {left} bytes")
        array = np.frombuffer(bytearray(file.read()), dtype, -1 if nbytes else 0)
    if array.nbytes != nbytes:
        raise ValueError(f"{member.filename!r}: its array is cut off")
    return array.reshape(shape, order="F" if fortran else "C")


def _restored(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    text = arrays.pop(_DTYPES, None)
    foreign = {} if text is None else json.loads(str(text))
    if not isinstance(foreign, dict):
        raise ValueError(f"{_DTYPES} is not a JSON object")
    for name, dtype in foreign.items():
        known = _BY_NAME.get(dtype) if isinstance(dtype, str) else None
        if known is None or name not in arrays:
            raise ValueError(f"{_DTYPES}: no array {name!r} here, or no dtype {dtype!r}")
        if arrays[name].dtype != _BITS.get(known.itemsize):
            raise ValueError(f"{name!r}: the bits of {dtype} are not {arrays[name].dtype}")
        arrays[name] = arrays[name].view(known)
    return arrays
