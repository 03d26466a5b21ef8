"""Symbolic sizes in a MindIR file: read off the inputs' shapes, and computed from there.

Source: what MindSpore 2.10 exports of a network with unknown sizes.
"""

from collections.abc import Sequence

from fnckpt.ir.sizes import all_known, computed, is_known, places_of, solved
from fnckpt.ir.targets.mindir.writer import Computed, Writer
from fnckpt.ir.targets.target import Refusal

OPS = {
    "add": "ScalarAdd", "floordiv": "ScalarFloorDiv", "max": "ScalarMax", "min": "ScalarMin",
    "mod": "ScalarMod", "mul": "ScalarMul", "sub": "ScalarSub",
}  # fmt: skip


class SizeNodes:
    """Sizes as the names of numbers that are no tensors, each computed once in a file."""

    def __init__(self, w: Writer) -> None:
        if not w.dialect.arguments:
            raise Refusal(
                "it takes a size that is computed from symbolic sizes, which MindSpore before 2.3 "
                'cannot read from a file; give a number for that size, or mindspore="2.3"'
            )
        self.w = w
        self.places = places_of([parameter.aval.shape for parameter in w.inputs])

    def number(self, value: int) -> str:
        return self.w.value(value)

    def symbol(self, name: str) -> str:
        place = self.places[name]
        parameter = self.w.inputs[place.number]
        shape = self.w.size("Shape", self.w.ref(parameter), items=len(parameter.aval.shape))
        size = self.w.size("TupleGetItem", shape, self.w.value(place.axis))
        return solved(place.line, size, self)

    def apply(self, op: str, left: str, right: str) -> str:
        return self.w.size(OPS[op], left, right)


def size(w: Writer, value: int) -> str:
    """The name of one size."""
    return w.value(value) if is_known(value) else computed(value, SizeNodes(w))


def vector(w: Writer, values: Sequence[int]) -> tuple[int, ...] | Computed:
    """Sizes as a tuple that a primitive takes: of numbers, or the result of a node."""
    if all_known(values):
        return tuple(values)
    nodes = SizeNodes(w)
    parts = [computed(value, nodes) for value in values]
    return Computed(w.size("MakeTuple", *parts, items=len(parts)))


def named(w: Writer, values: Sequence[int]) -> str:
    """As ``vector``, by its name."""
    found = vector(w, values)
    return found.name if isinstance(found, Computed) else w.value(found)
