"""What people use beside the loop: TensorBoard, and grain's data loaders."""

from pathlib import Path
from typing import Any

import grain.python as grain
import jax
import numpy as np
import pytest
import tensorboardX
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import fnckpt


def step(state: Any, batch: Any) -> tuple[Any, Any]:
    key, use = jax.random.split(state["key"])
    w = state["w"] * 0.9 + batch.sum() + jax.random.uniform(use)
    return {"w": w, "key": key}, {"loss": w}


def start() -> dict[str, Any]:
    return {"w": np.float32(0), "key": jax.random.key(1)}


def test_a_callback_of_three_lines_writes_to_tensorboard(tmp_path: Path) -> None:
    with tensorboardX.SummaryWriter(str(tmp_path)) as writer:

        def log(number: int, state: Any, metrics: Any) -> None:
            if number % 2 == 0:
                writer.add_scalar("loss", float(metrics["loss"]), number)

        data = [np.ones(3, np.float32)] * 6
        result = fnckpt.train(step, start(), data, on_step=log)
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [event.step for event in events] == [2, 4, 6]
    np.testing.assert_allclose([e.value for e in events], result.history["loss"][1::2], rtol=1e-6)


class Numbers:
    """0 to 19, and how often one was read."""

    def __init__(self) -> None:
        self.reads = 0

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> np.ndarray:
        self.reads += 1
        return np.array(index, np.float32)

    def __repr__(self) -> str:  # by which grain knows the source of a position
        return "Numbers()"


def loader(source: Numbers) -> grain.DataLoader:
    """Ten batches of two, in an order that grain shuffles."""
    sampler = grain.IndexSampler(20, grain.ShardOptions(0, 1), shuffle=True, num_epochs=1, seed=3)
    return grain.DataLoader(
        data_source=source, sampler=sampler, operations=[grain.Batch(2)], worker_count=0
    )


@pytest.mark.parametrize("last", [1, 4, 10])
def test_a_run_over_grain_that_was_cut_ends_in_the_same_bits(tmp_path: Path, last: int) -> None:
    def cut(number: int, *_: object) -> None:
        if number == last:
            raise RuntimeError("cut")

    policy = fnckpt.CheckpointPolicy(step=1)
    whole = fnckpt.train(step, start(), loader(Numbers()), epochs=2)
    with pytest.raises(RuntimeError, match="cut"):
        fnckpt.train(
            step,
            start(),
            loader(Numbers()),
            epochs=2,
            policy=policy,
            directory=tmp_path,
            on_step=cut,
        )
    rest = Numbers()
    again = fnckpt.train(
        step, start(), loader(rest), epochs=2, policy=policy, directory=tmp_path, resume=True
    )
    assert again.state["w"].tobytes() == whole.state["w"].tobytes()
    assert again.history["loss"].tobytes() == whole.history["loss"].tobytes()
    assert rest.reads == 40 - 2 * last
