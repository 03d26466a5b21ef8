"""``python -m tests.training.killed DIRECTORY KILLS SEED``: trainings killed while they save.

Each is a fork of this process, which has imported all but has not started JAX's threads. It saves
50 MB after every step and is killed by SIGKILL at a random moment; then the newest file is read
here, and the next fork resumes from it. Prints one JSON line: what was found.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fnckpt.checkpoints import pytree
from fnckpt.training.loop import train
from fnckpt.training.policy import CheckpointPolicy
from fnckpt.training.saving import store

ITEMS = 12_500_000  # float32: 50 MB
LONGEST = 0.15  # seconds from the first step to the kill


def step(state: dict[str, Any], batch: Any) -> tuple[dict[str, Any], Any]:
    return {"w": state["w"] + 1, "n": state["n"] + 1}, {"loss": batch}


def endless(directory: Path, report: int, *, asynchronous: bool) -> None:
    """Train for ever; tell each step on ``report``."""
    train(
        step,
        {"w": np.zeros(ITEMS, np.float32), "n": 0},
        [np.float32(0)] * 10**6,
        policy=CheckpointPolicy(1, keep_max=2),
        directory=directory,
        resume=True,
        async_save=asynchronous,
        on_step=lambda number, state, metrics: os.write(report, number.to_bytes(8, "little")),
    )


def killed(directory: Path, seconds: float, *, asynchronous: bool) -> int:
    """The first step of a training that was killed ``seconds`` after it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        endless(directory, writing, asynchronous=asynchronous)
        os._exit(1)  # it never ends
    os.close(writing)
    first = int.from_bytes(os.read(reading, 8), "little")
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    return first


def newest(directory: Path) -> int:
    """The step of the newest checkpoint, having checked every byte of it; 0 where there is none."""
    files = store.Run(directory, "CKP").checkpoints()
    if not files:
        return 0
    stored = pytree.load_checkpoint(store.Run(directory, "CKP").path(files[-1]))
    number = int(stored["n"])
    assert files[-1].step == int(stored["fnckpt.global_step"]) == number
    assert stored["w"].shape == (ITEMS,)
    assert (stored["w"] == number).all()
    return number


def main(directory: Path, kills: int, seed: int) -> None:
    moments = random.Random(seed)
    last, midway = 0, 0
    for number in range(kills):
        seconds = moments.uniform(0, LONGEST)
        first = killed(directory, seconds, asynchronous=number % 4 != 0)
        assert first == last + 1, f"resumed at step {first}, the newest checkpoint was {last}"
        midway += any(name.endswith(".tmp") for name in os.listdir(directory))
        last = newest(directory)
        assert last >= first - 1
    store.remove_stale(directory, "CKP")
    found = {"kills": kills, "midway": midway, "steps": last, "left": sorted(os.listdir(directory))}
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
