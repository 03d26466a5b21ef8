"""Operators and dtypes that ONNX or its runtime lacks, in those that they have."""

import numpy as np

from fnckpt.ir.eight_bits import EIGHT_BITS, OF_ONNX
from fnckpt.ir.graph import CNode, Node
from fnckpt.ir.operators import OPERATORS
from fnckpt.ir.passes import activations, attention, instances, norms, nothing, scalars, special
from fnckpt.ir.passes.build import FLOAT32, FLOAT64, through
from fnckpt.ir.passes.control import (
    CAPTURE_AS_FLOAT32,
    choose_by_boolean,
    condition_in_body,
    halve_branches,
    rows_to_turn,
)
from fnckpt.ir.passes.eight_bits import eight_bits
from fnckpt.ir.passes.rewrite import Op, Rule
from fnckpt.ir.targets.onnx import (
    legalize_activations,
    legalize_double,
    legalize_float,
    legalize_integer,
    legalize_moves,
    legalize_order,
)
from fnckpt.ir.targets.onnx.kernels import BY_VALUE, DTYPES, INSTEAD, kernel_dtypes, value_dtype


def _widen(root: CNode) -> Node | None:
    """f(x) is cast(f(cast(x))) where the runtime computes f in a wider dtype alone."""
    own, known = value_dtype(root), kernel_dtypes(root)
    if own.name in known or (own.name == "uint64" and root.op in BY_VALUE):
        return None
    instead = next((name for name in INSTEAD.get(own.name, ()) if name in known), None)
    if instead is None or len(root.results) > 1:
        return None
    return through(root, np.dtype(instead))


def _of_double(compose: Rule) -> Rule:
    """What the runtime has for float32 alone, of doubles."""

    def rewrite(root: CNode) -> Node | None:
        return compose.rewrite(root) if root.aval.dtype == FLOAT64 else None

    return Rule(compose.pattern, rewrite)


def _in_double(root: CNode) -> Node | None:
    """A formula that loses the last digits of float32."""
    return through(root, FLOAT64) if root.aval.dtype == FLOAT32 else None


def _rms_norm_by_parts(root: CNode) -> Node | None:
    """ONNX has it along the last axis; its epsilon is a float32."""
    last = root.attrs["axis"] == len(root.aval.shape) - 1
    return None if last and root.aval.dtype != FLOAT64 else norms.compose_rms_norm.rewrite(root)


LEGALIZE: tuple[Rule, ...] = (
    *nothing.RULES,
    halve_branches,
    choose_by_boolean,
    rows_to_turn,
    *eight_bits(EIGHT_BITS - OF_ONNX),
    condition_in_body,
    *CAPTURE_AS_FLOAT32,
    *legalize_order.GUARDS,
    *legalize_activations.RULES,
    *legalize_double.RULES,
    *legalize_float.RULES,
    *legalize_integer.RULES,
    *legalize_moves.RULES,
    Rule(Op("Lgamma"), _in_double),
    *special.RULES,
    *map(_of_double, (instances.compose_instance_norm, *attention.COMPOSE, *activations.COMPOSE)),
    norms.compose_standardize,
    Rule(Op("RmsNorm"), _rms_norm_by_parts),
    *(Rule(Op(op), _widen) for op in DTYPES if op in OPERATORS),
    *scalars.RULES,
)
