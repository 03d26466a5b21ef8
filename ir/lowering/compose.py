"""Rules that are written in JAX: a function traced in place of the equation it stands for."""

from collections.abc import Callable

import jax

from fnckpt.ir.lowering.compat import wide_numbers
from fnckpt.ir.lowering.registry import Site, Value

Function = Callable[..., object]


def composed(site: Site, function: Function, *inputs: Value) -> tuple[Value, ...]:
    """The results of ``function``, a JAX function of arrays, on ``inputs``.

    It may use every primitive that has a rule; its constants must carry the dtype they need.
    """
    avals = [x.aval for x in inputs]
    with jax.ensure_compile_time_eval(), wide_numbers([*avals, *site.results]):
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        closed = jax.make_jaxpr(function)(*shapes)
    return site.call(closed, inputs)
