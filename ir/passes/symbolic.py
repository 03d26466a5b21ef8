"""Numbers that are computed from symbolic sizes, where JAX can tell them.

Where a slice begins is often such a number: ``past`` tokens are in a cache, and the new ones come
behind them. As a list of sizes it is seen that nothing is written over, and nothing is looked up.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fnckpt.ir.attributes import Ints, integer, ints, sizes
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.passes.build import BOOL, Build
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import all_known, is_known

Sizes = tuple[int, ...]
MOST_SIZES = 8  # of a vector: as many as a shape has

COMPUTED: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Maximum": lambda a, b: a if a >= b else b,
    "Minimum": lambda a, b: a if a <= b else b,
}


@bounded(otherwise=None)
def sizes_of(node: Node) -> Sizes | None:
    """The sizes that an integer vector or number is; None where it is something else.

    Raises:
      InconclusiveDimensionOperation: it depends on the symbols.
    """
    if len(node.aval.shape) > 1 or node.aval.dtype.kind not in "iu":
        return None
    if isinstance(node, Constant):
        return tuple(map(int, node.value.flat)) if node.value.size <= MOST_SIZES else None
    if not isinstance(node, CNode):
        return None
    if node.op == "Sizes":
        return sizes(node, "sizes")
    if node.op in ("Reshape", "Cast"):
        return sizes_of(node.inputs[0])
    if node.op == "Concat":
        parts = [sizes_of(each) for each in node.inputs]
        found = [part for part in parts if part is not None]
        return tuple(n for part in found for n in part) if len(found) == len(parts) else None
    if node.op == "Select":
        return _chosen(node)
    return _combined(node) if node.op in COMPUTED else None


def _combined(node: CNode) -> Sizes | None:
    rows = _rows(node.inputs)
    return None if rows is None else tuple(COMPUTED[node.op](a, b) for a, b in rows)


def _rows(inputs: Sequence[Node]) -> tuple[tuple[int, int], ...] | None:
    """The numbers of two vectors in pairs; a single one goes with each."""
    first, second = map(sizes_of, inputs)
    if not first or not second:
        return None
    count = max(len(first), len(second))
    if {len(first), len(second)} - {1, count}:
        return None
    each = [x * count if len(x) == 1 else x for x in (first, second)]
    return tuple(zip(*each, strict=True))


def _chosen(node: CNode) -> Sizes | None:
    """``where(size < 0, ..., ...)``, which JAX writes around every start."""
    condition, *numbers = node.inputs
    if not isinstance(condition, CNode) or condition.op != "Less":
        return None
    rows = _rows(condition.inputs)
    decided = {a < b for a, b in rows} if rows else set[bool]()
    return sizes_of(numbers[0] if decided == {True} else numbers[1]) if len(decided) == 1 else None


def as_sizes(root: CNode) -> Node | None:
    """Arithmetic with sizes is a list of sizes."""
    found = sizes_of(root)
    if found is None or all_known(found):
        return None
    build = Build(root)
    return build.reshape(build("Sizes", sizes=found, dtype=root.aval.dtype), root.aval.shape)


@rewrites("DynamicSlice")
def slice_at_sizes(root: CNode) -> Node | None:
    """A slice that begins at known places, or at sizes, is one with known ends."""
    x, starts = root.inputs
    begin = sizes_of(starts)
    if begin is None:
        return None
    limit = tuple(a + n for a, n in zip(begin, root.aval.shape, strict=True))
    return Build(root)("Slice", x, start=begin, limit=limit, strides=(1,) * len(begin))


@rewrites(Op("DynamicUpdateSlice"))
def append_for_update(root: CNode) -> Node | None:
    """What is written over the last part of a concatenation takes that part's place."""
    x, update, starts = root.inputs
    begin = sizes_of(starts)
    if begin is None or not isinstance(x, CNode) or x.op != "Concat":
        return None
    *before, last = x.inputs
    axis = integer(x, "axis")
    size = sum(each.aval.shape[axis] for each in before)
    wanted: Ints = tuple(size if i == axis else 0 for i in range(len(begin)))
    if begin != wanted or last.aval != update.aval:
        return None
    return Build(root)("Concat", *before, update, axis=axis)


@rewrites("Transpose")
def turn_the_new_part(root: CNode) -> Node | None:
    """The transpose of a concatenation with a transposed part that is one again: of the others."""
    (x,) = root.inputs
    if not isinstance(x, CNode) or x.op != "Concat":
        return None
    perm, build = ints(root, "perm"), Build(root)
    if not any(_is_turned_back(each, perm) for each in x.inputs):
        return None
    parts = [_turned(build, each, perm) for each in x.inputs]
    return build("Concat", *parts, axis=perm.index(integer(x, "axis")))


def _is_turned_back(x: Node, perm: Ints) -> bool:
    if not isinstance(x, CNode) or x.op != "Transpose":
        return False
    inner = ints(x, "perm")
    return tuple(inner[p] for p in perm) == tuple(range(len(perm)))


def _turned(build: Build, x: Node, perm: Ints) -> Node:
    if isinstance(x, CNode) and _is_turned_back(x, perm):
        return x.inputs[0]
    return build.transpose(x, perm)


@rewrites("Less")
def size_below_zero(root: CNode) -> Node | None:
    """No size is below 0."""
    x, y = root.inputs
    found = sizes_of(x) if scalar_of(y) == 0 else None
    if not found or all(map(is_known, found)) or not all(n >= 0 for n in found):
        return None
    return Constant(np.zeros(root.aval.shape, BOOL))


RULES: tuple[Rule, ...] = (
    *(Rule(Op(op), as_sizes) for op in (*COMPUTED, "Select", "Concat")),
    size_below_zero,
    slice_at_sizes,
    append_for_update,
)
MOVE: tuple[Rule, ...] = (turn_the_new_part,)
