"""Complex values as a file has them, with their parts along a last axis, and as pairs."""

from collections.abc import Callable
from dataclasses import replace

from fnckpt.ir.border import as_real
from fnckpt.ir.fold import folded
from fnckpt.ir.graph import Aval, Node, Parameter
from fnckpt.ir.lowering.registry import Pair, Value, part_of
from fnckpt.ir.operators import apply


def is_complex(parameter: Parameter) -> bool:
    """Whether it holds complex numbers."""
    return parameter.aval.dtype.kind == "c"


def as_in_file(parameter: Parameter) -> Parameter:
    """A complex parameter with its parts along a new last axis; another as it is."""
    if not is_complex(parameter):
        return parameter
    aval = Aval((*parameter.aval.shape, 2), part_of(parameter.aval).dtype)
    value = None if parameter.value is None else as_real(parameter.value)
    return replace(parameter, aval=aval, value=value)


def split(x: Node) -> Pair:
    """What lies along the last axis of ``x`` as the parts of a complex value."""
    shape = x.aval.shape[:-1]

    def part(at: int) -> Node:
        start, limit = (*(0 for _ in shape), at), (*shape, at + 1)
        cut = apply("Slice", x, start=start, limit=limit, strides=(1,) * len(limit))
        return apply("Reshape", cut, shape=shape)

    return Pair(part(0), part(1))


def joined(value: Value) -> Node:
    """A complex value with its parts along a new last axis; another as it is."""
    if not isinstance(value, Pair):
        return value
    shape = value.aval.shape
    rows = [folded(apply("Reshape", part, shape=(*shape, 1))) for part in (value.real, value.imag)]
    return folded(apply("Concat", *rows, axis=len(shape)))


def each_part(function: Callable[..., Node], *values: Value) -> Value:
    """``function``, which only moves elements, of real values, or of both parts of complex ones."""
    real = [x.real if isinstance(x, Pair) else x for x in values]
    imag = [x.imag if isinstance(x, Pair) else x for x in values]
    is_complex = any(isinstance(x, Pair) for x in values)
    return Pair(function(*real), function(*imag)) if is_complex else function(*real)
