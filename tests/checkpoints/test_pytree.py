"""Trees of every kind of leaf, saved and restored as they were."""

from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

from fnckpt.checkpoints.formats import ckpt_index
from fnckpt.checkpoints.leaf_names import leaves
from fnckpt.checkpoints.pytree import differences, load_checkpoint, save_checkpoint
from fnckpt.errors import CheckpointMismatch

DEVICE = jax.devices()[0]
SHARDED = jax.NamedSharding(jax.sharding.Mesh(np.array([DEVICE]), ("x",)), jax.P("x"))

LEAVES = {
    "int": 7,
    "negative int": -(1 << 63),
    "wide int": (1 << 64) - 1,
    "bool": True,
    "float": 0.1,
    "text": "héllo, 世界",
    "no text": "",
    "numpy scalar": np.float16(1.5),
    "numpy 0-d": np.array(3, np.uint8),
    "empty": np.zeros((0,), np.float32),
    "empty in the middle": np.zeros((2, 0, 3), np.int64),
    "strided": np.arange(24.0).reshape(4, 6)[::2, ::-3],
    "transposed": np.arange(6, dtype=np.int16).reshape(2, 3).T,
    "broadcast": np.broadcast_to(np.float32(2), (3, 4)),
    "big-endian": np.arange(5, dtype=">i8"),
    "big-endian float": np.array(1.25, ">f4"),
    "read-only": np.frombuffer(b"abcd", np.uint8),
    "bfloat16": np.arange(4).astype(ml_dtypes.bfloat16),
    "jax": jnp.arange(6.0).reshape(2, 3),
    "jax bfloat16": jnp.ones((3,), jnp.bfloat16),
    "jax 0-d": jnp.array(4, jnp.int8),
    "jax empty": jnp.zeros((0, 2), jnp.bool_),
    "jax weak": jnp.asarray(2.0),
    "jax weak int": jnp.asarray(2),
    "jax weak vector": jnp.broadcast_to(jnp.asarray(-0.0), (3,)),
    "jax committed": jax.device_put(jnp.arange(3), DEVICE),
    "jax sharded": jax.device_put(jnp.arange(4.0), SHARDED),
    "key": jax.random.key(3),
    "keys": jax.random.split(jax.random.key(3), (2, 2)),
    "rbg key": jax.random.key(5, impl="rbg"),
    "committed key": jax.device_put(jax.random.key(1), DEVICE),
    "old key": jax.random.PRNGKey(0),
}

NOT_PORTABLE = {
    "complex": 1 + 2j,
    "complex64": np.array([1j, -0.0], np.complex64),
    "jax complex": jnp.array([1j]),
    **{
        str(dtype): np.arange(2).astype(dtype)
        for dtype in ckpt_index.FNCKPT_ONLY.values()
        if dtype.kind != "c"
    },
    "jax float8": jnp.ones((2, 2), jnp.float8_e4m3fn),
    "jax int4": jnp.array([-8, 7], jnp.int4),
}


def assert_same_leaf(found, expected):
    assert type(found) is type(expected)
    if not isinstance(expected, jax.Array | np.ndarray | np.generic):
        assert found == expected
        return
    assert found.shape == expected.shape
    if isinstance(expected, jax.Array):
        assert found.dtype == expected.dtype
        assert found.sharding == expected.sharding
        assert found.committed == expected.committed
        if jnp.issubdtype(expected.dtype, jax.dtypes.prng_key):
            found, expected = jax.random.key_data(found), jax.random.key_data(expected)
        else:
            assert found.weak_type == expected.weak_type
    native = np.asarray(expected).astype(np.dtype(expected.dtype).newbyteorder("="))
    assert np.asarray(found).dtype == native.dtype
    assert np.asarray(found).tobytes() == native.tobytes()


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("kind", LEAVES)
def test_a_leaf_comes_back_as_what_it_was(kind, crc, mmap, tmp_path):
    tree = {"leaf": LEAVES[kind]}
    path = save_checkpoint(tree, tmp_path / "a.ckpt", crc=crc)
    assert_same_leaf(load_checkpoint(path, tree, mmap=mmap)["leaf"], LEAVES[kind])


@pytest.mark.parametrize("kind", NOT_PORTABLE)
def test_what_mindspore_cannot_read_is_refused_unless_asked_for(kind, tmp_path):
    tree = {"leaf": NOT_PORTABLE[kind]}
    path = tmp_path / "a.ckpt"
    with pytest.raises(TypeError, match=r"leaf: MindSpore cannot load .*portable=False"):
        save_checkpoint(tree, path)
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(tree, path, portable=False)
    assert_same_leaf(load_checkpoint(path, tree)["leaf"], NOT_PORTABLE[kind])


def test_mindspore_refuses_a_file_that_is_not_portable(tmp_path, run_python):
    path = save_checkpoint({"f8": NOT_PORTABLE["jax float8"]}, tmp_path / "a.ckpt", portable=False)
    refused = run_python(
        "import sys, mindspore\n"
        "try: mindspore.load_checkpoint(sys.argv[1])\n"
        "except ValueError as error: print('refused', error)",
        path,
    )
    assert refused.startswith("refused 'Float8E4M3FN'")


def test_all_leaves_together_come_back_in_their_structure(tmp_path):
    tree = {"kinds": LEAVES, "none": None, "list": [1, (2.0, None), []], "deep": {"a": {"b": [3]}}}
    loaded = load_checkpoint(save_checkpoint(tree, tmp_path / "a.ckpt"), tree)
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    jax.tree.map(assert_same_leaf, loaded, tree)


def test_without_like_the_leaves_come_as_numpy_arrays_by_name(tmp_path):
    tree = {"w": jnp.ones((2, 3), jnp.bfloat16), "step": 7, "note": "a", "key": jax.random.key(1)}
    loaded = load_checkpoint(save_checkpoint(tree, tmp_path / "a.ckpt"))
    assert {name: (str(a.dtype), a.shape) for name, a in loaded.items()} == {
        "key": ("uint32", (2,)),
        "note": ("<U1", ()),
        "step": ("int64", ()),
        "w": ("bfloat16", (2, 3)),
    }
    assert loaded["w"].flags.writeable
    loaded = load_checkpoint(tmp_path / "a.ckpt", mmap=True)
    assert not any(array.flags.writeable for array in loaded.values())


def test_a_train_state_of_linen_and_optax_is_restored_bit_by_bit(tmp_path):
    model = linen.Sequential([linen.Dense(4), linen.BatchNorm(True), linen.Dense(2)])
    variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
    chain = optax.chain(optax.clip(1.0), optax.adam(optax.linear_schedule(1e-3, 1e-4, 10)))
    state = TrainState.create(apply_fn=model.apply, params=variables["params"], tx=chain)
    state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
    path = save_checkpoint(state, tmp_path / "a.ckpt")
    assert "params.layers_0.kernel" in load_checkpoint(path)
    assert "opt_state.1.0.mu.layers_0.kernel" in load_checkpoint(path)
    loaded = load_checkpoint(path, state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    jax.tree.map(assert_same_leaf, loaded, state)


def test_the_state_of_an_nnx_module_is_restored(tmp_path):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 2, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    state = nnx.state(Net(nnx.Rngs(0)))
    path = save_checkpoint(state, tmp_path / "a.ckpt")
    jax.tree.map(assert_same_leaf, load_checkpoint(path, state), state)


def test_abstract_leaves_are_restored_as_jax_arrays(tmp_path):
    tree = {"w": jnp.ones((4, 2)), "key": jax.random.split(jax.random.key(3)), "s": jnp.arange(4.0)}
    path = save_checkpoint(tree, tmp_path / "a.ckpt")
    abstract = jax.eval_shape(lambda: tree)
    abstract["s"] = jax.ShapeDtypeStruct((4,), jnp.float32, sharding=SHARDED)
    loaded = load_checkpoint(path, abstract)
    assert loaded["s"].sharding == SHARDED
    for name in ("w", "key"):
        assert_same_leaf(loaded[name], tree[name])


def test_a_python_int_that_became_an_array_in_training_still_fits(tmp_path):
    path = save_checkpoint({"step": 5}, tmp_path / "a.ckpt")
    step = load_checkpoint(path, {"step": jnp.asarray(0)})["step"]
    assert (step.dtype, int(step), step.weak_type) == (jnp.int32, 5, True)
    save_checkpoint({"step": step}, path)
    assert load_checkpoint(path, {"step": 0}) == {"step": 5}
    save_checkpoint({"step": 1 << 40}, path)
    with pytest.raises(
        CheckpointMismatch, match=r"step: expected int \(\), 1099511627776 does not"
    ):
        load_checkpoint(path, {"step": jnp.asarray(0)})


def test_every_difference_is_named_at_once(tmp_path):
    tree = {"dense_1": {"kernel": np.ones((2, 3)), "bias": np.ones(3)}, "step": 1, "old": 2.0}
    path = save_checkpoint(tree, tmp_path / "a.ckpt")
    like = {
        "dense_2": {"kernel": np.ones((2, 3))},
        "dense_1": {"kernel": np.ones((3, 2)), "bias": np.ones(3, np.float32)},
        "step": 1.0,
    }
    with pytest.raises(CheckpointMismatch) as raised:
        load_checkpoint(path, like)
    assert str(raised.value) == (
        f"{path}: the checkpoint does not fit the tree, 5 leaves differ:\n"
        "  dense_1.bias: expected float32 (3,), found float64 (3,)\n"
        "  dense_1.kernel: expected float64 (3, 2), found float64 (2, 3)\n"
        "  step: expected float (), found int64 ()\n"
        "  dense_2.kernel: missing in the file\n"
        "  old: in the file, not in the tree\n"
        "strict=False loads what fits and keeps the rest of the tree."
    )


def test_a_missing_leaf_is_shown_with_the_closest_unclaimed_name(tmp_path):
    path = save_checkpoint({"encoder.layer_0.kernel": 1.0}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointMismatch) as raised:
        load_checkpoint(path, {"encoder.layers_0.kernel": 1.0})
    assert "missing in the file; close: encoder.layer_0.kernel\n" in str(raised.value)


def test_strict_false_loads_the_rest_and_reports(tmp_path):
    path = save_checkpoint({"a": 1, "b": np.ones(2), "gone": 3}, tmp_path / "a.ckpt")
    like = {"a": 0, "b": np.zeros(3), "new": "kept"}
    with pytest.warns(UserWarning, match=r"new: missing in the file") as told:
        loaded = load_checkpoint(path, like, strict=False)
    assert told[0].filename == __file__
    assert (loaded["a"], loaded["b"].tolist(), loaded["new"]) == (1, [0, 0, 0], "kept")
    found = differences(path, like)
    assert (list(found.missing), found.extra, list(found.unlike)) == (["new"], ["gone"], ["b"])
    assert not differences(path, {"a": 1, "b": np.ones(2), "gone": 3})


def test_leaves_that_share_a_name_are_refused_with_both_places(tmp_path):
    tree = {"a": {"b": 1}, "a.b": 2, "c": 3}
    with pytest.raises(ValueError, match="share a name") as raised:
        save_checkpoint(tree, tmp_path / "a.ckpt")
    assert str(raised.value).endswith("'a.b' is the name of ['a']['b'] and ['a.b']")


def test_leaves_that_no_checkpoint_holds_are_all_named(tmp_path):
    tree = {
        "a": object(),
        "b": np.array(["x", "y"]),
        "c": np.array([None]),
        "d": np.zeros(2, "M8[s]"),
        "e": 1 << 64,
        "f": b"bytes",
        "g": "ends in \0",
        "h": "\ud800",
        "i": 1.0,
        "\ud800": 1.0,
    }
    with pytest.raises(TypeError) as raised:
        save_checkpoint(tree, tmp_path / "a.ckpt")
    assert str(raised.value) == (
        f"{tmp_path}/a.ckpt: leaves that cannot be saved:\n"
        "  a: a builtins.object is not an array, number or text\n"
        "  b: an array of texts; a checkpoint holds single ones\n"
        "  c: the dtype object is not one of the format's\n"
        "  d: the dtype datetime64[s] is not one of the format's\n"
        "  e: the int 18446744073709551616 is wider than 64 bits\n"
        "  f: a builtins.bytes is not an array, number or text\n"
        "  g: a text that ends in NUL, which the format drops\n"
        "  h: a text with lone surrogates\n"
        "  '\\ud800': its name has lone surrogates; rename it"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_tree_without_leaves_and_a_name_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(ValueError, match="the tree has no leaf"):
        save_checkpoint({"a": None}, tmp_path / "a.ckpt")
    with pytest.raises(TypeError, match=r"like: a: a builtins.object is not an array"):
        load_checkpoint(save_checkpoint({"a": 1}, tmp_path / "a.ckpt"), {"a": object()})


def test_names_are_paths_joined_by_dots():
    tree = {"params": {"w": 1.0}, "opt": (2.0, [3.0, None]), "state": nnx.Param(jnp.zeros(1))}
    assert [name for name, _ in leaves(tree)] == ["opt.0", "opt.1.0", "params.w", "state.value"]
    assert leaves(5) == [("", 5)]


def test_a_tree_that_is_one_leaf_is_saved_too(tmp_path):
    path = save_checkpoint(np.arange(3), tmp_path / "a.ckpt")
    assert load_checkpoint(path, np.zeros(3, int)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["a.npz", "a.NPZ"])
def test_an_npz_is_not_written_with_the_bytes_of_a_ckpt(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a \.ckpt or a \.safetensors file.*fnckpt\.convert"):
        save_checkpoint({"w": np.ones(2)}, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.SafeTensors", "a.CKPT", "a"])
def test_what_is_saved_is_loaded_however_its_suffix_is_written(name: str, tmp_path: Path) -> None:
    path = save_checkpoint({"w": np.arange(2.0)}, tmp_path / name)
    np.testing.assert_array_equal(load_checkpoint(path)["w"], [0.0, 1.0])
