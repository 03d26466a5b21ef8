"""Primitives that hold a jaxpr: calls are inlined, loops of known length are written out."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fnckpt.ir.graph import Constant, Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.known import constant_of, known_value
from fnckpt.ir.lowering.registry import Pair, Refusal, Site, Value, lowers, lowers_call
from fnckpt.ir.operators import constant


@lowers_call(
    "call",
    "checkpoint",
    "closed_call",
    "composite",
    "core_call",
    "eval_jaxpr",
    "jit",
    "pjit",
    "remat",
    "remat2",
)
def inline(
    site: Site, *args: Value, jaxpr: object = None, call_jaxpr: object = None, **_: object
) -> tuple[Value, ...]:
    return site.call(jaxpr if call_jaxpr is None else call_jaxpr, args)


@lowers_call("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_vmap_call")
def inline_function(
    site: Site,
    *args: Value,
    call_jaxpr: object = None,
    fun_jaxpr: object = None,
    call: object = None,
    **_: object,
) -> tuple[Value, ...]:
    """The function itself; its derivative or its batching is of no use to inference."""
    (jaxpr,) = (value for value in (call_jaxpr, fun_jaxpr, call) if value is not None)
    return site.call(jaxpr, args)


@lowers_call("call_hi_primitive")
def inline_high(site: Site, *args: Value, _prim: compat.HighPrimitive) -> tuple[Value, ...]:
    """Its own definition in terms of other primitives."""
    return site.call(compat.expanded(_prim), args)


@lowers_call("linear_call")
def inline_linear(site: Site, *args: Value, callee: object, **_: object) -> tuple[Value, ...]:
    """The function; its transpose is for gradients."""
    return site.call(callee, args)


class LinearSolve(Protocol):
    """What ``custom_linear_solve`` holds for each of its four functions."""

    matvec: int
    vecmat: int
    solve: int
    transpose_solve: int


@lowers_call("custom_linear_solve")
def inline_linear_solve(
    site: Site, *args: Value, const_lengths: LinearSolve, jaxprs: LinearSolve
) -> tuple[Value, ...]:
    """The solver alone; the other functions are for its derivatives."""
    before = const_lengths.matvec + const_lengths.vecmat
    after = before + const_lengths.solve + const_lengths.transpose_solve
    consts = args[before : before + const_lengths.solve]
    return site.call(jaxprs.solve, (*consts, *args[after:]))


@lowers_call("scan")
def unroll(
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
    """The body written out ``length`` times, and the results of all times stacked."""
    if num_consts is None or num_carry is None:
        num_consts, num_carry = compat.scan_counts(ft_in, len(args))
    if length > site.max_unroll:
        raise Refusal(
            f"a loop of {length} iterations is longer than max_unroll={site.max_unroll}; raise "
            "max_unroll, or make the loop shorter"
        )
    consts, carry = args[:num_consts], args[num_consts : num_consts + num_carry]
    stacked = args[num_consts + num_carry :]
    rows: list[tuple[Value, ...]] = []
    for i in reversed(range(length)) if reverse else range(length):
        slices = [take_row(site, x, i) for x in stacked]
        results = site.call(jaxpr, (*consts, *carry, *slices))
        carry = results[:num_carry]
        rows.append(results[num_carry:])
    if reverse:
        rows.reverse()
    outputs = [stack_rows(site, column) for column in zip(*rows, strict=True)]
    if not rows:
        outputs = [constant_of(np.zeros(a.shape, a.dtype)) for a in site.results[num_carry:]]
    return (*carry, *outputs)


def each_part(function: Callable[..., Node], *values: Value) -> Value:
    """``function``, which only moves elements, of real values, or of both parts of complex ones."""
    real = [x.real if isinstance(x, Pair) else x for x in values]
    imag = [x.imag if isinstance(x, Pair) else x for x in values]
    is_complex = any(isinstance(x, Pair) for x in values)
    return Pair(function(*real), function(*imag)) if is_complex else function(*real)


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
        return site.apply("Concat", *(site.reshape(r, (1, *r.aval.shape)) for r in parts), axis=0)

    return each_part(stack, *rows)


@lowers_call("cond")
def fold_cond(
    site: Site, index: Node, *args: Value, branches: Sequence[object], **_: object
) -> tuple[Value, ...]:
    """The branch that is taken, where that is known."""
    which = known_value(index)
    if which is None:
        raise Refusal(
            "which branch is taken depends on the input, and a network must be free of control "
            "flow; jnp.where computes both branches and selects"
        )
    chosen = min(max(int(which), 0), len(branches) - 1)
    return site.call(branches[chosen], args)


@lowers_call("while")
def unroll_while(
    site: Site,
    *args: Value,
    cond_jaxpr: object,
    body_jaxpr: object,
    cond_nconsts: int,
    body_nconsts: int,
) -> tuple[Value, ...]:
    """The body written out while the condition is known to hold."""
    cond_consts = args[:cond_nconsts]
    body_consts = args[cond_nconsts : cond_nconsts + body_nconsts]
    carry = args[cond_nconsts + body_nconsts :]
    for _ in range(site.max_unroll + 1):
        (holds,) = site.call(cond_jaxpr, (*cond_consts, *carry))
        if not isinstance(holds, Constant):
            raise Refusal(
                "a loop whose length depends on the data is control flow; a loop of a known "
                "length can be jax.lax.fori_loop with constant bounds, or a Python for"
            )
        if not holds.value:
            return carry
        carry = site.call(body_jaxpr, (*body_consts, *carry))
    raise Refusal(
        f"the loop is longer than max_unroll={site.max_unroll} iterations; raise max_unroll, or "
        "make the loop shorter"
    )


@lowers("platform_index")
def lower_platform_index(
    site: Site, *, platforms: Sequence[Sequence[str] | None], **_: object
) -> Node:
    """The number of the branch that is for no platform in particular, or for the CPU."""
    general = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
    if not general:
        raise Refusal(
            f"it is written for {platforms} only, which no file format knows of; give "
            "jax.lax.platform_dependent a default"
        )
    return constant(np.asarray(general[-1], site.aval.dtype))
