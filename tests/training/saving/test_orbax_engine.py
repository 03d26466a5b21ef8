"""A manager of Orbax's v0 or v1 API as the engine of a training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from orbax.checkpoint.experimental.v1 import training

from fnckpt.checkpoints.pytree import load_checkpoint
from fnckpt.errors import CheckpointMismatch
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


def v0(directory: Path, keep: int | None = None, every: int = 1) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, save_interval_steps=every)
    return ocp.CheckpointManager(directory, options=options)


def v1(directory: Path, keep: int | None = None, every: int = 1) -> training.Checkpointer:
    kept: Any = training.preservation_policies.LatestN(keep) if keep else None
    due: Any = training.save_decision_policies.FixedIntervalPolicy(every)
    return training.Checkpointer(str(directory), save_decision_policy=due, preservation_policy=kept)


Opened = Callable[..., Any]


@pytest.fixture(params=[v0, v1])
def manager(request: pytest.FixtureRequest) -> Opened:
    return request.param


def steps(keeper: Any) -> list[int]:
    if isinstance(keeper, ocp.CheckpointManager):
        return list(keeper.all_steps())
    return [each.step for each in keeper.checkpoints]


def test_the_policy_says_when_and_the_manager_what_to_keep(tmp_path: Path, manager: Opened):
    told: list[str] = []
    with manager(tmp_path, keep=2) as keeper:
        result = fit(
            keeper,
            policy=CheckpointPolicy(3),
            on_checkpoint=lambda path: told.append(path.name),
        )
        assert steps(keeper) == [6, 7]
    assert told == ["3", "6", "7"]
    assert [path.name for path in result.checkpoints] == ["6", "7"]


def test_without_a_policy_the_manager_says_when(tmp_path: Path, manager: Opened):
    with manager(tmp_path, every=3) as keeper:
        fit(keeper)
        assert steps(keeper) in ([1, 3, 6, 7], [3, 6, 7])  # v0 always saves the first


def test_what_orbax_stores_is_the_state_of_its_step_though_it_is_donated(
    tmp_path: Path, manager: Opened
):
    with manager(tmp_path) as keeper:
        fit(keeper, policy=CheckpointPolicy(1))
        for number in range(1, 8):
            found = load_checkpoint(tmp_path / str(number))
            assert found.keys() == {"w", "n", "key"}
            assert int(found["n"]) == number
            assert found["w"].mean() == pytest.approx(sum(DATA[:number]) + number / 2, rel=1e-3)


@pytest.mark.parametrize(("manager", "last"), [(v0, 3), (v0, 7), (v0, 9), (v1, 9)])
def test_resuming_from_orbax_ends_in_the_same_bits(tmp_path: Path, manager: Opened, last: int):
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

    with v0(tmp_path) as keeper:
        train(add, 0.0, DATA, checkpointer=keeper)
        result = train(add, 0.0, DATA, epochs=2, checkpointer=keeper, resume=True)
    assert result.state == 2 * sum(DATA)


@pytest.mark.parametrize(("manager", "kept"), [(v0, 99), (v0, 1)])
def test_the_best_step_is_known_after_a_resumption(tmp_path: Path, manager: Opened, kept: int):
    """Step 2 has the least distance to 2; the manager has kept it or has not."""
    options: Any = {
        "policy": CheckpointPolicy(1),
        "eval_fn": lambda state: {"far": abs(state["n"] - 2)},
        "eval_every": 1,
        "best": "far",
    }
    with manager(tmp_path, keep=kept) as keeper:
        fit(keeper, **options)
    with manager(tmp_path, keep=kept) as keeper:
        best = fit(keeper, 2, resume=True, **options).best
    assert best is not None
    assert (best.step, best.value) == (2, 0.0)
    assert best.path == (tmp_path / "2" if kept == 99 else None)


def test_options_of_our_own_files_are_refused_beside_a_v0(tmp_path: Path, manager: Opened):
    with v0(tmp_path) as keeper:
        with pytest.raises(ValueError, match="directory, crc of our own files"):
            fit(keeper, directory=tmp_path, crc=True)
        with pytest.raises(ValueError, match="but prefix of our own files"):
            fit(keeper, prefix="net")


class Declining(ocp.CheckpointManager):
    """Does not want the steps from 3 to 5."""

    def save(self, step: int, *args: Any, **options: Any) -> bool:
        return not 3 <= step <= 5 and super().save(step, *args, **options)


@pytest.mark.parametrize(
    ("manager", "policy", "opened"),
    [
        (v0, CheckpointPolicy(2), "anew"),
        (v0, None, "before the other wrote"),
        (v1, CheckpointPolicy(2), "before the other wrote"),
        (v1, None, "anew"),
    ],
)
def test_a_directory_with_steps_is_refused_before_the_first_step(
    tmp_path: Path, manager: Opened, policy: CheckpointPolicy | None, opened: str
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
        assert steps(keeper) == [7]
        assert len(fit(keeper, 2, policy=policy, resume=True).history["loss"]) == 14
        assert steps(keeper)[-1] == 14


def test_what_the_manager_declines_is_told_once_and_not_taken_for_saved(
    tmp_path: Path, manager: Opened
):
    told: list[str] = []
    with Declining(tmp_path) as keeper:
        with pytest.warns(UserWarning, match="declined to save step 3") as caught:
            fit(
                keeper,
                policy=CheckpointPolicy(1),
                on_checkpoint=lambda path: told.append(path.name),
            )
        assert len([each for each in caught if "declined" in str(each.message)]) == 1
        assert steps(keeper) == [1, 2, 6, 7]
    assert told == ["1", "2", "6", "7"]


def test_a_best_state_that_was_not_due_is_told(tmp_path: Path):
    def fitted(**options: Any) -> TrainResult:
        values = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
        with v0(tmp_path / str(len(options))) as keeper:
            measure: Any = {"eval_fn": lambda state: {"f": next(values)}, "eval_every": 1}
            return fit(keeper, policy=CheckpointPolicy(3), **measure, **options)

    with pytest.warns(UserWarning, match=r"the best state, of step 2, was not saved"):
        result = fitted(best="f")
    assert result.best is not None
    assert result.best.path is None


def test_another_kind_of_checkpointer_is_refused_by_name() -> None:
    with ocp.PyTreeCheckpointer() as other:
        wrong: Any = other
        with pytest.raises(TypeError, match=r"v1 API .*, got a orbax.*PyTreeCheckpointer"):
            train(step, 0.0, DATA, checkpointer=wrong)


def test_what_v0_saved_v1_goes_on_from_and_the_other_way_round(tmp_path: Path) -> None:
    with v0(tmp_path) as keeper:
        fit(keeper, policy=CheckpointPolicy(7))
    with v1(tmp_path) as keeper:
        assert fit(keeper, 2, policy=CheckpointPolicy(7), resume=True).state["n"] == 14
    with v0(tmp_path) as keeper:
        result = fit(keeper, 3, policy=CheckpointPolicy(7), resume=True)
    assert result.state["n"] == 21
    assert [path.name for path in result.checkpoints] == ["7", "14", "21"]


LIKE = {"w": np.zeros(3, np.float32), "n": 0, "key": jax.random.key(0)}
"""The state of ``small``, and what Orbax would convert or would refuse in words of its own."""
UNLIKE = [
    ({**LIKE, "w": np.zeros(3, np.float16)}, r"w: expected float16 \(3,\), found float32 \(3,\)"),
    ({**LIKE, "w": np.zeros(4, np.float32)}, r"w: expected float32 \(4,\), found float32 \(3,\)"),
    ({**LIKE, "z": np.zeros(4)}, r"1 leaf differs:\n  z: missing in the file"),
    ({"w": LIKE["w"]}, r"2 leaves differ:\n  key: in the file, not in the tree\n  n: in"),
]


def test_resuming_with_another_state_is_refused_with_its_leaves(
    tmp_path: Path, manager: Opened
) -> None:
    def same(state: Any, batch: Any) -> tuple[Any, Any]:
        return state, {"loss": batch}

    def small(state: Any, **options: Any) -> TrainResult:
        with manager(tmp_path) as keeper:
            policy = CheckpointPolicy(7)
            return train(same, state, DATA, checkpointer=keeper, policy=policy, **options)

    small(LIKE)
    for state, told in UNLIKE:
        with pytest.raises(CheckpointMismatch, match=told) as raised:
            small(state, epochs=2, resume=True)
        assert "give a manager of another directory" in str(raised.value)


def test_the_steps_of_a_manager_with_other_names_are_found(tmp_path: Path) -> None:
    options = ocp.CheckpointManagerOptions(step_prefix="net", step_format_fixed_length=4)
    names: Any = ocp.path.step.standard_name_format(step_prefix="net", step_format_fixed_length=4)
    with ocp.CheckpointManager(tmp_path / "v0", options=options) as keeper:
        paths = fit(keeper, policy=CheckpointPolicy(4)).checkpoints
    with training.Checkpointer(str(tmp_path / "v1"), step_name_format=names) as keeper:
        paths += fit(keeper, policy=CheckpointPolicy(4)).checkpoints
    assert [path.name for path in paths] == 2 * ["net_0004", "net_0007"]
    assert [load_checkpoint(path)["n"].item() for path in paths] == [4, 7, 4, 7]


def test_a_state_that_orbax_cannot_save_is_refused_before_the_first_step(
    tmp_path: Path, manager: Opened
) -> None:
    stepped: list[int] = []
    with manager(tmp_path) as keeper, pytest.raises(ValueError, match=r"  e: float32 \(0, 2\)"):
        train(
            lambda state, batch: (state, {"loss": batch}),
            {"e": np.zeros((0, 2), np.float32)},
            DATA,
            checkpointer=keeper,
            on_step=lambda number, *_: stepped.append(number),
        )
    assert stepped == []
