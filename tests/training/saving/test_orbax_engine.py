"""An Orbax manager as the engine of a training."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from fnckpt.training.loop import TrainResult, train
from fnckpt.training.policy import CheckpointPolicy

DATA = [np.float32(number) for number in range(1, 8)]


def step(state: Any, batch: Any) -> tuple[Any, Any]:
    key, use = jax.random.split(state["key"])
    w = state["w"] + batch + jax.random.uniform(use, state["w"].shape)
    return {"w": w, "n": state["n"] + 1, "key": key}, {"loss": batch}


def fit(manager: Any, epochs: int = 1, **options: Any) -> TrainResult:
    state = {"w": np.zeros(100_000, np.float32), "n": 0, "key": jax.random.key(0)}
    return train(step, state, DATA, epochs=epochs, checkpointer=manager, **options)


def manager(directory: Path, **options: Any) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(**options))


def test_the_policy_says_when_and_the_manager_what_to_keep(tmp_path: Path):
    told: list[str] = []
    with manager(tmp_path, max_to_keep=2) as keeper:
        result = fit(
            keeper,
            policy=CheckpointPolicy(3),
            on_checkpoint=lambda path: told.append(path.name),
        )
        assert keeper.all_steps() == [6, 7]
    assert told == ["3", "6", "7"]
    assert [path.name for path in result.checkpoints] == ["6", "7"]


def test_without_a_policy_the_manager_says_when(tmp_path: Path):
    with manager(tmp_path, save_interval_steps=3) as keeper:
        fit(keeper)
        assert keeper.all_steps() == [1, 3, 6, 7]  # Orbax always saves the first


def test_what_orbax_stores_is_the_state_of_its_step_though_it_is_donated(tmp_path: Path):
    with manager(tmp_path) as keeper:
        fit(keeper, policy=CheckpointPolicy(1))
        for number in range(1, 8):
            item = {"w": np.zeros(100_000, np.float32), "n": 0, "key": np.zeros(2, np.uint32)}
            kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
            args = ocp.args.PyTreeRestore(item, restore_args=kinds)
            found = keeper.restore(number, args=ocp.args.Composite(state=args))["state"]
            assert int(found["n"]) == number
            assert found["w"].mean() == pytest.approx(sum(DATA[:number]) + number / 2, rel=1e-3)


@pytest.mark.parametrize("last", [3, 7, 9])
def test_resuming_from_orbax_ends_in_the_same_bits(tmp_path: Path, last: int):
    def cut(number: int, *_: object) -> None:
        if number == last:
            raise RuntimeError("cut")

    whole = train(
        step,
        {"w": np.zeros(100_000, np.float32), "n": 0, "key": jax.random.key(0)},
        DATA,
        epochs=2,
    )
    with manager(tmp_path) as keeper, pytest.raises(RuntimeError, match="cut"):
        fit(keeper, 2, policy=CheckpointPolicy(1), on_step=cut)
    with manager(tmp_path) as keeper:
        result = fit(keeper, 2, policy=CheckpointPolicy(1), resume=True)
    assert np.array_equal(result.state["w"], whole.state["w"])
    assert result.state["n"].weak_type == whole.state["n"].weak_type
    assert np.array_equal(
        jax.random.key_data(result.state["key"]), jax.random.key_data(whole.state["key"])
    )
    assert result.history["loss"].tolist() == whole.history["loss"].tolist()


def test_a_state_that_is_one_array_is_kept_and_restored(tmp_path: Path):
    def add(state: Any, batch: Any) -> tuple[Any, Any]:
        return state + batch, {"loss": batch}

    with manager(tmp_path) as keeper:
        train(add, 0.0, DATA, checkpointer=keeper)
        result = train(add, 0.0, DATA, epochs=2, checkpointer=keeper, resume=True)
    assert result.state == 2 * sum(DATA)


@pytest.mark.parametrize("kept", [99, 1])
def test_the_best_step_is_known_after_a_resumption(tmp_path: Path, kept: int):
    """Step 2 has the least distance to 2; the manager has kept it or has not."""
    options: Any = {
        "policy": CheckpointPolicy(1),
        "eval_fn": lambda state: {"far": abs(state["n"] - 2)},
        "eval_every": 1,
        "best": "far",
    }
    with manager(tmp_path, max_to_keep=kept) as keeper:
        fit(keeper, **options)
    with manager(tmp_path, max_to_keep=kept) as keeper:
        best = fit(keeper, 2, resume=True, **options).best
    assert best is not None
    assert (best.step, best.value) == (2, 0.0)
    assert best.path == (tmp_path / "2" if kept == 99 else None)


def test_options_of_our_own_files_are_refused_beside_a_manager(tmp_path: Path):
    with manager(tmp_path) as keeper:
        with pytest.raises(ValueError, match="directory, crc of our own files"):
            fit(keeper, directory=tmp_path, crc=True)
        with pytest.raises(ValueError, match="but prefix of our own files"):
            fit(keeper, prefix="net")


class Declining(ocp.CheckpointManager):
    """Does not want the steps from 3 to 5."""

    def save(self, step: int, *args: Any, **options: Any) -> bool:
        return not 3 <= step <= 5 and super().save(step, *args, **options)


@pytest.mark.parametrize("policy", [CheckpointPolicy(2), None])
@pytest.mark.parametrize("opened", ["anew", "before the other wrote"])
def test_a_directory_with_steps_is_refused_before_the_first_step(
    tmp_path: Path, policy: CheckpointPolicy | None, opened: str
):
    stepped: list[int] = []
    earlier = manager(tmp_path)
    with manager(tmp_path) as keeper:
        fit(keeper, policy=CheckpointPolicy(7))
    with manager(tmp_path) if opened == "anew" else earlier as keeper:
        with pytest.raises(ValueError, match=r"holds steps up to 7 .*; give resume=True .* or a"):
            fit(keeper, policy=policy, on_step=lambda number, *_: stepped.append(number))
        assert stepped == []
        keeper.reload()
        assert keeper.all_steps() == [7]
        assert len(fit(keeper, 2, policy=policy, resume=True).history["loss"]) == 14
        assert keeper.latest_step() == 14


def test_what_the_manager_declines_is_told_once_and_not_taken_for_saved(tmp_path: Path):
    told: list[str] = []
    with Declining(tmp_path) as keeper:
        with pytest.warns(UserWarning, match="declined to save step 3") as caught:
            fit(
                keeper,
                policy=CheckpointPolicy(1),
                on_checkpoint=lambda path: told.append(path.name),
            )
        assert len([each for each in caught if "declined" in str(each.message)]) == 1
        assert keeper.all_steps() == [1, 2, 6, 7]
    assert told == ["1", "2", "6", "7"]


def test_a_best_state_that_was_not_due_is_told(tmp_path: Path):
    def fitted(**options: Any) -> TrainResult:
        values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
        with manager(tmp_path / str(len(options))) as keeper:
            measure: Any = {"eval_fn": lambda state: {"f": next(values)}, "eval_every": 1}
            return fit(keeper, policy=CheckpointPolicy(3), **measure, **options)

    with pytest.warns(UserWarning, match=r"the best state, of step 2, was not saved"):
        result = fitted(best="f")
    assert result.best is not None
    assert result.best.path is None


def test_another_kind_of_checkpointer_is_refused_by_name() -> None:
    """Such as one of Orbax's v1 API, which has other methods."""
    with ocp.PyTreeCheckpointer() as other:
        wrong: Any = other
        with pytest.raises(
            TypeError, match=r"must be an orbax\.checkpoint\.CheckpointManager, got"
        ):
            train(step, 0.0, DATA, checkpointer=wrong)
