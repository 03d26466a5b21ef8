"""Copies of a state that no later computation touches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from fnckpt.checkpoints import device_to_host
from fnckpt.checkpoints.restoring import is_key

_COMPILED_FROM = 3  # copies; compiling one takes 0.4 ms a leaf, which few copies are not worth
_MOST_COMPILED = 1000  # leaves


@dataclass
class Copies:
    """Copies the same tree again and again, into the memory of the copy before.

    The next step, to which the state is donated, overwrites its buffers; ``np.asarray`` of a JAX
    array on the CPU is a view of them, so a copy is needed there, too.

    Arrays of accelerators are sent to the host, which the caller does not wait for. On one CPU the
    first copies are made on the host: that waits for the step which computes the tree. Later ones
    are a computation of the device, which takes its turn there as a step does: the caller goes on,
    and who reads the copy waits.

    Args:
      is_apart: whether an array is sent to the host.
    """

    is_apart: Callable[[jax.Array], bool] = device_to_host.is_apart
    _made: int = 0
    _host: dict[str, np.ndarray] = field(default_factory=dict)
    _device: dict[str, jax.Array] = field(default_factory=dict)
    _given: list[jax.Array] = field(default_factory=list)

    def copy(self, tree: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the arrays of ``tree``, leaves by name; it overwrites the copy before.

        A key array becomes its ``key_data``, as a checkpoint holds it.
        """
        self._made += 1
        arrays = {name: _stored(leaf) for name, leaf in tree.items() if isinstance(leaf, jax.Array)}
        if arrays and all(map(self.is_apart, arrays.values())):
            copied = dict(zip(arrays, device_to_host.sent(list(arrays.values())), strict=True))
        elif self._made >= _COMPILED_FROM and _is_compiled(arrays):
            copied = self._on_device(arrays)
        else:
            self._device = {}
            return on_host(tree, self._host)
        others = {name: leaf for name, leaf in tree.items() if name not in arrays}
        copied |= on_host(others, self._host)
        return {name: copied[name] for name in tree}

    def _on_device(self, arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
        stored = list(arrays.values())
        room = list(self._device.values())
        if [_kind(leaf) for leaf in room] != [_kind(leaf) for leaf in stored]:
            room = jax.device_put(stored, stored[0].sharding, may_alias=False)
        self._device = dict(zip(arrays, _copied(stored, room), strict=True))
        self._given = room  # up to JAX 0.8, to let go of what was donated waits for who got it
        # Other objects, whose views end with them: a buffer that has views is not donated.
        return {name: leaf.addressable_data(0) for name, leaf in self._device.items()}


def on_host(tree: Mapping[str, Any], room: dict[str, np.ndarray] | None = None) -> dict[str, Any]:
    """A copy of the arrays of ``tree`` as NumPy arrays; other leaves as they are.

    Args:
      tree: leaves by name.
      room: arrays of an earlier copy that nobody reads any more. What has the same name, shape
        and dtype is copied into them; afterwards they are those of this copy.
    """
    room = {} if room is None else room
    stored = {name: _stored(leaf) for name, leaf in tree.items()}
    for leaf in stored.values():
        if isinstance(leaf, jax.Array):
            leaf.copy_to_host_async()
    for name in room.keys() - tree.keys():
        del room[name]
    return {name: _on_host(name, leaf, room) for name, leaf in stored.items()}


def _on_host(name: str, leaf: Any, room: dict[str, np.ndarray]) -> Any:
    if not isinstance(leaf, jax.Array | np.ndarray):
        return leaf
    held = room.get(name)
    if held is None or _kind(held) != _kind(leaf):
        room[name] = np.array(leaf)
    else:
        np.copyto(held, np.asarray(leaf))
    return room[name]


@partial(jax.jit, donate_argnums=1, keep_unused=True)
def _copied(leaves: list[jax.Array], room: list[jax.Array]) -> list[jax.Array]:
    """``leaves`` in the memory of ``room``, which has their shapes and dtypes."""
    return [jnp.copy(leaf) for leaf in leaves]


def _is_compiled(arrays: Mapping[str, jax.Array]) -> bool:
    """Whether ``arrays`` are few and on one CPU, whose memory is the host's."""
    places = {leaf.sharding for leaf in arrays.values()}
    if len(places) != 1 or len(arrays) > _MOST_COMPILED:
        return False
    place = places.pop()
    return isinstance(place, SingleDeviceSharding) and all(
        device.platform == "cpu" for device in place.device_set
    )


def _stored(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if isinstance(leaf, jax.Array) and is_key(leaf) else leaf


def _kind(leaf: jax.Array | np.ndarray) -> tuple[tuple[int, ...], np.dtype]:
    return leaf.shape, np.dtype(leaf.dtype)
