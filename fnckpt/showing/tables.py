"""Tables for a terminal."""

from collections.abc import Sequence

from fnckpt.visible import visible


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print ``rows`` under ``header``; columns of numbers are aligned at the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for i, title in enumerate(header):
        numbers = all(row[i][:1].isdigit() for row in rows if row[i])
        table.add_column(title, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(
            *(Text(visible(cell)) for cell in row)
        )  # a str would be markup: [mindspore] would be a style
    Console(soft_wrap=False, highlight=False).print(table)
