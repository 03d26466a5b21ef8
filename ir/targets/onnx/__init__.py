"""ONNX: the files that ONNX Runtime and every other ONNX runtime reads."""

from functools import partial

from fnckpt.ir.passes import (
    activations,
    along,
    arithmetic,
    attention,
    box_filters,
    cached_attention,
    choices,
    columns,
    elements,
    instances,
    lookups,
    parts,
    places,
    planes,
    products,
    recurrent,
    reductions,
    remainders,
    reshape,
    rotary,
    rows,
    skips,
    softplus,
    vectors,
)
from fnckpt.ir.passes.one_shape import one_shape
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets.onnx import (
    control,
    emit_cast,
    emit_large,
    emit_recurrent,
    emit_reduction,
    legalize_order,
)
from fnckpt.ir.targets.onnx.check import check
from fnckpt.ir.targets.onnx.emit_decoders import CANNOT, EMITTERS
from fnckpt.ir.targets.onnx.encode import DEFAULT_OPSET, encode
from fnckpt.ir.targets.onnx.legalize import LEGALIZE
from fnckpt.ir.targets.onnx.read import summarize
from fnckpt.ir.targets.target import Target

__all__ = [
    "TARGET",
    "check",
    "control",
    "emit_cast",
    "emit_large",
    "emit_recurrent",
    "emit_reduction",
]

TURNED = partial(rewrite, rules=(*rotary.RULES, *reshape.RULES))
LARGE = partial(
    rewrite,
    rules=(
        *choices.RULES,
        *columns.RULES,
        *elements.RULES,
        *along.RULES,
        *softplus.RULES,
        *vectors.RULES,
        *reshape.RULES,
    ),
)
STACKED = partial(rewrite, rules=(reshape.stack_unreshaped, *reshape.RULES))
GATHERED = (partial(one_shape, gathers=True), partial(rewrite, rules=parts.FUSE))
UNFLATTENED = partial(rewrite, rules=(*reshape.RULES, *rows.RULES))

TARGET = Target(
    name="ONNX",
    suffix=".onnx",
    legalize=LEGALIZE,
    guards=legalize_order.GUARDS,
    recurrent=True,
    fused_first=(recurrent.recurrent,),
    fused=(
        *vectors.FUSE,
        *products.FUSE,
        *activations.FUSE,
        *instances.FUSE,
        *places.READ,
        *elements.AT_COLUMNS,
        *lookups.FUSE,
        *reductions.AT_ONCE,
        *parts.FUSE,
        *remainders.FUSE,
        arithmetic.add_where_zero,
        arithmetic.add_where,
        *box_filters.FUSE,
        *arithmetic.LATER,
        *arithmetic.DROP,  # of a mean, in front of a product that wants rows
        *reshape.RULES,
    ),
    fused_since={23: attention.FUSE},
    fused_for={
        "onnxruntime": (TURNED, skips.skip_norms),
        "onnxruntime-genai": (
            TURNED,
            cached_attention.cached_attention,
            UNFLATTENED,
            skips.skip_norms,
        ),
    },
    version=("opset", DEFAULT_OPSET),
    fused_parts=(
        *GATHERED,
        planes.planes,
        parts.split_slices,
        parts.split_rows,
        parts.reshape_rows,
        LARGE,
        STACKED,
        one_shape,
    ),
    emitters=EMITTERS,
    cannot=CANNOT,
    encode=encode,
    check=check,
    summarize=summarize,
)
