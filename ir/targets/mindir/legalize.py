"""Operators and dtypes that MindSpore lacks, in those that it has."""

from fnckpt.ir.passes.rewrite import Rule

LEGALIZE: tuple[Rule, ...] = ()
