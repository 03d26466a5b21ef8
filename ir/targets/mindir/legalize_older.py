"""What the attribute style needs beside ``LEGALIZE``: the kernels of its readers are fewer.

Measured with MindSpore 2.0.0 and MindSpore Lite 2.0.0.
"""

import math

from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.passes.build import BOOL, FLOAT32, FLOAT64, Build
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


@rewrites("ScatterNd")
def select_to_write(node: CNode) -> Node | None:
    """Booleans are written as numbers, without Cast: 2.10 does not run that of the older style."""
    inputs = tuple(_selected(node, each) for each in node.inputs)
    if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
        return None
    return Build(node)("ScatterNd", *inputs, **node.attrs)


def _selected(node: CNode, x: Node) -> Node:
    if not isinstance(x, CNode) or x.op != "Cast" or x.inputs[0].aval.dtype != BOOL:
        return x
    build = Build(node)
    return build.where(x.inputs[0], build.number(1, x), build.number(0, x))


@rewrites(Op("Cast", Op("ScatterNd", name="written", users=0)))
def compare_what_was_written(root: CNode, written: Node) -> Node | None:
    """Back to booleans, without Cast either."""
    build = Build(root)
    return build("NotEqual", written, build.number(0, written)) if root.aval.dtype == BOOL else None


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


# Pi in parts whose products with an integer of 13 bits are exact, greatest first; and how many
# terms of Taylor's series are right up to pi / 2.
FIRST = round(math.pi * 2**30) / 2**30
SECOND = round((math.pi - FIRST) * 2**62) / 2**62
REST = math.pi - FIRST - SECOND + 1.2246467991473532e-16  # which a double of pi lacks
SINES = {
    FLOAT32: ((3.140625, 0.0009670257568359375, 6.278329e-07), 6),
    FLOAT64: ((FIRST, SECOND, REST), 11),
}


@rewrites("Sin")
def sine_by_series(node: CNode) -> Node:
    """From the sixth call on, Sin of 2.0.0 gives old values for half of the elements.

    x is k pi and a rest, whose sine is that of x, or minus it where k is odd. Right to 1e-6 for
    up to 25,000.
    """
    (x,), build = node.inputs, Build(node)
    if x.aval.dtype not in SINES:
        return through(node, FLOAT32)
    parts, terms = SINES[x.aval.dtype]
    turns = build("Mul", x, build.number(1 / math.pi, x))
    count = build("Floor", build("Add", turns, build.number(0.5, x)))
    rest: Node = x
    for part in parts:
        rest = build("Sub", rest, build("Mul", count, build.number(part, x)))
    half = build("Mul", count, build.number(0.5, x))
    odd = build("Sub", half, build("Floor", half))  # 0 or 0.5
    sign = build("Sub", build.number(1, x), build("Mul", odd, build.number(4, x)))
    square = build("Mul", rest, rest)
    first, *others = (  # of sin(x) / x by powers of x ** 2, the highest first
        build.number((-1) ** power / math.factorial(2 * power + 1), x)
        for power in reversed(range(terms))
    )
    series: Node = first
    for term in others:
        series = build("Add", build("Mul", series, square), term)
    return build("Mul", build("Mul", rest, sign), series)


OLDER: tuple[Rule, ...] = (
    halve_branches,
    sine_by_series,
    *(Rule(Op(op), compute_in_stand_in) for op in NARROWER),
    Rule(Op("TupleGetItem"), lambda node: top_k_in_stand_in(node, OLDER_KERNELS)),
    less_as_greater,
    equal_as_not_different,
    nan_is_not_itself,
    rsqrt_by_division,
    pad_by_concat,
    silu_as_product,
    select_to_write,
    compare_what_was_written,
)
