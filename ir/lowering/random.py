"""Random numbers, bit for bit those of JAX: a key is a value like others, its data ``uint32``.

An array of keys of shape ``(..., )`` is in the graph what ``jax.random.key_data`` gives:
``uint32[..., 2]`` for the default generator. What a generator does with a key is JAX's own
function of the key's data, traced; the cipher below is written out.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import JaxprEqn

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.known import is_extended
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers, lowers_keys
from fnckpt.ir.lowering.shape import counting
from fnckpt.ir.operators import constant
from fnckpt.ir.sizes import is_known

Ints = tuple[int, ...]
Function = Callable[..., Array]

UINT32 = np.dtype(np.uint32)

# The rotations of Threefry's rounds, four to an injection of the key, and its parity word
# (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, 2011).
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
INJECTIONS = 5


@lowers("threefry2x32")
def lower_threefry(site: Site, key1: Node, key2: Node, x1: Node, x2: Node) -> tuple[Node, Node]:
    """The cipher: 20 rounds of an addition, a rotation and an exclusive or."""
    parity = constant(PARITY, UINT32)
    keys = (key1, key2, site.apply("BitwiseXor", site.apply("BitwiseXor", key1, key2), parity))
    x, y = site.apply("Add", x1, key1), site.apply("Add", x2, key2)
    for number in range(1, INJECTIONS + 1):
        for places in ROTATIONS[(number - 1) % 2]:
            x = site.apply("Add", x, y)
            y = site.apply("BitwiseXor", x, rotated(site, y, places))
        x = site.apply("Add", x, keys[number % 3])
        y = site.apply(
            "Add", y, site.apply("Add", keys[(number + 1) % 3], site.constant(number, y))
        )
    shape = site.results[0].shape
    full = (
        each if each.aval.shape == shape else site.apply("BroadcastTo", each, shape=shape)
        for each in (x, y)
    )
    first, second = full
    return first, second


def rotated(site: Site, x: Node, places: int) -> Node:
    """The bits of ``x`` moved to the left, those that leave coming in from the right."""
    left = site.apply("ShiftLeft", x, site.constant(places, x))
    right = site.apply("ShiftRightLogical", x, site.constant(32 - places, x))
    return site.apply("BitwiseOr", left, right)


@lowers("iota_2x32_shape")
def lower_iota_2x32(site: Site, *, shape: Ints) -> tuple[Node, Node]:
    """The place of each element among all, as the high and the low half of 64 bits."""
    if all(map(is_known, shape)) and prod(shape) > 1 << 32:
        raise Refusal("it draws more than 2 ** 32 numbers at once; draw fewer")
    low: Node | None = None
    for axis, size in enumerate(shape):
        stride = prod(shape[axis + 1 :])
        factor = site.cast(site.reshape(site.sizes((stride,)), ()), UINT32)
        column = site.reshape(
            site.apply("Mul", counting(site, size, UINT32), factor),
            tuple(size if i == axis else 1 for i in range(len(shape))),
        )
        low = column if low is None else site.apply("Add", low, column)
    assert low is not None
    high = site.apply("BroadcastTo", constant(np.zeros((1,) * len(shape), UINT32)), shape=shape)
    return high, low


def over_axes(count: int, function: Function) -> Function:
    """``function`` of one key as a function of an array of keys with ``count`` axes."""
    for _ in range(count):
        function = jax.vmap(function)
    return function


def generator_of(eqn: JaxprEqn) -> compat.Generator:
    """What draws from the keys that an equation takes first."""
    return compat.generator(eqn.invars[0].aval)


@lowers_keys("random_seed")
def lower_seed(site: Site, eqn: JaxprEqn, seeds: Node) -> Value:
    seed = compat.generator(eqn.outvars[0].aval).seed
    (data,) = composed(site, over_axes(len(seeds.aval.shape), seed), seeds)
    return data


@lowers_keys(
    "random_wrap", "random_unwrap", "random_clone", "random_consume", "convert_element_type"
)
def same_keys(site: Site, eqn: JaxprEqn, keys: Node) -> Node:
    """The data of the keys; a clone may be used again, which only JAX's own checks care for."""
    return keys


@lowers_keys("random_bits")
def lower_bits(site: Site, eqn: JaxprEqn, keys: Node) -> Value:
    generator, width, shape = generator_of(eqn), eqn.params["bit_width"], eqn.params["shape"]
    draw = over_axes(_axes(keys), lambda key: generator.random_bits(key, width, shape))
    (bits,) = composed(site, draw, keys)
    return bits


@lowers_keys("random_split")
def lower_split(site: Site, eqn: JaxprEqn, keys: Node) -> Value:
    generator, shape = generator_of(eqn), eqn.params["shape"]
    split = over_axes(_axes(keys), lambda key: generator.split(key, shape))
    (parts,) = composed(site, split, keys)
    return parts


@lowers_keys("random_fold_in")
def lower_fold_in(site: Site, eqn: JaxprEqn, keys: Node, numbers: Node) -> Value:
    generator = generator_of(eqn)
    shape, width = site.aval.shape[:-1], site.aval.shape[-1]

    def fold(keys: Array, numbers: Array) -> Array:
        each = over_axes(len(shape), generator.fold_in)
        return each(jnp.broadcast_to(keys, (*shape, width)), jnp.broadcast_to(numbers, shape))

    (folded,) = composed(site, fold, keys, numbers)
    return folded


@lowers_keys("random_gamma")
def lower_gamma(site: Site, eqn: JaxprEqn, keys: Value, shapes: Value) -> tuple[Value, ...]:
    """JAX's own loop of draws, for all elements at once as XLA has it."""
    together = partial(eqn.primitive.impl, use_vmap=True, **eqn.params)
    return site.call(compat.traced(eqn, together), (keys, shapes))


@lowers_keys("eq", "ne")
def compare_keys(site: Site, eqn: JaxprEqn, x: Node, y: Node) -> Node:
    """Keys are equal where all of their data are."""
    axes = (_axes(x),)
    same = site.apply("Equal", x, y)
    if eqn.primitive.name == "eq":
        return site.apply("ReduceAll", same, axes=axes, keepdims=False)
    return site.apply("ReduceAny", site.apply("LogicalNot", same), axes=axes, keepdims=False)


def _axes(keys: Node) -> int:
    return len(keys.aval.shape) - 1


def moves_keys(eqn: JaxprEqn) -> bool:
    """Whether a primitive has keys to move, and gives nothing but keys."""
    return any(map(is_extended, eqn.invars)) and all(map(is_extended, eqn.outvars))


def move_keys(site: Site, eqn: JaxprEqn, *inputs: Value) -> tuple[Value, ...]:
    """A primitive that moves elements, for each word of the keys."""
    words = tuple(-1 if is_extended(atom) else None for atom in eqn.invars)

    def move(*arrays: Array) -> Sequence[Array]:
        return tuple(compat.bind(eqn, arrays))

    return composed(site, jax.vmap(move, in_axes=words, out_axes=-1), *inputs)
