"""Choices of large arrays, where a runtime's choice guesses each branch.

Of integers they become arithmetic, of other arrays reads of one of them. ONNX Runtime 1.32 takes
12 ns an element for ``where(c, a, b)`` of a c without order, and 2 of one that seldom changes;
reading ``[b, a]`` at c takes 3 of any, arithmetic 1. A number as one of the two costs 7 and 2, so
that it is left of floats; as a further row of what is read anyway it is repeated.
"""

from math import prod

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import constant
from fnckpt.ir.passes.build import INT32, INT64, Build, known
from fnckpt.ir.passes.large import is_large
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, rewrites, scalar_of

LEAST = 4096  # elements of an array of which elements are read
MOST_ROWS = 16
WRAPPING = (INT32, INT64, np.dtype(np.uint32))  # integers that ONNX Runtime multiplies

condition, x, rows, index = Any_("condition"), Any_("x"), Any_("rows"), Any_("index")


@rewrites("Select")
def read_chosen(root: CNode) -> Node | None:
    """where(c, a, b) is [b, a][c], element by element."""
    which, then, other = root.inputs
    if known(which) is not None or not all(_has_rows(each, root) for each in root.inputs):
        return None
    build = Build(root)
    parts = [_row(build, each, root) for each in (other, then)]
    return _read(root, parts, _row(build, build.cast(which, INT32), root))


@rewrites("Select")
def compute_chosen(root: CNode) -> Node | None:
    """where(c, a, b) is b + c * (a - b) of integers, which wrap around."""
    (which, then, other), dtype = root.inputs, root.aval.dtype
    if dtype not in WRAPPING or known(which) is not None or not is_large(root):
        return None
    build = Build(root)
    chosen = build.cast(which, dtype)
    if scalar_of(other) == 0:
        return _of_shape(root, build("Mul", chosen, then))
    if scalar_of(then) == 0:
        return _of_shape(root, build("Mul", build.cast(build("LogicalNot", which), dtype), other))
    return _of_shape(root, build("Add", other, build("Mul", chosen, build("Sub", then, other))))


def _of_shape(root: CNode, node: Node) -> Node | None:
    return node if node.aval == root.aval else None


def _add_row(root: CNode, condition: Node, x: Node, rows: CNode, index: Node) -> Node | None:
    """where(c, x, [a, b, ...][i]) is [a, b, ..., x][max(i, n * c)], n the place of x."""
    count = len(rows.inputs)
    fits = rows.attrs["axis"] == 0 and index.aval.shape == (1, prod(root.aval.shape))
    if not fits or count == MOST_ROWS or known(condition) is not None:
        return None
    if not _has_rows(condition, root):
        return None
    build = Build(root)
    if root.inputs[1] is not x:
        condition = build("LogicalNot", condition)
    last = build("Mul", build.cast(condition, INT32), constant(count, INT32))
    latest = build("Maximum", index, _row(build, last, root))
    return _read(root, [*rows.inputs, _row(build, x, root)], latest)


def _has_rows(node: Node, root: CNode) -> bool:
    """Whether it is large, and no element of it is repeated along the last axis."""
    return is_large(node, LEAST) and node.aval.shape[-1] == root.aval.shape[-1]


def _row(build: Build, node: Node, root: CNode) -> Node:
    whole = build.broadcast(node, root.aval.shape)
    return build.reshape(whole, (1, prod(root.aval.shape)))


def _read(root: CNode, rows: list[Node], index: Node) -> Node:
    build = Build(root)
    read = build("GatherElements", build("Concat", *rows, axis=0), index, axis=0)
    return build.reshape(read, root.aval.shape)


_READ = Op("Reshape", Op("GatherElements", Op("Concat", name="rows"), index))

RULES = (
    compute_chosen,
    Rule(Op("Select", condition, x, _READ), _add_row),
    Rule(Op("Select", condition, _READ, x), _add_row),
    read_chosen,
)
