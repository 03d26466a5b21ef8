"""Primitives about the bits of a number, by arithmetic that gives the same bits."""

from dataclasses import dataclass
from functools import partial

import ml_dtypes
import numpy as np

from fnckpt.ir.eight_bits import is_eight_bits
from fnckpt.ir.graph import Node
from fnckpt.ir.lowering.registry import INT32, Refusal, Site, lowers
from fnckpt.ir.lowering.shape import slice_
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
        count = site.apply("Select", there, site.apply("Sub", count, site.constant(step, x)), count)
        rest = site.apply("Select", there, high, rest)
        step //= 2
    last = site.apply("Select", site.apply("NotEqual", rest, zero), one, zero)
    return site.apply("Sub", count, last)


@dataclass(frozen=True)
class FloatFormat:
    """A float's layout: sign, ``exponent`` bits and ``mantissa`` bits.

    ``carrier`` is the float to compute in, ``word`` a signed integer that holds its bits.
    """

    exponent: int
    mantissa: int
    carrier: np.dtype
    word: np.dtype

    @property
    def bias(self) -> int:
        return (1 << (self.exponent - 1)) - 1

    @property
    def all_ones(self) -> int:
        """The exponent of infinity and NaN."""
        return (1 << self.exponent) - 1

    @property
    def sign(self) -> int:
        """The sign bit as a value of ``word``."""
        bit = 1 << (self.exponent + self.mantissa)
        return bit if bit <= np.iinfo(self.word).max else -bit


FORMATS = {
    F16: FloatFormat(5, 10, F32, np.dtype(np.int32)),
    BF16: FloatFormat(8, 7, F32, np.dtype(np.int32)),
    F32: FloatFormat(8, 23, F32, np.dtype(np.int32)),
    F64: FloatFormat(11, 52, F64, np.dtype(np.int64)),
}


@lowers("bitcast_convert_type")
def lower_bitcast(site: Site, x: Node, *, new_dtype: np.dtype) -> Node:
    """The same bits as another dtype, by arithmetic; a wider one takes a last axis of its parts."""
    source, to = x.aval.dtype, site.aval.dtype
    if source == to:
        return x
    odd = [dtype for dtype in (source, to) if not has_word(dtype)]
    if odd:
        raise Refusal(f"the bits of {odd[0]}, which no runtime shows; use uint8 or a wider type")
    word = x if source.kind in "iu" else bits_of(site, x)
    word = site.cast(word, word_of(source))
    if source.itemsize > to.itemsize:
        word = apart(site, word, word_of(to))
    elif source.itemsize < to.itemsize:
        word = together(site, word, word_of(to))
    return site.cast(word, to) if to.kind in "iu" else float_of(site, word, to)


def has_word(dtype: np.dtype) -> bool:
    """Whether the bits of ``dtype`` are known as those of an integer."""
    whole = dtype.kind in "iu" and dtype.itemsize * 8 == np.iinfo(dtype).bits
    return whole or dtype in FORMATS or is_eight_bits(dtype)


def word_of(dtype: np.dtype) -> np.dtype:
    """The unsigned integer of the width of ``dtype``."""
    return np.dtype(f"uint{8 * dtype.itemsize}")


def apart(site: Site, word: Node, to: np.dtype) -> Node:
    """The parts of a word along a new last axis, the lowest first."""
    count, bits = word.aval.dtype.itemsize // to.itemsize, 8 * to.itemsize
    column = site.reshape(word, (*word.aval.shape, 1))
    amounts = constant(bits * np.arange(count), word.aval.dtype)
    shifted = site.apply("ShiftRightLogical", column, amounts)
    low = site.apply("BitwiseAnd", shifted, site.constant((1 << bits) - 1, word))
    return site.cast(low, to)


def together(site: Site, parts: Node, to: np.dtype) -> Node:
    """The word whose parts lie along the last axis, the lowest first."""
    bits, shape = 8 * parts.aval.dtype.itemsize, parts.aval.shape
    wide, ones = site.cast(parts, to), (1,) * len(shape)
    word: Node | None = None
    for i in range(to.itemsize // parts.aval.dtype.itemsize):
        start, limit = (0,) * (len(shape) - 1) + (i,), (*shape[:-1], i + 1)
        part = site.reshape(slice_(site, wide, start, limit, ones), shape[:-1])
        moved = site.apply("ShiftLeft", part, site.constant(bits * i, part)) if i else part
        word = moved if word is None else site.apply("BitwiseOr", word, moved)
    assert word is not None
    return word


def bits_of(site: Site, x: Node) -> Node:
    """The bits of a float as a signed integer, every NaN as the one that numpy and JAX write."""
    if is_eight_bits(x.aval.dtype):
        return bits_of_eight(site, x)
    return _bits(site, x, FORMATS[x.aval.dtype])


def bits_of_eight(site: Site, x: Node) -> Node:
    """Those of 8 bits, from where they stand in a float32; a small one counts the least steps."""
    dtype, info = x.aval.dtype, ml_dtypes.finfo(x.aval.dtype)
    wide = site.cast(x, F32)
    word = _bits(site, wide, FORMATS[F32])
    number = partial(site.constant, like=word)
    size = site.apply("BitwiseAnd", word, number(np.iinfo(np.int32).max))
    drop = FORMATS[F32].mantissa - info.nmant
    bias = (FORMATS[F32].bias - 1 + int(info.minexp)) << info.nmant
    kept = site.apply("ShiftRightLogical", size, number(drop))
    normal = site.apply("Sub", kept, number(bias))
    large = site.apply("Abs", wide)
    steps = site.apply("Mul", large, site.constant(1 / float(info.smallest_subnormal), wide))
    small = site.apply("Less", large, site.constant(float(info.smallest_normal), wide))
    bounded = site.apply("Select", small, steps, site.constant(0, wide))
    code = site.apply("Select", small, site.cast(bounded, word.aval.dtype), normal)
    code = site.apply("Select", site.apply("IsInf", wide), number(_code(np.inf, dtype)), code)
    negative = site.apply("Less", word, number(0))
    code = site.apply("Select", negative, site.apply("Add", code, number(128)), code)
    return site.apply("Select", site.apply("IsNan", wide), number(_code(np.nan, dtype)), code)


def _code(value: float, dtype: np.dtype) -> int:
    """The bits of ``value`` in a dtype of 8."""
    return int(np.asarray(value, np.float32).astype(dtype).view(np.uint8))


def _bits(site: Site, x: Node, layout: FloatFormat) -> Node:
    """Those of a float that is laid out as IEEE 754 says."""
    x = site.cast(x, layout.carrier)
    size = site.apply("Abs", x)
    word = partial(np.asarray, dtype=layout.word)
    unit = site.constant(2.0**layout.mantissa, x)
    ends = site.apply("LogicalOr", site.apply("IsInf", x), site.apply("IsNan", x))
    fraction, exponent = _normalized(
        site, site.apply("Select", ends, site.constant(1, x), size), layout
    )
    whole = site.cast(site.apply("Mul", fraction, unit), layout.word)
    # (exponent + bias) << mantissa, plus the mantissa without its leading 1
    base = site.apply("Add", exponent, constant(word(layout.bias - 1)))
    shifted = site.apply("Mul", base, constant(word(1 << layout.mantissa)))
    normal = site.apply("Add", shifted, whole)
    least = 2.0 ** (1 - layout.bias)
    scaled = site.apply("Mul", site.apply("Mul", size, site.constant(1 / least, x)), unit)
    small = site.apply("Less", size, site.constant(least, x))
    below = site.apply("Select", small, scaled, site.constant(0, x))
    bits = site.apply("Select", small, site.cast(below, layout.word), normal)
    infinity = layout.all_ones << layout.mantissa
    quiet = infinity | 1 << (layout.mantissa - 1)
    for test, value in (("IsInf", infinity), ("IsNan", quiet)):
        bits = site.apply("Select", site.apply(test, x), constant(word(value)), bits)
    inverse = site.apply("Reciprocal", x)
    zero = site.constant(0, x)
    negative = site.apply(
        "LogicalOr", site.apply("Less", x, zero), site.apply("Less", inverse, zero)
    )
    return site.apply(
        "Select", negative, site.apply("Add", bits, constant(word(layout.sign))), bits
    )


def _normalized(site: Site, x: Node, layout: FloatFormat) -> tuple[Node, Node]:
    """``x`` as a number from 1 to below 2 and its exponent, found by halving the range."""
    exponent: Node = constant(np.zeros((), layout.word))
    for power in reversed(range(layout.exponent - 1)):
        step = 1 << power
        for test, bound, factor in (
            ("GreaterEqual", 2.0**step, -step),
            ("Less", 2.0 ** (1 - step), step),
        ):
            far = site.apply(test, x, site.constant(bound, x))
            nearer = site.apply("Mul", x, site.constant(2.0**factor, x))
            x = site.apply("Select", far, nearer, x)
            moved, same = (constant(np.asarray(n, layout.word)) for n in (-factor, 0))
            exponent = site.apply("Add", exponent, site.apply("Select", far, moved, same))
    return x, exponent


def float_of(site: Site, word: Node, to: np.dtype) -> Node:
    """The float of ``to`` with the bits of ``word``."""
    if is_eight_bits(to):
        every = constant(np.arange(256, dtype=np.uint8).view(to).astype(F32))
        low = site.apply("BitwiseAnd", word, site.constant(255, word))
        return site.cast(site.apply("Gather", every, site.cast(low, INT32), axis=0), to)
    layout = FORMATS[to]
    word = site.cast(word, layout.word)
    mask = (1 << layout.mantissa) - 1
    high = site.apply("ShiftRightLogical", word, site.constant(layout.mantissa, word))
    exponent = site.apply("BitwiseAnd", high, site.constant(layout.all_ones, word))
    mantissa = site.apply("BitwiseAnd", word, site.constant(mask, word))
    top = site.apply("BitwiseAnd", word, site.constant(layout.sign, word))
    powers = [2.0 ** max(1 - layout.bias, n - layout.bias) for n in range(layout.all_ones)]
    table = constant(np.array([*powers, np.inf]), layout.carrier)
    scale = site.apply("Gather", table, site.cast(exponent, INT32), axis=0)
    zero = site.constant(0, word)
    lead = site.cast(site.apply("NotEqual", exponent, zero), layout.carrier)
    part = site.cast(mantissa, layout.carrier)
    fraction = site.apply("Mul", part, site.constant(2.0**-layout.mantissa, part))
    size = site.apply("Mul", scale, site.apply("Add", lead, fraction))
    last = site.apply("Equal", exponent, site.constant(layout.all_ones, word))
    odd = site.apply("LogicalAnd", last, site.apply("NotEqual", mantissa, zero))
    size = site.apply("Select", odd, site.constant(np.nan, size), size)
    negative = site.apply("NotEqual", top, zero)
    sign = site.apply("Select", negative, site.constant(-1, size), site.constant(1, size))
    return site.cast(site.apply("Mul", size, sign), to)  # a choice may lose the sign of 0


@lowers("nextafter")
def lower_nextafter(site: Site, x: Node, y: Node) -> Node:
    """The float whose bits are the next, greater or less; next to 0 the least one there is."""
    zero, word = site.constant(0, x), bits_of(site, x)
    up, positive = site.apply("Less", x, y), site.apply("Greater", x, zero)
    away = site.apply("LogicalNot", site.apply("LogicalXor", up, positive))
    one = site.constant(1, word)
    step = site.apply("Select", away, one, site.constant(-1, word))
    next_one = float_of(site, site.apply("Add", word, step), x.aval.dtype)
    least = site.constant(float(ml_dtypes.finfo(x.aval.dtype).smallest_subnormal), x)
    beside = site.apply("Select", up, least, site.apply("Neg", least))
    moved = site.apply("Select", site.apply("Equal", x, zero), beside, next_one)
    same = site.apply("Select", site.apply("Equal", x, y), y, moved)
    odd = site.apply("LogicalOr", site.apply("IsNan", x), site.apply("IsNan", y))
    return site.apply("Select", odd, site.constant(np.nan, x), same)


@lowers("reduce_precision")
def lower_reduce_precision(site: Site, x: Node, *, exponent_bits: int, mantissa_bits: int) -> Node:
    """Rounding to the numbers of a smaller float; below its least normal one is 0, as in XLA."""
    dtype = x.aval.dtype
    layout = FORMATS[dtype]
    if exponent_bits >= layout.exponent and mantissa_bits >= layout.mantissa:
        return x
    bias = (1 << (exponent_bits - 1)) - 1
    known = CASTS.get((exponent_bits, mantissa_bits))
    if known is not None and dtype == F32:
        rounded = site.cast(site.cast(x, known), dtype)
    else:
        rounded = _rounded(site, x, layout, mantissa_bits)
    if exponent_bits >= layout.exponent:
        return rounded
    size = site.apply("Abs", rounded)
    small = site.apply("Less", size, site.constant(2.0 ** (1 - bias), x))
    zero = site.apply("Mul", rounded, site.constant(0, x))
    large = site.apply("GreaterEqual", size, site.constant(2.0 ** (bias + 1), x))
    infinite = site.apply("Mul", rounded, site.constant(np.inf, x))
    return site.apply("Select", large, infinite, site.apply("Select", small, zero, rounded))


CASTS = {(5, 10): F16, (8, 7): BF16}


def _rounded(site: Site, x: Node, layout: FloatFormat, mantissa: int) -> Node:
    """Half to even on the bits: add just under half of what is dropped, and cut."""
    drop = layout.mantissa - mantissa
    if drop <= 0:
        return x
    word = _bits(site, x, layout)
    odd = site.apply("ShiftRightLogical", word, site.constant(drop, word))
    odd = site.apply("BitwiseAnd", odd, site.constant(1, word))
    half = site.apply("Add", odd, site.constant((1 << (drop - 1)) - 1, word))
    cut = site.apply("BitwiseAnd", site.apply("Add", word, half), site.constant(-(1 << drop), word))
    rounded = float_of(site, cut, x.aval.dtype)
    return site.apply("Select", site.apply("IsNan", x), x, rounded)
