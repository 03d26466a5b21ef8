"""Functions that the runtime has for float32 alone, of doubles: by exp, log, sin and cos."""

import math

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, Build
from fnckpt.ir.passes.rewrite import Op, Rule


def _tan(build: Build, x: Node) -> Node:
    return build("Div", build("Sin", x), build("Cos", x))


def _sinh(build: Build, x: Node) -> Node:
    """(t + t / (t + 1)) / 2 with t = e^x - 1, for |x|; far out both terms are infinite."""
    t = build("Expm1", build("Abs", x))
    share = build("Select", _at_most(build, t, 1e300), build("Add", t, build.number(1, x)), t)
    half = build("Add", t, build("Div", t, share))
    whole = build("Select", _at_most(build, t, 1e300), half, t)
    return build("Mul", build("Mul", build("Sign", x), whole), build.number(0.5, x))


def _cosh(build: Build, x: Node) -> Node:
    power = build("Exp", build("Abs", x))
    return build("Mul", build("Add", power, build("Reciprocal", power)), build.number(0.5, x))


def _asinh(build: Build, x: Node) -> Node:
    """log(1 + a + a^2 / (1 + sqrt(1 + a^2))) of a = |x|; where a^2 is large, log(2 a)."""
    a, one = build("Abs", x), build.number(1, x)
    large = build("Greater", a, build.number(1e8, x))
    near = build("Select", large, one, a)
    square = build("Mul", near, near)
    root = build("Add", one, build("Sqrt", build("Add", one, square)))
    small = build("Log1p", build("Add", near, build("Div", square, root)))
    far = build("Add", build("Log", a), build.number(math.log(2), x))
    return build("Mul", build("Sign", x), build("Select", large, far, small))


def _acosh(build: Build, x: Node) -> Node:
    """log(1 + t + sqrt(2 t + t^2)) with t = x - 1; where t^2 is large, log(2 x); below 1 NaN."""
    t, large = build("Sub", x, build.number(1, x)), build("Greater", x, build.number(1e8, x))
    least = build.number(-1, x)
    near = build(
        "Select", large, build.number(1, x), build("Select", build("Less", t, least), least, t)
    )
    root = build("Sqrt", build("Mul", near, build("Add", near, build.number(2, x))))
    far = build("Add", build("Log", x), build.number(math.log(2), x))
    return build("Select", large, far, build("Log1p", build("Add", near, root)))


def _atanh(build: Build, x: Node) -> Node:
    """log(1 + 2 x / (1 - x)) / 2."""
    ratio = build("Div", build("Add", x, x), build("Sub", build.number(1, x), x))
    return build("Mul", build("Log1p", ratio), build.number(0.5, x))


def _atan(build: Build, x: Node) -> Node:
    """The float32 result y, and what is missing: the tangent of it is r, and its cube is nothing.

    r = (x cos y - sin y) / (cos y + x sin y). Beyond 1, atan(x) = +-pi/2 - atan(1 / x).
    """
    large = build("Greater", build("Abs", x), build.number(1, x))
    z = build("Select", large, build("Reciprocal", x), x)
    y = build.cast(build("Atan", build.cast(z, FLOAT32)), FLOAT64)
    sin, cos = build("Sin", y), build("Cos", y)
    rest = build("Sub", build("Mul", z, cos), sin)
    angle = build("Add", y, build("Div", rest, build("Add", cos, build("Mul", z, sin))))
    right = build("Mul", build("Sign", x), build.number(math.pi / 2, x))
    return build("Select", large, build("Sub", right, angle), angle)


def _asin(build: Build, x: Node) -> Node:
    """atan(x / sqrt((1 - x) (1 + x)))."""
    one = build.number(1, x)
    product = build("Mul", build("Sub", one, x), build("Add", one, x))
    return build("Atan", build("Div", x, build("Sqrt", product)))


def _acos(build: Build, x: Node) -> Node:
    return build("Sub", build.number(math.pi / 2, x), build("Asin", x))


def _at_most(build: Build, x: Node, limit: float) -> Node:
    return build("LessEqual", x, build.number(limit, x))


FORMULAS = {
    "Acos": _acos,
    "Acosh": _acosh,
    "Asin": _asin,
    "Asinh": _asinh,
    "Atan": _atan,
    "Atanh": _atanh,
    "Cosh": _cosh,
    "Sinh": _sinh,
    "Tan": _tan,
}


def _of_double(root: CNode) -> Node | None:
    (x,) = root.inputs
    return FORMULAS[root.op](Build(root), x) if x.aval.dtype == np.float64 else None


RULES: tuple[Rule, ...] = tuple(Rule(Op(op), _of_double) for op in FORMULAS)
