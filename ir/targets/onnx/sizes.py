"""Symbolic sizes in an ONNX file: read off the inputs' shapes, and computed from there."""

from collections.abc import Sequence

from fnckpt.ir.sizes import all_known, computed, is_symbolic, places_of, solved, summands
from fnckpt.ir.targets.onnx.writer import Writer

OPS = {"add": "Add", "sub": "Sub", "mul": "Mul", "mod": "Mod", "max": "Max", "min": "Min"}


class SizeNodes:
    """Sizes as the names of ``int64[1]`` values, each computed once in a file."""

    def __init__(self, w: Writer) -> None:
        self.w = w
        self.shapes = [parameter.aval.shape for parameter in w.measured]
        self.places = places_of(self.shapes)

    def number(self, value: int) -> str:
        return self.w.ints([value], "size")

    def symbol(self, name: str) -> str:
        place = self.places.get(name)
        if place is None:
            return self._rest(name)
        return solved(place.line, self._read(place.number, place.axis), self)

    def _read(self, number: int, axis: int) -> str:
        shape = self.w.once("Shape", self.w.ref(self.w.measured[number]))
        return self.w.once("Gather", shape, self.w.ints([axis], "axis"))

    def _rest(self, name: str) -> str:
        """A symbol that is only in a sum with others: what these leave."""
        for number, shape in enumerate(self.shapes):
            for axis, parts in enumerate(map(summands, shape)):
                others = [each for each in parts if each != name]
                if len(others) == len(parts) - 1 and self.places.keys() >= set(others):
                    size = self._read(number, axis)
                    for other in others:
                        size = self.apply("sub", size, self.symbol(other))
                    return size
        raise KeyError(name)

    def apply(self, op: str, left: str, right: str) -> str:
        """Division rounds down, as in Python; that of ONNX rounds towards zero."""
        if op == "floordiv":
            rest = self.w.once("Mod", left, right)
            return self.w.once("Div", self.w.once("Sub", left, rest), right)
        return self.w.once(OPS[op], left, right)


def readable(shapes: Sequence[tuple[int, ...]]) -> set[str]:
    """The symbols that can be read off ``shapes``."""
    alone = set(places_of(shapes))
    sums = [set(summands(size)) for shape in shapes for size in shape if is_symbolic(size)]
    return alone.union(*(parts for parts in sums if len(parts - alone) == 1))


def vector(w: Writer, values: Sequence[int], name: str) -> str:
    """A vector of sizes as ``int64``: an initializer where all are known."""
    if all_known(values):
        return w.ints(values, name)
    parts = [computed(value, SizeNodes(w)) for value in values]
    return parts[0] if len(parts) == 1 else w.once("Concat", *parts, axis=0)
