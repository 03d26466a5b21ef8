"""What ``train`` costs over a loop written by hand, and what a checkpoint every 50 steps costs.

Claims, as medians of ratios to a loop written by hand, both in turn in one process:
  train, about 1 ms a step                       < 1.03
  train, a checkpoint of 2 MB every 50 steps     < 1.02
The wall clock counts; on a machine that is busy with other things look at the processor time, which
also counts the thread that writes.

Run: python benchmarks/train_loop.py [--rounds 9]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnckpt

WARM = 50  # steps that are not counted: compilation is among them


@dataclass(frozen=True)
class Work:
    """A step of a certain length: ``repeats`` products of a vector and a (width, width) matrix."""

    width: int
    repeats: int
    steps: int
    about: float  # seconds a step

    def state(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        w = rng.normal(0, self.width**-0.5, (self.width, self.width)).astype(np.float32)
        return {"w": w, "m": np.zeros_like(w), "step": 0}

    def step(self, state: dict[str, Any], batch: jax.Array) -> tuple[dict[str, Any], Any]:
        def product(_: int, x: jax.Array) -> jax.Array:
            return jnp.tanh(x @ state["w"])

        out = jax.lax.fori_loop(0, self.repeats, product, batch)
        m = 0.9 * state["m"] + out
        new = {"w": state["w"] - 1e-6 * m, "m": m, "step": state["step"] + 1}
        return new, {"loss": out.mean(), "largest": out.max()}


@dataclass(frozen=True)
class Cost:
    """Seconds of the wall clock and of all threads' processor time."""

    wall: float
    cpu: float

    @staticmethod
    def now() -> "Cost":
        return Cost(time.perf_counter(), time.process_time())

    def since(self, start: "Cost") -> "Cost":
        return Cost(self.wall - start.wall, self.cpu - start.cpu)


class Timed:
    """The batches; ``begun`` is when the first of them that counts was asked for."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.begun = Cost.now()

    def __iter__(self) -> Iterator[np.ndarray]:
        batch = np.ones((1, self.work.width), np.float32)
        for number in range(WARM + self.work.steps):
            if number == WARM:
                time.sleep(32 * self.work.about)  # the device works off what is queued
                self.begun = Cost.now()
            yield batch


def by_hand(work: Work) -> Cost:
    """A careful loop: jit, donation, metrics fetched at the end."""
    step = jax.jit(work.step, donate_argnums=0)
    state, metrics, data = jax.tree.map(jnp.array, work.state()), [], Timed(work)
    for batch in data:
        state, measured = step(state, batch)
        metrics.append(measured)
    jax.block_until_ready(state)
    jax.device_get(metrics)
    return Cost.now().since(data.begun)


def by_train(work: Work, **options: Any) -> Cost:
    data = Timed(work)
    fnckpt.train(work.step, work.state(), data, **options)
    return Cost.now().since(data.begun)


def by_train_with_checkpoints(work: Work) -> Cost:
    with tempfile.TemporaryDirectory(dir=".") as directory:
        policy = fnckpt.CheckpointPolicy(50, keep_max=3)
        return by_train(work, policy=policy, directory=directory)


Loop = Callable[[Work], Cost]


def pair(work: Work, other: Loop, *, first: bool) -> tuple[Cost, Cost]:
    """The costs by hand and by ``other``, which goes ``first`` or second."""
    if first:
        taken = other(work)
        return by_hand(work), taken
    return by_hand(work), other(work)


def compare(name: str, work: Work, other: Loop, rounds: int, bar: float) -> None:
    """Print the medians over ``rounds`` of the ratios of ``other`` to the loop by hand."""
    pairs = [pair(work, other, first=number % 2 == 0) for number in range(rounds)]
    wall = [taken.wall / plain.wall for plain, taken in pairs]
    cpu = [taken.cpu / plain.cpu for plain, taken in pairs]
    step = 1e3 * statistics.median(plain.wall for plain, _ in pairs) / work.steps
    print(
        f"{name:34} step {step:6.2f} ms   wall {statistics.median(wall):.3f} "
        f"({min(wall):.3f} to {max(wall):.3f})   processor {statistics.median(cpu):.3f} "
        f"({min(cpu):.3f} to {max(cpu):.3f})   bar {bar}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    short, long = Work(512, 40, 500, 0.002), Work(512, 400, 100, 0.02)
    compare("hand-written, twice (the noise)", short, by_hand, rounds, 1.00)
    compare("train", short, by_train, rounds, 1.03)
    compare("train, bar shown", short, partial(by_train, progress=True), rounds, 1.03)
    compare("train, a checkpoint in 50 steps", short, by_train_with_checkpoints, rounds, 1.02)
    compare("train, a checkpoint in 50 steps", long, by_train_with_checkpoints, rounds, 1.02)


if __name__ == "__main__":
    main()
