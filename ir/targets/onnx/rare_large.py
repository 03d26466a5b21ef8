"""Remainders of many numbers, none of which is very large: without the operator for them.

ONNX Runtime's takes 7 to 15 ns an element, and ``x - n * floor(x / n)`` takes 2. With a divisor n
of few bits, as 6 or 360, this is exact as long as ``n * floor(x / n)`` is.
"""

from collections.abc import Callable
from fractions import Fraction
from math import isfinite

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import FLOAT32, Build
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, scalar_of
from fnckpt.ir.targets.onnx.rare import Parts, rules

BITS = 24  # of the significand of float32
MOST_BITS = 12  # of the divisor's; the quotient has the others

_REMAINDER = Op("Rem", Any_("x"), Scalar("divisor"), users=0, name="remainder")
_BELOW = Op("Cast", Op("Less", _REMAINDER, Scalar(value=0.0), users=0), users=0)
_RAISED = Rule(
    Op("Add", _REMAINDER, Op("Mul", _BELOW, Scalar("amount"), users=0)),
    lambda _, x, remainder, divisor, amount: remainder if divisor == amount else None,
)


def parts(root: CNode) -> Parts | None:
    """Those of ``root``, where it is a remainder with the sign of its divisor, as ``%`` gives."""
    return _parts(root, lambda build, x, **how: build("ReduceSum", build("Square", x), **how))


def _written(root: CNode) -> Parts | None:
    """The same with the operator of a file, which is read as the two."""
    return _parts(root, lambda build, x, **how: build("ReduceSumSquare", x, **how))


def _parts(root: CNode, squares: Callable[..., Node]) -> Parts | None:
    remainder = _RAISED(root, {}) if root.aval.dtype == FLOAT32 else None
    if not isinstance(remainder, CNode):
        return None
    x, by = remainder.inputs
    limit, build = _limit(scalar_of(by)), Build(root)
    if limit is None:
        return None
    whole = build("Floor", build("Div", x, by))
    rest = build("Sub", x, build("Mul", whole, by))  # below 0 where the quotient was rounded up
    below = build.cast(build("Less", rest, build.number(0, rest)), FLOAT32)
    plain = build("Add", rest, build("Mul", below, by))
    total = squares(build, x, axes=tuple(range(len(x.aval.shape))), keepdims=False)
    # Each element is below the root of the sum; of NaN nothing is less.
    odd = build("LogicalNot", build("Less", total, build.number((limit / 2) ** 2, total)))
    return Parts(x, odd, plain)


def _limit(divisor: float | None) -> float | None:
    """Below it, quotients times ``divisor`` are exact; None if there are too few of them."""
    if divisor is None or not isfinite(divisor) or not 1e-3 < divisor < 1e6:
        return None
    bits = Fraction(divisor).numerator
    while bits % 2 == 0:
        bits //= 2
    count = bits.bit_length()
    return float(divisor) * 2 ** (BITS - count) if count <= MOST_BITS else None


RULES = rules(_written, (Op("Add"),))
