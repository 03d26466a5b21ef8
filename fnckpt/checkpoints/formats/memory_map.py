"""Parts of a file as one piece of memory, without a copy: mapped side by side."""

import ctypes
import mmap
import os
from collections.abc import Sequence
from io import FileIO

PAGE = 1 << 16  # bytes; a multiple of the pages of every machine: 4, 16 or 64 KiB

Span = tuple[int, int]

_MAP_FIXED = 0x10
_MAP_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def can_join(spans: Sequence[Span]) -> bool:
    """Whether all ``spans`` begin at pages of the file, and all but the last are whole pages."""
    starts = all(start % mmap.PAGESIZE == 0 for start, _ in spans)
    return starts and all((stop - start) % mmap.PAGESIZE == 0 for start, stop in spans[:-1])


def joined(file: FileIO, spans: Sequence[Span]) -> memoryview:
    """The bytes of ``spans`` of ``file``, read-only, one after the other; see ``can_join``.

    They are mapped over memory that was reserved for all of them, with which they go away.

    Raises:
      OSError: the file cannot be mapped.
    """
    length = sum(stop - start for start, stop in spans)
    reserved = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = ctypes.addressof(ctypes.c_char.from_buffer(reserved))
    for start, stop in spans:
        how = mmap.MAP_PRIVATE | _MAP_FIXED
        done = _libc.mmap(at, stop - start, mmap.PROT_READ, how, file.fileno(), start)
        if done == _MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), file.name)
        at += stop - start
    return memoryview(reserved).toreadonly()
