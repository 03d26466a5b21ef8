"""Tables for a terminal."""

from collections.abc import Sequence

from fnckpt.extras import require
from fnckpt.visible import visible


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` under ``header``; columns of numbers are aligned at the right.

    In a terminal a long cell is folded at its width. Anywhere else, in a pipe or a file, a row is
    a line.
    """
    require("rich", "a table")
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(header):
        numbers = all(row[i][:1].isdigit() for row in rows if row[i])
        table.add_column(title, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # A str would be markup: [mindspore] would be a style.
        table.add_row(*(Text(visible(cell)) for cell in row))
    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        widest = Console(width=1 << 20).measure(table).maximum
        console = Console(soft_wrap=False, highlight=False, width=widest)
    console.print(table)
