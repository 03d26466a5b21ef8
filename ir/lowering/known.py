"""Values that are known at export: computed by JAX itself where no rule can say them.

A known PRNG key is a constant of its key data, ``uint32[..., 2]``, which becomes a key again for
the equation that takes it. What comes out as numbers goes on as a constant.
"""

from collections.abc import Sequence

import jax
import jax.core
import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from fnckpt.ir.attributes import sizes
from fnckpt.ir.border import as_complex
from fnckpt.ir.evaluate import compute
from fnckpt.ir.graph import CNode, Constant, Node, Parameter, in_order, inputs_of
from fnckpt.ir.lowering.compat import bind, wide_numbers
from fnckpt.ir.lowering.registry import Pair, Value
from fnckpt.ir.recursion import bounded
from fnckpt.ir.sizes import all_known

# The implementation of the PRNG whose keys are of a dtype, by the dtype's name.
PRNGS = {"key<fry>": "threefry2x32", "key<rbg>": "rbg", "key<urbg>": "unsafe_rbg"}

MOST_SIZES = 64  # of an array of indices that is looked at
KEEPS_SIZES = frozenset({"Cast", "Concat", "Reshape"})

# The operator that stands where an equation could not be lowered; no finished graph has it.
NOT_LOWERED = "NotLowered"

# What calls back into Python may look at a clock or a file: a value it gives is not a constant.
IMPURE = frozenset({"pure_callback", "io_callback", "debug_callback", "debug_print", "infeed"})


def is_extended(atom: Var | Literal) -> bool:
    """Whether a variable holds PRNG keys or another dtype that only JAX knows."""
    aval = atom.aval
    if not isinstance(aval, jax.core.ShapedArray):
        return False
    return jax.numpy.issubdtype(aval.dtype, jax.dtypes.extended)


def known_value(value: Value, *, weights: bool = False) -> np.ndarray | None:
    """The array that ``value`` always is, or None where it depends on an input.

    What depends on a weight is known only where ``weights`` are.
    """
    if isinstance(value, Pair):
        real, imag = (known_value(part, weights=weights) for part in (value.real, value.imag))
        return None if real is None or imag is None else as_complex(np.stack([real, imag], -1))
    return _settled(value, weights)


def _settled(node: Node, weights: bool) -> np.ndarray | None:
    if isinstance(node, Constant):
        return node.value
    found: dict[int, np.ndarray | tuple[np.ndarray, ...]] = {}
    below: list[Node] = []
    for n in in_order([node]):
        if not (_is_computed(n) or (weights and is_weight(n))):
            return None  # at the first one, since most values are computed from an input
        below.append(n)
    for n in below:
        found[id(n)] = compute(n, [found[id(i)] for i in inputs_of(n)])
    value = found[id(node)]
    return value if isinstance(value, np.ndarray) else None


def is_weight(node: Node) -> bool:
    """Whether this is a parameter whose value is given."""
    return isinstance(node, Parameter) and node.value is not None


def _is_computed(node: Node) -> bool:
    """Whether this is a constant, or an operator with a meaning."""
    return (bool(inputs_of(node)) and not is_stand_in(node)) or isinstance(node, Constant)


def is_stand_in(node: Node) -> bool:
    """Whether this stands for the result of an equation that could not be lowered."""
    return isinstance(node, CNode) and node.op == NOT_LOWERED


@bounded(otherwise=None)
def known_sizes(node: Node) -> tuple[int, ...] | None:
    """The elements of a small integer array in row-major order, where all are sizes, symbolic too.

    None where one depends on the values of an input.
    """
    if isinstance(node, Constant):
        small = node.value.dtype.kind in "iu" and node.value.size <= MOST_SIZES
        return tuple(map(int, node.value.ravel())) if small else None
    if not isinstance(node, CNode) or not all_known(node.aval.shape):
        return None
    if node.op == "Sizes":
        return sizes(node, "sizes")
    if (
        node.op not in KEEPS_SIZES
        or node.aval.size > MOST_SIZES
        or node.aval.dtype.kind not in "iu"
    ):
        return None
    parts = [known_sizes(each) for each in node.inputs]
    known = [part for part in parts if part is not None]
    one_axis = node.op != "Concat" or len(node.aval.shape) == 1
    if len(known) < len(parts) or not one_axis:
        return None
    return tuple(size for part in known for size in part)


def computed(
    eqn: JaxprEqn, inputs: Sequence[Value], *, weights: bool = False
) -> list[Value] | None:
    """The results of an equation as constants, or None where not all of its inputs are known.

    ``weights``: those count as known.
    """
    if eqn.effects or eqn.primitive.name in IMPURE or not all(map(_has_known_sizes, eqn.outvars)):
        return None
    given: list[np.ndarray] = []
    for value in inputs:
        array = known_value(value, weights=weights)
        if array is None:
            return None
        given.append(array)
    with jax.ensure_compile_time_eval(), wide_numbers(given):
        args = [_jax_value(atom, array) for atom, array in zip(eqn.invars, given, strict=True)]
        try:
            results = bind(eqn, args)
        except NotImplementedError:  # JAX says so of primitives that need a mesh or a device
            return None
        return [constant_of(result) for result in results]


def _has_known_sizes(var: Var) -> bool:
    return not isinstance(var.aval, jax.core.ShapedArray) or all_known(var.aval.shape)


def _jax_value(atom: Var | Literal, array: np.ndarray) -> jax.Array:
    value = jax.numpy.asarray(array)
    if not is_extended(atom):
        return value
    assert isinstance(atom.aval, jax.core.ShapedArray)
    return jax.random.wrap_key_data(value, impl=PRNGS[str(atom.aval.dtype)])


def array_of(value: object) -> np.ndarray:
    """An array of JAX or numpy as one of numpy; PRNG keys become their data."""
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        value = jax.random.key_data(value)
    return np.asarray(value)


def constant_of(value: object) -> Value:
    """An array of JAX or numpy as a constant; PRNG keys become their data."""
    array = array_of(value)
    if array.dtype.kind == "c":
        return Pair(Constant(np.real(array)), Constant(np.imag(array)))
    return Constant(array)
