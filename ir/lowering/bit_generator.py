"""XLA's generators of random bits, bit for bit as on the CPU: Philox 4x32 and Threefry 2x32.

A state is two numbers of 64 bits: the key, and a counter that goes on. As ``uint32[4]`` the low
half of each comes first. The default of the CPU is Philox; keys of ``impl="rbg"`` and
``"unsafe_rbg"`` draw with it.
"""

from collections.abc import Callable
from functools import partial
from math import prod

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.random import threefry2x32_p

from fnckpt.ir.graph import Node
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.compose import composed
from fnckpt.ir.lowering.registry import Refusal, Site, Value, lowers
from fnckpt.ir.sizes import is_known

Ints = tuple[int, ...]
Pair = tuple[Array, Array]  # the low and the high 32 bits of a number
Generator = Callable[[Pair, Pair, Ints, bool], tuple[Array, Array]]

U32, U64 = np.dtype(np.uint32), np.dtype(np.uint64)

# The multipliers, the steps of the key and the rounds of Philox 4x32-10 (Salmon et al., Parallel
# random numbers: as easy as 1, 2, 3, 2011).
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

THREE_FRY = 1  # of JAX's RandomAlgorithm; the others are Philox on the CPU


@lowers("rng_bit_generator")
def lower_rng_bit_generator(
    site: Site, state: Node, *, shape: Ints, dtype: np.dtype, algorithm: int
) -> tuple[Value, ...]:
    """The next state, and an array of random bits."""
    if all(map(is_known, shape)) and prod(shape) >= 1 << 31:
        raise Refusal("it draws 2 ** 31 numbers or more at once; draw fewer")
    generator = threefry if int(algorithm) == THREE_FRY else philox
    with compat.enable_x64():  # a product of Philox has 64 bits
        return composed(site, partial(drawn, generator, shape, np.dtype(dtype)), state)


def drawn(generator: Generator, shape: Ints, dtype: np.dtype, state: Array) -> tuple[Array, Array]:
    """The state after the draw, and the bits of ``dtype``: narrow ones are the low bits of 32."""
    words = state if state.dtype == U32 else jnp.stack(halves(state), axis=-1).reshape(4)
    key, counter = (words[0], words[1]), (words[2], words[3])
    bits, used = generator(key, counter, shape, dtype == U64)
    low, high = moved_on(counter, used)
    after = (*key, low, high)
    if state.dtype == U32:
        return jnp.stack(after), bits.astype(dtype)
    return jnp.stack([whole(key), whole((low, high))]), bits.astype(dtype)


def philox(key: Pair, counter: Pair, shape: Ints, wide: bool) -> tuple[Array, Array]:
    """Four words for each count; the key is the high end of the counter, too."""
    count = prod(shape) * (2 if wide else 1)
    blocks = -(-count // 4)
    index = jnp.arange(blocks, dtype=U32)
    low, high = moved_on(counter, index)
    overflows = (high < counter[1]) | ((high == counter[1]) & (low < counter[0]))
    third = key[0] + overflows.astype(U32)
    fourth = key[1] + (third < key[0]).astype(U32)
    words = rounds_of_philox((low, high, third, fourth), key)
    flat = jnp.stack(words, axis=-1).reshape(blocks * 4)[:count]
    if wide:
        pairs = flat.reshape(*shape, 2)
        return whole((pairs[..., 0], pairs[..., 1])), size(blocks)
    return flat.reshape(shape), size(blocks)


def rounds_of_philox(words: tuple[Array, ...], key: Pair) -> tuple[Array, ...]:
    """Each round: two products, whose halves are mixed with the key and change places."""
    a, b, c, d = words
    for _ in range(ROUNDS):
        (low_a, high_a), (low_c, high_c) = (
            halves(x.astype(U64) * U64.type(n)) for x, n in zip((a, c), MULTIPLIERS, strict=True)
        )
        a, b, c, d = high_c ^ b ^ key[0], low_c, high_a ^ d ^ key[1], low_a
        key = (key[0] + U32.type(STEPS[0]), key[1] + U32.type(STEPS[1]))
    return a, b, c, d


def threefry(key: Pair, counter: Pair, shape: Ints, wide: bool) -> tuple[Array, Array]:
    """Two words for each count: one number of 64 bits, or two neighbours along one axis.

    That is the first axis of an even size, or else the longest one.
    """
    if wide:
        count = prod(shape)
        low, high = (x.reshape(shape) for x in block(key, counter, count))
        return whole((low, high)), size(count)
    if not shape:
        return block(key, counter, 1)[0].reshape(()), size(1)
    even = [axis for axis, n in enumerate(shape) if n % 2 == 0]
    axis = even[0] if even else shape.index(max(shape))
    before, half, after = shape[:axis], -(-shape[axis] // 2), shape[axis + 1 :]
    count = prod((*before, half, *after))
    parts = [x.reshape(*before, half, 1, *after) for x in block(key, counter, count)]
    both = jnp.concatenate(parts, axis=axis + 1).reshape(*before, 2 * half, *after)
    return lax.slice_in_dim(both, 0, shape[axis], axis=axis), size(count)


def block(key: Pair, counter: Pair, count: int) -> Pair:
    """Threefry's two words at so many counts."""
    low, high = moved_on(counter, jnp.arange(count, dtype=U32))
    spread = (jnp.broadcast_to(word, (count,)) for word in key)
    first, second = threefry2x32_p.bind(*spread, low, high)
    return first, second


def moved_on(counter: Pair, count: Array) -> Pair:
    """The counter after ``count`` more."""
    low = counter[0] + count
    return low, counter[1] + (low < counter[0]).astype(U32)


def size(count: int) -> Array:
    return jnp.asarray(count, U32)


def halves(x: Array) -> Pair:
    return x.astype(U32), (x >> U64.type(32)).astype(U32)


def whole(pair: Pair) -> Array:
    return pair[0].astype(U64) | (pair[1].astype(U64) << U64.type(32))
