"""Floats of 8 bits where a format lacks them, or only casts them: they are kept in float32.

Their values, and how many digits and which ends they have, are those of ml_dtypes.
"""

from collections.abc import Callable, Iterable
from functools import partial

import ml_dtypes
import numpy as np

from fnckpt.ir.attributes import integer
from fnckpt.ir.eight_bits import beyond, greatest_that_fits, is_eight_bits
from fnckpt.ir.graph import HOLDS_GRAPHS, CNode, Node
from fnckpt.ir.operators import OPERATORS, apply, item
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, VALUES, Build, known, through
from fnckpt.ir.passes.rewrite import Any_, Op, Rule


def rounded(build: Build, x: Node, dtype: np.dtype) -> Node:
    """``x``, float32 or float64, as the nearest number of ``dtype``, in its own type.

    Adding ``x * 2**n`` and taking it away again leaves ``n`` digits fewer, half to even.
    """
    info, own = ml_dtypes.finfo(dtype), x.aval.dtype
    number = partial(build.number, like=x)
    far = build("Mul", x, number(2.0 ** (np.finfo(own).nmant - info.nmant)))
    normal = build("Sub", build("Add", x, far), far)
    step, size = float(info.smallest_subnormal), build("Abs", x)
    counted = build("Round", build("Mul", x, number(1 / step)))
    is_small = build("Less", size, number(float(info.smallest_normal)))
    value: Node = build.where(is_small, build("Mul", counted, number(step)), normal)
    if not np.signbit(np.asarray(-0.0).astype(dtype)):  # it has one zero
        value = build.where(build("Equal", value, number(0)), number(0), value)
    end = build("Mul", x, number(beyond(dtype)))
    is_far = build("Greater", size, number(greatest_that_fits(dtype, own)))
    return build.where(is_far, end, value)


def in_float32(node: CNode) -> Node | None:
    """Computed in float32; its results are rounded again."""
    narrow = node.inputs and is_eight_bits(node.inputs[VALUES.get(node.op, (0,))[0]].aval.dtype)
    return through(node, FLOAT32) if narrow and len(node.results) == 1 else None


def item_of_float32(node: CNode) -> Node | None:
    """One of several results."""
    (source,), build = node.inputs, Build(node)
    assert isinstance(source, CNode)
    if source.op in HOLDS_GRAPHS or not is_eight_bits(source.inputs[0].aval.dtype):
        return None
    inputs = [build.cast(x, FLOAT32) if is_eight_bits(x.aval.dtype) else x for x in source.inputs]
    wide = apply(source.op, *inputs, origin=source.origin, **source.attrs)
    return build.cast(item(wide, integer(node, "index")), node.aval.dtype)


def widened_weight(node: CNode, x: Node) -> Node | None:
    """A weight that becomes wider at export, and keeps its name."""
    return Build(node).cast(x, node.aval.dtype) if known(x) is not None else None


def rounded_between(node: CNode, x: Node) -> Node:
    """A cast to 8 bits and from them again."""
    (narrow,), build = node.inputs, Build(node)
    wide = FLOAT64 if x.aval.dtype == FLOAT64 else FLOAT32
    value = rounded(build, build.cast(x, wide), narrow.aval.dtype)
    return build.cast(value, node.aval.dtype)


def eight_bits(lacking: Iterable[str]) -> tuple[Rule, ...]:
    """The rules for a target that lacks the types ``lacking`` and only casts the others."""
    names = frozenset(lacking)
    plain = sorted(set(OPERATORS) - HOLDS_GRAPHS - {"Cast"})
    return (
        *(Rule(Op(op), in_float32) for op in plain),
        Rule(Op("TupleGetItem"), item_of_float32),
        Rule(Op("Cast", Any_("x")), _where_lacking(names, widened_weight)),
        Rule(Op("Cast", Op("Cast", Any_("x"), users=0)), _where_lacking(names, rounded_between)),
    )


def _where_lacking(
    names: frozenset[str], rewrite: Callable[[CNode, Node], Node | None]
) -> Callable[[CNode, Node], Node | None]:
    def limited(node: CNode, x: Node) -> Node | None:
        return rewrite(node, x) if node.inputs[0].aval.dtype.name in names else None

    limited.__name__ = rewrite.__name__
    return limited
