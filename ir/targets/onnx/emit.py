"""From our operators to ONNX's: a row for each, or the reason why there is none."""

from collections.abc import Callable, Sequence

import numpy as np

from fnckpt.ir.attributes import integer, ints, number, sizes
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.sizes import all_known, is_known
from fnckpt.ir.targets.onnx.kernels import kernel_dtypes, value_dtype
from fnckpt.ir.targets.onnx.sizes import vector
from fnckpt.ir.targets.onnx.writer import Writer, element_type
from fnckpt.ir.targets.target import Refusal

Emitter = Callable[[CNode, Writer], None]

EMITTERS: dict[str, Emitter] = {}

SAME = {
    "Abs": "Abs", "Acos": "Acos", "Acosh": "Acosh", "Add": "Add", "Asin": "Asin",
    "Asinh": "Asinh", "Atan": "Atan", "Atanh": "Atanh", "Ceil": "Ceil", "Cos": "Cos",
    "Div": "Div", "Equal": "Equal", "Erf": "Erf",
    "Exp": "Exp", "Floor": "Floor", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual",
    "Identity": "Identity", "IsInf": "IsInf", "IsNan": "IsNaN", "Less": "Less",
    "LessEqual": "LessOrEqual", "Log": "Log", "LogicalAnd": "And", "LogicalNot": "Not",
    "LogicalOr": "Or", "LogicalXor": "Xor", "Maximum": "Max", "Minimum": "Min", "Mul": "Mul",
    "Neg": "Neg", "Pow": "Pow", "Reciprocal": "Reciprocal", "Relu": "Relu", "Round": "Round",
    "Select": "Where", "Sigmoid": "Sigmoid", "Sign": "Sign", "Sin": "Sin", "Sqrt": "Sqrt",
    "Sub": "Sub", "Tan": "Tan", "Tanh": "Tanh",
}  # fmt: skip

WIDE_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})

LOGIC = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}

CANNOT = {
    "NextAfter": "ONNX cannot read the bits of a float; compute it outside apply_fn",
}


def emits(*ops: str) -> Callable[[Emitter], Emitter]:
    """Register the decorated function as what writes ``ops``, in dtypes the runtime computes."""

    def register(emitter: Emitter) -> Emitter:
        def checked(node: CNode, w: Writer) -> None:
            check_dtypes(node)
            emitter(node, w)

        for op in ops:
            if op in EMITTERS:
                raise ValueError(f"{op} is already written by {EMITTERS[op].__qualname__}")
            EMITTERS[op] = checked
        return emitter

    return register


def check_dtypes(node: CNode) -> None:
    """Refuse a dtype that ONNX Runtime has no kernel for, and that has no equal detour."""
    if not node.inputs:
        return
    dtype = value_dtype(node)
    if dtype.name not in kernel_dtypes(node):
        raise Refusal(
            f"ONNX Runtime has no kernel of {node.op} for {dtype}; cast to float32 or int32 before"
        )


@emits(*SAME)
def emit_same(node: CNode, w: Writer) -> None:
    w.node(SAME[node.op], node, *node.inputs)


@emits("BitwiseNot")
def emit_bitwise_not(node: CNode, w: Writer) -> None:
    """Before opset 18 what is missing to all ones."""
    if w.opset >= 18:
        w.node("BitwiseNot", node, *node.inputs)
        return
    (x,), dtype = node.inputs, node.aval.dtype
    w.node("Sub", node, w.scalar(int(np.invert(np.zeros((), dtype))), dtype, "ones"), x)


@emits(*LOGIC)
def emit_bitwise(node: CNode, w: Writer) -> None:
    """Before opset 18 bit by bit, along an axis of their own, as booleans."""
    if w.opset >= 18:
        w.node(node.op, node, *node.inputs)
        return
    places = np.arange(8 * node.aval.dtype.itemsize)
    bits = [_bits(node, w, each, places) for each in node.inputs]
    chosen = w.step(LOGIC[node.op], node, *bits)
    wide = np.dtype(np.int64)
    powers = w.array(np.left_shift(1, places, dtype=wide), w.unused("powers"))
    digits = w.step("Cast", node, chosen, to=element_type(wide))
    total = w.step("MatMul", node, digits, powers)  # ReduceSum of int64 rounds as a double
    w.node("Cast", node, total, to=element_type(node.aval.dtype))


def _bits(node: CNode, w: Writer, x: Node, places: np.ndarray) -> str:
    """The bits of ``x`` along a new last axis, the least first."""
    dtype = x.aval.dtype
    unsigned = np.dtype(f"uint{8 * dtype.itemsize}")
    whole = x if dtype == unsigned else w.step("Cast", node, x, to=element_type(unsigned))
    apart = w.step("Unsqueeze", node, whole, w.ints([-1], "axes"))
    amounts = w.array(places.astype(unsigned), w.unused("places"))
    shifted = w.step("BitShift", node, apart, amounts, direction="RIGHT")
    lowest = w.step("Mod", node, shifted, w.scalar(2, unsigned))
    return w.step("Cast", node, lowest, to=element_type(np.dtype(bool)))


@emits("HardSigmoid")
def emit_hard_sigmoid(node: CNode, w: Writer) -> None:
    w.node("HardSigmoid", node, *node.inputs, alpha=1 / 6, beta=0.5)


@emits("HardSwish")
def emit_hard_swish(node: CNode, w: Writer) -> None:
    if w.opset >= 14:
        w.node("HardSwish", node, *node.inputs)
        return
    part = w.step("HardSigmoid", node, *node.inputs, alpha=1 / 6, beta=0.5)
    w.node("Mul", node, *node.inputs, part)


@emits("Rem")
def emit_rem(node: CNode, w: Writer) -> None:
    w.node("Mod", node, *node.inputs, fmod=1)


@emits("ShiftLeft", "ShiftRightLogical")
def emit_shift(node: CNode, w: Writer) -> None:
    direction = "LEFT" if node.op == "ShiftLeft" else "RIGHT"
    x, amount = node.inputs
    w.node("BitShift", node, x, amount, direction=direction)


@emits("Gelu")
def emit_gelu(node: CNode, w: Writer) -> None:
    (x,), dtype = node.inputs, node.aval.dtype
    if w.opset >= 20:
        w.node("Gelu", node, x, approximate="tanh" if node.attrs["approximate"] else "none")
        return
    half, one = w.scalar(0.5, dtype), w.scalar(1, dtype)
    if node.attrs["approximate"]:
        cube = w.step("Mul", node, w.step("Mul", node, x, x), x)
        inner = w.step("Add", node, x, w.step("Mul", node, cube, w.scalar(0.044715, dtype)))
        scaled = w.step("Mul", node, inner, w.scalar(np.sqrt(2 / np.pi), dtype))
        part = w.step("Tanh", node, scaled)
        product = w.step("Mul", node, x, w.step("Add", node, part, one))
        w.node("Mul", node, product, half)
        return
    # The very form that ONNX Runtime replaces by its own Gelu.
    part = w.step("Erf", node, w.step("Div", node, x, w.scalar(np.sqrt(2), dtype)))
    product = w.step("Mul", node, x, w.step("Add", node, part, one))
    w.node("Mul", node, product, half)


@emits("LeakyRelu", "Elu")
def emit_with_alpha(node: CNode, w: Writer) -> None:
    w.node(node.op, node, *node.inputs, alpha=number(node, "alpha"))


@emits("Reshape")
def emit_reshape(node: CNode, w: Writer) -> None:
    """``allowzero``: a 0 is a size here, not "as before". A size that is computed may be 0 too."""
    shape = sizes(node, "shape")
    short = _inferred(node, shape)
    extra = {"allowzero": 1} if 0 in shape or not all_known(short) else {}
    w.node("Reshape", node, *node.inputs, vector(w, short, "shape"), **extra)


def _inferred(node: CNode, shape: Sequence[int]) -> Sequence[int]:
    """``shape`` as ONNX can say it without computing: 0 is "as before", -1 "what is left"."""
    before = node.inputs[0].aval.shape
    same = [i < len(before) and size == before[i] for i, size in enumerate(shape)]
    symbolic = [i for i, size in enumerate(shape) if not is_known(size) and not same[i]]
    if 0 in shape or len(symbolic) > 1:
        return shape
    short = [0 if same[i] and not is_known(size) else size for i, size in enumerate(shape)]
    return [-1 if i in symbolic else size for i, size in enumerate(short)]


@emits("Transpose")
def emit_transpose(node: CNode, w: Writer) -> None:
    w.node("Transpose", node, *node.inputs, perm=ints(node, "perm"))


@emits("BroadcastTo")
def emit_broadcast(node: CNode, w: Writer) -> None:
    """A size of 1 stands for the input's own, so that only what is repeated is computed."""
    shape = sizes(node, "shape")
    before = (1,) * (len(shape) - len(node.inputs[0].aval.shape)) + node.inputs[0].aval.shape
    wanted = [
        1 if old == new and not is_known(new) else new
        for old, new in zip(before, shape, strict=True)
    ]
    w.node("Expand", node, *node.inputs, vector(w, wanted, "shape"))


@emits("Sizes")
def emit_sizes(node: CNode, w: Writer) -> None:
    value = vector(w, sizes(node, "sizes"), "sizes")
    w.node("Cast", node, value, to=element_type(node.aval.dtype))


@emits("Range")
def emit_range(node: CNode, w: Writer) -> None:
    """The runtime counts in int32, int64 and floats; here in int64, whose limit is a scalar."""
    end = w.step("Squeeze", node, vector(w, node.aval.shape, "size"))
    zero, one = (w.scalar(value, np.dtype(np.int64)) for value in (0, 1))
    count = w.step("Range", node, zero, end, one)
    w.node("Cast", node, count, to=element_type(node.aval.dtype))


@emits("Concat")
def emit_concat(node: CNode, w: Writer) -> None:
    w.node("Concat", node, *node.inputs, axis=integer(node, "axis"))


@emits("Pad")
def emit_pad(node: CNode, w: Writer) -> None:
    pads = sizes(node, "low") + sizes(node, "high")
    w.node("Pad", node, node.inputs[0], vector(w, pads, "pads"), node.inputs[1])


@emits("Slice")
def emit_slice(node: CNode, w: Writer) -> None:
    (x,), shape = node.inputs, node.inputs[0].aval.shape
    start, limit = sizes(node, "start"), sizes(node, "limit")
    strides = ints(node, "strides")
    whole = zip(start, limit, strides, shape, strict=True)
    axes = [i for i, part in enumerate(whole) if part != (0, shape[i], 1, shape[i])]
    if not axes:
        w.node("Identity", node, x)
        return
    starts = [start[i] if is_known(start[i]) else _from_end(start[i], shape[i]) for i in axes]
    ends = [limit[i] if is_known(limit[i]) else _end(limit[i], shape[i]) for i in axes]
    bounds = [vector(w, starts, "starts"), vector(w, ends, "ends")]
    steps = [strides[i] for i in axes]
    extra = [w.ints(steps, "steps")] if any(step != 1 for step in steps) else []
    w.node("Slice", node, x, *bounds, w.ints(axes, "axes"), *extra)


def _from_end(at: int, size: int) -> int:
    """A place of an axis counted from its end, where that is a number."""
    return at - size if is_known(at - size) and at - size < 0 else at


def _end(limit: int, size: int) -> int:
    """As ``_from_end``; the end of the axis is a number beyond all."""
    return np.iinfo(np.int64).max if limit == size else _from_end(limit, size)


@emits("Split")
def emit_split(node: CNode, w: Writer) -> None:
    outputs, parts = w.results(node), w.ints(ints(node, "sizes"), "sizes")
    w.add("Split", [*node.inputs, parts], outputs, outputs[0], axis=integer(node, "axis"))


@emits("Reverse")
def emit_reverse(node: CNode, w: Writer) -> None:
    axes = ints(node, "axes")
    ends = np.iinfo(np.int64).min
    w.node(
        "Slice", node, *node.inputs, w.ints([-1] * len(axes), "starts"),
        w.ints([ends] * len(axes), "ends"), w.ints(axes, "axes"), w.ints([-1] * len(axes), "steps"),
    )  # fmt: skip


@emits("DynamicSlice")
def emit_dynamic_slice(node: CNode, w: Writer) -> None:
    x, starts = node.inputs
    length = vector(w, sizes(node, "sizes"), "sizes")
    begin = w.step("Cast", node, starts, to=element_type(np.dtype(np.int64)))
    w.node("Slice", node, x, begin, w.step("Add", node, begin, length))


@emits("Gather", "GatherElements")
def emit_gather(node: CNode, w: Writer) -> None:
    x, indices = node.inputs
    w.node(node.op, node, x, index(node, w, indices), axis=integer(node, "axis"))


def index(node: CNode, w: Writer, indices: Node, *, wide: bool = False) -> Node | str:
    """Indices in a dtype that ONNX takes: int32 or int64, or int64 alone."""
    allowed = ("int64",) if wide else ("int32", "int64")
    if indices.aval.dtype.name in allowed:
        return indices
    return w.step("Cast", node, indices, to=element_type(np.dtype(np.int64)))


@emits("GatherNd")
def emit_gather_nd(node: CNode, w: Writer) -> None:
    x, indices = node.inputs
    w.node("GatherND", node, x, index(node, w, indices, wide=True))


@emits("ScatterNd")
def emit_scatter_nd(node: CNode, w: Writer) -> None:
    x, indices, updates = node.inputs
    reduction = str(node.attrs["reduction"])
    since = 18 if reduction in ("min", "max") else 16
    if w.opset < since:
        raise Refusal(f"a scatter by {reduction} needs opset {since}; pass opset={since} or newer")
    extra = {"reduction": reduction} if reduction else {}
    w.node("ScatterND", node, x, index(node, w, indices, wide=True), updates, **extra)


@emits("CumSum")
def emit_cum_sum(node: CNode, w: Writer) -> None:
    axis = w.scalar(integer(node, "axis"), np.dtype(np.int64), "axis")
    w.node("CumSum", node, *node.inputs, axis, reverse=int(bool(node.attrs["reverse"])))


@emits("TopK")
def emit_top_k(node: CNode, w: Writer) -> None:
    """ONNX gives indices as int64; among equal elements the first comes first."""
    values, indices = w.results(node)
    wide = w.unused(f"{indices}/int64")
    k = w.ints([integer(node, "k")], "k")
    order = {} if node.attrs.get("ordered", True) else {"sorted": 0}
    w.add("TopK", [w.ref(node.inputs[0]), k], [values, wide], values, **order)
    w.add("Cast", [wide], [indices], indices, to=element_type(node.results[1].dtype))
