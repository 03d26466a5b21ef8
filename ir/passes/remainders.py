"""Remainders that a runtime can have without its own: ONNX Runtime's takes 15 ns an element."""

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.arithmetic import is_float
from fnckpt.ir.passes.rewrite import Any_, Op, Scalar, rewrites

x = Any_("x")
_ONE = Scalar(value=1.0)
_FMOD = Op("Rem", x, _ONE, users=0, name="remainder")


@rewrites(Op("Select", Op("Less", _FMOD, Scalar(value=0.0)), Op("Add", _FMOD, _ONE), Any_("other")))
def keep_fraction(root: CNode, x: Node, remainder: CNode, other: Node) -> Node | None:
    """x % 1 is x - floor(x), bit for bit but for the sign of 0: both round once."""
    if other is not remainder or not is_float(root):
        return None
    return apply("Sub", x, apply("Floor", x, origin=root.origin), origin=root.origin)


FUSE = (keep_fraction,)
