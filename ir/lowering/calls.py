"""Primitives that hold a jaxpr: calls are inlined, loops of known length are written out."""

from collections.abc import Sequence

import numpy as np

from fnckpt.ir.graph import Constant, Node
from fnckpt.ir.lowering.registry import Refusal, Site, lowers
from fnckpt.ir.operators import constant


@lowers("jit", "pjit", "closed_call", "core_call", "remat2", "checkpoint", "remat")
def inline(site: Site, *args: Node, jaxpr: object = None, call_jaxpr: object = None, **_: object):
    return site.call(jaxpr if call_jaxpr is None else call_jaxpr, args)


@lowers("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin")
def inline_function(
    site: Site, *args: Node, call_jaxpr: object = None, fun_jaxpr: object = None, **_: object
):
    """The function itself; its derivative is of no use to inference."""
    return site.call(fun_jaxpr if call_jaxpr is None else call_jaxpr, args)


@lowers("scan")
def unroll(
    site: Site,
    *args: Node,
    jaxpr: object,
    length: int,
    reverse: bool,
    num_consts: int,
    num_carry: int,
    linear: object = None,
    unroll: object = None,
    _split_transpose: bool = False,
) -> Sequence[Node]:
    """The body written out ``length`` times, and the results of all times stacked."""
    if length > site.max_unroll:
        raise Refusal(
            f"a loop of {length} iterations is longer than max_unroll={site.max_unroll}; raise "
            "max_unroll, or make the loop shorter"
        )
    consts, carry = args[:num_consts], args[num_consts : num_consts + num_carry]
    stacked = args[num_consts + num_carry :]
    rows: list[tuple[Node, ...]] = []
    for i in reversed(range(length)) if reverse else range(length):
        slices = [take_row(site, x, i) for x in stacked]
        results = site.call(jaxpr, (*consts, *carry, *slices))
        carry = results[:num_carry]
        rows.append(results[num_carry:])
    if reverse:
        rows.reverse()
    outputs = [stack_rows(site, column) for column in zip(*rows, strict=True)]
    if not rows:
        outputs = [constant(np.zeros(a.shape, a.dtype)) for a in site.results[num_carry:]]
    return (*carry, *outputs)


def take_row(site: Site, x: Node, index: int) -> Node:
    """``x[index]``."""
    shape = x.aval.shape
    row = site.apply(
        "Slice",
        x,
        start=(index, *(0 for _ in shape[1:])),
        limit=(index + 1, *shape[1:]),
        strides=(1,) * len(shape),
    )
    return site.reshape(row, shape[1:])


def stack_rows(site: Site, rows: Sequence[Node]) -> Node:
    """The arrays along a new first axis."""
    return site.apply("Concat", *(site.reshape(r, (1, *r.aval.shape)) for r in rows), axis=0)


@lowers("cond")
def fold_cond(site: Site, index: Node, *args: Node, branches: Sequence[object]):
    """The branch that is taken, where that is known."""
    if not isinstance(index, Constant):
        raise Refusal(
            "which branch is taken depends on the input, and a network must be free of control "
            "flow; jnp.where computes both branches and selects"
        )
    chosen = min(max(int(index.value), 0), len(branches) - 1)
    return site.call(branches[chosen], args)


@lowers("while")
def refuse_while(site: Site, *args: Node, **_: object):
    raise Refusal(
        "a loop whose length depends on the data is control flow; a loop of a known length can be "
        "jax.lax.fori_loop with constant bounds, or a Python for"
    )
