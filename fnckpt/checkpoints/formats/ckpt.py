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
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import FileIO
from typing import Protocol

import numpy as np

from fnckpt.checkpoints.formats import memory_map
from fnckpt.checkpoints.formats.bools import zeros_and_ones
from fnckpt.checkpoints.formats.ckpt_index import (
    ANY_BYTES,
    CONTENT,
    CRC_DIGITS,
    CRC_MARK,
    DIMS,
    SMALL,
    TAG,
    TENSOR,
    TRAILER,
    TYPE,
    TYPE_OF,
    VALUE,
    Entry,
    Found,
    index,
)
from fnckpt.checkpoints.formats.unmapped import crc_of, fill, headers
from fnckpt.checkpoints.garbage_collection import uncollected
from fnckpt.errors import FormatError
from fnckpt.extras import require
from fnckpt.files import opened_regular
from fnckpt.wire import Part, opening, scalar, text

PART = 512 << 20  # bytes of a tensor in one message
_BLOCK = 16 << 20  # bytes of an array that is not laid out as in the file, copied at a time
_TOGETHER = 1 << 20  # bytes of small tensors that are written at once
_LARGE = 1 << 20  # bytes of a tensor that gets pages of its own
_ALIGNMENT = 64  # of the memory that XLA on the CPU takes over without a copy
_UNKNOWN = 15  # a field that every reader skips


class Sink(Protocol):
    """What can be written to: a binary file, or one that encrypts."""

    def write(self, data: Part, /) -> object:
        """Take all of ``data``."""
        ...


def write(file: Sink, leaves: Iterable[tuple[str, np.ndarray]], *, crc: bool = False) -> None:
    """Write ``leaves``, small ones together, others one at a time and straight from their memory.

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
    for piece in _pieces(leaves):
        file.write(piece)
        if crc:
            checksum = zlib.crc32(piece, checksum)
        tail = (tail + bytes(piece[-TRAILER:]))[-TRAILER:]
        del piece  # with the memory of its leaf, before the next one is fetched
    if crc:
        file.write(CRC_MARK + checksum.to_bytes(CRC_DIGITS, "big"))
    elif tail[: len(CRC_MARK)] == CRC_MARK:  # contents that MindSpore would take for a trailer
        file.write(scalar(_UNKNOWN, 0))


def _pieces(leaves: Iterable[tuple[str, np.ndarray]]) -> Iterator[bytes | memoryview]:
    """The bytes of all leaves: of small ones many at once, of others each where it lies."""
    at, small, held = 0, [], 0
    for name, leaf in leaves:
        if leaf.dtype == np.bool_:
            leaf = zeros_and_ones(leaf)
        message = _message(name, leaf)
        if message is not None:
            small.append(message)
            held += len(message)
            if held < _TOGETHER:
                continue
        if small:
            yield b"".join(small)
            at, small, held = at + held, [], 0
        if message is None:
            at = yield from _parts(name, leaf, at)
        del leaf
    if small:
        yield b"".join(small)


def _message(name: str, leaf: np.ndarray) -> bytes | None:
    """The bytes of a small leaf; None for a large one, and for a text."""
    tag = name.encode()
    frame = _small_frame(len(tag), leaf.dtype, leaf.shape)
    if frame is None:
        return None
    begin, middle, stored = frame
    return begin + tag + middle + (leaf if stored is None else leaf.astype(stored)).tobytes()


@lru_cache(maxsize=4096)
def _small_frame(
    tag: int, dtype: np.dtype, shape: tuple[int, ...]
) -> tuple[bytes, bytes, np.dtype | None] | None:
    """The ``_frame`` of a small leaf, and the dtype of its bytes in the file if it is another."""
    length = math.prod(shape) * dtype.itemsize
    if length > SMALL or dtype.kind == "U":
        return None
    stored = dtype.newbyteorder("<")
    return *_frame(tag, _kind(dtype), shape, length), None if stored == dtype else stored


def _parts(name: str, leaf: np.ndarray, at: int) -> Generator[bytes | memoryview, None, int]:
    """The bytes of one leaf: headers, each followed by its part of the content.

    Where there are several, each part begins a page, so that together they can be mapped.

    Returns:
      The byte after them.
    """
    if leaf.dtype.kind == "U":
        kind, dims, leaf = "str", (0,), leaf.astype(leaf.dtype.newbyteorder("<"))
    else:
        kind, dims = _kind(leaf.dtype), leaf.shape
    tag = name.encode()
    to_come = leaf.nbytes
    left = 0
    for block in _blocks(leaf):
        while block:
            if not left:
                left = min(to_come, PART)
                begin, middle = _frame(len(tag), kind, dims, left)
                header = begin + tag + middle
                if leaf.nbytes > PART:
                    header = _up_to_a_page(at + len(header)) + header
                yield header
                at += len(header)
            yield block[:left]
            written = min(left, len(block))
            block, left, to_come = block[written:], left - written, to_come - written
            at += written
    return at


def _up_to_a_page(at: int) -> bytes:
    """A field that every reader skips, after which byte ``at`` begins a page."""
    least = 1 << 14  # from here on its length takes three bytes
    content = least + -(at + 4 + least) % memory_map.PAGE
    return opening(_UNKNOWN, content) + bytes(content)


def _kind(dtype: np.dtype) -> str:
    """The tensor_type."""
    return TYPE_OF[dtype.newbyteorder("=")]


def _frame(tag: int, kind: str, dims: tuple[int, ...], length: int) -> tuple[bytes, bytes]:
    """A Checkpoint message but for its name, of ``tag`` bytes, and its content, of ``length``:
    what comes before the name, and what comes between the two.
    """
    sizes = b"".join(scalar(DIMS, dim) for dim in dims)
    tensor = sizes + text(TYPE, kind) + opening(CONTENT, length)
    middle = opening(TENSOR, len(tensor) + length) + tensor
    name = opening(TAG, tag)
    return opening(VALUE, len(name) + tag + len(middle) + length) + name, middle


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


@dataclass(frozen=True, slots=True)
class Contents:
    """An open ``.ckpt`` file: its tensors by name, in its order, and their arrays on demand."""

    entries: dict[str, Found]
    data: memoryview
    source: str
    file: FileIO | None  # where large contents are read from; None: only ``data``
    end: int  # of the tensors; what follows is the CRC

    def view(self, entry: Found) -> np.ndarray:
        """The tensor, read-only, in the file's memory; a copy where that is not possible: parts
        that do not begin at pages, as MindSpore writes them, and texts.
        """
        if isinstance(entry, np.ndarray):
            return entry
        dtype, (start, _) = ANY_BYTES.get(entry.type), entry.spans[0]
        if dtype is not None and len(entry.spans) == 1:
            return np.ndarray(entry.shape, dtype, self.data, start)
        if self.file is not None and memory_map.can_join(entry.spans):
            content = np.frombuffer(memory_map.joined(self.file, entry.spans), np.uint8)
            return _shaped(content, entry, self.source)
        array = self.array(entry)
        array.flags.writeable = False
        return array

    def array(self, entry: Found) -> np.ndarray:
        """The tensor in memory of its own, with the entry's shape and dtype.

        Raises:
          FormatError: a Bool that is neither 0 nor 1, a text that is not UCS-4, or the file has
            been cut since it was opened.
        """
        if isinstance(entry, np.ndarray):
            return entry.copy()
        content = _aligned(entry.nbytes)
        target = content.data
        at = 0
        for start, stop in entry.spans:
            self._fetch(target[at : at + stop - start], start)
            at += stop - start
        return _shaped(content, entry, self.source)

    def _fetch(self, target: memoryview, start: int) -> None:
        if self.file is None:
            target[:] = self.data[start : start + len(target)]
            return
        fill(self.file, target, start, self.source)


def _aligned(length: int) -> np.ndarray:
    """Uninitialized bytes that begin where XLA can use them in place.

    Large ones come from the kernel: NumPy asks for huge pages, which the kernel may have to make
    by moving others; filling an array then takes up to ten times as long.
    """
    if length >= _LARGE:
        pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        return np.frombuffer(pages, np.uint8)
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
def opened(
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    key: bytes | None = None,
    mapped: bool = True,
) -> Iterator[Contents]:
    """The ``.ckpt`` file ``path``, indexed; views of it stay valid after the block.

    Args:
      path: the file.
      mapped: False reads the headers instead, so that a file which another process cuts off is an
        error, not the end of this process; ``Contents.view`` then has no large tensors.
      verify: compare the CRC, where the file has one, which reads all of it.
      key: of an encrypted file, which is decrypted into memory.

    Raises:
      FormatError: the file is damaged or no ``.ckpt``, as ``index`` says, its CRC differs, or it
        is encrypted and ``key`` does not fit.
      OSError: it cannot be read.
    """
    source = os.fspath(path)
    with opened_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not size:
            raise FormatError(f"{source}: byte 0: the file is empty")
        if key is not None:
            require("cryptography", "an encrypted checkpoint")
            from fnckpt.checkpoints.formats.encryption import decrypted

            plain = decrypted(memoryview(file.readall()), key, source)
            yield contents(plain, source, verify=verify)
        elif mapped:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            yield contents(data, source, file, verify=verify)
        else:
            found = contents(headers(file, size, source), source, file, verify=False)
            if verify and found.end < size:
                body = size - TRAILER
                _compare_crc(crc_of(file, body, source), found.data, source)
            yield found


def contents(
    data: memoryview, source: str, file: FileIO | None = None, *, verify: bool = True
) -> Contents:
    """What ``data``, a whole file, holds; ``file`` is where its large tensors are read from.

    Raises:
      FormatError: as ``opened``.
    """
    data = data.toreadonly()
    with uncollected():
        entries, end = index(data, source)
    if verify and end < len(data):
        _compare_crc(zlib.crc32(data[:-TRAILER]), data, source)
    return Contents(entries, data, source, file, end)


def _compare_crc(found: int, data: memoryview, source: str) -> None:
    expected = int.from_bytes(data[-CRC_DIGITS:], "big")
    if found != expected:
        raise FormatError(
            f"{source}: byte {len(data) - TRAILER}: the CRC-32 of the content is {found:#010x}, "
            f"expected {expected:#010x}; the file is damaged"
        )
