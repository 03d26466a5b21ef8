"""Special functions that a target lacks, as the approximations that XLA computes.

Lanczos' approximation of the logarithm of gamma with g = 7 and 9 terms, error below 1e-14 in
double: C. Lanczos, SIAM J. Numer. Anal. 1 (1964). The inverse of erf: M. Giles, "Approximating the
erfinv function", GPU Computing Gems 2 (2011), table 5, then Newton's steps in double.
"""

import math
from functools import reduce

import numpy as np

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, Build, through
from fnckpt.ir.passes.rewrite import Rule, rewrites

G = 7.0
FIRST = 0.99999999999980993227684700473478
TERMS = (
    676.520368121885098567009190444019, -1259.13921672240287047156078755283,
    771.3234287776530788486528258894, -176.61502916214059906584551354,
    12.507343278686904814458936853, -0.13857109526572011689554707,
    9.984369578019570859563e-6, 1.50563273514931155834e-7,
)  # fmt: skip
NEAR = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
FAR = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
)  # fmt: skip


class Arithmetic:
    """Short forms for formulas over nodes and numbers of one type."""

    def __init__(self, node: CNode, like: Node) -> None:
        self.build, self.like = Build(node), like

    def __call__(self, op: str, *operands: Node | float) -> Node:
        """``op`` of nodes and numbers."""
        return self.build(op, *(self._node(each) for each in operands))

    def _node(self, value: Node | float) -> Node:
        return self.build.number(value, self.like) if isinstance(value, int | float) else value

    def where(self, condition: Node, on_true: Node | float, on_false: Node | float) -> Node:
        """A choice, of the shape of the function's argument."""
        chosen = self("Select", condition, on_true, on_false)
        return self.build.broadcast(chosen, self.like.aval.shape)


def _lanczos(f: Arithmetic, z: Node) -> tuple[Node, Node, Node]:
    """The sum of the series at ``z``, ``z + g + 1/2`` and its logarithm."""
    total: Node = f.build.number(FIRST, z)
    for i, term in enumerate(TERMS, 1):
        total = f("Add", f("Div", term, f("Add", z, i)), total)
    shifted = f("Add", z, G + 0.5)
    logarithm = f("Add", f("Log1p", f("Div", z, G + 0.5)), math.log(G + 0.5))
    return total, shifted, logarithm


@rewrites("Lgamma")
def compose_lgamma(node: CNode) -> Node:
    """Below one half by Euler's reflection formula."""
    (x,) = node.inputs
    if x.aval.dtype.itemsize == 2:
        return through(node, FLOAT32)
    f = Arithmetic(node, x)
    reflected = f("Less", x, 0.5)
    z = f.where(reflected, f("Neg", x), f("Sub", x, 1))
    total, shifted, logarithm = _lanczos(f, z)
    exponent = f("Sub", f("Add", z, 0.5), f("Div", shifted, logarithm))
    value = f("Add", f("Mul", exponent, logarithm), f("Log", total))
    value = f("Add", value, math.log(2 * math.pi) / 2)
    fraction = f("Sub", f("Abs", x), f("Floor", f("Abs", x)))
    near = f("Minimum", fraction, f("Sub", 1, fraction))
    sine = f("Log", f("Sin", f("Mul", near, math.pi)))
    mirror = f("Sub", f("Sub", math.log(math.pi), sine), value)
    mirror = f.where(f("IsFinite", sine), mirror, f("Neg", sine))
    result = f.where(reflected, mirror, value)
    return f.where(f("IsInf", x), math.inf, result)


@rewrites("Digamma")
def compose_digamma(node: CNode) -> Node:
    """The derivative of Lanczos' formula; below one half by reflection, NaN at its poles."""
    (x,) = node.inputs
    if x.aval.dtype.itemsize == 2:
        return through(node, FLOAT32)
    f = Arithmetic(node, x)
    reflected = f("Less", x, 0.5)
    z = f.where(reflected, f("Neg", x), f("Sub", x, 1))
    total, shifted, logarithm = _lanczos(f, z)
    squares = [f("Div", term, f("Square", f("Add", z, i))) for i, term in enumerate(TERMS, 1)]
    slope = f("Neg", reduce(lambda a, b: f("Add", a, b), squares))
    value = f("Sub", f("Add", logarithm, f("Div", slope, total)), f("Div", G, shifted))
    near = f("Add", x, f("Abs", f("Floor", f("Add", x, 0.5))))
    angle = f("Mul", near, math.pi)
    cotangent = f("Div", f("Mul", f("Cos", angle), math.pi), f("Sin", angle))
    result = f.where(reflected, f("Sub", value, cotangent), value)
    whole = f("LogicalAnd", f("LessEqual", x, 0), f("Equal", x, f("Floor", x)))
    return f.where(whole, math.nan, result)


@rewrites("ErfInv")
def compose_erf_inv(node: CNode) -> Node:
    """A polynomial of ``log(1 - x * x)``; two steps of Newton's make it exact in double."""
    (x,) = node.inputs
    if x.aval.dtype.itemsize == 2:
        return through(node, FLOAT32)
    f = Arithmetic(node, x)
    w = f("Neg", f("Log1p", f("Neg", f("Square", x))))
    near = f("Less", w, 5)
    v = f.where(near, f("Sub", w, 2.5), f("Sub", f("Sqrt", w), 3))
    value = f.where(near, NEAR[0], FAR[0])
    for a, b in zip(NEAR[1:], FAR[1:], strict=True):
        value = f("Add", f("Mul", value, v), f.where(near, a, b))
    value = f("Mul", value, x)
    for _ in range(2 if x.aval.dtype == FLOAT64 else 0):
        density = f("Mul", f("Exp", f("Neg", f("Square", value))), 2 / math.sqrt(math.pi))
        value = f("Sub", value, f("Div", f("Sub", f("Erf", value), x), density))
    edge = f("Equal", f("Abs", x), 1)
    return f.where(edge, f("Mul", x, float(np.inf)), value)


RULES: tuple[Rule, ...] = (compose_lgamma, compose_digamma, compose_erf_inv)
