"""A graph as HTML: its drawing, and one of every module inside it."""

from collections.abc import Mapping
from html import escape

from fnckpt.ir.targets.target import Shape, Summary
from fnckpt.picture.drawing import Drawing, drawing_of, drawing_within
from fnckpt.picture.svg import svg


def graph(summary: Summary) -> str:
    """The drawing of a graph, its modules below as boxes that open."""
    whole = drawing_of(summary)
    return svg(whole) + modules(whole, summary.shapes)


def modules(drawing: Drawing, shapes: Mapping[str, Shape]) -> str:
    """A closed ``<details>`` for each module of a drawing, with those inside it."""
    parts = []
    for box in drawing.boxes:
        if box.inside:
            inner = drawing_within(box.inside, shapes)
            parts.append(
                f"<details><summary>{escape(box.label)}</summary>{svg(inner)}"
                f"{modules(inner, shapes)}</details>"
            )
    return "".join(parts)
