"""A ``.ckpt`` file in memory without its large contents, so that it need not be mapped.

A mapped file that another process cuts off ends this one (SIGBUS) as soon as it is looked at; one
that is read cannot do more than be damaged.
"""

import mmap
import sys
import zlib
from io import FileIO

from fnckpt.checkpoints.formats.ckpt_index import HEADER, SMALL
from fnckpt.errors import FormatError

WHOLE = 16 << 20  # bytes of a file that is read as it is
_LEAST, _MOST = 1 << 14, 1 << 20  # bytes read at once: after a content that was left out, and later
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0x40  # memory is taken as it is written to
_VALUE_KEY, _UNKNOWN_KEY = 0x0A, 0x7A  # the fields that we and MindSpore write
_LONGEST_HEADER = 2048


def headers(file: FileIO, size: int, source: str) -> memoryview:
    """The ``size`` bytes of ``file``, with zeros for contents of over ``SMALL`` bytes.

    Raises:
      FormatError: the file is shorter than it was.
    """
    how = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    data = memoryview(mmap.mmap(-1, size, flags=how))
    if size <= WHOLE:
        fill(file, data, 0, source)
        return data
    have = at = 0  # what was read, and where the next message begins
    step = _LEAST
    while have < size:
        stop = min(size, have + step)
        fill(file, data[have:stop], have, source)
        at, have, was_left_out = _walked(data, at, stop)
        step = _LEAST if was_left_out else min(2 * step, _MOST)
    return data


def _walked(data: memoryview, at: int, have: int) -> tuple[int, int, bool]:
    """Go from message to message up to ``have``, the end of what was read.

    Returns:
      Where the next message begins, from where on to read, and whether a content was left out.
    """
    size = len(data)
    while at < have and (have - at >= _LONGEST_HEADER or have == size):
        begin, end = _span(data, at)
        if end > size:  # damaged, or a trailer: the rest is read as it is
            return size, have, False
        if data[at] == _VALUE_KEY and end - begin > SMALL + _LONGEST_HEADER and end > have:
            header = HEADER.match(data, at, have)
            if header is not None and _content_ends(header.group("content"), header.end(), end):
                return end, end, True
        at = end
    return at, have, False


def _span(data: memoryview, at: int) -> tuple[int, int]:
    """Where the message at ``at`` begins and ends; beyond the file where it is none."""
    if data[at] not in (_VALUE_KEY, _UNKNOWN_KEY):
        return at, len(data) + 1
    length, shift = 0, 0
    for place in range(at + 1, min(at + 11, len(data))):
        length |= (data[place] & 127) << shift
        if data[place] < 128:
            return place + 1, place + 1 + length
        shift += 7
    return at, len(data) + 1


def _content_ends(digits: bytes, start: int, end: int) -> bool:
    length = sum((digit & 127) << 7 * index for index, digit in enumerate(digits))
    return start + length == end


def fill(file: FileIO, target: memoryview, start: int, source: str) -> None:
    """Read ``target`` from byte ``start`` of ``file``.

    Raises:
      FormatError: the file ends before.
    """
    file.seek(start)
    while target:
        count = file.readinto(target)
        if not count:
            raise FormatError(f"{source}: byte {start}: the file was cut off while it was read")
        target = target[count:]


def crc_of(file: FileIO, length: int, source: str) -> int:
    """The CRC-32 of the first ``length`` bytes, a piece at a time."""
    room, found = bytearray(_MOST), 0
    for at in range(0, length, _MOST):
        piece = memoryview(room)[: min(_MOST, length - at)]
        fill(file, piece, at, source)
        found = zlib.crc32(piece, found)
    return found
