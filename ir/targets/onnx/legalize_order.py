"""NaN where ONNX Runtime orders numbers: JAX has it first, the runtime passes over it.

Nothing but a NaN, or an infinity beside it, comes out otherwise without these rules, so that
``fast_math`` leaves them out. The sign of a NaN is not told: each is greatest, as a positive one
in JAX.
"""

import ml_dtypes
import numpy as np

from fnckpt.ir.attributes import integer
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, item
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, INT32, Build
from fnckpt.ir.passes.numbers import is_number
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites

TINY = 1e-300  # less than each number of float32


def order_key(build: Build, x: Node, sign: int) -> Node:
    """Numbers in the order of ``x``, with NaN beyond all: it gets the place of infinity.

    Infinity itself gets the greatest number, beyond all others since these are halved.
    """
    own = x.aval.dtype
    wide = build.cast(x, FLOAT32) if own.itemsize == 2 else build("Mul", x, build.number(0.5, x))
    return _nan_last(build, x, wide, sign)


def _nan_last(build: Build, x: Node, key: Node, sign: int) -> Node:
    """``key``, where all finite numbers are below the greatest of its dtype, and NaN beyond."""
    most = build.number(sign * float(ml_dtypes.finfo(key.aval.dtype).max), key)
    finite = build("Minimum" if sign > 0 else "Maximum", key, most)
    return build("Select", build("IsNan", x), build.number(sign * np.inf, key), finite)


def order_key_of_zeros(build: Build, x: Node) -> Node:
    """The same with -0 below 0, as for XLA's TopK; of float64 nothing is left to tell them by."""
    if x.aval.dtype == FLOAT64:
        return order_key(build, x, 1)
    wide = build.cast(x, FLOAT64)
    low, high = (build.number(value, wide) for value in (-TINY, TINY))
    beside = build("Minimum", high, build("Maximum", low, build("Reciprocal", wide)))
    return _nan_last(build, x, build("Add", wide, beside), 1)


def _first_of(root: CNode, sign: int) -> Node | None:
    (x,), build = root.inputs, Build(root)
    if is_number(x):
        return None
    return build(root.op, order_key(build, x, sign), **root.attrs)


@rewrites("TupleGetItem")
def top_k_of_numbers(root: CNode) -> Node | None:
    """The places by a key without NaN, and what is there."""
    (source,), build = root.inputs, Build(root)
    if not isinstance(source, CNode) or source.op != "TopK" or is_number(source.inputs[0]):
        return None
    (x,) = source.inputs
    key = order_key_of_zeros(build, x)
    keyed = apply("TopK", key, origin=source.origin, **source.attrs)
    places = item(keyed, 1)
    if integer(root, "index"):
        return places
    last = len(x.aval.shape) - 1
    return build("GatherElements" if last else "Gather", x, places, axis=last)


ENDS = {"max": -np.inf, "min": np.inf}


@rewrites("ScatterNd")
def scatter_numbers(root: CNode) -> Node | None:
    """The greatest or least of numbers, and NaN wherever one comes in."""
    (x, places, updates), build = root.inputs, Build(root)
    reduction = str(root.attrs["reduction"])
    if reduction not in ENDS or (is_number(x) and is_number(updates)):
        return None
    end = build.number(ENDS[reduction], x)
    odd = [build("IsNan", each) for each in (x, updates)]
    numbers = [
        build("Select", is_nan, end, each) for is_nan, each in zip(odd, (x, updates), strict=True)
    ]
    found = build("ScatterNd", numbers[0], places, numbers[1], reduction=reduction)
    before, after = (build.cast(each, INT32) for each in odd)
    marks = build("ScatterNd", before, places, after, reduction="max")
    hit = build("Greater", marks, build.number(0, marks))
    return build("Select", hit, build.number(np.nan, x), found)


GUARDS: tuple[Rule, ...] = (
    Rule(Op("ArgMax"), lambda root: _first_of(root, 1)),
    Rule(Op("ArgMin"), lambda root: _first_of(root, -1)),
    top_k_of_numbers,
    scatter_numbers,
)
