"""Protobuf's wire format without its runtime: a reader that trusts nothing, a writer that copies
nothing.

A message is a run of fields; a field is a key, ``number << 3 | wire type``, and a value. Source:
https://protobuf.dev/programming-guides/encoding.

The writer's unit is a list of ``Part``: a message of 2 GB is a few small ``bytes`` and the
memoryviews of its arrays, written with ``file.writelines(parts)``.
"""

import os
from collections.abc import Iterable, Iterator

from fnckpt.errors import FormatError

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # the wire types; 3 and 4 are groups, long obsolete

Part = bytes | bytearray | memoryview

_WIRE_TYPES = {VARINT, FIXED64, LENGTH, FIXED32}
_ONE_BYTE = tuple(bytes((n,)) for n in range(128))


def varint(n: int) -> bytes:
    """``n`` in base 128, lowest digit first; a negative one as its 64-bit two's complement.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    if 0 <= n < 128:
        return _ONE_BYTE[n]
    n &= (1 << 64) - 1
    digits = bytearray()
    while n >= 128:
        digits.append(n & 127 | 128)
        n >>= 7
    digits.append(n)
    return bytes(digits)


def scalar(number: int, n: int) -> bytes:
    """The field ``number`` of an integer, bool or enum type.

    >>> scalar(1, 150).hex()
    '089601'
    """
    return varint(number << 3 | VARINT) + varint(n)


def opening(number: int, length: int) -> bytes:
    """Key and length of the bytes, string or message field ``number``; ``length`` bytes follow.

    >>> opening(2, 7).hex()
    '1207'
    """
    return varint(number << 3 | LENGTH) + varint(length)


def size(parts: Iterable[Part]) -> int:
    """The bytes in ``parts``.

    >>> size([b"ab", memoryview(b"cde")])
    5
    """
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)


def field(number: int, parts: Iterable[Part]) -> list[Part]:
    """The bytes, string or message field ``number`` that holds ``parts``, which are not copied.

    >>> b"".join(field(2, [b"test", memoryview(b"ing")]))
    b'\\x12\\x07testing'
    """
    held = list(parts)
    return [opening(number, size(held)), *held]


def text(number: int, value: str) -> bytes:
    """The string field ``number``.

    >>> text(1, "w")
    b'\\n\\x01w'
    """
    content = value.encode()
    return opening(number, len(content)) + content


class Reader:
    """A place in a message: ``data[at:]`` is unread; errors name ``source`` and the file's byte.

    Nothing is allocated by the file's word: a length is compared with what is there, and a
    ``chunk`` shares the memory of ``data``.

    Args:
      data: the message, one byte an item.
      source: how errors call the file.
      start: where in the file ``data`` begins.
      about: what errors say before the fault, such as ``"tensor 'w': "``; chunks inherit it.
    """

    __slots__ = ("about", "at", "data", "source", "start")

    def __init__(
        self, data: memoryview, source: str | os.PathLike[str], start: int = 0, about: str = ""
    ) -> None:
        self.data, self.source, self.start, self.about, self.at = data, source, start, about, 0

    def error(self, fault: str) -> FormatError:
        """``<source>: byte <n>: <about><fault>``, at the present place."""
        place = f"{os.fspath(self.source)}: byte {self.start + self.at}"
        return FormatError(f"{place}: {self.about}{fault}")

    def fields(self) -> Iterator[tuple[int, int]]:
        """(number, wire type) of each field; a value that the caller does not read is skipped.

        Raises:
          FormatError: no field begins here, or its value is not whole.

        >>> [field for field in Reader(memoryview(bytes.fromhex("0896011207")), "a").fields()]
        Traceback (most recent call last):
            ...
        fnckpt.FormatError: a: byte 5: a field claims 7 bytes, 0 are left
        """
        end = len(self.data)
        while self.at < end:
            before = self.at
            key = self.varint()
            number, wire = key >> 3, key & 7
            if wire not in _WIRE_TYPES or not 0 < number < 1 << 29:
                self.at = before
                raise self.error(f"no field begins here, found the key {key}")
            value = self.at
            yield number, wire
            if self.at == value:
                self.skip(wire)

    def varint(self) -> int:
        """The unsigned integer of at most 64 bits that begins here."""
        data, at = self.data, self.at
        result = 0
        for index, digit in enumerate(data[at : at + 10]):
            result |= (digit & 127) << 7 * index
            if digit < 128:
                if result >> 64:
                    raise self.error("an integer is larger than 64 bits")
                self.at = at + index + 1
                return result
        if len(data) - at < 10:
            raise self.error("an integer is cut off")
        raise self.error("an integer is longer than 10 bytes")

    def signed(self) -> int:
        """The integer of an int32 or int64 field that begins here."""
        n = self.varint()
        return n - (1 << 64) if n >> 63 else n

    def chunk(self) -> "Reader":
        """The bytes, string or message that begins here, as a reader of its own."""
        length = self.varint()
        begin, left = self.at, len(self.data) - self.at
        if length > left:
            raise self.error(f"a field claims {length} bytes, {left} are left")
        self.at = begin + length
        return Reader(self.data[begin : self.at], self.source, self.start + begin, self.about)

    def text(self) -> str:
        """The string that begins here.

        Raises:
          FormatError: it is not UTF-8.
        """
        content = self.chunk()
        try:
            return str(content.data, "utf-8")
        except UnicodeDecodeError:
            sample = bytes(content.data[:40])
            raise content.error(f"a text is not UTF-8, found {sample!r}") from None

    def skip(self, wire: int) -> None:
        """Pass over the value of wire type ``wire`` that begins here."""
        if wire == VARINT:
            self.varint()
        elif wire == LENGTH:
            self.chunk()
        else:
            width, left = (8 if wire == FIXED64 else 4), len(self.data) - self.at
            if width > left:
                raise self.error(f"a field of {width} bytes is cut off, {left} are left")
            self.at += width
