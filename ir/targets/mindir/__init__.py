"""MindIR: the files that MindSpore and MindSpore Lite load."""

from fnckpt.ir.passes import arithmetic, products, reshape
from fnckpt.ir.passes.reshaped_once import reshaped_once
from fnckpt.ir.targets.mindir import (
    control,
    emit,
    emit_accurate,
    emit_exact,
    legalize_elementwise,
    legalize_network,
    legalize_types,
)
from fnckpt.ir.targets.mindir.encode import encode
from fnckpt.ir.targets.mindir.legalize import LEGALIZE
from fnckpt.ir.targets.mindir.read import check, summarize
from fnckpt.ir.targets.mindir.registry import CANNOT, EMITTERS
from fnckpt.ir.targets.target import Target

__all__ = ["TARGET", "check", "control", "emit", "emit_accurate", "emit_exact"]

TARGET = Target(
    name="MINDIR",
    suffix=".mindir",
    legalize=LEGALIZE,
    fused=(*products.ROWS, legalize_network.turn_weight, *arithmetic.LATER, *reshape.RULES),
    fused_parts=(reshaped_once,),
    emitters=EMITTERS,
    cannot=CANNOT,
    encode=encode,
    check=check,
    summarize=summarize,
    guards=(*legalize_elementwise.GUARDS, legalize_types.saturate_cast),
)
