"""A drawing as SVG: readable on a light and on a dark page, with what a box is shown on hover."""

from collections.abc import Sequence
from html import escape

from fnckpt.picture.drawing import Box, Drawing
from fnckpt.picture.layout import HEIGHT, Placed, Point, layout

COLOURS = {
    "product": "#4f7fd9", "norm": "#7d62c9", "pool": "#2f9c95", "activation": "#cf6a32",
    "move": "#8a8f98", "input": "#3d9a50", "output": "#3d9a50", "module": "#ffffff",
    "other": "#a98622",
}  # fmt: skip


def svg(drawing: Drawing) -> str:
    """The drawing as one ``<svg>`` element."""
    placed = layout(drawing)
    ways = "".join(f'<path d="{_curve(way)}"/>' for way in placed.ways)
    boxes = "".join(
        _box(box, centre, width)
        for box, centre, width in zip(drawing.boxes, placed.centres, placed.widths, strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {placed.width:.0f} '
        f'{placed.height:.0f}" width="{placed.width:.0f}" height="{placed.height:.0f}" '
        'style="max-width:100%;height:auto" font-family="system-ui,sans-serif" font-size="12">'
        f'<g fill="none" stroke="#8a8f98" stroke-width="1.3">{ways}</g>{boxes}</svg>'
    )


def _box(box: Box, centre: Point, width: float) -> str:
    x, y = centre
    fill, module = COLOURS[box.kind], box.kind == "module"
    edge = ' stroke="#4f7fd9" stroke-width="1.6"' if module else ""
    ink = "#1c1e21" if module else "#ffffff"
    return (
        f'<g><title>{escape(box.hover)}</title><rect x="{x - width / 2:.1f}" '
        f'y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="6" fill="{fill}"'
        f'{edge}/><text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="{ink}">'
        f"{escape(box.label)}</text></g>"
    )


def _curve(way: Sequence[Point]) -> str:
    """From the lower edge of a box, through the free places, to the upper edge of another."""
    (x, y), *middle, (end_x, end_y) = way
    path, last = f"M{x:.1f} {y + HEIGHT / 2:.1f}", (x, y + HEIGHT / 2)
    for to_x, to_y in (*middle, (end_x, end_y - HEIGHT / 2)):
        half = (last[1] + to_y) / 2
        path += f"C{last[0]:.1f} {half:.1f} {to_x:.1f} {half:.1f} {to_x:.1f} {to_y:.1f}"
        last = (to_x, to_y)
    return path


__all__ = ["COLOURS", "Placed", "svg"]
