"""A page that shows a file: its tables, and, of a graph, a drawing whose modules open in place."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from fnckpt.picture.boxes import shown
from fnckpt.picture.graph import graph, script
from fnckpt.showing.file_table import FileTable
from fnckpt.showing.inspect import graph_of, inspect_file
from fnckpt.visible import visible

STYLE = """
:root { color-scheme: light dark }
body { font: 14px/1.5 system-ui, sans-serif; margin: 0; padding: 0 1rem 1rem }
h1 { font-size: 1.1rem; margin: .5rem 0 } h2 { font-size: 1rem; overflow-wrap: anywhere }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
td, th { padding: .15rem .6rem .15rem 0; text-align: left; border-bottom: 1px solid #8884 }
td:first-child { overflow-wrap: anywhere }
"""
DRAWN = """
body.drawn { display: grid; height: 100vh; box-sizing: border-box; gap: 0 1rem; padding: 0 0 0 1rem;
  grid: auto minmax(0, 1fr) / minmax(0, 1fr) minmax(16rem, 24rem) }
.drawn header { grid-column: 1 / 3; display: flex; flex-wrap: wrap; gap: .3rem;
  align-items: center }
.drawn h1 { margin-right: auto; overflow-wrap: anywhere }
.drawn main { grid-area: 2 / 1 }
.drawn aside { grid-area: 2 / 2; overflow: auto; border-left: 1px solid #8884; padding: 0 1rem }
#details { padding-top: .5rem } #details div { overflow-wrap: anywhere }
#details button { margin: .3rem .3rem 0 0 }
svg { display: block; cursor: grab; touch-action: none } .box { cursor: pointer }
.box:focus { outline: none }
.box:focus > rect, .box.on > rect { stroke: #e0245e; stroke-width: 2.5 }
path.on { stroke: #e0245e; stroke-width: 2; opacity: 1 }
@media print { body.drawn { display: block; height: auto } }
"""
KEYS = (("+", "+"), ("-", "\u2212"), ("0", "whole"), ("o", "open all"), ("c", "close all"))
HELP = (
    "Click a box, or go to it with Tab and the arrow keys: you see its attributes and shapes here. "
    "Click a module or press Enter to open or close it, Escape to close the one around. Drag to "
    "move; wheel, + and - to zoom, 0 for the whole."
)


def page(path: Path) -> str:
    """The page of a ``.ckpt``, ``.mindir``, ``.onnx``, ``.air`` or ``.meta`` file, as HTML.

    Nothing in it is fetched from elsewhere, and no script but ours runs.

    Raises:
      FormatError: the file has another format, or is damaged.
    """
    summary, name = graph_of(path), escape(shown(path.name))
    tables = "".join(map(table, inspect_file(path)))
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'
    )
    if summary is None:
        return f"{head}<style>{STYLE}</style></head><body><h1>{name}</h1>{tables}</body></html>"
    keys = "".join(f'<button data-key="{key}" title="{key}">{said}</button>' for key, said in KEYS)
    return (
        f'{head}<style>{STYLE}{DRAWN}</style></head><body class="drawn"><header><h1>{name}</h1>'
        f'{keys}</header><aside><div id="details">{HELP}</div>{tables}</aside>'
        f"<main>{graph(summary)}</main></body></html>"
    )


def policy() -> str:
    """The content security policy of a page: its own styles, and the one script, by its hash."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def table(content: FileTable) -> str:
    """A table as HTML."""
    head = _row("th", content.columns())
    rows = "".join(_row("td", row) for row in content.texts())
    return f"<h2>{escape(visible(content.title))}</h2><table>{head}{rows}</table>"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(visible(cell))}</{tag}>" for cell in cells) + "</tr>"
