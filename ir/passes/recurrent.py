"""Scans that are an LSTM or a GRU, as one operator, where ONNX Runtime is faster with it.

It is with every LSTM, and with a GRU of one sequence or of a few. With a GRU of a large batch, and
with a simple recurrent network, it is not (docs/benchmarks.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fnckpt.ir.attributes import flag, integer
from fnckpt.ir.graph import CNode, Constant, FuncGraph, Node, rebuilt, with_outputs
from fnckpt.ir.operators import constant, items
from fnckpt.ir.passes.affine import Piece, stacked, through
from fnckpt.ir.passes.build import FLOAT32, INT32, Build
from fnckpt.ir.passes.cells import Body, Cell, body_of, cell_of, is_same
from fnckpt.ir.passes.lengths import Lengths, Past, unmasked
from fnckpt.ir.passes.rewrite import scalar_of
from fnckpt.ir.sizes import InconclusiveDimensionOperation, is_known

# ------------------------------------------------------------------------------------- the operator


def recurrent(graph: FuncGraph) -> FuncGraph:
    """A scan that is an LSTM or a GRU is that operator."""
    new: dict[int, Node] = {}
    results: dict[int, Sequence[Node]] = {}
    for node in graph.nodes():
        result = rebuilt(node, new)
        if isinstance(result, CNode) and result.op == "Scan":
            found = _recognized(result)
            if found is not None:
                results[id(result)] = found
                result = found[0] if len(found) == 1 else result
        elif isinstance(result, CNode) and result.op == "TupleGetItem":
            found = results.get(id(result.inputs[0]))
            result = result if found is None else found[integer(result, "index")]
        new[id(node)] = result
    return with_outputs(graph, new)


def _recognized(scan: CNode) -> Sequence[Node] | None:
    """What stands for each result of ``scan``, where it is one of the cells."""
    carried = integer(scan, "carried")
    if carried not in (1, 2) or any(aval.dtype != FLOAT32 for aval in scan.results):
        return None
    try:
        body, lengths = unmasked(body_of(scan))
        cell = cell_of(body)
        return None if cell is None else _applied(body, cell, lengths)
    except InconclusiveDimensionOperation:
        return None


def _applied(body: Body, cell: Cell, lengths: Lengths | None) -> Sequence[Node] | None:
    scan, build = body.scan, Build(body.scan)
    captured, carried = integer(scan, "captured"), integer(scan, "carried")
    state = body.carries[cell.states[0]]
    units, shape = state.aval.shape[-1], state.aval.shape
    if not is_known(units) or any(carry.aval != state.aval for carry in body.carries):
        return None
    own = through(body.outputs[cell.states[0]], len(shape) - 1)
    stacks = body.outputs[carried:]
    if any(each.aval != state.aval or not is_same((each, len(shape) - 1), own) for each in stacks):
        return None
    parts = _parts(body, cell, units)
    if parts is None:
        return None
    x, *weights = parts
    time, batch = x.aval.shape[0], state.aval.size // units
    flat = build.reshape(x, (time, batch, x.aval.shape[-1]))
    first = [build.reshape(scan.inputs[captured + i], (1, batch, units)) for i in cell.states]
    run = _Run(build, flat, first, flag(scan, "reverse"), lengths)
    attrs = {"reverse": run.reverse, **dict(cell.attrs)}
    every, *last = items(build(cell.op, flat, *weights, *run.given(), **attrs))
    ends = run.ends(last)
    found = {place: build.reshape(end, shape) for place, end in zip(cell.states, ends, strict=True)}
    pasts = lengths.past if lengths is not None else ("zero",) * len(stacks)
    whole = {past: run.rows(every, ends, past) for past in sorted(set(pasts))}
    rows = [build.reshape(whole[past], (time, *shape)) for past in pasts]
    return [*(found[i] for i in range(carried)), *rows]


def _unspread(node: Node) -> Node:
    while isinstance(node, CNode) and node.op in ("BroadcastTo", "Reshape"):
        node = node.inputs[0]
    return node


@dataclass(frozen=True)
class _Run:
    """The operator's run over time, and what ONNX Runtime's kernel does not do as JAX does.

    It makes numbers of NaN, where JAX has NaN in all that follows: NaN is added where a sequence
    had one by then. The last state of a sequence without steps is 0 there, not the first state.
    """

    build: Build
    x: Node  # [time, batch, features]
    first: Sequence[Node]  # [1, batch, units] each
    reverse: bool
    lengths: Lengths | None

    def given(self) -> list[Node]:
        """The inputs behind the weights."""
        return [*self.first, *([] if self.lengths is None else [self.lengths.counts])]

    def ends(self, last: Sequence[Node]) -> Sequence[Node]:
        """The last states, ``[1, batch, units]``."""
        nan = self._zero(self.x, 0, 2) if self.lengths is None else self._sum(self._rows(), 0)
        nan = self._with_states(nan)
        guarded = [self.build("Add", each, nan) for each in last]
        if self.lengths is None:
            return guarded
        none = self.build("Equal", self.lengths.counts, self.build.vector((0,)))
        none = self.build.reshape(none, (1, *none.aval.shape, 1))
        pairs = zip(guarded, self.first, strict=True)
        return [
            end if scalar_of(_unspread(first)) == 0 else self.build.where(none, first, end)
            for end, first in pairs
        ]

    def rows(self, every: Node, ends: Sequence[Node], past: Past) -> Node:
        """The states of all steps, ``[time, 1, batch, units]``."""
        build, (time, batch, _) = self.build, self.x.aval.shape
        nan = self._with_states(build("CumSum", self._rows(), axis=0, reverse=self.reverse))
        if self.lengths is not None:
            nan = build.where(self._live(), nan, build.number(0, nan))
        every = build("Add", every, build.reshape(nan, (time, 1, batch, 1)))
        if self.lengths is None or past == "zero":
            return every
        live = build.reshape(self._live(), (time, 1, batch, 1))
        last = self.first[0] if self.reverse else ends[0]
        last = build.reshape(last, (1, *last.aval.shape))
        if past == "times zero":
            last = build("Mul", last, build.number(0, last))
        return build.where(live, every, last)

    def _rows(self) -> Node:
        """NaN in the steps that have one, else 0, ``[time, batch, 1]``."""
        rows = self._zero(self.x, 2)
        if self.lengths is None:
            return rows
        return self.build.where(self._live(), rows, self.build.number(0, rows))

    def _with_states(self, nan: Node) -> Node:
        """``nan``, and NaN where a first state has one."""
        for state in self.first:
            if not isinstance(state, Constant) or np.isnan(state.value).any():
                nan = self.build("Add", nan, self._zero(state, 2))
        return nan

    def _zero(self, value: Node, *axes: int) -> Node:
        """NaN where there is one along ``axes``, else 0."""
        low, high = (self.build.number(end, value) for end in (-1, 1))
        finite = self.build("Minimum", self.build("Maximum", value, low), high)
        return self.build("Mul", self._sum(finite, *axes), self.build.number(0, value))

    def _sum(self, value: Node, *axes: int) -> Node:
        return self.build("ReduceSum", value, axes=axes, keepdims=True)

    def _live(self) -> Node:
        """Which steps count, ``[time, batch, 1]``."""
        build, (time, batch, _) = self.build, self.x.aval.shape
        assert self.lengths is not None
        steps = (
            build.vector(tuple(range(time)))
            if is_known(time)
            else build("Range", size=time, dtype=INT32)
        )
        counts = build.reshape(self.lengths.counts, (1, batch))
        live = build("Less", build.reshape(steps, (time, 1)), counts)
        return build.reshape(live, (time, batch, 1))


def _parts(body: Body, cell: Cell, units: int) -> list[Node] | None:
    """The input, its weight, the weight of the state, and the bias."""
    state, build = body.carries[cell.states[0]], Build(body.scan)
    of_rows: list[tuple[Node, Piece]] = []
    of_state: list[Piece] = []
    for number, gate in enumerate(cell.gates):
        later = cell.later if number == len(cell.gates) - 1 else None
        wanted = state if later is None else later
        own = [(axis, weight) for (source, axis), weight in gate.terms if source is wanted]
        rows = [
            (source, axis, weight) for (source, axis), weight in gate.terms
            if source is not wanted
        ]  # fmt: skip
        if len(own) != 1 or len(rows) != 1 or own[0][0] != len(wanted.aval.shape) - 1:
            return None
        (source, axis, weight), (_, of_own) = rows[0], own[0]
        if id(source) not in body.stacks or axis != len(source.aval.shape) - 1:
            return None
        if of_own.stop - of_own.start != units or weight.stop - weight.start != units:
            return None
        of_rows.append((body.stacks[id(source)], weight))
        of_state.append(of_own)
    (x, _), *others = of_rows
    bias = _bias(cell, units, build)
    if bias is None or any(other is not x for other, _ in others):
        return None
    return [x, stacked([weight for _, weight in of_rows], build), stacked(of_state, build), bias]


def _bias(cell: Cell, units: int, build: Build) -> Node | None:
    """The biases of all gates at the input, then those at the state, one each at most."""
    zeros = Piece(constant(np.zeros(units, np.float32)), 0, units)
    halves = cell.biases()
    if any(len(half) > 1 for both in halves for half in both):
        return None
    pieces = [half[0] if half else zeros for side in zip(*halves, strict=True) for half in side]
    return stacked(pieces, build)
