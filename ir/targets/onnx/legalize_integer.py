"""Arithmetic and logic of integers and booleans that ONNX, or its runtime, does otherwise."""

import numpy as np

from fnckpt.ir.attributes import integer, ints
from fnckpt.ir.fold import folded
from fnckpt.ir.graph import CNode, Constant, Node
from fnckpt.ir.operators import apply, constant, item
from fnckpt.ir.passes.build import BOOL, INT32, INT64, Build, through
from fnckpt.ir.passes.rewrite import Op, Rule, rewrites, scalar_of


def bits_of(dtype: np.dtype) -> tuple[np.dtype, int]:
    """The unsigned integer of the same bits, and how many they are."""
    return np.dtype(f"uint{dtype.itemsize * 8}"), dtype.itemsize * 8


@rewrites("NotEqual")
def compose_not_equal(root: CNode) -> Node:
    """a != b is not (a == b)."""
    build = Build(root)
    return build("LogicalNot", build("Equal", *root.inputs))


@rewrites("Select")
def select_booleans(root: CNode) -> Node | None:
    """Of booleans, select(c, a, b) is (c and a) or (not c and b).

    For a true b that is (not c or a), for a false a it is (not c and b).
    """
    (condition, a, b), build = root.inputs, Build(root)
    if a.aval.dtype != BOOL:
        return None
    otherwise = folded(build("LogicalNot", condition))
    short = (
        build("LogicalOr", otherwise, a) if scalar_of(b) == 1
        else build("LogicalAnd", otherwise, b) if scalar_of(a) == 0
        else None
    )  # fmt: skip
    if short is not None and short.aval == root.aval:
        return short
    other = build("LogicalAnd", otherwise, b)
    return build("LogicalOr", build("LogicalAnd", condition, a), other)


def _reduce_booleans(root: CNode) -> Node:
    """Any is the greatest, all the least of the bits as numbers.

    Of nothing these are the least and the greatest number of the dtype.
    """
    build = Build(root)
    number = build.cast(root.inputs[0], INT32)
    op = {"ReduceAny": "ReduceMax", "ReduceAll": "ReduceMin"}[root.op]
    result = build(op, number, **root.attrs)
    return build("Greater", result, build.number(0, result))


@rewrites("Neg")
def negate_unsigned(root: CNode) -> Node | None:
    """-x is 0 - x of integers of 64 bits without sign: of those of fewer a wider type has it."""
    (x,), build = root.inputs, Build(root)
    return build("Sub", build.number(0, x), x) if x.aval.dtype == UINT64 else None


@rewrites("Div")
def divide_safely(root: CNode) -> Node | None:
    """Of integers, x / 0 is all ones and x / -1 is -x, which the least number overflows.

    Either would end the runtime's process.
    """
    (x, y), build = root.inputs, Build(root)
    if _is_safe(y):
        return None
    all_ones = Constant(np.invert(np.zeros((), x.aval.dtype)))
    opposite = build("Sub", build.number(0, x), x)
    return _by_safe(root, all_ones, opposite)


@rewrites("Rem")
def rest_of_safe(root: CNode) -> Node | None:
    """The rest of an integer division by 0 is the dividend, by -1 it is 0."""
    x, y = root.inputs
    return None if _is_safe(y) else _by_safe(root, x, Build(root).number(0, x))


def _by_safe(root: CNode, by_zero: Node, by_minus_one: Node) -> Node:
    """The operator where the divisor is neither 0 nor -1, and what it is there."""
    (x, y), build = root.inputs, Build(root)
    is_zero = build("Equal", y, build.number(0, y))
    if y.aval.dtype.kind == "u":
        safe = build("Select", is_zero, build.number(1, y), y)
        return build("Select", is_zero, by_zero, build(root.op, x, safe))
    is_minus_one = build("Equal", y, build.number(-1, y))
    unsafe = build("LogicalOr", is_zero, is_minus_one)
    safe = build("Select", unsafe, build.number(1, y), y)
    result = build("Select", is_minus_one, by_minus_one, build(root.op, x, safe))
    return build("Select", is_zero, by_zero, result)


def _is_safe(y: Node) -> bool:
    """Whether ``y`` is no integer, or one that is known to be neither 0 nor -1."""
    if y.aval.dtype.kind not in "iu":
        return True
    return all(_is_never(y, number) for number in ((0,) if y.aval.dtype.kind == "u" else (0, -1)))


def _is_never(y: Node, number: int) -> bool:
    """Whether ``y`` is a constant without ``number``, or the choice of ``_by_safe``."""
    source = _before_casts(y)
    if isinstance(source, Constant):
        return not np.any(source.value.astype(y.aval.dtype) == number)
    choice = _as_choice(source)
    if choice is None:
        return False
    condition, chosen, other = choice.inputs
    return _is_one(chosen) and _is_where(condition, other, number)


def _as_choice(y: Node) -> CNode | None:
    """The Select that ``y`` is; a runtime may choose among more bits than the integers have."""
    choice = y.inputs[0] if isinstance(y, CNode) and y.op == "Cast" else y
    if not isinstance(choice, CNode) or choice.op != "Select":
        return None
    narrow = _before_casts(choice.inputs[2]).aval.dtype
    return choice if _is_kept(narrow, y.aval.dtype) else None


def _is_where(condition: Node, y: Node, number: int) -> bool:
    """Whether ``condition`` holds wherever ``y`` is ``number``."""
    if not isinstance(condition, CNode):
        return False
    tests = condition.inputs if condition.op == "LogicalOr" else (condition,)
    return any(_is_equal(test, y, number) for test in tests)


def _is_equal(test: Node, y: Node, number: int) -> bool:
    if not isinstance(test, CNode) or test.op != "Equal":
        return False
    value, known = map(_before_casts, test.inputs)
    return value is _before_casts(y) and isinstance(known, Constant) and _holds(known, number)


def _holds(known: Constant, number: int) -> bool:
    return known.value.size > 0 and bool(np.all(known.value == number))


def _before_casts(y: Node) -> Node:
    """The integer that ``y`` was before it got more bits, or its bits another type."""
    while (
        isinstance(y, CNode) and y.op == "Cast" and _is_kept(y.inputs[0].aval.dtype, y.aval.dtype)
    ):
        (y,) = y.inputs
    return y


def _is_kept(source: np.dtype, dtype: np.dtype) -> bool:
    """Whether integers that differ in ``source`` differ in ``dtype``, and 0 and 1 stay."""
    same = source.itemsize == dtype.itemsize
    return source.kind in "iu" and (same or np.can_cast(source, dtype))


def _is_one(x: Node) -> bool:
    x = _before_casts(x)
    return isinstance(x, Constant) and _holds(x, 1)


@rewrites("Pow")
def power_of_integers(root: CNode) -> Node | None:
    """Products by repeated squaring, which wrap; the runtime's power is one of doubles.

    A negative exponent counts as 0.
    """
    (x, y), build, dtype = root.inputs, Build(root), root.aval.dtype
    if dtype.kind not in "iu":
        return None
    unsigned, width = bits_of(dtype)
    exponent = build.cast(build("Maximum", y, build.number(0, y)), unsigned)
    one = build.number(1, x)
    result, square = one, x
    for place in range(width if dtype.kind == "u" else width - 1):
        is_set = build.cast(_bit(build, exponent, place), BOOL)
        result = build("Mul", result, build("Select", is_set, square, one))
        square = build("Mul", square, square)
    return build.broadcast(result, root.aval.shape)


def _bit(build: Build, x: Node, place: int) -> Node:
    """0 or 1, as an unsigned integer like ``x``."""
    moved = build("ShiftRightLogical", x, build.number(place, x)) if place else x
    return build("BitwiseAnd", moved, build.number(1, x))


@rewrites("PopulationCount")
def compose_population_count(root: CNode) -> Node:
    """The sum of the bits, one by one."""
    build, (unsigned, width) = Build(root), bits_of(root.aval.dtype)
    x = build.cast(root.inputs[0], unsigned)
    total = _bit(build, x, 0)
    for place in range(1, width):
        total = build("Add", total, _bit(build, x, place))
    return build.cast(total, root.aval.dtype)


@rewrites("ShiftRightArithmetic")
def shift_with_sign(root: CNode) -> Node:
    """Of a negative number, not(not(x) >> n); amounts over the width shift all bits out.

    not(x) is x ^ -1, and x is x ^ 0, which is faster than a choice.
    """
    (x, amount), build, dtype = root.inputs, Build(root), root.aval.dtype
    if dtype.kind == "u":
        return through(root, np.dtype(dtype.name[1:]))
    sign = build("Neg", build.cast(build("Less", x, build.number(0, x)), dtype))
    shifted = build("ShiftRightLogical", build("BitwiseXor", x, sign), amount)
    return build("BitwiseXor", shifted, sign)


def _shift_unsigned(root: CNode) -> Node | None:
    """Shifts of signed numbers are shifts of their bits; a shift by the width or more gives 0."""
    (x, amount), build, dtype = root.inputs, Build(root), root.aval.dtype
    if dtype.kind == "u":
        return None
    unsigned, width = bits_of(dtype)
    x, amount = build.cast(x, unsigned), build.cast(amount, unsigned)
    shifted = build.cast(build(root.op, x, amount), dtype)
    if isinstance(amount, Constant) and bool(np.all(amount.value < width)):
        return shifted
    outside = build("GreaterEqual", amount, constant(width, unsigned))
    return build("Select", outside, constant(0, dtype), shifted)


UINT64, SIGN_BIT = np.dtype(np.uint64), 1 << 63


def _signed(build: Build, x: Node) -> Node:
    """A uint64 as the int64 that has the same place among its like: the first bit is turned."""
    return build.cast(build("BitwiseXor", x, constant(SIGN_BIT, UINT64)), INT64)


def _unsigned(build: Build, x: Node) -> Node:
    return build("BitwiseXor", build.cast(x, UINT64), constant(SIGN_BIT, UINT64))


def _order_as_signed(root: CNode) -> Node | None:
    """The runtime orders int64, and no uint64."""
    (x,), build = root.inputs, Build(root)
    if x.aval.dtype != UINT64:
        return None
    result = build(root.op, _signed(build, x), **root.attrs)
    return _unsigned(build, result) if root.op.startswith("Reduce") else result


TOP_K_IN = {"bfloat16": "float32", "bool": "uint8", "uint16": "int32", "uint32": "int64"}


@rewrites("TupleGetItem")
def top_k_of_others(root: CNode) -> Node | None:
    """TopK in a dtype that holds all numbers of this one; the values are cast back."""
    (source,), build, index = root.inputs, Build(root), integer(root, "index")
    assert isinstance(source, CNode)
    if source.op != "TopK":
        return None
    (x,) = source.inputs
    own = x.aval.dtype
    if own != UINT64 and own.name not in TOP_K_IN:
        return None
    key = _signed(build, x) if own == UINT64 else build.cast(x, np.dtype(TOP_K_IN[own.name]))
    chosen = item(apply("TopK", key, origin=source.origin, **source.attrs), index)
    if index:
        return chosen
    return _unsigned(build, chosen) if own == UINT64 else build.cast(chosen, own)


@rewrites("ReduceProd")
def product_by_halves(root: CNode) -> Node | None:
    """The runtime multiplies integers as doubles; the halves by each other wrap, as in XLA."""
    (x,), build = root.inputs, Build(root)
    if x.aval.dtype.kind not in "iu" or not x.aval.size:
        return None
    for axis in ints(root, "axes"):
        while (size := x.aval.shape[axis]) > 1:
            half = size // 2
            first, second = (build.slice(x, axis, i * half, (i + 1) * half) for i in (0, 1))
            product = build("Mul", first, second)
            rest = [build.slice(x, axis, size - 1, size)] if size % 2 else []
            x = build("Concat", product, *rest, axis=axis) if rest else product
    return build.reshape(x, root.aval.shape)


RULES: tuple[Rule, ...] = (
    product_by_halves,
    compose_not_equal,
    select_booleans,
    negate_unsigned,
    divide_safely,
    rest_of_safe,
    power_of_integers,
    compose_population_count,
    shift_with_sign,
    top_k_of_others,
    *(Rule(Op(op), _order_as_signed) for op in ("ReduceMax", "ReduceMin", "ArgMax", "ArgMin")),
    *(Rule(Op(op), _shift_unsigned) for op in ("ShiftLeft", "ShiftRightLogical")),
    *(Rule(Op(op), _reduce_booleans) for op in ("ReduceAny", "ReduceAll")),
)
