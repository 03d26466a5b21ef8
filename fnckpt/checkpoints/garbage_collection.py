"""Python's search for reference cycles, put off while many objects are made that have none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_inside = 0  # how many blocks run, in all threads: the collector has one switch for all of them
_enabled = False  # whether the first of them found it on


@contextmanager
def uncollected() -> Iterator[None]:
    """Put the garbage collector off during the block; memory is still freed by counting.

    Names and entries of 100,000 leaves set it off again and again, each time over all objects of
    the process, JAX's among them: 2 of 5 µs a leaf. For blocks that end in well under a second.

    >>> with uncollected():
    ...     gc.isenabled()
    False
    >>> gc.isenabled()
    True
    """
    global _inside, _enabled
    with _lock:
        if not _inside:
            _enabled = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _enabled:
                gc.enable()
