"""Arrays of accelerators on their way to the host, beside what the devices compute."""

from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding, SingleDeviceSharding

_PINNED = "pinned_host"  # JAX's name of the host's memory that a device reads and writes by itself
_TOGETHER = 64  # scalars that are one array on their way


@lru_cache(maxsize=256)
def on_accelerator(sharding: Sharding) -> bool:
    """Whether one of the devices is no CPU, whose memory is the host's."""
    return any(device.platform != "cpu" for device in sharding.device_set)


def is_apart(leaf: jax.Array) -> bool:
    """Whether ``leaf`` is in the memory of accelerators that can send it to the host."""
    return _is_apart(leaf.sharding)


@lru_cache(maxsize=256)
def _is_apart(sharding: Sharding) -> bool:
    if sharding.memory_kind == _PINNED or not sharding.is_fully_addressable:
        return False
    return on_accelerator(sharding) and all(
        _PINNED in {memory.kind for memory in device.addressable_memories()}
        for device in sharding.device_set
    )


def sent(leaves: Sequence[jax.Array]) -> list[jax.Array]:
    """Copies of ``leaves`` in pinned memory of the host; who reads them waits until they are there.

    This returns at once, and ``leaves`` may be donated to the next computation, which runs on. On
    an H200 the copy of 1 GB takes 0.026 s (0.3 the first time, when the memory is pinned), where
    ``np.asarray`` takes 0.7 and keeps its copy for as long as the array lives. ``np.asarray`` of
    these copies is a view. Sending one takes 30 to 250 µs of the caller's time.
    """
    return jax.device_put(leaves, [leaf.sharding.with_memory_kind(_PINNED) for leaf in leaves])


def sent_together(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Scalars, on their way in few arrays, as each array takes its time; ``received`` reads them.

    The last array is filled up with the last scalar. Those of several devices go one by one: their
    processes would have to stack them at the same moment.
    """
    parts = list(values)
    if all(isinstance(leaf.sharding, SingleDeviceSharding) for leaf in parts):
        parts += parts[-1:] * (-len(parts) % _TOGETHER)
        parts = [_stacked(parts[at : at + _TOGETHER]) for at in range(0, len(parts), _TOGETHER)]
    for part in parts:
        part.copy_to_host_async()
    return parts


def received(parts: Sequence[jax.Array], count: int) -> np.ndarray:
    """The ``count`` scalars that ``sent_together`` sent."""
    return np.concatenate([np.atleast_1d(np.asarray(part)) for part in parts])[:count]


@jax.jit
def _stacked(values: Sequence[jax.Array]) -> jax.Array:
    return jnp.stack(values)
