"""What turns a graph into operators, shapes and types that MindSpore's CPU kernels have."""

from fnckpt.ir.eight_bits import EIGHT_BITS
from fnckpt.ir.passes import (
    activations,
    attention,
    control,
    instances,
    norms,
    nothing,
    parts,
    products,
    reductions,
)
from fnckpt.ir.passes.eight_bits import eight_bits
from fnckpt.ir.passes.rewrite import Rule
from fnckpt.ir.targets.mindir import (
    legalize_control,
    legalize_elementwise,
    legalize_index,
    legalize_network,
    legalize_rank,
    legalize_types,
    legalize_window,
)

LEGALIZE: tuple[Rule, ...] = (
    *nothing.RULES,
    control.scan_as_while,
    control.choose_by_boolean,
    *legalize_control.RULES,
    *attention.COMPOSE,
    products.compose_clip,
    legalize_network.compose_gemm,
    *instances.COMPOSE,
    *norms.COMPOSE,
    *activations.COMPOSE,
    *parts.COMPOSE,
    *reductions.COMPOSE,
    legalize_window.convolve_by_products,  # before integers go through a float
    *eight_bits(EIGHT_BITS),
    *legalize_types.RULES,
    *legalize_elementwise.RULES,
    *legalize_index.RULES,
    *legalize_network.RULES,
    *legalize_window.RULES,
    *legalize_rank.RULES,
)
