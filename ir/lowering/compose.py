"""Rules that are written in JAX: a function traced in place of the equation it stands for."""

from collections.abc import Callable
from contextlib import nullcontext

import jax

from fnckpt.ir.lowering.compat import wide_numbers
from fnckpt.ir.lowering.registry import Site, Value
from fnckpt.ir.sizes import all_known

Function = Callable[..., object]


def composed(
    site: Site, function: Function, *inputs: Value, keep_loops: bool = False
) -> tuple[Value, ...]:
    """The results of ``function``, a JAX function of arrays, on ``inputs``.

    It may use every primitive that has a rule; its constants must carry the dtype they need.
    ``keep_loops``: short loops are not written out, unless the target has none.
    """
    avals = [x.aval for x in inputs]
    known = all(all_known(aval.shape) for aval in (*avals, *site.results))
    # What does not depend on the inputs is computed at once, unless its size is symbolic.
    at_once = jax.ensure_compile_time_eval() if known else nullcontext()
    with at_once, wide_numbers([*avals, *site.results]):
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        closed = jax.make_jaxpr(function)(*shapes)
    return site.call(closed, inputs, keep_loops=keep_loops)
