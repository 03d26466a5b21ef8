"""How MindSpore's primitives take what is not a tensor: one table, spelled in two dialects.

Since MindSpore 2.3 a primitive that has a signature takes all its arguments as inputs, constants
in the order of that signature, and is called PRIMITIVE_FUNCTION ("argument" style). Others keep
attributes. Before, nearly all were attributes ("attribute" style). Source: files that MindSpore
2.10.0 and 2.0.0 export for one operator each.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """The arguments of a primitive beside its tensors.

    Attributes:
      arguments: their names in the order of the signature; None where the primitive has no
        signature, so that both dialects write attributes.
      inputs: what is an input in the attribute style too.
      new: what the attribute style does not have at all.
      alike: the kernels that read the attribute style want inputs of the result's shape.
    """

    arguments: tuple[str, ...] | None = ()
    inputs: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    alike: bool = False


def _form(arguments: str = "", inputs: str = "", new: str = "") -> Form:
    return Form(tuple(arguments.split()), tuple(inputs.split()), tuple(new.split()))


MASKS = "begin_mask end_mask ellipsis_mask new_axis_mask shrink_axis_mask"

PRIMITIVES: Mapping[str, Form] = {
    "ArgMaxWithValue": _form("axis keep_dims"),
    "ArgMinWithValue": _form("axis keep_dims"),
    "AvgPool": _form("kernel_size strides pad_mode format"),
    "Argmax": _form("axis output_type"),
    "Argmin": _form("axis output_type"),
    "BatchMatMul": _form("transpose_a transpose_b"),
    "BatchNorm": _form("is_training epsilon momentum format"),
    "BiasAdd": _form("format"),
    "BroadcastTo": _form("shape"),
    "Cast": _form("dst_type", inputs="dst_type"),
    "Concat": _form("axis"),
    "CumProd": _form("axis exclusive reverse", inputs="axis"),
    "CumSum": _form("axis exclusive reverse", inputs="axis"),
    "Cummax": _form("axis"),
    "Cummin": _form("axis"),
    "Gather": _form("axis batch_dims", inputs="axis"),
    "LayerNorm": _form("begin_norm_axis begin_params_axis epsilon"),
    "LogSoftmax": _form("axis"),
    "MatMul": _form("transpose_a transpose_b"),
    "ReduceAll": _form("axis keep_dims", inputs="axis"),
    "ReduceAny": _form("axis keep_dims", inputs="axis"),
    "ReduceMax": _form("axis keep_dims", inputs="axis"),
    "ReduceMean": _form("axis keep_dims", inputs="axis"),
    "ReduceMin": _form("axis keep_dims", inputs="axis"),
    "ReduceProd": _form("axis keep_dims", inputs="axis"),
    "ReduceSum": _form("axis keep_dims skip_mode", inputs="axis", new="skip_mode"),
    "Reshape": _form("shape", inputs="shape"),
    "ReverseV2": _form("axis"),
    "Round": _form("decimals", new="decimals"),
    "Select": Form(alike=True),
    "Softmax": _form("axis"),
    "StridedSlice": _form(f"begin end strides {MASKS}", inputs="begin end strides"),
    "Tile": _form("multiples", inputs="multiples"),
    "Transpose": _form("perm", inputs="perm"),
    "TupleToTensor": _form("dtype"),
    **dict.fromkeys(
        (
            "AvgPool3D", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Conv2D", "Conv2DTranspose",
            "Conv3D", "CumulativeLogsumexp", "Digamma", "Invert", "IsNan", "Lgamma", "MakeTuple",
            "MaxPool", "MaxPool3D", "Mod", "PadV3", "PopulationCount", "Rint", "Softplus", "Sort",
            "TensorScatterMax", "TensorScatterMin", "TensorScatterMul", "TensorScatterUpdate",
            "TopK", "TruncateDiv", "TruncateMod", "TupleGetItem",
        ),
        Form(None),
    ),
}  # fmt: skip
# A primitive that is not in the table has a signature of tensors alone.

# What the argument style writes as a number.
CODES: Mapping[tuple[str, str], Mapping[str, int]] = {
    ("AvgPool", "pad_mode"): {"SAME": 1, "VALID": 2},
    ("AvgPool", "format"): {"NCHW": 0},
    ("BatchNorm", "format"): {"NCHW": 0},
    ("BiasAdd", "format"): {"NCHW": 0},
}


def form_of(primitive: str) -> Form:
    """How a primitive takes its arguments."""
    return PRIMITIVES.get(primitive, Form())
