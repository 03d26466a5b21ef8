"""Functions that ask themselves about the inputs of a node, bounded.

A chain of operators may be longer than Python's stack is deep, and where values are used twice the
ways through them double with each. A rewrite needs to see a few nodes only.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
MOST_ASKED = 64  # nodes; a node takes up to five of the thousand frames of Python's stack


class _Asked(threading.local):
    """How many times the function was called since its outermost call, and how deep it is now."""

    count = 0
    depth = 0


def bounded(otherwise: T) -> Callable[[Callable[P, R]], Callable[P, R | T]]:
    """Let a function call itself ``MOST_ASKED`` times; the calls after that return ``otherwise``.

    Args:
      otherwise: the answer that is right for every node, such as "not known".
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R | T]:
        asked = _Asked()

        @wraps(function)
        def ask(*args: P.args, **kwargs: P.kwargs) -> R | T:
            asked.count = asked.count + 1 if asked.depth else 1
            if asked.count > MOST_ASKED:
                return otherwise
            asked.depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                asked.depth -= 1

        return ask

    return decorated
