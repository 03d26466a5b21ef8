"""AIR: the files that Ascend's graph engine (GE) compiles; docs/air.md tells their limits."""

from fnckpt.ir.targets.air.check import check
from fnckpt.ir.targets.air.emit import CANNOT
from fnckpt.ir.targets.air.emit_network import EMITTERS
from fnckpt.ir.targets.air.encode import encode
from fnckpt.ir.targets.air.legalize import LEGALIZE
from fnckpt.ir.targets.air.summarize import summarize
from fnckpt.ir.targets.target import Target

__all__ = ["TARGET", "check"]

TARGET = Target(
    name="AIR",
    suffix=".air",
    legalize=LEGALIZE,
    emitters=EMITTERS,
    cannot=CANNOT,
    encode=encode,
    check=check,
    summarize=summarize,
    no_dtype={"bfloat16": 'GE r1.1 has no type for it; dtype="float16" has one'},
    symbolic=False,
    loops=False,
)
