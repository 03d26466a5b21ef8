"""Names of a value's axes, followed through reshapes, transposes, broadcasts and products.

Heads of attention are split, repeated and merged in many ways. With a name for each axis of the
meaning (batch, head, row, ...), every way is the same product: an axis of a value is a tuple of
names, the outermost first, and what is of one element has none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fnckpt.ir.attributes import flag, ints, sizes
from fnckpt.ir.graph import CNode, Node

Axes = tuple[tuple[str, ...], ...]
MOVES = ("Reshape", "Transpose", "BroadcastTo")


@dataclass(frozen=True)
class Names:
    """How long each named axis is."""

    sizes: Mapping[str, int]

    def of(self, names: Iterable[str], shape: tuple[int, ...]) -> Axes | None:
        """The axes of ``shape`` with ``names`` in order; None where they do not fit.

        >>> Names({"g": 2, "r": 3, "s": 5}).of("grs", (6, 5, 1))
        (('g', 'r'), ('s',), ())
        """
        rest = [name for name in names if self.sizes[name] != 1]
        found: list[tuple[str, ...]] = []
        for size in shape:
            count, product = 0, 1
            while product != size:
                if count == len(rest):
                    return None
                product, count = product * self.sizes[rest[count]], count + 1
            found.append(tuple(rest[:count]))
            rest = rest[count:]
        return None if rest else tuple(found)

    def moved(self, axes: Axes, node: CNode, repeats: str = "") -> Axes | None:
        """The axes after one of ``MOVES``; ``repeats`` is the name that a broadcast may add."""
        if node.op == "Transpose":
            return tuple(axes[p] for p in ints(node, "perm"))
        if node.op == "Reshape":
            return self.of(flat(axes), node.aval.shape)
        return self._wider(axes, node, repeats)

    def _wider(self, axes: Axes, node: CNode, repeats: str) -> Axes | None:
        before, after = node.inputs[0].aval.shape, sizes(node, "shape")
        missing = len(after) - len(before)
        aligned = zip(((),) * missing + axes, (1,) * missing + before, after, strict=True)
        found: list[tuple[str, ...]] = []
        for names, old, new in aligned:
            if old != new and (not repeats or self.sizes[repeats] != new):
                return None
            found.append(names if old == new else (repeats,))
        return tuple(found)

    def product(self, node: CNode, first: Axes, other: Axes, inner: str) -> Axes | None:
        """The axes of a product of matrices along ``inner``; None for another product."""
        *stack, row, along = turned(first, flag(node, "transpose_a"))
        *stack_too, along_too, column = turned(other, flag(node, "transpose_b"))
        wanted = () if self.sizes[inner] == 1 else (inner,)
        if along != wanted or along_too != wanted or len(stack) != len(stack_too):
            return None
        both = list(zip(stack, stack_too, strict=True))
        if any(a and b and a != b for a, b in both):
            return None
        found = (*(a or b for a, b in both), row, column)
        names = flat(found)
        return found if len(set(names)) == len(names) else None


def flat(axes: Axes) -> tuple[str, ...]:
    """All names in order."""
    return tuple(name for axis in axes for name in axis)


def turned(axes: Axes, swap: bool) -> Axes:
    """The last two axes swapped."""
    return (*axes[:-2], axes[-1], axes[-2]) if swap else axes


def below(node: Node) -> tuple[Node, list[CNode]]:
    """What ``MOVES`` are made of, and these, the innermost first."""
    path: list[CNode] = []
    while isinstance(node, CNode) and node.op in MOVES:
        path.append(node)
        node = node.inputs[0]
    return node, path[::-1]
