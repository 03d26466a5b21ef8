"""What the attribute style needs beside ``LEGALIZE``: the kernels of its readers are fewer.

Measured with MindSpore 2.0.0 and MindSpore Lite 2.0.0.
"""

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import Build
from fnckpt.ir.passes.control import halve_branches
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites
from fnckpt.ir.targets.mindir.kernels import OLDER_KERNELS, VALUES, stand_in, takes
from fnckpt.ir.targets.mindir.legalize_pad import pad_by_concat
from fnckpt.ir.targets.mindir.legalize_types import through, top_k_in_stand_in

NARROWER = ("MatMul", "Reverse")


def compute_in_stand_in(node: CNode) -> Node | None:
    """In a dtype that the older kernel takes."""
    own = node.inputs[VALUES.get(node.op, (0,))[0]].aval.dtype
    dtype = stand_in(node.op, own, OLDER_KERNELS)
    return None if dtype is None else through(node, dtype)


@rewrites("Less")
def less_as_greater(node: CNode) -> Node | None:
    """Greater takes unsigned integers."""
    x, y = node.inputs
    return None if takes("Less", x.aval.dtype, OLDER_KERNELS) else Build(node)("Greater", y, x)


@rewrites("Equal")
def equal_as_not_different(node: CNode) -> Node | None:
    """NotEqual takes uint64."""
    if node.inputs[0].aval.dtype != "uint64":
        return None
    build = Build(node)
    return build("LogicalNot", build("NotEqual", *node.inputs))


@rewrites("Silu")
def silu_as_product(node: CNode) -> Node:
    """Lite's converter has no SiLU, and leaves it out without a word."""
    (x,), build = node.inputs, Build(node)
    return build("Mul", x, build("Sigmoid", x))


@rewrites("IsNan")
def nan_is_not_itself(node: CNode) -> Node:
    """Lite has no IsNan."""
    (x,) = node.inputs
    return Build(node)("NotEqual", x, x)


@rewrites("Rsqrt")
def rsqrt_by_division(node: CNode) -> Node:
    """Lite's Rsqrt has four digits."""
    (x,), build = node.inputs, Build(node)
    return build("Div", build.number(1, x), build("Sqrt", x))


OLDER: tuple[Rule, ...] = (
    halve_branches,
    *(Rule(Op(op), compute_in_stand_in) for op in NARROWER),
    Rule(Op("TupleGetItem"), lambda node: top_k_in_stand_in(node, OLDER_KERNELS)),
    less_as_greater,
    equal_as_not_different,
    nan_is_not_itself,
    rsqrt_by_division,
    pad_by_concat,
    silu_as_product,
)
