"""Powers with a known exponent as products and roots, which every runtime has faster than Pow."""

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.bounds import never_negative
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.rewrite import Any_, Op, Rule, Scalar, rewrites

x = Any_("x")


@rewrites(Op("Pow", x, Scalar("exponent")))
def multiply_powers(root: CNode, x: Node, exponent: float) -> Node | None:
    """x ** 2 is x * x, x ** 3 and x ** 4 likewise: zeros, infinities and NaN too."""
    if not is_float(root) or x.aval != root.aval or exponent not in (1, 2, 3, 4):
        return None
    if exponent == 1:
        return x
    build = Build(root)
    square = build("Square", x)
    if exponent == 2:
        return square
    return build("Mul", square, x) if exponent == 3 else build("Square", square)


@rewrites(Op("Pow", x, Scalar("exponent")))
def root_of_powers(root: CNode, x: Node, exponent: float) -> Node | None:
    """x ** 0.5 is sqrt(x), x ** 1.5 is x * sqrt(x), where x is never negative.

    Of -inf the power is inf and the root NaN.
    """
    if not is_float(root) or x.aval != root.aval or exponent not in (0.5, 1.5):
        return None
    if not never_negative(x):
        return None
    result = apply("Sqrt", x, origin=root.origin)
    return result if exponent == 0.5 else apply("Mul", x, result, origin=root.origin)


RULES: tuple[Rule, ...] = (multiply_powers, root_of_powers)
