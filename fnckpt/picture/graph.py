"""A graph as HTML: one drawing, and the script that opens its modules in place."""

from functools import cache
from importlib.resources import files

from fnckpt.ir.targets.target import Summary
from fnckpt.picture.drawing import drawing_of
from fnckpt.picture.svg import svg


def graph(summary: Summary) -> str:
    """The drawing of a graph; its modules stay closed where no script may run."""
    return f"{svg(drawing_of(summary))}<script>{script()}</script>"


@cache
def script() -> str:
    """What opens modules, pans and zooms: all that runs in a page."""
    return files("fnckpt.picture").joinpath("opening.js").read_text(encoding="utf-8")
