"""The ``.ckpt`` format: named tensors, as MindSpore's ``save_checkpoint`` writes them.

A file is a run of ``Checkpoint`` messages (proto/checkpoint.proto), one for each tensor or, over
512 MiB, for each part of it; then, optionally, the 7 bytes ``crc_num`` and 10 bytes, big-endian:
the CRC-32 of all before. Source: mindspore/train/serialization.py, 2.10.

Both directions stream: the writer hands the memory of the arrays to the file, the reader looks
only at the headers (``index``) and then fetches one tensor at a time (``Contents.array``).
"""

import math
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import BinaryIO

import ml_dtypes
import numpy as np

from fnckpt.errors import FormatError
from fnckpt.wire import LENGTH, VARINT, Reader, opening, scalar, text

PORTABLE = {
    "Bool": np.dtype(np.bool_),
    "Int8": np.dtype(np.int8),
    "Int16": np.dtype(np.int16),
    "Int32": np.dtype(np.int32),
    "Int64": np.dtype(np.int64),
    "UInt8": np.dtype(np.uint8),
    "UInt16": np.dtype(np.uint16),
    "UInt32": np.dtype(np.uint32),
    "UInt64": np.dtype(np.uint64),
    "Float16": np.dtype(np.float16),
    "BFloat16": np.dtype(ml_dtypes.bfloat16),
    "Float32": np.dtype(np.float32),
    "Float64": np.dtype(np.float64),
}
"""tensor_type -> dtype, of what the real ``mindspore.load_checkpoint`` (2.10) reads."""

FNCKPT_ONLY = {
    "Complex64": np.dtype(np.complex64),  # these four MindSpore writes, and then cannot load
    "Complex128": np.dtype(np.complex128),
    "Float8E4M3FN": np.dtype(ml_dtypes.float8_e4m3fn),
    "Float8E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "float8_e3m4": np.dtype(ml_dtypes.float8_e3m4),
    "float8_e4m3": np.dtype(ml_dtypes.float8_e4m3),
    "float8_e4m3b11fnuz": np.dtype(ml_dtypes.float8_e4m3b11fnuz),
    "float8_e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
    "float8_e8m0fnu": np.dtype(ml_dtypes.float8_e8m0fnu),
    "float4_e2m1fn": np.dtype(ml_dtypes.float4_e2m1fn),
    "int2": np.dtype(ml_dtypes.int2),
    "int4": np.dtype(ml_dtypes.int4),
    "uint2": np.dtype(ml_dtypes.uint2),
    "uint4": np.dtype(ml_dtypes.uint4),
}
"""tensor_type -> dtype, of what only fnckpt reads: MindSpore refuses a file that has one."""

TYPES = PORTABLE | FNCKPT_ONLY | {"Int4": np.dtype(np.int8)}  # MindSpore's qint4x2: a byte an item
TYPE_OF = {dtype: name for name, dtype in (PORTABLE | FNCKPT_ONLY).items()}

PART = 512 << 20  # bytes of a tensor in one message
_BLOCK = 16 << 20  # bytes of an array that is not laid out as in the file, copied at a time
_SMALL = 1 << 16  # bytes of a tensor that are quicker copied out of the mapping than read
_ALIGNMENT = 64  # of the memory that XLA on the CPU takes over without a copy
_CRC_MARK, _CRC_DIGITS = b"crc_num", 10
_TRAILER = len(_CRC_MARK) + _CRC_DIGITS
_UNKNOWN_FIELD = scalar(15, 0)  # every reader skips it
_LARGEST = (1 << 63) - 1
_MOST_DIMS = 64

_VALUE, _TAG, _TENSOR, _MAP_TENSOR, _DIMS, _TYPE, _CONTENT = 1, 1, 2, 3, 1, 2, 3  # field numbers


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says about one tensor.

    ``type`` is the file's tensor_type, a key of ``TYPES`` or ``"str"``; ``spans`` are the
    (first byte, byte after the last) of its content, in order.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the array; ``U<n>`` for a text."""
        if self.type == "str":
            return np.dtype(f"<U{max(self.nbytes // 4, 1)}")
        return TYPES[self.type]

    @property
    def nbytes(self) -> int:
        """The bytes of the content."""
        return sum(stop - start for start, stop in self.spans)


# ---------------------------------------------------------------------------------------- writing


def write(file: BinaryIO, leaves: Iterable[tuple[str, np.ndarray]], *, crc: bool = False) -> None:
    """Write ``leaves``, one at a time and straight from their memory.

    Args:
      file: where to; from its present place.
      leaves: (name, array); names differ. Any shape, strides and byte order; a dtype of
        ``TYPE_OF`` or, of rank 0, a text.
      crc: end with MindSpore's CRC trailer.

    Raises:
      KeyError: a dtype that the format has no name for.

    >>> import io
    >>> file = io.BytesIO()
    >>> write(file, [("step", np.int32([7]))])
    >>> file.getvalue()
    b'\\n\\x17\\n\\x04step\\x12\\x0f\\x08\\x01\\x12\\x05Int32\\x1a\\x04\\x07\\x00\\x00\\x00'
    """
    checksum, tail = 0, b""
    for name, leaf in leaves:
        for piece in _pieces(name, leaf):
            file.write(piece)
            if crc:
                checksum = zlib.crc32(piece, checksum)
            if len(piece):
                tail = (tail + bytes(piece[-_TRAILER:]))[-_TRAILER:]
    if crc:
        file.write(_CRC_MARK + checksum.to_bytes(_CRC_DIGITS, "big"))
    elif tail.startswith(_CRC_MARK):  # a tensor's bytes, which MindSpore would take for a trailer
        file.write(_UNKNOWN_FIELD)


def _pieces(name: str, leaf: np.ndarray) -> Iterator[bytes | memoryview]:
    """The bytes of one leaf: headers, each followed by its part of the content."""
    if leaf.dtype.kind == "U":
        kind, dims, leaf = "str", (0,), leaf.astype(leaf.dtype.newbyteorder("<"))
    else:
        kind, dims = TYPE_OF[leaf.dtype.newbyteorder("=")], leaf.shape
    left = min(leaf.nbytes, PART)
    to_come = leaf.nbytes
    yield _header(name, kind, dims, left)
    for block in _blocks(leaf):
        while len(block):
            if not left:
                left = min(to_come, PART)
                yield _header(name, kind, dims, left)
            yield block[:left]
            written = min(left, len(block))
            block, left, to_come = block[written:], left - written, to_come - written


def _header(name: str, kind: str, dims: tuple[int, ...], length: int) -> bytes:
    """A Checkpoint message up to the content of its tensor, of ``length`` bytes."""
    tensor = b"".join(
        [*(scalar(_DIMS, dim) for dim in dims), text(_TYPE, kind), opening(_CONTENT, length)]
    )
    value = text(_TAG, name) + opening(_TENSOR, len(tensor) + length) + tensor
    return opening(_VALUE, len(value) + length) + value


def _blocks(leaf: np.ndarray) -> Iterator[memoryview]:
    """The little-endian bytes of ``leaf`` in C order; copied only where its memory differs."""
    stored = leaf.dtype.newbyteorder("<")
    if leaf.flags.c_contiguous and leaf.dtype == stored:
        yield leaf.reshape(-1).view(np.uint8).data
    elif leaf.nbytes <= _BLOCK or not leaf.ndim:
        yield np.ascontiguousarray(leaf, stored).reshape(-1).view(np.uint8).data
    else:
        rows = max(1, _BLOCK * len(leaf) // leaf.nbytes)
        for row in range(0, len(leaf), rows):
            yield from _blocks(leaf[row : row + rows] if rows > 1 else leaf[row])


# ---------------------------------------------------------------------------------------- reading


def index(data: memoryview, source: str | os.PathLike[str]) -> dict[str, Entry]:
    """The tensors in ``data``, by name, in the file's order; contents are not looked at.

    Args:
      data: a whole file.
      source: how errors call the file.

    Raises:
      FormatError: where ``data`` is no ``.ckpt``, naming the byte and the tensor: a length that
        exceeds the file, an unknown type, a missing field, a content that is not
        prod(dims) items, a name given twice or not UTF-8.

    >>> index(memoryview(bytes.fromhex("0a110a0177120c08011205496e7438")), "a.ckpt")
    Traceback (most recent call last):
        ...
    fnckpt.errors.FormatError: a.ckpt: byte 2: a field claims 17 bytes, 13 are left
    """
    entries: dict[str, Entry] = {}
    last: Entry | None = None
    file = Reader(data, source)
    for value in _values(file):
        entry = _read_value(value)
        if last is not None and last.name == entry.name and last.nbytes < _expected(last):
            last = _joined(last, entry, value)
        elif entry.name in entries:
            value.at = 0
            raise value.error("the name is given twice")
        else:
            _check_whole(last, source)
            last = entry
        entries[entry.name] = last
    _check_whole(last, source)
    if not entries:
        raise file.error("the file holds no tensor")
    return entries


def _values(file: Reader) -> Iterator[Reader]:
    """The messages of the tensors, up to the CRC trailer where there is one."""
    for number, wire in file.fields():
        if (number, wire) == (_VALUE, LENGTH):
            yield file.chunk()
            if _trailer_begins(file.data, file.at):
                return


def _trailer_begins(data: memoryview, at: int) -> bool:
    return len(data) - at == _TRAILER and data[at : at + len(_CRC_MARK)] == _CRC_MARK


def _read_value(value: Reader) -> Entry:
    name: str | None = None
    tensor: Reader | None = None
    for number, wire in value.fields():
        if (number, wire) == (_TAG, LENGTH) and name is None:
            name = value.text()
            value.about = f"tensor {name!r}: "
        elif (number, wire) == (_TENSOR, LENGTH) and tensor is None:
            tensor = value.chunk()
        elif number == _MAP_TENSOR:
            raise value.error("is a MapParameter (a hash table); fnckpt reads plain tensors only")
        elif number in (_TAG, _TENSOR):
            raise _misplaced(value, number, wire)
    if name is None:
        raise value.error("a tensor without a name (field tag)")
    if tensor is None:
        raise value.error("has no content (field tensor)")
    tensor.about = value.about
    return _read_tensor(name, tensor)


def _read_tensor(name: str, tensor: Reader) -> Entry:
    dims: list[int] = []
    kind: str | None = None
    content: Reader | None = None
    for number, wire in tensor.fields():
        if number == _DIMS and wire == VARINT:
            dims.append(tensor.signed())
        elif number == _DIMS and wire == LENGTH:  # packed, as another writer may have it
            packed = tensor.chunk()
            while packed.at < len(packed.data):
                dims.append(packed.signed())
        elif (number, wire) == (_TYPE, LENGTH) and kind is None:
            kind = tensor.text()
        elif (number, wire) == (_CONTENT, LENGTH) and content is None:
            content = tensor.chunk()
        elif number in (_DIMS, _TYPE, _CONTENT):
            raise _misplaced(tensor, number, wire)
    if kind is None:
        raise tensor.error("has no type (field tensor_type)")
    if content is None:
        raise tensor.error("has no content (field tensor_content)")
    if kind != "str" and kind not in TYPES:
        raise tensor.error(f"the type {kind!r} is unknown; known are {', '.join(TYPES)}, str")
    start, stop = content.start, content.start + len(content.data)
    return Entry(name, kind, _shape(dims, kind, stop - start, tensor), ((start, stop),))


def _shape(dims: list[int], kind: str, length: int, tensor: Reader) -> tuple[int, ...]:
    """The shape that ``dims`` mean: MindSpore before 2.0 wrote a scalar's as (0,)."""
    if kind == "str":
        if length % 4:
            raise tensor.error(f"a text is of 4 bytes a character, found {length} bytes")
        return ()
    if dims == [0] and length:
        return ()
    if len(dims) > _MOST_DIMS:
        raise tensor.error(f"the shape has {len(dims)} dimensions, NumPy has {_MOST_DIMS} at most")
    itemsize = TYPES[kind].itemsize
    if min(dims, default=0) < 0 or math.prod(filter(None, dims)) * itemsize > _LARGEST:
        raise tensor.error(f"the shape {tuple(dims)} is impossible")
    return tuple(dims)


def _expected(entry: Entry) -> int:
    """The bytes that the shape and type of ``entry`` ask for."""
    if entry.type == "str":
        return entry.nbytes
    return math.prod(entry.shape) * TYPES[entry.type].itemsize


def _joined(first: Entry, more: Entry, place: Reader) -> Entry:
    """Two consecutive parts of one tensor."""
    if (first.type, first.shape) != (more.type, more.shape):
        raise place.error(
            f"its parts differ: expected {first.type} {first.shape}, found {more.type} {more.shape}"
        )
    return Entry(first.name, first.type, first.shape, first.spans + more.spans)


def _check_whole(entry: Entry | None, source: str | os.PathLike[str]) -> None:
    if entry is not None and entry.nbytes != _expected(entry):
        raise FormatError(
            f"{os.fspath(source)}: byte {entry.spans[0][0]}: tensor {entry.name!r}: "
            f"{entry.type} {entry.shape} takes {_expected(entry)} bytes, found {entry.nbytes}"
        )


def _misplaced(place: Reader, number: int, wire: int) -> FormatError:
    return place.error(f"the field {number} (wire type {wire}) is given twice or of a wrong type")


@dataclass(frozen=True, slots=True)
class Contents:
    """An open ``.ckpt`` file: ``entries`` by name, in its order, and their arrays on demand."""

    entries: dict[str, Entry]
    data: memoryview
    source: str
    file: FileIO | None  # where large contents are read from; None: only ``data``

    def view(self, entry: Entry) -> np.ndarray:
        """The tensor, read-only, in the file's memory; a copy where it is in several parts."""
        if len(entry.spans) > 1 or entry.type == "str":
            array = self.array(entry)
        else:
            start, _ = next(iter(entry.spans))
            content = np.frombuffer(self.data, np.uint8, entry.nbytes, start)
            array = _shaped(content, entry, self.source)
        array.flags.writeable = False
        return array

    def array(self, entry: Entry) -> np.ndarray:
        """The tensor in memory of its own: shape ``entry.shape``, dtype ``entry.dtype``.

        Raises:
          FormatError: a Bool that is neither 0 nor 1, a text that is not UCS-4, or the file has
            been cut since it was opened.
        """
        content = _aligned(entry.nbytes)
        target = content.data
        at = 0
        for start, stop in entry.spans:
            self._fetch(target[at : at + stop - start], start)
            at += stop - start
        return _shaped(content, entry, self.source)

    def _fetch(self, target: memoryview, start: int) -> None:
        if self.file is None or len(target) <= _SMALL:
            target[:] = self.data[start : start + len(target)]
            return
        self.file.seek(start)
        while target:
            count = self.file.readinto(target)
            if not count:
                raise FormatError(
                    f"{self.source}: byte {start}: the file was cut off while it was read"
                )
            target = target[count:]


def _aligned(length: int) -> np.ndarray:
    """Uninitialized bytes that begin where XLA can use them in place."""
    room = np.empty(length + _ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % _ALIGNMENT
    return room[begin : begin + length]


def _shaped(content: np.ndarray, entry: Entry, source: str) -> np.ndarray:
    """The bytes of ``entry``, shape (nbytes,) uint8, as the array they are."""
    if entry.type == "Bool" and content.size and content.max() > 1:
        place = entry.spans[0][0] + int(np.argmax(content > 1))
        raise FormatError(f"{source}: byte {place}: tensor {entry.name!r}: a Bool is 0 or 1")
    if entry.type == "str":
        try:
            return np.array(content.tobytes().decode("utf-32-le").rstrip("\0"))
        except UnicodeDecodeError:
            place = f"{source}: byte {entry.spans[0][0]}"
            raise FormatError(f"{place}: tensor {entry.name!r}: the text is not UCS-4") from None
    return content.view(entry.dtype.newbyteorder("<")).reshape(entry.shape)


@contextmanager
def opened(path: str | os.PathLike[str], *, verify: bool = True) -> Iterator[Contents]:
    """The ``.ckpt`` file ``path``, indexed; views of it stay valid after the block.

    Args:
      path: the file.
      verify: compare the CRC, where the file has one, which reads all of it.

    Raises:
      FormatError: the file is damaged or no ``.ckpt``, as ``index`` says, or its CRC differs.
      OSError: it cannot be read.
    """
    source = os.fspath(path)
    with open(path, "rb", buffering=0) as file:
        if not os.fstat(file.fileno()).st_size:
            raise FormatError(f"{source}: byte 0: the file is empty")
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        yield contents(mapped, source, file, verify=verify)


def contents(
    data: memoryview, source: str, file: FileIO | None = None, *, verify: bool = True
) -> Contents:
    """What ``data``, a whole file, holds; ``file`` is where its large tensors are read from.

    Raises:
      FormatError: as ``opened``.
    """
    entries = index(data, source)
    end = max(entry.spans[-1][1] for entry in entries.values())
    if verify and len(data) - end >= _TRAILER and _trailer_begins(data, len(data) - _TRAILER):
        _check_crc(data, source)
    return Contents(entries, data, source, file)


def _check_crc(data: memoryview, source: str) -> None:
    body = data[:-_TRAILER]
    found, expected = zlib.crc32(body), int.from_bytes(data[-_CRC_DIGITS:], "big")
    if found != expected:
        raise FormatError(
            f"{source}: byte {len(body)}: the CRC-32 of the content is {found:#010x}, "
            f"expected {expected:#010x}; the file is damaged"
        )
