"""Loops: kept as they are, or written out where that is known and short.

A loop is written out if its number of trips is known and the equations of all trips are few: then
each step is simplified alone, and a runtime has no loop to manage. What may be an LSTM or a GRU
stays a loop for a target that has these as operators. A target that has no loops gets
all of them written out, up to ``max_unroll``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jax.extend.core import ClosedJaxpr

from fnckpt.ir.graph import Aval, Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.branches import chosen
from fnckpt.ir.lowering.fission import Parts, split
from fnckpt.ir.lowering.inside import Inside, flat, like, parts_of
from fnckpt.ir.lowering.known import constant_of, is_weight
from fnckpt.ir.lowering.parts import each_part
from fnckpt.ir.lowering.registry import Pair, Refusal, Site, Value, lowers_call
from fnckpt.ir.lowering.trips import equations, has_gates, holds_loops, known_trips
from fnckpt.ir.operators import apply, constant, items
from fnckpt.ir.sizes import is_known

MOST_EQUATIONS = 2048  # of all trips, of a loop that is written out
MOST_OF_WEIGHTS = 16 * MOST_EQUATIONS  # where each trip has weights of its own, which fold


# ------------------------------------------------------------------------------------------ scan


@lowers_call("scan")
def lower_scan(
    site: Site,
    *args: Value,
    jaxpr: object,
    length: int,
    reverse: bool,
    num_consts: int | None = None,
    num_carry: int | None = None,
    ft_in: compat.FlatTree | None = None,
    ft_out: object = None,
    linear: object = None,
    unroll: object = None,
    _split_transpose: bool = False,
) -> Sequence[Value]:
    if num_consts is None or num_carry is None:
        num_consts, num_carry = compat.scan_counts(ft_in, len(args))
    first = num_consts + num_carry
    consts, carry, stacked = args[:num_consts], args[num_consts:first], args[first:]
    parts = None
    if not is_known(length) or length > 1:
        cell = site.recurrent and has_gates(jaxpr)
        parts = split(jaxpr, num_consts, num_carry, length, products=cell)
    if parts is None:
        return _loop(site, jaxpr, consts, carry, stacked, length, reverse)
    return _in_parts(site, parts, consts, carry, stacked, length, reverse)


def _in_parts(
    site: Site, parts: Parts, consts: Sequence[Value], carry: Sequence[Value],
    stacked: Sequence[Value], length: int, reverse: bool,
) -> Sequence[Value]:  # fmt: skip
    """The loop, if anything is left in it, and what follows it."""
    count, rows = len(carry), site.results[len(carry) :]
    border = [Aval((length, *aval.shape), aval.dtype) for aval in parts.border]
    inside = (*site.results[:count], *(rows[i] for i in parts.kept), *border)
    there = replace(site, results=inside)
    given = _loop(there, parts.loop, consts, carry, stacked, length, reverse) if inside else ()
    first = count + len(parts.kept)
    late = site.call(parts.after, (*consts, *stacked, *given[first:]))
    found = dict(zip((*parts.kept, *parts.late), (*given[count:first], *late), strict=True))
    return (*given[:count], *(found[i] for i in range(len(rows))))


def _loop(
    site: Site, jaxpr: object, consts: Sequence[Value], carry: Sequence[Value],
    stacked: Sequence[Value], length: int, reverse: bool,
) -> Sequence[Value]:  # fmt: skip
    """The loop written out, or as one operator."""
    written = is_known(length) and _is_written_out(site, length, jaxpr, stacked)
    kind = _unrolled if written else _scan
    return kind(site, jaxpr, consts, carry, stacked, length, reverse)


def _is_written_out(site: Site, trips: int, jaxpr: object, stacked: Sequence[Value]) -> bool:
    """Whether a loop of so many trips is; ``Refusal`` where it must be and cannot."""
    if not site.loops:
        if trips > site.max_unroll:
            raise Refusal(
                f"a loop of {trips} iterations is longer than max_unroll={site.max_unroll}, and "
                "the format has no loops; raise max_unroll, make the loop shorter, or export to "
                "ONNX or MINDIR"
            )
        return True
    if site.recurrent and trips > 1 and has_gates(jaxpr):
        return False
    weights = any(is_weight(part) for each in stacked for part in parts_of(each))
    most = MOST_OF_WEIGHTS if weights else MOST_EQUATIONS
    return trips <= site.max_unroll and trips * equations(jaxpr) <= most


def _unrolled(
    site: Site, jaxpr: object, consts: Sequence[Value], carry: Sequence[Value],
    stacked: Sequence[Value], length: int, reverse: bool,
) -> Sequence[Value]:  # fmt: skip
    """The body written out ``length`` times, and the results of all times stacked."""
    count = len(carry)
    rows: list[tuple[Value, ...]] = []
    for i in reversed(range(length)) if reverse else range(length):
        slices = [take_row(site, x, i) for x in stacked]
        results = site.call(jaxpr, (*consts, *carry, *slices))
        carry = results[:count]
        rows.append(results[count:])
    if reverse:
        rows.reverse()
    outputs = [stack_rows(site, column) for column in zip(*rows, strict=True)]
    if not rows:
        outputs = [constant_of(np.zeros(a.shape, a.dtype)) for a in site.results[count:]]
    return (*carry, *outputs)


def _scan(
    site: Site, jaxpr: object, consts: Sequence[Value], carry: Sequence[Value],
    stacked: Sequence[Value], length: int, reverse: bool,
) -> Sequence[Value]:  # fmt: skip
    """The loop as one operator."""
    if not site.loops:
        raise Refusal(
            "its number of iterations is a symbolic size, and the format has no loops; give a "
            "number there, or export to ONNX or MINDIR"
        )
    inside = Inside("scan")
    same, captured = inside.captured(consts)
    values = inside.inputs("carry", carry)
    rows = inside.inputs("row", stacked, row=True)
    results = site.call(jaxpr, (*same, *values, *rows))
    carried = len(flat(carry))
    node = apply(
        "Scan",
        *captured,
        *flat(carry),
        *flat(stacked),
        origin=site.origin,
        body=inside.graph("body", results),
        captured=len(captured),
        carried=carried,
        length=length,
        reverse=reverse,
    )
    return like(site.results, items(node))


# ----------------------------------------------------------------------------------------- while


@lowers_call("while")
def lower_while(
    site: Site,
    *args: Value,
    cond_jaxpr: object,
    body_jaxpr: object,
    cond_nconsts: int,
    body_nconsts: int,
) -> Sequence[Value]:
    first = cond_nconsts + body_nconsts
    of_cond, of_body, carry = args[:cond_nconsts], args[cond_nconsts:first], args[first:]
    # A format without loops has the steps for the weights as they are.
    settled = not (site.loops or site.keeps_weights)
    trips = known_trips(cond_jaxpr, body_jaxpr, of_cond, of_body, carry, weights=settled)
    if trips == 0:
        return carry
    if trips is not None and _is_written_out(site, trips, body_jaxpr, ()):
        for _ in range(trips):
            carry = site.call(body_jaxpr, (*of_body, *carry))
        return carry
    if not site.loops:
        raise Refusal(
            f"a loop whose length depends on the data{_or_weights(site)} is control flow, which "
            "the format does not have; use a loop of a known length, such as jax.lax.fori_loop "
            "with constant bounds, or export to ONNX or MINDIR"
        )
    if trips is not None:
        return _scan(site, body_jaxpr, of_body, carry, (), trips, reverse=False)
    assert isinstance(cond_jaxpr, ClosedJaxpr)
    if cond_jaxpr.out_avals[0].shape and holds_loops(cond_jaxpr):
        return _while_of_batch(site, cond_jaxpr, body_jaxpr, of_cond, of_body, carry)
    return _while(site, cond_jaxpr, body_jaxpr, of_cond, of_body, carry)


def _or_weights(site: Site) -> str:
    return " (or on weights, which keep_params=True leaves open)" if site.keeps_weights else ""


def _while(
    site: Site, cond_jaxpr: object, body_jaxpr: object, of_cond: Sequence[Value],
    of_body: Sequence[Value], carry: Sequence[Value],
) -> Sequence[Value]:  # fmt: skip
    consts, first = (*of_cond, *of_body), len(of_cond)
    inside = Inside("while")
    same, captured = inside.captured(consts)
    holds = _condition(site, cond_jaxpr, (*same[:first], *inside.inputs("carry", carry)))
    cond = inside.graph("cond", [_any(site, holds)])
    inside = Inside("while")
    same, _ = inside.captured(consts)
    old = inside.inputs("carry", carry)
    new = site.call(body_jaxpr, (*same[first:], *old))
    if holds.aval.shape:  # of a batch, each of which stops for itself
        goes_on = _condition(site, cond_jaxpr, (*same[:first], *old))
        new = [_where(site, goes_on, *both) for both in zip(new, old, strict=True)]
    node = apply(
        "While",
        *captured,
        *flat(carry),
        origin=site.origin,
        cond=cond,
        body=inside.graph("body", new),
        captured=len(captured),
    )
    return like(site.results, items(node))


def _while_of_batch(
    site: Site, cond_jaxpr: ClosedJaxpr, body_jaxpr: object, of_cond: Sequence[Value],
    of_body: Sequence[Value], carry: Sequence[Value],
) -> Sequence[Value]:  # fmt: skip
    """A loop of a batch, whose condition holds loops and is computed in the body alone.

    Who goes on is carried too, all of them at first; so the loops in it are not written twice.
    """
    shape = cond_jaxpr.out_avals[0].shape
    everyone = site.apply("BroadcastTo", constant(np.ones((), bool)), shape=shape)
    inside = Inside("while")
    _, captured = inside.captured((*of_cond, *of_body))
    inside.inputs("carry", carry)
    (mask,) = flat(inside.inputs("goes_on", [everyone]))
    cond = inside.graph("cond", [_any(site, mask)])
    inside = Inside("while")
    same, _ = inside.captured((*of_cond, *of_body))
    old = inside.inputs("carry", carry)
    inside.inputs("goes_on", [everyone])
    holds = _condition(site, cond_jaxpr, (*same[: len(of_cond)], *old))

    def step(*given: Value) -> Sequence[Value]:
        goes_on, *rest = given
        assert not isinstance(goes_on, Pair)
        before = rest[len(of_body) :]
        new = site.call(body_jaxpr, rest)
        return [_where(site, goes_on, *both) for both in zip(new, before, strict=True)]

    given = (holds, *same[len(of_cond) :], *old)
    stay = lambda *given: given[1 + len(of_body) :]  # noqa: E731
    new = chosen(site, _any(site, holds), given, (stay, step))
    node = apply(
        "While",
        *captured,
        *flat(carry),
        everyone,
        origin=site.origin,
        cond=cond,
        body=inside.graph("body", [*new, holds]),
        captured=len(captured),
    )
    return like(site.results, items(node)[:-1])


def _condition(site: Site, jaxpr: object, args: Sequence[Value]) -> Node:
    (holds,) = site.call(jaxpr, args)
    assert not isinstance(holds, Pair)
    return holds


def _any(site: Site, holds: Node) -> Node:
    """Whether any element holds."""
    axes = tuple(range(len(holds.aval.shape)))
    return site.apply("ReduceAny", holds, axes=axes, keepdims=False) if axes else holds


def _where(site: Site, holds: Node, new: Value, old: Value) -> Value:
    """``new`` where ``holds``, whose axes are the first ones, else ``old``."""

    def select(x: Node, y: Node) -> Node:
        shape = x.aval.shape
        ones = (1,) * (len(shape) - len(holds.aval.shape))
        spread = site.reshape(holds, (*holds.aval.shape, *ones))
        return site.apply("Select", site.apply("BroadcastTo", spread, shape=shape), x, y)

    return each_part(select, new, old)


def take_row(site: Site, x: Value, index: int) -> Value:
    """``x[index]``."""
    shape = x.aval.shape

    def take(part: Node) -> Node:
        row = site.apply(
            "Slice",
            part,
            start=(index, *(0 for _ in part.aval.shape[1:])),
            limit=(index + 1, *part.aval.shape[1:]),
            strides=(1,) * len(part.aval.shape),
        )
        return site.reshape(row, shape[1:])

    return each_part(take, x)


def stack_rows(site: Site, rows: Sequence[Value]) -> Value:
    """The arrays along a new first axis."""

    def stack(*parts: Node) -> Node:
        shape = parts[0].aval.shape
        joined = parts if shape else [site.reshape(row, (1,)) for row in parts]
        return site.reshape(site.apply("Concat", *joined, axis=0), (len(parts), *shape))

    return each_part(stack, *rows)
