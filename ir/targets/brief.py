"""The attributes of a file's nodes in few words."""

from collections.abc import Iterable
from itertools import islice

MOST_ITEMS, MOST_LETTERS = 16, 80

Item = bool | int | float | str | bytes


def brief(value: Item | Iterable[Item]) -> str:
    """A value on one short line; of a long one the beginning.

    >>> brief((1, 1, 2, 2)), brief(b"SAME_UPPER"), brief(0.5)
    ('[1, 1, 2, 2]', 'SAME_UPPER', '0.5')
    """
    if isinstance(value, bytes):
        return brief(value[: MOST_LETTERS + 1].decode(errors="replace"))
    if isinstance(value, str):
        return value if len(value) <= MOST_LETTERS else f"{value[:MOST_LETTERS]}..."
    if isinstance(value, bool | int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.7g}"
    items = list(islice(value, MOST_ITEMS + 1))
    more = ", ..." if len(items) > MOST_ITEMS else ""
    return f"[{', '.join(map(brief, items[:MOST_ITEMS]))}{more}]"
