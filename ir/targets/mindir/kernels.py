"""Which dtypes MindSpore's CPU kernels compute rightly, as measured with version 2.10.0.

The measure is ir/evaluate.py: a kernel that is there but gives another result is not listed.
An operator that is not in the table has no dtype that needs care.
"""

from collections.abc import Mapping

import numpy as np

Kernels = Mapping[str, tuple[str, ...]]

SINGLE = ("float16", "float32")
FLOATS = (*SINGLE, "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)
ALL = (*FLOATS, *INTEGERS, "bool")  # all but bfloat16

KERNELS: Kernels = {
    **dict.fromkeys(
        (
            "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "AvgPool", "BatchNorm",
            "Cbrt", "Ceil", "Conv", "ConvTranspose", "Cos", "Cosh", "CumLogSumExp", "Elu", "Erf",
            "Erfc", "Exp", "Expm1", "Floor", "IsInf", "LayerNorm", "Lgamma", "Log",
            "Log1p", "LogSoftmax", "MaxPool", "Reciprocal", "ReduceMean", "Round", "Rsqrt",
            "Sigmoid", "Silu", "Sin", "Sinh", "Softmax", "Softplus", "Sqrt", "Tan", "Tanh",
        ),
        FLOATS,
    ),
    **dict.fromkeys(
        (
            "BroadcastTo", "DynamicSlice", "DynamicUpdateSlice", "Equal", "Gather",
            "GatherElements", "GatherNd", "Greater", "GreaterEqual", "IsFinite", "IsNan",
            "LeakyRelu", "Less", "LessEqual", "NotEqual", "Pad", "Relu", "Reshape", "Reverse",
            "Select", "Slice", "Transpose",
        ),
        ALL,
    ),
    **dict.fromkeys(
        (
            "ArgMax", "ArgMin", "CumMax", "CumMin", "CumProd", "CumSum", "Minimum", "Pow",
            "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "ScatterNd", "Sign", "Square",
            "TopK",
        ),
        (*FLOATS, *INTEGERS),
    ),
    **dict.fromkeys(("Div", "Rem"), (*FLOATS, *SIGNED, "uint8", "uint16", "uint32")),
    "Abs": (*FLOATS, *SIGNED, "uint8", "bool"),
    "Digamma": SINGLE,
    "ErfInv": ("float64",),
    "Gelu": ("float32", "float64"),  # in parts: 1 + erf of float16 has three digits
    "MatMul": (*FLOATS, *SIGNED, "uint8"),
    "Maximum": (*FLOATS, *SIGNED, "uint8", "uint32", "uint64", "bool"),
    "Sub": (*FLOATS, *SIGNED, "uint8", "uint16"),
}  # fmt: skip

# The same of MindSpore 2.0.0, of which Lite 2.0.0 has fewer. Neither has bfloat16.
OLDER_KERNELS: Kernels = KERNELS | {
    "Less": (*FLOATS, *SIGNED, "uint8", "bool"),
    "MatMul": ("float32", "float64", "int32"),
    "Reverse": (*FLOATS, *SIGNED, "uint8", "uint16"),
    "TopK": (*SINGLE, "int32"),
}

# Where to compute what a kernel does not take: each holds every value.
WIDER: dict[str, tuple[str, ...]] = {
    "bfloat16": ("float32", "float64"),
    "float16": ("float32", "float64"),
    "float32": ("float64",),
    "bool": ("uint8", "int32"),
    "int8": ("int32", "float32"),
    "uint8": ("int32", "float32"),
    "int16": ("int32", "float32"),
    "uint16": ("int32", "float32"),
    "int32": ("int64", "float64"),
    "uint32": ("int64", "float64"),
}

# The bits of sums, products and moves are the same, signed or not.
WRAPS = frozenset({"MatMul", "Reverse", "Sub"})

VALUES = {  # which inputs hold the values; all of them where nothing is said
    "DynamicSlice": (0,), "DynamicUpdateSlice": (0, 1), "Gather": (0,), "GatherElements": (0,),
    "GatherNd": (0,), "ScatterNd": (0, 2), "Select": (1, 2),
}  # fmt: skip
INDEX_DTYPES = ("int16", "int32", "int64")


def takes(op: str, dtype: np.dtype, kernels: Kernels = KERNELS) -> bool:
    """Whether the kernel of ``op`` computes ``dtype``."""
    return op not in kernels or dtype.name in kernels[op]


def stand_in(op: str, dtype: np.dtype, kernels: Kernels = KERNELS) -> np.dtype | None:
    """The dtype in which ``op`` gives an equal result; None where there is none, or no need."""
    if takes(op, dtype, kernels):
        return None
    if dtype == np.uint64:
        return np.dtype(np.int64) if op in WRAPS else None
    wide = (name for name in WIDER.get(dtype.name, ()) if name in kernels[op])
    found = next(wide, None)
    return None if found is None else np.dtype(found)
