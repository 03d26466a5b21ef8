"""Sequences whose length is known: they are gone when the graph is made."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.sources.build import INT64, MOST_PARTS, axis_of, few
from fnckpt.ir.sources.onnx.registry import Site, Value, imports
from fnckpt.ir.sources.source import Refusal

Values = tuple[Value, ...]


@imports("SequenceConstruct")
def import_construct(site: Site, *values: Node) -> list[Values]:
    check_arrays(values)
    return [tuple(values)]


@imports("SequenceEmpty")
def import_empty(site: Site) -> list[Values]:
    return [()]


def check_arrays(values: Sequence[Value]) -> None:
    """A sequence holds arrays.

    Raises:
      ValueError: it would hold another sequence.
    """
    if any(isinstance(each, tuple) for each in values):
        raise ValueError("a sequence of sequences")


def _place(site: Site, position: Node | None, size: int, default: int) -> int:
    if position is None:
        return default
    at = site.build.size(position, "its position")
    if not -size <= at <= size:
        raise ValueError(f"there is no element {at} of {size}")
    return at + size if at < 0 else at


@imports("SequenceAt")
def import_at(site: Site, values: Values, position: Node) -> Value:
    return values[_place(site, position, len(values), 0)]


@imports("SequenceInsert")
def import_insert(
    site: Site, values: Values, value: Node, position: Node | None = None
) -> list[Values]:
    check_arrays([value])
    at = _place(site, position, len(values), len(values))
    return [(*values[:at], value, *values[at:])]


@imports("SequenceErase")
def import_erase(site: Site, values: Values, position: Node | None = None) -> list[Values]:
    at = _place(site, position, len(values), len(values) - 1)
    return [(*values[:at], *values[at + 1 :])]


@imports("SequenceLength")
def import_length(site: Site, values: Values) -> Node:
    return site.build.constant(len(values), INT64)


@imports("ConcatFromSequence")
def import_concat(site: Site, values: Values) -> Node:
    parts = [each for each in values if isinstance(each, Node)]
    rank, new = len(parts[0].aval.shape), site.flag("new_axis")
    axis = axis_of(site.integer("axis"), rank + new)
    return site.build.stack(parts, axis) if new else site.build.concat(parts, axis)


@imports("SplitToSequence")
def import_split(site: Site, x: Node, parts: Node | None = None) -> list[Values]:
    b = site.build
    axis = axis_of(site.integer("axis", 0), len(x.aval.shape))
    size = x.aval.shape[axis]
    if parts is None:
        few(size, most=MOST_PARTS)
        sizes = [1] * size
    elif parts.aval.shape:
        sizes = list(b.sizes(parts, "the sizes of its parts"))
    else:
        each = b.size(parts, "the size of its parts")
        few(size // each, most=MOST_PARTS)
        sizes = [min(each, size - start) for start in range(0, size, each)]
    ends = np.cumsum(sizes).tolist()
    found = [b.slice(x, axis, end - n, end) for n, end in zip(sizes, ends, strict=True)]
    if parts is None and not site.flag("keepdims", True):
        found = [b.at(each, axis, 0) for each in found]
    return [tuple(found)]


@imports("SequenceMap")
def import_map(site: Site, first: Values, *others: Value) -> list[Value]:
    """The body for each element; what is no sequence is the same each time."""
    rows: list[list[Value]] = []
    for i, value in enumerate(first):
        rest = [each[i] if isinstance(each, tuple) else each for each in others]
        rows.append(site.around.inline(site.graph("body"), [value, *rest]))
    if not rows:
        return [()] * site.results
    return [tuple(column) for column in zip(*rows, strict=True)]


@imports("Optional")
def import_optional(site: Site, value: Value = None) -> list[Value]:
    return [value]


@imports("OptionalGetElement")
def import_get_element(site: Site, value: Value) -> list[Value]:
    if value is None:
        raise Refusal("the optional value is not there")
    return [value]


@imports("OptionalHasElement")
def import_has_element(site: Site, value: Value = None) -> Node:
    return site.build.constant(value is not None, np.dtype(bool))
