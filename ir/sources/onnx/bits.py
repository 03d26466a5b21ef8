"""The bits of a value as another type, by the arithmetic that the lowering has for them."""

import jax
import numpy as np

from fnckpt.ir.graph import Aval, Constant, Node, Parameter, inlined
from fnckpt.ir.lowering import NotLowered, lower
from fnckpt.ir.lowering.compat import wide_numbers
from fnckpt.ir.sources.build import BOOL, Builder
from fnckpt.ir.sources.onnx.registry import Site, imports
from fnckpt.ir.sources.source import Refusal

UINT8 = np.dtype(np.uint8)


@imports("BitCast")
def import_bit_cast(site: Site, x: Node) -> Node:
    dtype = site.around.dtype(site.integer("to"))
    if isinstance(x, Constant):
        return site.build.constant(x.value.view(dtype))
    return bits_as(site.build, x, dtype)


def bits_as(b: Builder, x: Node, dtype: np.dtype) -> Node:
    """The bits of ``x`` as ``dtype``, which has as many; a boolean has those of a byte.

    Raises:
      Refusal: there is no arithmetic for these types.
    """
    if x.aval.dtype == BOOL:
        x = b.cast(x, UINT8)
    goal = UINT8 if dtype == BOOL else dtype
    if x.aval.dtype != goal:
        x = _lowered(x, goal)
    return b.cast(x, dtype)


def _lowered(x: Node, dtype: np.dtype) -> Node:
    inside = Parameter("x", x.aval)
    with wide_numbers([x.aval, Aval((), dtype)]):
        given = jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype)
        closed = jax.make_jaxpr(lambda a: jax.lax.bitcast_convert_type(a, dtype))(given)
    try:
        graph = lower(closed, (), (inside,), name="bits", output_names=("y",))
    except NotLowered as error:
        raise Refusal(f"no arithmetic reads the bits of {x.aval.dtype} as {dtype}") from error
    (found,) = inlined(graph, (x,))
    return found
