"""Names and values as a table in a notebook."""

from collections.abc import Sequence
from html import escape


def facts(rows: Sequence[tuple[str, str]], caption: str = "") -> str:
    """The rows as HTML.

    >>> facts([("nodes", "<3")])
    "<table><tr><th style='text-align:left'>nodes</th><td style='text-align:left'>&lt;3</td></tr></table>"
    """  # noqa: E501
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}{cells}</table>"
