"""What a ``.ckpt`` file says: its tensors' names, types, shapes and places, not their contents.

The file is trusted in nothing. The layout that MindSpore and fnckpt write is recognized by a
regular expression, and where many are alike by the bytes that they share; whatever else protobuf
allows, and every fault, goes the long way, field by field.
"""

import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

import ml_dtypes
import numpy as np

from fnckpt.errors import FormatError
from fnckpt.wire import LENGTH, VARINT, Reader

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
ANY_BYTES = {  # tensor_type -> dtype in the file, where any bytes are a tensor
    kind: dtype.newbyteorder("<") for kind, dtype in TYPES.items() if kind != "Bool"
}

SMALL = 1 << 16  # bytes of a tensor that is quicker copied than read or written by itself

CRC_MARK, CRC_DIGITS = b"crc_num", 10
TRAILER = len(CRC_MARK) + CRC_DIGITS

VALUE, TAG, TENSOR, MAP_TENSOR, DIMS, TYPE, CONTENT = 1, 1, 2, 3, 1, 2, 3  # field numbers

_ENCRYPTED = b"\x5e\x3a\x7f"  # after 0xd8 (AES-GCM), 0xd9 (AES-CBC) or 0xda (SM4-CBC)
_LARGEST = (1 << 63) - 1
_MOST_DIMS = 64  # of NumPy

_NUMBER = rb"[\x80-\xff]{0,5}[\x00-\x7f]"  # as far as 4 TiB
HEADER = re.compile(
    rb"""(?P<head> \x0a (?P<message>NUMBER) \x0a (?P<length>NUMBER) )
         (?P<tag> [^\x12]{0,999} )
         (?P<fields> \x12 (?P<tensor>NUMBER) (?P<dims> (?:\x08 NUMBER){0,8} )
                     \x12 (?P<letters>[\x02-\x20]) (?P<kind>\w{2,32}) \x1a (?P<content>NUMBER) )
    """.replace(b"NUMBER", _NUMBER),
    re.VERBOSE,
)
"""A message up to its content; a tag with the byte 0x12 goes the long way."""


class Entry(NamedTuple):
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
        if len(self.spans) == 1:
            return self.spans[0][1] - self.spans[0][0]
        total = 0
        for start, stop in self.spans:
            total += stop - start
        return total


Found = np.ndarray | Entry
"""A small tensor is its view of the file, which takes less time to make than to note its place."""


def index(data: memoryview, source: str | os.PathLike[str]) -> tuple[dict[str, Found], int]:
    """The tensors in ``data``, by name, in the file's order, and the byte at which they end: where
    the CRC trailer begins, if there is one. Contents are not looked at.

    Args:
      data: a whole file, read-only.
      source: how errors call the file.

    Raises:
      FormatError: where ``data`` is no ``.ckpt``, naming the byte and the tensor: a length that
        exceeds the file, an unknown type, a missing field, a content that is not
        prod(dims) items, a name given twice or not UTF-8.

    >>> index(memoryview(bytes.fromhex("0a110a0177120c08011205496e7438")), "a.ckpt")
    Traceback (most recent call last):
        ...
    fnckpt.FormatError: a.ckpt: byte 2: a field claims 17 bytes, 13 are left
    """
    whole: dict[str, Found] = {}
    frames: dict[int, Frame] = {}
    file = Reader(data, source)
    if data[1:4] == _ENCRYPTED and data[0] in range(0xD8, 0xDB):
        raise file.error("the file is encrypted; give its key, dec_key=")
    trailer = len(data) - TRAILER
    ends = (len(data), trailer if trailer > 0 and trailer_begins(data, trailer) else len(data))
    while True:
        begin = file.at = _read_quickly(data, file.at, frames, whole)
        if begin in ends:
            break
        entry = _read_slowly(file, ends)
        if entry is None:
            continue
        if entry.name in whole:
            file.at, file.about = begin, f"tensor {entry.name!r}: "
            raise file.error("the name is given twice")
        whole[entry.name] = entry
    if not whole:
        raise file.error("the file holds no tensor")
    return whole, file.at


def trailer_begins(data: memoryview, at: int) -> bool:
    """Whether the CRC trailer, and nothing else, is in ``data`` from ``at`` on."""
    return len(data) - at == TRAILER and data[at : at + len(CRC_MARK)] == CRC_MARK


Frame = tuple[
    Callable[[memoryview, int], tuple[bytes, ...]],
    bytes,
    bytes,
    int,
    int,
    Callable[[int], np.ndarray] | None,
    Entry,
]
"""A message but for its name and its content: what takes apart the bytes before the name, the name,
and the bytes between it and the content; the first and the last of these; the size of all three and
that of the content; what makes its view, see ``_views``; an entry without name and place.

No class, since it is taken apart for each of 100,000 tensors.
"""


def _read_quickly(
    data: memoryview, at: int, frames: dict[int, Frame], whole: dict[str, Found]
) -> int:
    """Put the tensors from byte ``at`` on into ``whole``, up to the first that leaves any doubt.

    Args:
      frames: the last frame that was found, by the second byte of its messages: most often they
        differ in their length, if in anything.

    Returns:
      The byte at which the long way must go on; the end of ``data`` if nowhere.
    """
    end = len(data)
    with suppress(UnicodeDecodeError):  # of a name
        while at < end - 1:
            frame = frames.get(data[at + 1])
            if frame is not None:
                unpack, head, fields, size, length, view, alike = frame
                start = at + size
                stop = start + length
                if stop <= end and (parts := unpack(data, at))[0] == head and parts[2] == fields:
                    name = parts[1].decode()
                    if name in whole:
                        break
                    if view is None:
                        whole[name] = alike._replace(name=name, spans=((start, stop),))
                    else:
                        whole[name] = view(start)
                    at = stop
                    continue
            frame = _frame(data, at)
            if frame is None:
                break
            frames[data[at + 1]] = frame
    return at


def _frame(data: memoryview, at: int) -> Frame | None:
    """The frame of the message that begins at ``at``; None if it is not whole, or in any doubt."""
    header = HEADER.match(data, at)
    if header is None:
        return None
    head, tag, fields = header.group("head", "tag", "fields")
    layout = _layout(head, len(tag), fields)
    if layout is None or layout[2] > len(data) - header.end():
        return None
    kind, shape, length = layout
    unpack = Struct(f"{len(head)}s{len(tag)}s{len(fields)}s").unpack_from
    view = _views(data, kind, shape, length)
    return unpack, head, fields, header.end() - at, length, view, Entry("", kind, shape, ())


def _views(
    data: memoryview, kind: str, shape: tuple[int, ...], length: int
) -> Callable[[int], np.ndarray] | None:
    """byte -> the tensor whose content begins there; None where it takes more than a view."""
    if length > SMALL or kind not in ANY_BYTES:
        return None
    dtype = ANY_BYTES[kind]
    strides = (1, *np.empty(shape, dtype).strides)
    at_each_byte = np.ndarray((len(data) - length + 1, *shape), dtype, data, strides=strides)
    return at_each_byte.__getitem__ if shape else lambda start: at_each_byte[start, ...]


@lru_cache(maxsize=1024)
def _layout(head: bytes, tag: int, fields: bytes) -> tuple[str, tuple[int, ...], int] | None:
    """Type, shape and bytes of the tensor whose message has ``head`` before a tag of ``tag`` bytes
    and ``fields`` between that and the content; None for what is rare or wrong.

    Of many tensors most are alike in this.
    """
    header = HEADER.fullmatch(head + bytes(tag) + fields)
    assert header is not None
    name, content = header["kind"].decode("latin-1"), _number(header["content"])
    if _number(header["length"]) != tag or header["letters"][0] != len(name) or name not in TYPES:
        return None
    message = header.end("fields") - header.end("message") + content
    tensor = header.end("fields") - header.end("tensor") + content
    if (_number(header["message"]), _number(header["tensor"])) != (message, tensor):
        return None
    dims = Reader(memoryview(header["dims"]), "")
    shape = tuple(dims.varint() for _ in dims.fields())
    if math.prod(filter(None, shape)) > _LARGEST // TYPES[name].itemsize:
        return None
    return (name, shape, content) if _bytes_of(name, shape, 0) == content else None


def _number(digits: bytes) -> int:
    return Reader(memoryview(digits), "").varint()


def _read_slowly(file: Reader, ends: tuple[int, int]) -> Entry | None:
    """The tensor that begins here, in however many messages; None, past it, for another field."""
    part = whole = _read_field(file)
    if part is None or whole is None:
        return None
    spans, missing = [*part.spans], _bytes_of(part.type, part.shape, part.nbytes) - part.nbytes
    while missing > 0 and file.at not in ends:
        more = _read_field(file)
        if more is None:
            continue
        if more.name != whole.name:
            break
        _check_alike(whole, more, file)
        part = more
        spans += part.spans
        missing -= part.nbytes
    if missing:
        raise _wrong_size(part, missing, file.source)
    return whole._replace(spans=tuple(spans))


def _read_field(file: Reader) -> Entry | None:
    """The tensor, or part of one, in the field that begins here; None for another field."""
    number, wire = next(file.fields())
    if (number, wire) == (VALUE, LENGTH):
        return _read_value(file.chunk())
    file.skip(wire)
    return None


def _read_value(value: Reader) -> Entry:
    name: str | None = None
    tensor: Reader | None = None
    for number, wire in value.fields():
        if (number, wire) == (TAG, LENGTH) and name is None:
            name = value.text()
            value.about = f"tensor {name!r}: "
        elif (number, wire) == (TENSOR, LENGTH) and tensor is None:
            tensor = value.chunk()
        elif number == MAP_TENSOR:
            raise value.error("is a MapParameter (a hash table); fnckpt reads plain tensors only")
        elif number in (TAG, TENSOR):
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
        if number == DIMS and wire == VARINT:
            dims.append(tensor.signed())
        elif number == DIMS and wire == LENGTH:  # packed, as another writer may have it
            packed = tensor.chunk()
            while packed.at < len(packed.data):
                dims.append(packed.signed())
        elif (number, wire) == (TYPE, LENGTH) and kind is None:
            kind = tensor.text()
        elif (number, wire) == (CONTENT, LENGTH) and content is None:
            content = tensor.chunk()
        elif number in (DIMS, TYPE, CONTENT):
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


def _bytes_of(kind: str, shape: tuple[int, ...], found: int) -> int:
    """The bytes that a tensor takes; a text takes as many as were ``found``."""
    return found if kind == "str" else math.prod(shape) * TYPES[kind].itemsize


def _check_alike(first: Entry, more: Entry, place: Reader) -> None:
    if (first.type, first.shape) != (more.type, more.shape):
        place.about = f"tensor {first.name!r}: "
        raise place.error(
            f"its parts differ: expected {first.type} {first.shape}, found {more.type} {more.shape}"
        )


def _wrong_size(entry: Entry, missing: int, source: str | os.PathLike[str]) -> FormatError:
    expected = _bytes_of(entry.type, entry.shape, entry.nbytes)
    return FormatError(
        f"{os.fspath(source)}: byte {entry.spans[0][0]}: tensor {entry.name!r}: "
        f"{entry.type} {entry.shape} takes {expected} bytes, found {expected - missing}"
    )


def _misplaced(place: Reader, number: int, wire: int) -> FormatError:
    return place.error(f"the field {number} (wire type {wire}) is given twice or of a wrong type")
