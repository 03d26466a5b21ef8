"""The table of emitters, and how they read attributes."""

from collections.abc import Callable

from fnckpt.ir.attributes import whole
from fnckpt.ir.graph import Attr, CNode
from fnckpt.ir.targets.mindir.kernels import VALUES, takes
from fnckpt.ir.targets.mindir.writer import Dialect, Writer
from fnckpt.ir.targets.target import Refusal

Emitter = Callable[[CNode, Writer], None]

EMITTERS: dict[str, Emitter] = {}

CANNOT: dict[str, str] = {
    "NextAfter": "MindSpore 2.10's NextAfter gives wrong numbers on the CPU; compute it outside "
    "apply_fn",
    **dict.fromkeys(("Gru", "Lstm"), "it is made for ONNX alone; a Scan of its steps is the same"),
    "CachedAttention": "it is made for ONNX alone; an Attention and a Concat are the same",
    "ReduceL1": "it is made for ONNX alone; a ReduceSum of Abs is the same",
    "ReduceSumSquare": "it is made for ONNX alone; a ReduceSum of Square is the same",
    "Rotary": "it is made for ONNX alone; products and a Concat are the same",
    "SkipRmsNorm": "it is made for ONNX Runtime alone; a sum and an RmsNorm are the same",
}

NO_BFLOAT16 = (
    'MindSpore up to 2.2 has no bfloat16; cast to float32 before, or export for mindspore="2.3"'
)


def emits(*ops: str) -> Callable[[Emitter], Emitter]:
    """Register the decorated function as what writes ``ops``, in dtypes MindSpore computes."""

    def register(emitter: Emitter) -> Emitter:
        def checked(node: CNode, w: Writer) -> None:
            check_dtype(node, w.dialect)
            emitter(node, w)

        for op in ops:
            if op in EMITTERS:
                raise ValueError(f"{op} is already written by {EMITTERS[op].__qualname__}")
            EMITTERS[op] = checked
        return emitter

    return register


def check_dtype(node: CNode, dialect: Dialect) -> None:
    """Refuse a dtype that MindSpore has no kernel for, and that has no equal detour."""
    if node.op == "TupleGetItem" or not node.inputs:
        return
    dtypes = {aval.dtype.name for aval in (*node.results, *(x.aval for x in node.inputs))}
    if not dialect.arguments and "bfloat16" in dtypes:
        raise Refusal(NO_BFLOAT16)
    place = VALUES.get(node.op, (0,))[0]
    dtype = node.inputs[place].aval.dtype
    if not takes(node.op, dtype, dialect.kernels):
        raise Refusal(
            f"MindSpore's CPU kernel of {node.op} does not compute {dtype}; cast to float32 or "
            "int32 before"
        )


def ints(value: Attr) -> tuple[int, ...]:
    """A tuple attribute of integers."""
    assert isinstance(value, tuple)
    return tuple(map(whole, value))


def pairs(value: Attr) -> tuple[tuple[int, int], ...]:
    """A tuple attribute of (before, after)."""
    assert isinstance(value, tuple)
    return tuple((low, high) for low, high in map(ints, value))


def integer(value: Attr) -> int:
    """An integer attribute."""
    return whole(value)


def real(value: Attr) -> float:
    """A float attribute."""
    return float(str(value))
