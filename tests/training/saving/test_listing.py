"""Which checkpoints a directory has: in the order of training, whoever's name looks alike."""

import mmap
import re
from typing import Any

import numpy as np
import pytest

import fnckpt
from fnckpt import CheckpointMismatch, CheckpointPolicy, load_checkpoint, save_checkpoint, train


def step(state, batch):
    return {"params": state["params"] + batch, "n": state["n"] + 1}, {"loss": batch}


def fit(directory, *, epochs=1, state=None, data=(1.0, 2.0, 3.0), **options):
    first = {"params": np.zeros(2, np.float32), "n": 0} if state is None else state
    given: dict[str, Any] = {
        "policy": CheckpointPolicy(1, keep_max=9),
        "directory": directory,
    } | options
    return train(step, first, list(data), epochs=epochs, **given)


def names(paths):
    return [path.name for path in paths]


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_checkpoints_come_in_the_order_of_training(tmp_path, suffix):
    numbers = [float(n) for n in range(11)]
    fit(tmp_path, data=numbers, policy=CheckpointPolicy(1, keep_max=3), checkpoint_format=suffix)
    fit(tmp_path, data=numbers[:2], checkpoint_format=suffix)  # run 2 of the prefix
    listed = fnckpt.checkpoints(tmp_path)
    assert names(listed) == [
        f"{place}.{suffix}"
        for place in ("CKP-1_9", "CKP-1_10", "CKP-1_11", "CKP_2-1_1", "CKP_2-1_2")
    ]
    assert fnckpt.latest_checkpoint(tmp_path) == listed[-1]
    assert load_checkpoint(listed[-1], part="n")[""] == 2


def test_a_prefix_that_looks_like_a_later_run_is_kept_apart(tmp_path):
    fit(tmp_path, prefix="a", data=[1.0])
    fit(tmp_path, prefix="a_2", data=[1.0, 2.0])
    assert names(fnckpt.checkpoints(tmp_path, "a")) == ["a-1_1.ckpt"]
    assert names(fnckpt.checkpoints(tmp_path, "a_2")) == ["a_2-1_1.ckpt", "a_2-1_2.ckpt"]
    with pytest.raises(
        ValueError, match=re.escape("of several prefixes ('a', 'a_2'); give prefix")
    ):
        fnckpt.latest_checkpoint(tmp_path)


def test_names_of_files_that_do_not_tell_count(tmp_path):
    """As the real MindSpore writes them: no entry says the prefix."""
    for name in ("net-1_5", "net-2_5", "net_1-1_5", "net_2-1_1"):
        save_checkpoint({"w": np.ones(2)}, tmp_path / f"{name}.ckpt")
    listed = ["net-1_5.ckpt", "net-2_5.ckpt", "net_2-1_1.ckpt"]
    assert names(fnckpt.checkpoints(tmp_path, "net")) == listed


def test_where_nothing_is_nothing_is_found(tmp_path):
    for directory in (tmp_path, tmp_path / "missing"):
        assert fnckpt.checkpoints(directory) == []
        assert fnckpt.latest_checkpoint(directory) is None
        assert fnckpt.best_checkpoint(directory) is None


def test_a_damaged_file_is_passed_over_with_a_warning(tmp_path):
    newest = fit(tmp_path).checkpoints[-1]
    newest.write_bytes(newest.read_bytes()[:50])
    with pytest.warns(UserWarning, match="CKP-1_3.ckpt: cannot be read and is skipped"):
        assert fnckpt.latest_checkpoint(tmp_path) == tmp_path / "CKP-1_2.ckpt"


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_the_best_is_found_and_is_not_among_the_others(tmp_path, suffix):
    measured = iter([3.0, 1.0, 2.0])
    result = fit(
        tmp_path,
        epochs=3,
        eval_fn=lambda state: {"loss": next(measured)},
        best="loss",
        checkpoint_format=suffix,
    )
    best = fnckpt.best_checkpoint(tmp_path, "CKP")
    assert best and result.best  # noqa: PT018
    assert best == result.best.path == tmp_path / f"CKP-best.{suffix}"
    assert load_checkpoint(best, part="n")[""] == 6
    assert best not in fnckpt.checkpoints(tmp_path)


def test_the_function_and_the_package_of_its_name_are_one(tmp_path):
    from fnckpt.checkpoints import pytree

    assert vars(fnckpt.checkpoints)["pytree"] is pytree
    assert fnckpt.checkpoints(tmp_path, prefix="CKP") == []


# ---------------------------------------------------------------- resume with another model


def test_resume_with_another_model_says_how_to_begin_with_its_weights(tmp_path):
    path = fit(tmp_path).checkpoints[-1]
    other = {"params": np.zeros(2, np.float32), "n": 0, "head": np.zeros(3, np.float32)}

    def wider(state, batch):
        return state | {"params": state["params"] + batch}, {}

    options: dict[str, Any] = {"policy": CheckpointPolicy(1), "directory": tmp_path, "resume": True}
    with pytest.raises(CheckpointMismatch) as raised:
        train(wider, other, [1.0], **options)
    text = str(raised.value)
    assert text.startswith(f"{path}: the checkpoint does not fit the state, 1 leaf differs:\n")
    assert "  head: missing in the file\n" in text
    call = text.rpartition("state = ")[2]
    with pytest.warns(UserWarning, match="head: missing"):
        state = eval(call, {"fnckpt": fnckpt, "state": other})  # what the message says works
    assert state["params"].tolist() == [6.0, 6.0]
    result = train(wider, state, [1.0], policy=CheckpointPolicy(1), directory=tmp_path)
    assert names(result.checkpoints) == ["CKP_2-1_1.ckpt"]
    assert load_checkpoint(result.checkpoints[0], part="params")[""].tolist() == [7.0, 7.0]


@pytest.mark.parametrize(("first", "second"), [("ckpt", "safetensors"), ("safetensors", "ckpt")])
def test_resume_goes_on_from_either_format_and_keeps_counting(tmp_path, first, second):
    whole = fit(tmp_path / "whole", epochs=2)
    fit(tmp_path, checkpoint_format=first)
    policy = CheckpointPolicy(1, keep_max=4)
    result = fit(tmp_path, epochs=2, resume=True, checkpoint_format=second, policy=policy)
    assert result.state["params"].tolist() == whole.state["params"].tolist()
    assert names(result.checkpoints) == [
        f"CKP-1_3.{first}",
        *(f"CKP-2_{at}.{second}" for at in (1, 2, 3)),
    ]
    assert result.checkpoints == fnckpt.checkpoints(tmp_path)


def test_listing_and_resuming_map_no_file_which_another_process_could_cut_off(
    tmp_path, monkeypatch
):
    """A mapped file that is cut off ends the process (SIGBUS)."""
    fit(tmp_path)
    mapped, real = list[int](), mmap.mmap

    def counted(number: int, *args: Any, **options: Any) -> mmap.mmap:
        mapped.append(number)
        return real(number, *args, **options)

    monkeypatch.setattr(mmap, "mmap", counted)
    assert len(fnckpt.checkpoints(tmp_path)) == 3
    fit(tmp_path, epochs=2, resume=True)
    assert set(mapped) <= {-1}
