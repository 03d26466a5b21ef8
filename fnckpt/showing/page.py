"""A page that shows a file: its tables, and, of a graph, a drawing of every module."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from fnckpt.picture.graph import graph
from fnckpt.showing.file_table import FileTable
from fnckpt.showing.inspect import graph_of, inspect_file
from fnckpt.visible import visible

STYLE = """
:root { color-scheme: light dark }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
td, th { padding: .15rem .8rem; text-align: left; border-bottom: 1px solid #8884 }
details { margin: .3rem 0 .3rem 1rem; border-left: 2px solid #8884; padding-left: .8rem }
summary { cursor: pointer; font-weight: 600 }
svg { display: block; margin: .5rem 0 }
"""


def page(path: Path) -> str:
    """The page of a ``.ckpt``, ``.mindir``, ``.onnx``, ``.air`` or ``.meta`` file, as HTML.

    Raises:
      FormatError: it is none of these, or damaged.
    """
    summary = graph_of(path)
    drawing = "" if summary is None else graph(summary)
    tables = "".join(map(table, inspect_file(path)))
    title = escape(visible(path.name))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}'
        f"</title><style>{STYLE}</style></head><body><h1>{title}</h1>"
        f"{drawing}{tables}</body></html>"
    )


def table(content: FileTable) -> str:
    """A table as HTML."""
    head = _row("th", content.columns())
    rows = "".join(_row("td", row) for row in content.texts())
    return f"<h2>{escape(visible(content.title))}</h2><table>{head}{rows}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(visible(cell))}</{tag}>" for cell in cells) + "</tr>"
