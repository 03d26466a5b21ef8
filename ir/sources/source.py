"""What a file holds that becomes a graph: one dataclass for every format, and what it refuses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.graph import Aval, FuncGraph
from fnckpt.ir.targets.target import Summary

Shape = tuple[int, ...]


class Refusal(Exception):
    """Raised by a rule: this node cannot be imported; the message is reason and way out."""


@dataclass(frozen=True)
class Place:
    """A node that cannot be imported: its operator, its name in the file, and the reason."""

    op: str
    name: str
    reason: str


class NotImported(Exception):
    """A file cannot become a graph; ``places`` names every node and its reason."""

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__("; ".join(f"{place.op}: {place.reason}" for place in places))
        self.places = tuple(places)


@dataclass(frozen=True)
class Imported:
    """A graph, and the names of weights and inputs whose numbers became shapes in it."""

    graph: FuncGraph
    fixed: frozenset[str]


@dataclass(frozen=True)
class Writer:
    """What wrote a file of ours: the format, and the options that say its version."""

    file_format: str
    options: tuple[tuple[str, int | str], ...] = ()


@dataclass(frozen=True)
class Source:
    """A file that was read, before the shapes of its inputs are known.

    Attributes:
      summary: its inputs, outputs, parameters and operators.
      metadata: what else it says of itself.
      inputs: name, shape and dtype of each input; a size that is open is a symbol, and the shape
        of an input of any rank is None.
      weights: the arrays that can be trained, by name.
      build: the graph for inputs of the given shapes, and the numbers of those that are known by
        name. Raises ``NotImported``.
      writer: ours, where it wrote the file; None where another program did.
    """

    summary: Summary
    metadata: Mapping[str, str]
    inputs: Sequence["Input"]
    weights: Mapping[str, np.ndarray]
    build: Callable[[Sequence[Shape], Mapping[str, np.ndarray]], Imported]
    writer: Writer | None = None


@dataclass(frozen=True)
class Input:
    """An input of a file; ``shape`` is None where the file says nothing of it."""

    name: str
    dtype: np.dtype
    shape: Shape | None

    def aval(self, shape: Shape) -> Aval:
        """What it is where it has this shape."""
        return Aval(shape, self.dtype)
