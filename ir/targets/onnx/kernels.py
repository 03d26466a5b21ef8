"""Which dtypes ONNX Runtime computes an operator in, on the CPU.

Measured with ONNX Runtime 1.32 by running each operator with each dtype, opset 17 (bitwise
operators and ScatterND's reductions: 18). What is not in a row is computed in another dtype with
equal results (``legalize``), or refused.
"""

import numpy as np

from fnckpt.ir.eight_bits import OF_ONNX
from fnckpt.ir.graph import CNode
from fnckpt.ir.passes.build import VALUES

F16, F32, F64, BF16 = "float16", "float32", "float64", "bfloat16"
INTS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = (F32, F64, F16)
NARROW = (F32, F16)
NUMBERS = (*FLOATS, *INTS)
ALL = (*NUMBERS, BF16, "bool")
SUMS = (*FLOATS, "int32", "int64")
ORDERED = (*FLOATS, "int8", "int32", "int64", "uint8")

DTYPES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Rem", "Abs"), NUMBERS),
    **dict.fromkeys(("Equal", "NotEqual"), (*NUMBERS, "bool")),
    **dict.fromkeys(("Less", "LessEqual", "Greater", "GreaterEqual"), NUMBERS),
    **dict.fromkeys(
        ("Floor", "Ceil", "Round", "Exp", "Log", "Sqrt", "Rsqrt", "Reciprocal", "Sin", "Cos"),
        FLOATS,
    ),
    **dict.fromkeys(("Tanh", "Sigmoid", "Silu", "Softmax", "LogSoftmax", "IsNan"), FLOATS),
    **dict.fromkeys(("Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh"), NARROW),
    **dict.fromkeys(("Atanh", "Erf", "Softplus", "Gelu", "Conv", "ConvTranspose"), NARROW),
    **dict.fromkeys(("Elu", "LeakyRelu", "AvgPool"), NARROW),
    **dict.fromkeys(("Attention", "HardSigmoid", "HardSwish", "InstanceNorm", "Mish"), (F32,)),
    **dict.fromkeys(("BatchNorm", "LayerNorm"), FLOATS),
    **dict.fromkeys(("LogicalAnd", "LogicalOr", "LogicalXor", "LogicalNot"), ("bool",)),
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot"), INTS),
    **dict.fromkeys(("Reshape", "Transpose", "Concat", "Slice", "Split"), ALL),
    **dict.fromkeys(("Cast", "Identity"), (*ALL, *sorted(OF_ONNX))),
    **dict.fromkeys(("Gather", "GatherNd", "GatherElements", "DynamicSlice", "ScatterNd"), ALL),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ArgMax", "ArgMin"), ORDERED),
    **dict.fromkeys(("ReduceSum", "ReduceProd", "CumSum"), SUMS),
    "Clip": (*FLOATS, "int32"),
    "Gemm": FLOATS,
    "BroadcastTo": (*NUMBERS, "bool"),
    "IsInf": (F32, F64),
    "MatMul": (*FLOATS, "int32", "int64", "uint32", "uint64"),
    "MaxPool": FLOATS,
    "Maximum": (*FLOATS, "int8", "int32", "int64", "uint8", "uint32", "uint64"),
    "Minimum": (*FLOATS, "int8", "int32", "int64", "uint8", "uint32", "uint64"),
    "Neg": (*FLOATS, "int8", "int16", "int32", "int64"),
    "Pad": (*FLOATS, "int8", "int32", "int64", "uint8", "uint32", "uint64", "bool"),
    "Pow": (*FLOATS, "int32", "int64"),
    **dict.fromkeys(("ReduceL1", "ReduceLogSumExp", "ReduceSumSquare"), (F32, F64)),
    "ReduceMean": FLOATS,
    "Relu": FLOATS,
    **dict.fromkeys(("CachedAttention", "RmsNorm", "Rotary", "SkipRmsNorm"), (F32,)),
    **dict.fromkeys(("Gru", "Lstm"), (F32,)),
    "Select": (*FLOATS, "int8", "int32", "int64", "uint8", "uint32"),
    "ShiftLeft": ("uint8", "uint16", "uint32", "uint64"),
    "ShiftRightLogical": ("uint8", "uint16", "uint32", "uint64"),
    "Sign": (F32, F64, *INTS),  # of float16 it makes 0 from NaN
    "TopK": (*FLOATS, "int8", "int16", "int32", "int64", "uint8"),
}

# The dtypes to compute in where the own one has no kernel, best first; results are equal.
INSTEAD: dict[str, tuple[str, ...]] = {
    BF16: (F32,),
    F16: (F32,),
    "bool": ("uint8", "int32"),
    "int8": ("int32",),
    "int16": ("int32",),
    "int32": ("uint32",),
    "int64": ("uint64",),
    "uint8": ("int32",),
    "uint16": ("int32",),
    "uint32": ("int64",),
    "uint64": ("int64",),
}

# Operators whose results depend on the value of a uint64, not only on its bits.
BY_VALUE = frozenset({"ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "TopK", "Pow", "Neg"})


def value_dtype(node: CNode) -> np.dtype:
    """The dtype of the values that an operator computes with, not of its indices."""
    return node.inputs[VALUES.get(node.op, (0,))[0]].aval.dtype


def kernel_dtypes(node: CNode) -> tuple[str, ...]:
    """The dtypes that the runtime computes ``node`` in; a scatter that combines has fewer."""
    own = value_dtype(node).name
    if node.op == "ScatterNd" and node.attrs["reduction"]:
        return (F32, F64, *INTS)
    return DTYPES.get(node.op, (own,))
