"""Primitives about the bits of a number, by arithmetic that gives the same bits."""

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import Refusal, Site, lowers
from fnckpt.ir.operators import constant

BF16, F16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


@lowers("clz")
def lower_clz(site: Site, x: Node) -> Node:
    """The leading zeros: the highest bit is found by halving the width."""
    width = x.aval.dtype.itemsize * 8
    count, rest, step = site.constant(width, x), x, width // 2
    zero, one = site.constant(0, x), site.constant(1, x)
    while step:
        high = site.apply("ShiftRightLogical", rest, site.constant(step, x))
        there = site.apply("NotEqual", high, zero)
        count = site.apply(
            "Select", there, site.apply("Sub", count, site.constant(step, x)), count
        )
        rest = site.apply("Select", there, high, rest)
        step //= 2
    last = site.apply("Select", site.apply("NotEqual", rest, zero), one, zero)
    return site.apply("Sub", count, last)


@lowers("reduce_precision")
def lower_reduce_precision(
    site: Site, x: Node, *, exponent_bits: int, mantissa_bits: int
) -> Node:
    """Rounding to the numbers of a smaller float, for those that are a dtype.

    Numbers below the smallest normal one become 0, as XLA does.
    """
    info = ml_dtypes.finfo(x.aval.dtype)
    known = {(5, 10): F16, (8, 7): BF16, (8, 23): F32, (11, 52): F64}
    whole = (info.nexp, info.nmant)
    if exponent_bits >= whole[0] and mantissa_bits >= whole[1]:
        return x
    dtype = known.get((exponent_bits, mantissa_bits))
    if dtype is None:
        raise Refusal(
            f"rounding to {exponent_bits} bits of exponent and {mantissa_bits} of mantissa, which "
            "is no dtype; round to float16 (5, 10), bfloat16 (8, 7) or float32 (8, 23)"
        )
    rounded = site.cast(site.cast(x, dtype), x.aval.dtype)
    small = site.apply(
        "Less",
        site.apply("Abs", rounded),
        site.constant(float(ml_dtypes.finfo(dtype).smallest_normal), x),
    )
    zero = site.apply("Mul", rounded, site.constant(0, x))
    return site.apply("Select", small, zero, rounded)


@dataclass(frozen=True)
class FloatFormat:
    """A float's layout: sign, ``exponent`` bits, ``mantissa`` bits, computed in ``carrier``.

    ``word`` is the signed integer that the carrier's bits fit into.
    """

    exponent: int
    mantissa: int
    carrier: np.dtype
    word: np.dtype

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1


FORMATS = {
    F16: FloatFormat(5, 10, F32, np.dtype(np.int32)),
    BF16: FloatFormat(8, 7, F32, np.dtype(np.int32)),
    F32: FloatFormat(8, 23, F32, np.dtype(np.int32)),
    F64: FloatFormat(11, 52, F64, np.dtype(np.int64)),
}


@lowers("bitcast_convert_type")
def lower_bitcast(site: Site, x: Node, *, new_dtype: np.dtype) -> Node:
    """The same bits as another dtype of the same width; between float and integer, computed."""
    source, to = x.aval.dtype, site.aval.dtype
    if source.itemsize != to.itemsize or "b" in (source.kind, to.kind):
        raise Refusal(
            f"the bits of {source} as {to}, of another width, which no runtime has; shift and mask "
            "integers instead"
        )
    if source.kind in "iu" and to.kind in "iu":
        return site.cast(x, to)
    if source in FORMATS and to in FORMATS:
        return lower_bitcast(site, x, new_dtype=to) if source == to else _from_float_to_float(site, x)
    if source in FORMATS:
        return site.cast(bits_of(site, x, FORMATS[source]), to)
    word = FORMATS[to].word
    return site.cast(float_of(site, _as_word(site, x, word), FORMATS[to]), to)


def _from_float_to_float(site: Site, x: Node) -> Node:
    word = bits_of(site, x, FORMATS[x.aval.dtype])
    return site.cast(float_of(site, word, FORMATS[site.aval.dtype]), site.aval.dtype)


def _as_word(site: Site, x: Node, word: np.dtype) -> Node:
    """The bits of an integer, in the low end of ``word``; a narrow sign is not stretched."""
    unsigned = np.dtype(f"u{x.aval.dtype.name.removeprefix('u')}")
    return site.cast(site.cast(x, unsigned), word)


def bits_of(site: Site, x: Node, layout: FloatFormat) -> Node:
    """The bits of a float as an integer, NaN as the one that numpy and JAX write.

    The exponent is found by halving: a number of at least ``2**n`` is divided by it.
    """
    x = site.cast(x, layout.carrier)
    word = layout.word
    size = site.apply("Abs", x)
    least = 1 - layout.bias
    # Scaled so that the least normal number is 1; what is below it is not normal.
    scaled = _scaled(site, size, -least)
    infinite = site.apply("Not" if False else "IsInf", x)
    scaled = site.apply("Select", infinite, site.constant(1, x), scaled)
    exponent: Node = constant(np.zeros((), word))
    for power in reversed(range(layout.exponent)):
        step = 1 << power
        if step > 2 * layout.bias:
            continue
        bound = site.constant(math.ldexp(1.0, step), x) if step <= layout.bias else None
        if bound is None:
            continue
        large = site.apply("GreaterEqual", scaled, bound)
        scaled = site.apply(
            "Select", large, site.apply("Mul", scaled, site.constant(math.ldexp(1.0, -step), x)), scaled
        )
        exponent = site.apply(
            "Add",
            exponent,
            site.apply("Select", large, constant(np.asarray(step, word)), constant(np.asarray(0, word))),
        )
    return exponent


def _scaled(site: Site, x: Node, power: int) -> Node:
    return site.apply("Mul", x, site.constant(math.ldexp(1.0, power), x))
