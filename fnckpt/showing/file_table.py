"""A table of what a file holds: numbers and shapes for programs, texts for people."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Share(float):
    """A part of a whole: 0.25, for people 25.0%."""


@dataclass(frozen=True)
class Elements:
    """Some numbers of an array."""

    values: Sequence[int | float]


Cell = str | int | float | tuple[int | str, ...] | Elements | None
Row = tuple[Cell, ...]
Json = str | int | float | list[int | str] | list["Json"] | None


@dataclass(frozen=True)
class FileTable:
    """A titled table.

    Attributes:
      name: what it is called in JSON, the same for every file.
      title: for people.
      header: of each column.
      rows: a cell is a text, a number, a shape as a tuple, or None where there is nothing to say.
      totals: numbers about the whole, by their names in JSON.
      hidden: how many of the last columns only programs see.
      most: how many rows people see; None is all.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: Sequence[Row]
    totals: Mapping[str, int | float] = field(default_factory=dict[str, int | float])
    hidden: int = 0
    most: int | None = None

    def columns(self) -> tuple[str, ...]:
        """The header as people see it."""
        return self.header[: len(self.header) - self.hidden]

    def texts(self) -> list[tuple[str, ...]]:
        """The rows as people see them."""
        count = len(self.columns())
        shown = [tuple(map(text, row[:count])) for row in self.rows[: self.most]]
        left_out = len(self.rows) > len(shown)
        return [*shown, *([("...", *[""] * (count - 1))] if left_out else [])]

    def document(self) -> dict[str, object]:
        """What ``--json`` prints: every row, with numbers as numbers and shapes as lists."""
        keys = list(map(key, self.header))
        rows = [dict(zip(keys, map(plain, row), strict=True)) for row in self.rows]
        return {"name": self.name, "title": self.title, **self.totals, "rows": rows}


def text(cell: Cell) -> str:
    """A cell for people.

    >>> [text(cell) for cell in (1234, 0.5, (2, "b"), (), None, Share(0.25))]
    ['1,234', '0.5', '2xb', 'scalar', '', '25.0%']
    """
    match cell:
        case None:
            return ""
        case Share():
            return f"{cell:.1%}"
        case Elements():
            return " ".join(f"{value:.6g}" for value in cell.values)
        case tuple():
            return "x".join(map(str, cell)) or "scalar"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.4g}"
        case str():
            return cell


def plain(cell: Cell) -> Json:
    """A cell for programs."""
    if isinstance(cell, Elements):
        return [plain(value) for value in cell.values]
    if isinstance(cell, tuple):
        return list(cell)
    if isinstance(cell, float):
        return float(cell) if math.isfinite(cell) else None  # JSON has no other numbers
    return cell


def key(title: str) -> str:
    """What a column is called in JSON.

    >>> key("FLOPs"), key("NaN, inf"), key("first elements")
    ('flops', 'nan_inf', 'first_elements')
    """
    return re.sub(r"\W+", "_", title.lower()).strip("_")
