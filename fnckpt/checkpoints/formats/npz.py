"""NumPy's ``.npz``, with the dtypes that NumPy itself has not.

The bits of a bfloat16, float8 or int4 array are stored as unsigned integers, and the text
``fnckpt.dtypes`` (JSON, name -> dtype) says what they are; ``numpy.load`` shows the bits.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fnckpt.checkpoints.formats.ckpt_index import TYPE_OF
from fnckpt.errors import FormatError
from fnckpt.files import replacing

_DTYPES = "fnckpt.dtypes"
_BY_NAME = {str(dtype): dtype for dtype in TYPE_OF}
_BITS = {1: np.dtype(np.uint8), 2: np.dtype(np.uint16)}  # bytes of an item -> stored as


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
      FormatError: the file is damaged, or holds Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                member.filename.removesuffix(".npy"): _read_member(archive, member)
                for member in archive.infolist()
            }
            return _restored(arrays)
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError) as error:
        raise FormatError(f"{path}: no .npz of plain arrays: {error}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _restored(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    foreign = json.loads(str(arrays.pop(_DTYPES, "{}")))
    for name, dtype in foreign.items():
        arrays[name] = arrays[name].view(_BY_NAME[dtype])
    return arrays
