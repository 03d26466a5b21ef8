"""What turns a graph into operators and types that GE r1.1 has."""

from fnckpt.ir.eight_bits import EIGHT_BITS
from fnckpt.ir.passes import (
    activations,
    attention,
    instances,
    norms,
    nothing,
    parts,
    products,
    reductions,
    special,
)
from fnckpt.ir.passes.eight_bits import eight_bits
from fnckpt.ir.passes.reshape import drop_reshape, merge_reshapes
from fnckpt.ir.passes.rewrite import Rule
from fnckpt.ir.targets.air import (
    legalize_compose,
    legalize_network,
    legalize_types,
)

LEGALIZE: tuple[Rule, ...] = (
    *nothing.RULES,
    *attention.COMPOSE,
    *products.COMPOSE,
    *instances.COMPOSE,
    *norms.COMPOSE,
    *activations.COMPOSE,
    *parts.COMPOSE,
    *reductions.COMPOSE,
    merge_reshapes,
    drop_reshape,
    *eight_bits(EIGHT_BITS),
    *legalize_types.RULES,
    *legalize_compose.RULES,
    *special.RULES,
    *legalize_network.RULES,
)
