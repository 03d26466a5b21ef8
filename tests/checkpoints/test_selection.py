"""Parts of checkpoints: what is asked for is read, nothing else; what does not fit is told."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from orbax.checkpoint.experimental.v1 import training

from fnckpt import (
    CheckpointMismatch,
    CheckpointPolicy,
    FormatError,
    convert,
    differences,
    load_checkpoint,
    save_checkpoint,
    train,
)
from fnckpt.checkpoints.selection import matches

STATE = {
    "params": {
        "Conv_0": {"kernel": np.ones((3, 3)), "bias": np.zeros(3)},
        "Dense_0": {"kernel": np.full((3, 2), 2.0), "bias": np.ones(2)},
    },
    "opt_state": [{"mu": np.ones(3), "flags": np.array([True, False])}],
    "step": 7,
}


@pytest.fixture(params=[".ckpt", ".safetensors"])
def path(request, tmp_path):
    return save_checkpoint(STATE, tmp_path / f"a{request.param}")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"part": "params.Dense_0"}, {"kernel", "bias"}),
        ({"part": "params."}, {f"{m}.{n}" for m in STATE["params"] for n in ("kernel", "bias")}),
        ({"part": "step"}, {""}),
        ({"only": "params.Conv_0"}, {"params.Conv_0.kernel", "params.Conv_0.bias"}),
        ({"only": "*.bias"}, {"params.Conv_0.bias", "params.Dense_0.bias"}),
        ({"only": ["step", "*.mu"]}, {"step", "opt_state.0.mu"}),
        ({"skip": ["params", "opt_state"]}, {"step"}),
        ({"only": "params", "skip": "*.kernel"}, {"params.Conv_0.bias", "params.Dense_0.bias"}),
        ({"part": "params", "only": "Conv_?.bias"}, {"Conv_0.bias"}),
    ],
)
def test_names_that_are_asked_for_come_back(path, asked, names):
    assert set(load_checkpoint(path, **asked)) == names


@pytest.mark.parametrize("mmap", [False, True])
def test_a_part_fits_the_tree_that_it_was(path, mmap):
    like = {m: {n: np.zeros_like(v) for n, v in d.items()} for m, d in STATE["params"].items()}
    loaded = load_checkpoint(path, like, part="params", mmap=mmap)
    np.testing.assert_equal(loaded, STATE["params"])
    assert load_checkpoint(path, 0, part="step") == 7


def test_leaves_that_are_not_asked_for_keep_their_value_whatever_the_file_has(path):
    head = {"kernel": np.zeros((3, 5)), "bias": np.zeros(5)}  # another number of classes
    conv = {"kernel": np.zeros((3, 3)), "bias": np.ones(3)}
    like = {"Conv_0": conv, "Dense_0": head}
    loaded = load_checkpoint(path, like, part="params", skip="Dense_0")
    np.testing.assert_equal(loaded["Conv_0"], STATE["params"]["Conv_0"])
    assert loaded["Dense_0"]["kernel"] is head["kernel"]
    with pytest.raises(CheckpointMismatch, match="2 leaves differ"):
        load_checkpoint(path, like, part="params", only="Dense_0")


def test_contents_that_are_not_asked_for_are_not_read(tmp_path):
    """A Bool that is neither 0 nor 1 is found when its tensor is read."""
    flags = np.arange(1 << 17) % 2 == 0
    path = save_checkpoint({"params": {"w": np.ones(2)}, "flags": flags}, tmp_path / "a.ckpt")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\1\0\1\0\1\0", b"\7\0\1\0\1\0", 1))
    with pytest.raises(FormatError, match="flags"):
        load_checkpoint(path)
    assert set(load_checkpoint(path, part="params")) == {"w"}
    assert set(load_checkpoint(path, skip="flags")) == {"params.w"}


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"part": "parms"}, "part: the file has no 'parms'; close: params"),
        ({"part": "param"}, "part: the file has no 'param'; close: params"),
        ({"only": "parms.*"}, "only: no name matches 'parms.*'"),
        ({"skip": ["step", "opt"]}, "skip: no name matches 'opt'"),
        ({"part": "params", "only": "params"}, "only: no name matches 'params'"),
    ],
)
def test_what_matches_nothing_is_refused_by_name(path, asked, told):
    with pytest.raises(CheckpointMismatch, match=re.escape(told)):
        load_checkpoint(path, **asked)


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"part": 3}, TypeError, "part: must be a name"),
        ({"part": ""}, ValueError, "part: must be a name"),
        ({"only": []}, ValueError, "only: must have at least one pattern"),
        ({"skip": [3]}, TypeError, "skip: must be patterns of names, got 3"),
    ],
)
def test_arguments_of_another_kind_are_refused(path, asked, error, told):
    with pytest.raises(error, match=told):
        load_checkpoint(path, **asked)


def test_a_pattern_takes_whole_parts_of_a_name():
    assert matches("a.b.c", "a.b")
    assert not matches("a.bb.c", "a.b")
    assert matches("a.bb.c", "a.b*")


# ------------------------------------------------------------------------- what does not fit


def test_a_mismatch_counts_all_and_shows_ten(tmp_path):
    path = save_checkpoint({f"w{i:02}": np.ones(2) for i in range(24)}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointMismatch) as raised:
        load_checkpoint(path, {f"w{i:02}": np.ones(3) for i in range(24)})
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("the checkpoint does not fit the tree, 24 leaves differ:")
    assert [line.split(":")[0].strip() for line in lines[1:11]] == [f"w{i:02}" for i in range(10)]
    assert lines[11] == "  and 14 more; fnckpt.differences lists all"
    assert len(lines) == 13


def test_the_model_alone_is_found_in_a_training_s_state(path):
    with pytest.raises(CheckpointMismatch) as raised:
        load_checkpoint(path, STATE["params"])
    call = f"fnckpt.load_checkpoint({str(path)!r}, like, part='params')"
    assert f"The file has this tree in a part: {call}" in str(raised.value)
    np.testing.assert_equal(load_checkpoint(path, STATE["params"], part="params"), STATE["params"])


def test_another_optimizer_s_state_says_which_part_fits(path):
    like = STATE | {"opt_state": [{"trace": np.ones(3)}]}
    with pytest.raises(CheckpointMismatch, match=r"The part 'params' fits: .*part='params'\)"):
        load_checkpoint(path, like)


def test_a_file_of_the_model_alone_says_which_part_it_is(tmp_path):
    path = save_checkpoint(STATE["params"], tmp_path / "model.ckpt")
    with pytest.raises(CheckpointMismatch, match="has the part 'params' of the tree alone"):
        load_checkpoint(path, STATE)


def test_a_directory_is_named_with_what_is_in_it(tmp_path):
    with pytest.raises(IsADirectoryError, match="no checkpoint file, and Orbax did not write it"):
        load_checkpoint(tmp_path)
    save_checkpoint(STATE, tmp_path / "CKP-1_5.ckpt")
    told = r"with the checkpoint CKP-1_5.ckpt; give a file, or fnckpt.latest_checkpoint"
    with pytest.raises(IsADirectoryError, match=told):
        load_checkpoint(tmp_path, STATE)


def test_a_directory_of_orbax_is_loaded_or_its_trees_are_named(tmp_path):
    old, steps = tmp_path / "old.orbax", tmp_path / "steps"
    convert(save_checkpoint(STATE, tmp_path / "a.ckpt"), old)
    np.testing.assert_equal(load_checkpoint(old, STATE), STATE)
    assert not differences(old, STATE)
    with training.Checkpointer(str(steps)) as keeper:
        keeper.save(1, STATE["params"], force=True)
        np.testing.assert_equal(load_checkpoint(steps, STATE["params"]), STATE["params"])
        keeper.save_checkpointables(2, {"net": STATE["params"], "opt": {"m": np.ones(2)}})
    for path, told in (
        (steps, r"several steps or trees: 1, 2; give one of them, such as .*steps/2"),
        (steps / "2", r"several steps or trees: net, opt; give one of them, such as .*2/opt"),
    ):
        with pytest.raises(FormatError, match=told):
            load_checkpoint(path)
    with pytest.raises(ValueError, match="an Orbax directory has no encryption"):
        load_checkpoint(old, dec_key=bytes(16))


@pytest.mark.parametrize("array", [np.arange(3, dtype=">f4"), np.arange(6).reshape(2, 3).T])
def test_safetensors_hold_what_ckpt_holds(tmp_path, array):
    path = save_checkpoint({"a": array, "name": "net", "n": 3}, tmp_path / "a.safetensors")
    loaded = load_checkpoint(path, {"a": array, "name": "", "n": 0})
    np.testing.assert_array_equal(loaded["a"], array)
    assert (loaded["name"], loaded["n"]) == ("net", 3)


def test_what_safetensors_cannot_hold_is_named(tmp_path):
    tree = {"a": np.zeros(2, np.complex128), "b": np.ones(2), "c": np.zeros(2, np.complex128)}
    with pytest.raises(TypeError, match="a: the format has no complex128\n  c: the format") as told:
        save_checkpoint(tree, tmp_path / "a.safetensors", portable=False)
    assert "b:" not in str(told.value)
    with pytest.raises(ValueError, match="no CRC and no encryption; leave out crc"):
        save_checkpoint({"b": np.ones(2)}, tmp_path / "a.safetensors", crc=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (np.ones(2, np.float32), "; its state is one array, which has no name"),
        ({"w": np.ones(2, np.float32)}, "; it has w"),
    ],
)
@pytest.mark.parametrize("asked", [{"part": "params"}, {"only": "params.*"}])
def test_an_error_lists_the_names_of_the_state_alone(
    state: Any, told: str, asked: dict[str, Any], tmp_path: Path
) -> None:
    train(
        lambda state, batch: (state, {}),
        state,
        [np.float32(0)],
        policy=CheckpointPolicy(),
        directory=tmp_path,
        progress=False,
    )
    with pytest.raises(CheckpointMismatch) as raised:
        load_checkpoint(tmp_path / "CKP-1_1.ckpt", **asked)
    assert str(raised.value).endswith(told)
