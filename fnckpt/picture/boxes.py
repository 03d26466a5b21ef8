"""What a drawing holds: boxes, the edges between them, and drawings inside boxes."""

from collections.abc import Mapping
from dataclasses import dataclass

# Colours by what an operator does; words that its name may hold, in any of the formats.
KINDS: Mapping[str, tuple[str, ...]] = {
    "product": ("conv", "matmul", "gemm", "dense", "biasadd", "dot_general"),
    "norm": ("norm", "bninfer"),
    "pool": ("pool", "reduce", "argm", "cumsum"),
    "activation": ("relu", "gelu", "sigmoid", "tanh", "softmax", "swish", "erf", "silu", "elu"),
    "move": ("transpose", "reshape", "concat", "slice", "gather", "pad", "expand", "broadcast",
             "squeeze", "tile", "scatter", "cast", "split", "flatten"),
}  # fmt: skip

MOST_LETTERS = 160  # of a line that is shown
MOST_LINES = 40  # of what is shown on hover


@dataclass(frozen=True)
class Box:
    """An operator, a value that enters or leaves, or a module.

    Attributes:
      label: the text in the box.
      kind: a row of ``KINDS``; ``input``, ``output`` of the graph; ``entry``, ``exit`` of an
        opened box; ``module``; or ``other``.
      hover: what is shown on hover and in the details, lines of text.
      op: the operator's name; empty if the box is not an operator.
      inside: what the box opens to: its entries are the first boxes, its exits the last.
    """

    label: str
    kind: str
    hover: str
    op: str = ""
    inside: "Drawing | None" = None


@dataclass(frozen=True)
class Edge:
    """From the box of number ``start`` to that of number ``end``.

    ``ports`` are the ends inside: the numbers of the exit in ``start`` and of the entry in
    ``end``, a pair for each value; -1 for a box that does not open.
    """

    start: int
    end: int
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Drawing:
    """Boxes, and the edges between them."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


def kind_of(op: str) -> str:
    """The row of ``KINDS`` that an operator belongs to, or ``other``."""
    name = op.lower()
    return next((kind for kind, words in KINDS.items() if any(w in name for w in words)), "other")


def shown(text: str, most: int = MOST_LETTERS) -> str:
    """One line of bounded length: what a terminal or a page could obey is escaped.

    >>> shown("conv" + chr(27) + "[2J")
    'conv\\\\x1b[2J'
    """
    cut = text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut
    )


def lines(*texts: str) -> str:
    """The lines of a ``hover``, the first ``MOST_LINES``."""
    kept = [shown(text) for text in texts[:MOST_LINES]]
    more = len(texts) - len(kept)
    return "\n".join([*kept, *([f"... and {more} more"] if more else [])])
