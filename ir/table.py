"""A table that decorators fill, one function for each name."""

from collections.abc import Callable
from typing import TypeVar

Entry = TypeVar("Entry")


def enters(table: dict[str, Entry], *names: str) -> Callable[[Entry], Entry]:
    """A decorator that enters what it decorates under ``names``.

    Raises:
      ValueError: the table has one of them already.
    """

    def register(entry: Entry) -> Entry:
        for name in names:
            if name in table:
                raise ValueError(f"{name} has a rule already, {table[name]}")
            table[name] = entry
        return entry

    return register
