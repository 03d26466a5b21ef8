"""Copies of a state: what they share, how long they last, whom they keep waiting."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnckpt.checkpoints.device_to_host import is_apart
from fnckpt.training.saving.copies import Copies, on_host


def test_the_second_copy_lies_in_the_memory_of_the_first():
    room: dict[str, np.ndarray] = {}
    first = on_host({"w": jnp.zeros(1000), "n": jnp.array(1)}, room)
    second = on_host({"w": jnp.ones(1000), "n": jnp.array(2)}, room)
    assert second["w"] is first["w"]
    assert (second["w"].sum(), int(second["n"])) == (1000, 2)


def test_a_leaf_of_another_shape_or_dtype_gets_memory_of_its_own():
    room: dict[str, np.ndarray] = {}
    first = on_host({"w": jnp.zeros(3), "v": jnp.zeros(2)}, room)
    second = on_host({"w": jnp.ones(4), "v": jnp.ones(2, jnp.int8)}, room)
    assert first["w"].tolist() == [0, 0, 0]
    assert (second["w"].shape, second["v"].dtype) == ((4,), np.int8)


def test_the_memory_of_leaves_that_are_gone_is_let_go():
    room: dict[str, np.ndarray] = {}
    on_host({"w": jnp.zeros(3), "v": jnp.zeros(2)}, room)
    on_host({"w": jnp.zeros(3)}, room)
    assert list(room) == ["w"]


def test_a_copy_shares_nothing_with_the_state_and_keeps_keys():
    tree = {"w": jnp.arange(5.0), "key": jax.random.key(3), "n": 7, "host": np.zeros(3)}
    copied = on_host(tree, {})
    tree["host"][:] = 1
    assert copied["host"].tolist() == [0, 0, 0]
    assert not np.shares_memory(copied["w"], np.asarray(tree["w"]))
    tree["w"].delete()
    tree["key"].delete()
    assert copied["w"].tolist() == [0, 1, 2, 3, 4]
    assert (copied["key"] == np.asarray(jax.random.key_data(jax.random.key(3)))).all()
    assert copied["n"] == 7


def state(number: int) -> dict[str, Any]:
    return {
        "w": jnp.full(1000, number, jnp.float32),
        "bf16": jnp.full(3, number, jnp.bfloat16),
        "empty": jnp.zeros((0, 2)),
        "key": jax.random.key(number),
        "host": np.full(2, number),
        "text": "a",
        "n": number,
    }


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_any_copy_is_equal_in_order_and_outlives_the_state(number: int):
    copies = Copies()
    for at in range(1, number):
        copies.copy(state(at))
    tree = state(number)
    copied = copies.copy(tree)
    expected = {name: np.asarray(leaf) for name, leaf in on_host(state(number)).items()}
    tree["host"][:] = 0
    for leaf in tree.values():
        if isinstance(leaf, jax.Array):
            leaf.delete()
    assert list(copied) == list(tree)
    for name, leaf in expected.items():
        assert np.asarray(copied[name]).dtype == leaf.dtype
        np.testing.assert_array_equal(np.asarray(copied[name]), leaf)


def test_copies_on_the_device_lie_in_one_memory_even_after_views_of_them():
    copies = Copies()
    seen = []
    for number in range(1, 8):
        copied = copies.copy(state(number))
        view = np.asarray(copied["w"])
        seen.append(copied["w"].unsafe_buffer_pointer() if number > 2 else None)
        assert view[0] == number
        del copied, view
    assert len(set(seen[2:])) == 1


def test_a_view_that_is_kept_keeps_its_numbers():
    copies = Copies()
    views = [np.asarray(copies.copy(state(number))["w"]) for number in range(1, 8)]
    assert [int(view[0]) for view in views[2:]] == [3, 4, 5, 6, 7]


def test_a_copy_on_the_device_does_not_wait_for_the_step_that_computes_the_state():
    def step(x: jax.Array) -> jax.Array:  # seconds, so that the copy is asked for long before
        return jax.lax.fori_loop(0, 1500, lambda _, y: jnp.tanh(x @ y), x)

    w = jnp.eye(512)
    compiled = jax.jit(step).lower(w).compile()
    copies = Copies()
    for _ in range(3):
        copies.copy({"w": w})
    copied = copies.copy({"w": compiled(w)})
    assert not copied["w"].is_ready()
    assert np.asarray(copied["w"]).shape == (512, 512)


def test_a_state_that_changes_its_shapes_is_copied_all_the_same():
    copies = Copies()
    for size in (1, 1, 2, 3, 3, 4):
        copied = copies.copy({"w": jnp.full(size, size)})
        assert np.asarray(copied["w"]).tolist() == [size] * size


def test_leaves_on_several_devices_are_copied_on_the_host():
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    copies = Copies()
    for number in range(4):
        copied = copies.copy({"w": jax.device_put(jnp.full(4, number), spread), "n": jnp.array(1)})
        assert isinstance(copied["w"], np.ndarray)
        assert copied["w"].tolist() == [number] * 4


def on_a_mesh(tree: dict[str, Any]) -> dict[str, Any]:
    """The arrays of ``tree`` on all devices."""
    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    arrays = {name: leaf for name, leaf in tree.items() if isinstance(leaf, jax.Array)}
    return tree | {name: jax.device_put(leaf, whole) for name, leaf in arrays.items()}


@pytest.mark.parametrize("place", [dict[str, Any], on_a_mesh])
def test_arrays_of_an_accelerator_are_sent_to_the_host_and_outlive_the_state(
    place: Callable[[dict[str, Any]], dict[str, Any]],
):
    """The CPU stands in for one: JAX gives it pinned memory, too."""
    copies = Copies(is_apart=lambda leaf: True)
    for number in range(4):
        tree = place(state(number))
        copied = copies.copy(tree)
        expected = {name: np.asarray(leaf) for name, leaf in on_host(state(number)).items()}
        for leaf in tree.values():
            if isinstance(leaf, jax.Array):
                assert is_apart(leaf) is (jax.default_backend() != "cpu")
                leaf.delete()
        assert list(copied) == list(tree)
        for name, leaf in expected.items():
            assert np.asarray(copied[name]).dtype == leaf.dtype
            np.testing.assert_array_equal(np.asarray(copied[name]), leaf)
        sent = [leaf for leaf in copied.values() if isinstance(leaf, jax.Array)]
        assert len(sent) == 4
        assert {leaf.sharding.memory_kind for leaf in sent} == {"pinned_host"}
        assert not any(map(is_apart, sent))
