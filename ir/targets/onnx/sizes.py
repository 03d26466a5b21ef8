"""Symbolic sizes in an ONNX file: read off the inputs' shapes, and computed from there."""

from collections.abc import Sequence

from fnckpt.ir.sizes import all_known, computed, places_of, solved
from fnckpt.ir.targets.onnx.writer import Writer

OPS = {"add": "Add", "sub": "Sub", "mul": "Mul", "mod": "Mod", "max": "Max", "min": "Min"}


class SizeNodes:
    """Sizes as the names of ``int64[1]`` values, each computed once in a file."""

    def __init__(self, w: Writer) -> None:
        self.w = w
        self.places = places_of([parameter.aval.shape for parameter in w.inputs])

    def number(self, value: int) -> str:
        return self.w.ints([value], "size")

    def symbol(self, name: str) -> str:
        place = self.places[name]
        shape = self.w.once("Shape", self.w.ref(self.w.inputs[place.number]))
        size = self.w.once("Gather", shape, self.w.ints([place.axis], "axis"))
        return solved(place.line, size, self)

    def apply(self, op: str, left: str, right: str) -> str:
        """Division rounds down, as in Python; that of ONNX rounds towards zero."""
        if op == "floordiv":
            rest = self.w.once("Mod", left, right)
            return self.w.once("Div", self.w.once("Sub", left, rest), right)
        return self.w.once(OPS[op], left, right)


def vector(w: Writer, values: Sequence[int], name: str) -> str:
    """A vector of sizes as ``int64``: an initializer where all are known."""
    if all_known(values):
        return w.ints(values, name)
    parts = [computed(value, SizeNodes(w)) for value in values]
    return parts[0] if len(parts) == 1 else w.once("Concat", *parts, axis=0)
