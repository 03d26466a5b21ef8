"""Primitives that call a jaxpr: it is inlined."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jax.extend.core import ClosedJaxpr

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.conv import conv_of_product
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_call
from fnckpt.ir.operators import constant
from fnckpt.ir.operators.network import product_of_channels
from fnckpt.ir.traced import kept_loop


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
    site: Site,
    *args: Value,
    jaxpr: object = None,
    call_jaxpr: object = None,
    name: str = "",
    **_: object,
) -> tuple[Value, ...]:
    """What it calls; what a file of ours has as a loop or a convolution stays one."""
    called = jaxpr if call_jaxpr is None else call_jaxpr
    if name == product_of_channels.__name__ and isinstance(called, ClosedJaxpr):
        found = conv_of_product(site, called.jaxpr, args)
        if found is not None:
            return (found,)
    return site.call(called, args, keep_loops=name == kept_loop.__name__)


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


@lowers("nonbatchable", "nondifferentiable_backward", "nontraceable")
def lower_watched(site: Site, x: Node, **_: object) -> Node:
    """Equinox's words that a value is not to be transformed; by now it was, or was not."""
    return x


@lowers("select_if_vmap")
def lower_select_if_vmap(site: Site, holds: Node, x: Node, y: Node) -> Node:
    """What Equinox's loops carry; ``vmap`` made a select of it where there was one."""
    return x


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


@lowers("platform_index")
def lower_platform_index(
    site: Site, *, platforms: Sequence[Sequence[str] | None], **_: object
) -> Node:
    """The number of the branch that is for no platform in particular, or for the CPU."""
    general = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
    if not general:
        raise Refusal(
            f"it is written for {platforms} only, which no file format can express; give "
            "jax.lax.platform_dependent a default"
        )
    return constant(np.asarray(general[-1], site.aval.dtype))
