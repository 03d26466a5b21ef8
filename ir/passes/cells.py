"""What a scan's body computes: an LSTM or a GRU, as Flax, Haiku, Keras and Equinox write theirs.

Gates are sums of products of a row and the state with weights, in any order, from one product or
several, turned or not.
"""

from dataclasses import dataclass

from fnckpt.ir.attributes import graph, integer
from fnckpt.ir.graph import CNode, Node, Parameter, inlined
from fnckpt.ir.passes.affine import Affine, Piece, Source, affine, of_stack, span_of, through
from fnckpt.ir.passes.rewrite import scalar_of

MOST_OF_GRU = 1024  # elements of the states of a batch


@dataclass(frozen=True)
class Body:
    """A body, looked at from outside.

    Attributes:
      scan: the loop.
      carries: what is carried, as the body sees it.
      stacks: the stack of each row, by the row's ``id``; and what products of stacks are of.
      products: the rows that are products already, done for all steps at once, by ``id``.
      outputs: the body's results, computed from carries, rows, and what the loop captured.
    """

    scan: CNode
    carries: tuple[Parameter, ...]
    stacks: dict[int, Node]
    products: dict[int, Affine]
    outputs: list[Node]

    def gate(self, node: Node, axis: int, op: str) -> Affine | None:
        """What ``op`` is applied to, or what part of a larger such value."""
        node, axis = through(node, axis)
        if not isinstance(node, CNode):
            return None
        if node.op == "Slice":
            span = span_of(node, axis)
            whole = self.gate(node.inputs[0], axis, op)
            return None if span is None or whole is None else whole.rows(*span)
        return affine(node.inputs[0], axis, self.products) if node.op == op else None


def body_of(scan: CNode) -> Body:
    body, captured = graph(scan, "body"), integer(scan, "captured")
    first = captured + integer(scan, "carried")
    given = (*scan.inputs[:captured], *body.inputs[captured:])
    rows = zip(body.inputs[first:], scan.inputs[first:], strict=True)
    stacks: dict[int, Node] = {id(row): stack for row, stack in rows}
    found = {place: of_stack(stack) for place, stack in stacks.items()}
    products = {place: each for place, each in found.items() if each is not None}
    stacks |= {id(x): x for each in products.values() for (x, _), _ in each.terms}
    return Body(scan, body.inputs[captured:first], stacks, products, inlined(body, given))


@dataclass(frozen=True)
class Cell:
    """What a body computes.

    Attributes:
      op: ``Lstm`` or ``Gru``.
      gates: what each gate is applied to, in the operator's order.
      states: the places of its states among what is carried.
      attrs: the operator's own.
      later: of a gate that multiplies the state before its product: what that product is of.
      of_new: the biases of the last gate, where they may not change places.
    """

    op: str
    gates: tuple[Affine, ...]
    states: tuple[int, ...]
    attrs: tuple[tuple[str, bool], ...] = ()
    later: Node | None = None
    of_new: tuple[tuple[Piece, ...], tuple[Piece, ...]] | None = None

    def biases(self) -> list[tuple[tuple[Piece, ...], tuple[Piece, ...]]]:
        """Of each gate those at the input, and those at the state; where either will do, one each.

        A gate that multiplies the product with the state has the bias of that multiplied too.
        """
        halves = [(gate.biases[:1], gate.biases[1:]) for gate in self.gates]
        return [*halves[:-1], self.of_new] if self.of_new is not None else halves


# --------------------------------------------------------------------------------------- the cells


def _is(node: Node, axis: int, wanted: Node) -> bool:
    """Whether ``node`` is ``wanted``, features along the last axis of that."""
    found, place = through(node, axis)
    return found is wanted and place == len(wanted.aval.shape) - 1


def _binary(node: Node, axis: int, op: str) -> list[tuple[Source, Source]]:
    """The inputs of ``op``, in both orders where they may change places."""
    node, axis = through(node, axis)
    if not isinstance(node, CNode) or node.op != op:
        return []
    if any(each.aval.shape not in ((), node.aval.shape) for each in node.inputs):
        return []
    one, two = ((each, axis) for each in node.inputs)
    return [(one, two)] if op == "Sub" else [(one, two), (two, one)]


def _lstm(body: Body) -> Cell | None:
    """c' = s(f) c + s(i) tanh(g), h' = s(o) tanh(c')."""
    if len(body.carries) != 2:
        return None
    for h, c in ((0, 1), (1, 0)):
        last = len(body.carries[h].aval.shape) - 1
        for out, (squashed, axis) in _binary(body.outputs[h], last, "Mul"):
            squashed, axis = through(squashed, axis)
            if not isinstance(squashed, CNode) or squashed.op != "Tanh":
                continue
            cell, place = through(squashed.inputs[0], axis)
            after, own = through(body.outputs[c], last)
            if cell is not after or place != own:
                continue
            gates = _gates_of_cell(body, (cell, place), c)
            output = body.gate(*out, "Sigmoid")
            if gates is not None and output is not None:
                i, f, g = gates
                return Cell("Lstm", (i, output, f, g), (h, c))
    return None


def _gates_of_cell(body: Body, cell: Source, c: int) -> tuple[Affine, Affine, Affine] | None:
    """Those of s(i) tanh(g) + s(f) c."""
    for forgotten, new in _binary(*cell, "Add"):
        for forget, state in _binary(*forgotten, "Mul"):
            f = body.gate(*forget, "Sigmoid")
            if f is None or not _is(*state, body.carries[c]):
                continue
            for one, two in _binary(*new, "Mul"):
                i, g = body.gate(*one, "Sigmoid"), body.gate(*two, "Tanh")
                if i is not None and g is not None:
                    return i, f, g
    return None


def _gru(body: Body) -> Cell | None:
    """h' = (1 - s(z)) tanh(n) + s(z) h, in one of the forms that this is written in."""
    if len(body.carries) != 1:
        return None
    state = body.carries[0].aval
    if not state.shape or (state.size != state.shape[-1] and state.size > MOST_OF_GRU):
        return None
    last = len(state.shape) - 1
    for z, (node, axis) in _mixed(body, body.outputs[0], last):
        new, place = through(node, axis)
        if not isinstance(new, CNode) or new.op != "Tanh":
            continue
        total = new.inputs[0], place
        cell = _reset_after(body, z, total) or _reset_before(body, z, total)
        if cell is not None:
            return cell
    return None


def _mixed(body: Body, node: Node, axis: int) -> list[tuple[Affine, Source]]:
    """The update gate and the new state, where ``node`` is a mixture of new and old state."""
    found: list[tuple[Affine, Source]] = []
    (state,) = body.carries
    for one, two in _binary(node, axis, "Add"):
        for gate, difference in _binary(*two, "Mul"):  # new + z (h - new)
            for old, new in _binary(*difference, "Sub"):
                z = body.gate(*gate, "Sigmoid")
                if z is not None and _is(*old, state) and is_same(new, one):
                    found.append((z, one))
        for gate, new in _binary(*one, "Mul"):
            for other, old in _binary(*two, "Mul"):
                z = _update(body, gate, other) if _is(*old, state) else None
                if z is not None:
                    found.append((z, new))
    return found


def is_same(one: Source, two: Source) -> bool:
    (a, place), (b, other) = through(*one), through(*two)
    return a is b and place == other


def _update(body: Body, of_new: Source, of_old: Source) -> Affine | None:
    """z, where one of the two factors is s(z) and the other 1 - s(z)."""
    for (gate, rest), old in (((of_old, of_new), True), ((of_new, of_old), False)):
        for one, same in _binary(*rest, "Sub"):
            z = body.gate(*gate, "Sigmoid")
            if z is not None and scalar_of(one[0]) == 1 and is_same(same, gate):
                return z if old else -z
    return None


def _reset_after(body: Body, z: Affine, total: Source) -> Cell | None:
    """x + s(r) (h R + b)."""
    state = body.carries[0]
    for of_row, of_state in _binary(*total, "Add"):
        row = affine(*of_row, body.products)
        if row is None or any(source is state for (source, _), _ in row.terms):
            continue
        for gate, product in _binary(*of_state, "Mul"):
            reset, new = body.gate(*gate, "Sigmoid"), affine(*product, body.products)
            if reset is None or new is None:
                continue
            if any(source is not state for (source, _), _ in new.terms):
                continue
            biases = row.biases, new.biases
            return Cell("Gru", (z, reset, row + new), (0,), (("reset_after", True),), None, biases)
    return None


def _reset_before(body: Body, z: Affine, total: Source) -> Cell | None:
    """x + (s(r) h) R + b."""
    whole, (state,) = affine(*total, body.products), body.carries
    for source, _ in () if whole is None else whole.terms:
        for gate, old in _binary(*source, "Mul"):
            reset = body.gate(*gate, "Sigmoid")
            if reset is not None and whole is not None and _is(*old, state):
                attrs = (("reset_after", False),)
                return Cell("Gru", (z, reset, whole), (0,), attrs, source[0])
    return None


def cell_of(body: Body) -> Cell | None:
    """The cell that a body computes; None where it is none of them."""
    return _lstm(body) or _gru(body)
