"""Signs that cancel, or that a known number takes: each rule is exact, of zeros and NaN too.

-(x - y) stays: of equal x and y it is -0, where y - x is 0. They run last, since sigmoids and
their kin are recognized by the minus in their exponent.
"""

import math

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites

x, y = Any_("x"), Any_("y")
_NUMBER = Scalar("number")
_MINUS_X, _MINUS_Y = Op("Neg", x, users=0), Op("Neg", y, users=0)


@rewrites(Op("Neg", _MINUS_X))
def drop_signs(root: CNode, x: Node) -> Node:
    """-(-x) is x."""
    return x


@rewrites(Op("Abs", _MINUS_X))
def drop_sign(root: CNode, x: Node) -> Node:
    """abs(-x) is abs(x)."""
    return apply("Abs", x, origin=root.origin)


@rewrites(Op("Add", x, _MINUS_Y))
def subtract(root: CNode, x: Node, y: Node) -> Node:
    """x + (-y) is x - y."""
    return apply("Sub", x, y, origin=root.origin)


@rewrites(Op("Sub", x, _MINUS_Y))
def add(root: CNode, x: Node, y: Node) -> Node:
    """x - (-y) is x + y."""
    return apply("Add", x, y, origin=root.origin)


@rewrites(Op("Mul", _MINUS_X, _MINUS_Y))
def multiply(root: CNode, x: Node, y: Node) -> Node:
    """(-x) * (-y) is x * y."""
    return apply("Mul", x, y, origin=root.origin)


@rewrites(Op("Div", _MINUS_X, _MINUS_Y))
def divide(root: CNode, x: Node, y: Node) -> Node | None:
    """(-x) / (-y) is x / y."""
    return apply("Div", x, y, origin=root.origin) if is_float(root) else None


@rewrites(Op("Less", Op("Sign", x, users=0), Scalar(value=0.0)))
def below_zero(root: CNode, x: Node) -> Node | None:
    """sign(x) < 0 is x < 0."""
    zero = constant(0, x.aval.dtype)
    return apply("Less", x, zero, origin=root.origin) if x.aval.shape == root.aval.shape else None


@rewrites(
    Op(
        "Select",
        Op("Less", x, Scalar(value=0.0), users=0),
        Scalar("instead"),
        Op("Add", Op("Log", Op("Abs", x, users=0)), y),
    )
)
def log_of_number(root: CNode, x: Node, y: Node, instead: float) -> Node | None:
    """NaN where x < 0, else log(abs(x)) + y, is log(x) + y: a logsumexp with factors."""
    if not math.isnan(instead) or x.aval.shape != root.aval.shape:
        return None
    log = apply("Log", x, origin=root.origin)
    return apply("Add", log, y, origin=root.origin)


def _times_number(root: CNode, x: Node, number: float) -> Node | None:
    """(-x) * c is x * (-c), and so is -(x * c)."""
    return _minus(root, "Mul", x, number)


def _by_number(root: CNode, x: Node, number: float) -> Node | None:
    """(-x) / c is x / (-c), and so is -(x / c)."""
    return _minus(root, "Div", x, number)


def _number_by(root: CNode, x: Node, number: float) -> Node | None:
    """c / (-x) is (-c) / x, and so is -(c / x)."""
    return _minus(root, "Div", number, x)


def _minus(root: CNode, op: str, *operands: Node | float) -> Node | None:
    """``op`` of a value and a number, the number with the other sign; some integers have none."""
    if not is_float(root):
        return None
    inputs = [
        constant(-each, root.aval.dtype) if isinstance(each, int | float) else each
        for each in operands
    ]
    result = apply(op, *inputs, origin=root.origin)
    return result if result.aval == root.aval else None


_OF_NUMBERS = (
    (_times_number, "Mul", lambda x: (x, _NUMBER)),
    (_by_number, "Div", lambda x: (x, _NUMBER)),
    (_number_by, "Div", lambda x: (_NUMBER, x)),
)

RULES = (
    drop_signs,
    drop_sign,
    subtract,
    add,
    multiply,
    divide,
    below_zero,
    log_of_number,
    *(Rule(Op(op, *inputs(_MINUS_X)), state) for state, op, inputs in _OF_NUMBERS),
    *(Rule(Op("Neg", Op(op, *inputs(x))), state) for state, op, inputs in _OF_NUMBERS),
)
