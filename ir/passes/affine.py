"""Sums of products with weights: what the gates of a recurrent network are made of.

A value of features and at most one axis of a batch is ``sum(source @ weight) + sum(biases)``, each
source a value that nothing is known of. Weights stay the nodes that they are until all is found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fnckpt.ir.attributes import Ints, flag, ints, sizes
from fnckpt.ir.graph import CNode, Constant, Node, Parameter, aval_of, ordered
from fnckpt.ir.operators import constant
from fnckpt.ir.passes.build import Build, known
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import all_known, is_known


@dataclass(frozen=True)
class Piece:
    """Rows ``start`` to before ``stop`` of a weight, or of a bias, which is looked at flat.

    ``turned``: the weight is turned first. ``columns``: those alone of them.
    """

    base: Node
    start: int
    stop: int
    turned: bool = False
    columns: tuple[int, int] | None = None
    negative: bool = False
    flat: bool = False

    def rows(self, start: int, stop: int) -> "Piece":
        """A part of it along its first axis."""
        return replace(self, start=self.start + start, stop=self.start + stop)

    def of(self, value: np.ndarray) -> np.ndarray:
        """Its elements, given those of the base, with a first axis of 1."""
        whole = value.reshape(-1) if self.flat else value.T if self.turned else value
        part = whole[self.start : self.stop]
        part = part if self.columns is None else part[:, slice(*self.columns)]
        return -part[None] if self.negative else part[None]

    def node(self, build: Build) -> Node:
        """The same, computed in the graph; at once where its base is known."""
        value = known(self.base)
        if value is not None:
            return _like(self.base, self.of(value))
        part = build.reshape(self.base, (self.base.aval.size,)) if self.flat else self.base
        part = build.transpose(part, (1, 0)) if self.turned else part
        part = build.slice(part, 0, self.start, self.stop)
        if self.columns is not None:
            part = build.slice(part, 1, *self.columns)
        part = build.reshape(part, (1, *part.aval.shape))
        return build("Neg", part) if self.negative else part


def _inner(piece: Piece) -> Piece:
    """The piece as one of what its base was joined or cut from."""
    base = piece.base
    while isinstance(base, CNode) and len(base.aval.shape) == (1 if piece.flat else 2):
        axis = 1 if piece.turned else 0
        if base.op == "Concat" and base.attrs["axis"] == axis:
            found = _joined(piece, base, axis)
        elif base.op == "Slice" and piece.columns is None:
            found = _cut(piece, base, axis)
        else:
            found = None
        if found is None:
            return piece
        piece, base = found, found.base
    return piece


def _joined(piece: Piece, base: CNode, axis: int) -> Piece | None:
    """The one part of a Concat that it lies in."""
    start = 0
    for part in base.inputs:
        stop = start + part.aval.shape[axis]
        if start <= piece.start and piece.stop <= stop:
            return replace(piece, base=part, start=piece.start - start, stop=piece.stop - start)
        start = stop
    return None


def _cut(piece: Piece, base: CNode, axis: int) -> Piece | None:
    span = span_of(base, axis)
    if span is None:
        return None
    return replace(
        piece, base=base.inputs[0], start=piece.start + span[0], stop=piece.stop + span[0]
    )


def _like(base: Node, value: np.ndarray) -> Node:
    contiguous = np.ascontiguousarray(value)
    if isinstance(base, Parameter):
        return replace(base, aval=aval_of(contiguous), value=contiguous)
    return Constant(contiguous)


def stacked(pieces: Sequence[Piece], build: Build) -> Node:
    """The pieces one below the other with a first axis of 1; a weight alone keeps its name."""
    inner = _following([_inner(piece) for piece in pieces])
    weights = {
        id(piece.base): piece.base for piece in inner if not isinstance(piece.base, Constant)
    }
    values = [known(piece.base) for piece in inner]
    parts = [p.of(value) for p, value in zip(inner, values, strict=True) if value is not None]
    if len(weights) <= 1 and len(parts) == len(inner):
        base = next(iter(weights.values()), inner[0].base)
        return _like(base, np.concatenate(parts, axis=1))
    nodes = [piece.node(build) for piece in inner]
    return build("Concat", *nodes, axis=1) if len(nodes) > 1 else nodes[0]


def _following(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, those in one that lie one after the other in the same base."""
    found: list[Piece] = []
    for piece in pieces:
        if found and found[-1].stop == piece.start:
            both = replace(found[-1], stop=piece.stop)
            if both == replace(piece, start=both.start):
                found[-1] = both
                continue
        found.append(piece)
    return found


Source = tuple[Node, int]  # a value, and the axis of its features


@dataclass(frozen=True)
class Affine:
    """``sum(source @ weight.T) + sum(biases)``; each weight is ``[features, of the source]``."""

    terms: tuple[tuple[Source, Piece], ...]
    biases: tuple[Piece, ...]

    def rows(self, start: int, stop: int) -> "Affine":
        """The features ``start`` to before ``stop``."""
        terms = tuple((source, weight.rows(start, stop)) for source, weight in self.terms)
        return Affine(terms, tuple(each.rows(start, stop) for each in self.biases))

    def __add__(self, other: "Affine") -> "Affine":
        return Affine(self.terms + other.terms, self.biases + other.biases)

    def __neg__(self) -> "Affine":
        terms = tuple((s, replace(w, negative=not w.negative)) for s, w in self.terms)
        return Affine(terms, tuple(replace(b, negative=not b.negative) for b in self.biases))


def is_fixed(node: Node) -> bool:
    """Whether a value is computed from weights and constants alone."""
    leaves = (each for each in ordered([node]) if not isinstance(each, CNode))
    return all(known(leaf) is not None for leaf in leaves)


def through(node: Node, axis: int) -> tuple[Node, int]:
    """``node`` before transposes, and reshapes that only have other axes of size 1."""
    while isinstance(node, CNode):
        source = node.inputs[0] if node.inputs else None
        if node.op == "Transpose":
            axis = ints(node, "perm")[axis]
        elif node.op == "Reshape" and source is not None:
            place = same_axis(node.aval.shape, source.aval.shape, axis)
            if place is None:
                return node, axis
            axis = place
        else:
            return node, axis
        assert source is not None
        node = source
    return node, axis


def same_axis(before: Ints, after: Ints, axis: int) -> int | None:
    """Where ``axis`` is in a shape that differs in axes of size 1 alone."""
    kept, left = _without_ones(before), _without_ones(after)
    if [before[i] for i in kept] != [after[i] for i in left] or axis not in kept:
        return None
    return left[kept.index(axis)]


def _without_ones(shape: Ints) -> list[int]:
    return [i for i, size in enumerate(shape) if not (is_known(size) and size == 1)]


Rows = Mapping[int, Affine]  # what stands for an input of a body, by its ``id``


@bounded(otherwise=None)
def affine(node: Node, axis: int, rows: Rows) -> Affine | None:
    """What ``node`` is a sum of, whose features lie along ``axis``; None where it is none."""
    node, axis = through(node, axis)
    if id(node) in rows and axis == len(node.aval.shape) - 1:
        return rows[id(node)]
    rule = RULES.get(node.op) if isinstance(node, CNode) else None
    if rule is None or not isinstance(node, CNode) or not is_known(node.aval.shape[axis]):
        return None
    return rule(node, axis, rows)


@bounded(otherwise=None)
def of_stack(stack: Node) -> Affine | None:
    """The same of a whole stack ``[time, batch, features]``, whose products were done at once."""
    if not isinstance(stack, CNode):
        return None
    last = len(stack.aval.shape) - 1
    if stack.op == "MatMul":
        return _product(stack, last, {})
    if stack.op == "Add":
        one, two = stack.inputs if is_fixed(stack.inputs[1]) else stack.inputs[::-1]
        product, bias = of_stack(one), _bias(two, stack, last) if is_fixed(two) else None
        return None if product is None or bias is None else product + bias
    return None


def _added(node: CNode, axis: int, rows: Rows) -> Affine | None:
    parts: list[Affine] = []
    for each in node.inputs:
        if is_fixed(each):
            part = _bias(each, node, axis)
        else:
            part = affine(each, axis, rows) if each.aval.shape == node.aval.shape else None
        if part is None:
            return None
        parts.append(part)
    return parts[0] + parts[1]


def _bias(each: Node, node: CNode, axis: int) -> Affine | None:
    """A vector along the features, or a number."""
    features, value = node.aval.shape[axis], known(each)
    if isinstance(each, Constant) and value is not None and value.size == 1:
        same = np.full(features, value.reshape(()))
        return Affine((), (Piece(constant(same), 0, features),))
    place = axis - len(node.aval.shape) + len(each.aval.shape)
    if place < 0 or not all_known(each.aval.shape) or each.aval.size != features:
        return None
    if each.aval.shape[place] != features:
        return None
    return Affine((), (Piece(each, 0, features, flat=True),))


def _product(node: CNode, axis: int, rows: Rows) -> Affine | None:
    left, right = node.inputs
    turned_left, turned_right = flag(node, "transpose_a"), flag(node, "transpose_b")
    last = len(node.aval.shape) - 1
    if is_fixed(right) and axis == last and not turned_left:
        return _term(left, len(left.aval.shape) - 1, right, not turned_right)
    if is_fixed(left) and axis == last - 1 == 0:
        return _term(right, 1 if turned_right else 0, left, turned_left)
    return None


def _term(source: Node, axis: int, weight: Node, turned: bool) -> Affine | None:
    """``source`` times a weight, whose rows are features after it is turned where it is."""
    if len(weight.aval.shape) != 2:
        return None
    whole = Piece(weight, 0, weight.aval.shape[1 if turned else 0], turned)
    if len(source.aval.shape) > 2:
        return Affine((((source, axis), whole),), ())
    source, axis = through(source, axis)
    if not isinstance(source, CNode) or source.op != "Concat" or source.attrs["axis"] != axis:
        return Affine((((source, axis), whole),), ())
    terms: list[tuple[Source, Piece]] = []
    start = 0
    for part in source.inputs:
        stop = start + part.aval.shape[axis]
        terms.append((through(part, axis), replace(whole, columns=(start, stop))))
        start = stop
    return Affine(tuple(terms), ())


def _part(node: CNode, axis: int, rows: Rows) -> Affine | None:
    span = span_of(node, axis)
    whole = affine(node.inputs[0], axis, rows)
    return None if span is None or whole is None else whole.rows(*span)


def span_of(node: CNode, axis: int) -> tuple[int, int] | None:
    """What part of the features a slice takes, and all of the others."""
    start, limit = sizes(node, "start"), sizes(node, "limit")
    shape = node.inputs[0].aval.shape
    whole = all((start[i], limit[i]) == (0, n) for i, n in enumerate(shape) if i != axis)
    if not whole or set(ints(node, "strides")) != {1}:
        return None
    return int(start[axis]), int(limit[axis])


RULES: dict[str, Callable[[CNode, int, Rows], Affine | None]] = {
    "Add": _added, "MatMul": _product, "Slice": _part,
}  # fmt: skip
