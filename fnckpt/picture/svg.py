"""A drawing as SVG: readable on a light and on a dark page, with what a box is shown on hover.

What a box opens to lies in it and is hidden; ``opening.js`` shows it. The script moves what is
here: each box has its row, middle and width in ``data-at``, each edge its ends and the places it
passes in ``data-way``, and ``data-ports`` where it goes on inside.
"""

from html import escape

from fnckpt.picture.boxes import Box, Drawing, Edge
from fnckpt.picture.layout import BETWEEN, HEIGHT, Placed, Way, layout

COLOURS = {
    "product": "#4f7fd9", "norm": "#7d62c9", "pool": "#2f9c95", "activation": "#cf6a32",
    "move": "#8a8f98", "input": "#3d9a50", "output": "#3d9a50", "module": "#ffffff",
    "entry": "#dff0e2", "exit": "#dff0e2", "other": "#a98622",
}  # fmt: skip
DARK_TEXT = frozenset({"module", "entry", "exit"})
STUB = 14  # of an entry or exit, towards the edge of the box around


def svg(drawing: Drawing) -> str:
    """The drawing as one ``<svg>`` element."""
    placed = layout(drawing)
    width, height = f"{placed.width:.0f}", f"{placed.height:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fnckpt" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" style="max-width:100%" '
        'font-family="system-ui,sans-serif" font-size="12">'
        f"<g>{_level(drawing, placed)}</g></svg>"
    )


def _level(drawing: Drawing, placed: Placed, hidden: bool = False) -> str:
    """A drawing as a group: its edges, then its boxes over them."""
    ways = "".join(
        _way(edge, way, placed) for edge, way in zip(drawing.edges, placed.ways, strict=True)
    )
    boxes = "".join(_box(box, placed, i) for i, box in enumerate(drawing.boxes))
    hide = ' display="none"' if hidden else ""
    return (
        f'<g class="level" data-size="{placed.width:.1f} {placed.height:.0f}"{hide}>'
        f'<g fill="none" stroke="#8a8f98" stroke-width="1.3">{ways}</g>{boxes}</g>'
    )


def _box(box: Box, placed: Placed, number: int) -> str:
    row, x, width = placed.rows[number], placed.middles[number], placed.widths[number]
    opens = ' role="button" aria-expanded="false"' if box.inside else ' role="img"'
    edge = ' stroke="#4f7fd9" stroke-width="1.6"' if box.inside else ""
    ink = "#1c1e21" if box.kind in DARK_TEXT or box.inside else "#ffffff"
    fill = COLOURS["module" if box.inside else box.kind]
    radius = HEIGHT / 2 if box.kind in ("entry", "exit", "input", "output") else 6
    return (
        f'<g class="box {box.kind}" transform="translate({x:.1f} {_top(row) + HEIGHT / 2:.1f})" '
        f'data-at="{row} {x:.1f} {width:.1f}" tabindex="0"{opens}>'
        f"<title>{escape(box.hover)}</title>{_stub(box)}"
        f'<rect x="{-width / 2:.1f}" y="{-HEIGHT / 2:.1f}" width="{width:.1f}" '
        f'height="{HEIGHT}" rx="{radius:g}" fill="{fill}"{edge}/>'
        f'<text y="4" text-anchor="middle" fill="{ink}">{escape(box.label)}</text>'
        f"{_level(box.inside, layout(box.inside), True) if box.inside else ''}</g>"
    )


def _stub(box: Box) -> str:
    """The end of an edge from outside that goes on here."""
    sign = {"entry": -1, "exit": 1}.get(box.kind)
    if sign is None:
        return ""
    return f'<path d="M0 {sign * HEIGHT / 2}v{sign * STUB}" stroke="#8a8f98" stroke-width="1.3"/>'


def _top(row: int) -> float:
    return row * (HEIGHT + BETWEEN) + BETWEEN / 2


def _way(edge: Edge, way: Way, placed: Placed) -> str:
    ports = " ".join(f"{a}:{b}" for a, b in edge.ports)
    inner = f' data-ports="{ports}"' if ports else ""
    lanes = "".join(f" {x:.1f}" for x in way.lanes)
    straight = placed.rows[way.end] - placed.rows[way.start] != len(way.lanes) + 1
    faint = ' opacity=".35"' if straight else ""
    return (
        f'<path d="{_curve(way, placed)}" data-way="{way.start} {way.end}{lanes}"{inner}{faint}/>'
    )


def _curve(way: Way, placed: Placed) -> str:
    """From the lower edge of a box, upright through the rows between, to the upper edge."""
    row, x = placed.rows[way.start], placed.middles[way.start]
    y = _top(row) + HEIGHT
    path = f"M{x:.1f} {y:.1f}"
    lanes = [(lane, row + 1 + i, True) for i, lane in enumerate(way.lanes)]
    for to_x, to_row, passes in (*lanes, (placed.middles[way.end], placed.rows[way.end], False)):
        top = _top(to_row)
        half = (y + top) / 2
        path += f"C{x:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {top:.1f}"
        x, y = to_x, top + HEIGHT
        path += f"V{y:.1f}" if passes else ""
    return path
