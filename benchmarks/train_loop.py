"""What ``train`` costs over a loop written by hand, and what a checkpoint every 50 steps costs.

Claims, as ratios to the loop by hand, for a state of 2 MB on the CPU:
  train                                 < 1.03
  train, a checkpoint every 50 steps    < 1.02
Beside the second stands what the disk alone costs: a loop by hand with a thread that writes as many
bytes and waits until they are on the disk. For steps of 1 ms that, too, was over 1.02.

The loop by hand is the barest one: ``for batch in data: state, metrics = step(state, batch)`` with
jit and donation; it never looks at the metrics, of which ``train`` keeps every one.

Both loops go on in one process, in turn: 200 steps of one, then 200 of the other, each from an idle
device to an idle device and all files on the disk. Which of the two comes first changes from pair
to pair, so that what slows the machine for longer than half a second slows both. Printed are the
median of the ratios of the pairs and the range that holds it with 95 % (bootstrap); the loop by
hand in turn with itself shows the noise. The wall clock counts; the processor time also counts the
thread that writes.

The last lines are microseconds a step, for a step that does next to nothing.

On an accelerator ``--width 8192`` makes the state one of 512 MB.

    python -m benchmarks.train_loop [--pairs 60] [--milliseconds 1 10] [--width 512]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fnckpt

SEGMENT = 200  # steps of one loop before the other goes on; a multiple of EVERY
EVERY = 50  # steps from checkpoint to checkpoint
WARM = SEGMENT + EVERY // 2  # steps that are not counted; no segment ends soon after a checkpoint

State = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A step: ``repeats`` products of a vector and a (width, width) matrix."""

    width: int
    repeats: int

    def state(self) -> State:
        rng = np.random.default_rng(0)
        w = rng.normal(0, self.width**-0.5, (self.width, self.width)).astype(np.float32)
        return {"w": w, "m": np.zeros_like(w), "step": 0}

    def batch(self) -> np.ndarray:
        return np.ones((1, self.width), np.float32)

    def step(self, state: State, batch: Any) -> tuple[State, Any]:
        def product(_: int, x: jax.Array) -> jax.Array:
            return jnp.tanh(x @ state["w"])

        out = jax.lax.fori_loop(0, self.repeats, product, batch)
        m = 0.9 * state["m"] + out
        new = {"w": state["w"] - 1e-6 * m, "m": m, "step": state["step"] + 1}
        return new, {"loss": out.mean(), "largest": out.max()}


class ByHand:
    """The barest loop."""

    def __init__(self, work: Work) -> None:
        self.step = jax.jit(work.step, donate_argnums=0)
        self.state = jax.tree.map(jnp.array, work.state())

    def run(self, batches: Iterable[np.ndarray]) -> None:
        metrics = None
        for batch in batches:
            self.state, metrics = self.step(self.state, batch)
        jax.block_until_ready((self.state, metrics))


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


@dataclass
class InTurn:
    """The batches of a loop; where it waits for the next, a loop by hand goes on.

    Attributes:
      settle: waits until the loop has nothing under way.
      costs: of each pair of segments, by hand and of the loop that reads the batches.
    """

    work: Work
    pairs: int
    settle: Callable[[], object]
    costs: list[tuple[Cost, Cost]] = field(default_factory=list)

    def __iter__(self) -> Iterator[np.ndarray]:
        batch, by_hand = self.work.batch(), ByHand(self.work)
        by_hand.run([batch] * WARM)
        yield from [batch] * WARM
        self.settle()
        for number in range(self.pairs):
            hand = None if number % 2 else self._hand(by_hand, batch)
            start = Cost.now()
            yield from [batch] * SEGMENT
            self.settle()
            other = Cost.now().since(start)
            self.costs.append((hand or self._hand(by_hand, batch), other))

    def _hand(self, loop: ByHand, batch: np.ndarray) -> Cost:
        start = Cost.now()
        loop.run([batch] * SEGMENT)
        return Cost.now().since(start)


Costs = list[tuple[Cost, Cost]]
Loop = Callable[[Work, int], Costs]


def by_hand(work: Work, pairs: int) -> Costs:
    """The loop by hand in turn with another one like it."""
    loop = ByHand(work)
    turns = InTurn(work, pairs, lambda: jax.block_until_ready(loop.state))
    loop.run(turns)
    return turns.costs


def by_train(work: Work, pairs: int, directory: Path | None = None, **options: Any) -> Costs:
    """``train`` in turn with the loop by hand; what it writes is in ``directory``."""
    newest: list[Any] = [None]

    def on_step(step: int, state: Any, metrics: Any) -> None:
        newest[0] = metrics

    def settle() -> None:
        jax.block_until_ready(newest[0])
        while directory is not None and list(directory.glob(".*.tmp")):
            time.sleep(0.0005)

    turns = InTurn(work, pairs, settle)
    fnckpt.train(work.step, work.state(), turns, directory=directory, on_step=on_step, **options)
    return turns.costs


def by_train_saving(every: int) -> Loop:
    """``train`` with a checkpoint every so many steps."""

    def loop(work: Work, pairs: int) -> Costs:
        with tempfile.TemporaryDirectory(dir=".") as directory:
            policy = fnckpt.CheckpointPolicy(every, keep_max=3)
            return by_train(work, pairs, Path(directory), policy=policy)

    return loop


def by_train_shown(work: Work, pairs: int) -> Costs:
    with open(os.devnull, "w") as screen, redirect_stderr(screen):
        return by_train(work, pairs, progress=True)


@dataclass
class ByHandWriting(ByHand):
    """The barest loop, and a thread that writes ``content`` once in ``EVERY`` steps."""

    work: Work
    path: Path
    content: bytes
    pool: ThreadPoolExecutor

    def __post_init__(self) -> None:
        super().__init__(self.work)
        self.flight: Future[None] | None = None

    def run(self, batches: Iterable[np.ndarray]) -> None:
        metrics = None
        for number, batch in enumerate(batches, 1):
            self.state, metrics = self.step(self.state, batch)
            if number % EVERY == 0:
                self.settle()
                self.flight = self.pool.submit(self.write, metrics)
        jax.block_until_ready((self.state, metrics))

    def write(self, metrics: Any) -> None:
        jax.block_until_ready(metrics)
        with open(self.path, "wb") as file:
            file.write(self.content)
            file.flush()
            os.fsync(file.fileno())

    def settle(self) -> None:
        if self.flight is not None:
            self.flight.result()


def by_hand_writing(work: Work, pairs: int) -> Costs:
    """The loop by hand that writes in turn with one that does not."""
    content = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(work.state()))
    with tempfile.TemporaryDirectory(dir=".") as directory, ThreadPoolExecutor(1) as pool:
        loop = ByHandWriting(work, Path(directory, "raw"), content, pool)

        def settle() -> None:
            jax.block_until_ready(loop.state)
            loop.settle()

        turns = InTurn(work, pairs, settle)
        loop.run(turns)
        return turns.costs


@dataclass(frozen=True)
class Row:
    """A loop, and the ratio it must not pass."""

    name: str
    loop: Loop
    bar: float | None = None


ROWS = [
    Row("by hand, with itself (the noise)", by_hand),
    Row("train", by_train, 1.03),
    Row("train, bar shown", by_train_shown, 1.03),
    Row(f"train, a checkpoint in {EVERY} steps", by_train_saving(EVERY), 1.02),
    Row(f"by hand, raw bytes in {EVERY} steps", by_hand_writing),
]


def median(values: list[float]) -> tuple[float, float, float]:
    """The median, and the range that holds it with 95 %, by bootstrap."""
    found = np.array(values)
    drawn = np.random.default_rng(0).integers(0, len(found), (4000, len(found)))
    low, high = np.percentile(np.median(found[drawn], axis=1), [2.5, 97.5])
    return float(np.median(found)), float(low), float(high)


def work_of(seconds: float, width: int) -> Work:
    """A step that takes about ``seconds`` here and now."""
    repeats = 10
    while True:
        work = Work(width, repeats)
        loop, batches = ByHand(work), [work.batch()] * 100
        loop.run(batches)
        start = time.perf_counter()
        loop.run(batches)
        taken = (time.perf_counter() - start) / len(batches)
        if taken > 0.9 * seconds:
            return work
        repeats = 1 + int(repeats * min(4, seconds / taken))


def print_ratios(milliseconds: float, pairs: int, width: int) -> None:
    work = work_of(1e-3 * milliseconds, width)
    for row in ROWS:
        costs = row.loop(work, pairs)
        step = 1e3 * float(np.median([hand.wall for hand, _ in costs])) / SEGMENT
        print(f"{row.name:34} step {step:5.2f} ms", end="")
        for clock in ("wall", "cpu"):
            ratios = [vars(other)[clock] / vars(hand)[clock] for hand, other in costs]
            print("   {} {:.4f} ({:.4f} to {:.4f})".format(clock, *median(ratios)), end="")
        print(f"   bar {row.bar}" if row.bar else "", flush=True)


def print_microseconds(pairs: int) -> None:
    print("\nmicroseconds a step over the loop by hand, of a step that does next to nothing")
    for row in (*ROWS[:2], Row("train, with a policy", by_train_saving(10**9))):
        costs = row.loop(Work(1, 1), pairs)
        over = [1e6 * (other.wall - hand.wall) / SEGMENT for hand, other in costs]
        print("{:34} {:6.2f} ({:.2f} to {:.2f})".format(row.name, *median(over)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--milliseconds", type=float, nargs="*", default=[1, 10])
    parser.add_argument("--width", type=int, default=512, help="the state has 8 width^2 bytes")
    args = parser.parse_args()
    for milliseconds in args.milliseconds:
        print_ratios(milliseconds, args.pairs, args.width)
    print_microseconds(10 * args.pairs)


if __name__ == "__main__":
    main()
