"""The step strategy beside the real ModelCheckpoint: the same files after every step."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fnckpt.training.loop import train
from fnckpt.training.policy import CheckpointPolicy

# (save_checkpoint_steps, keep_checkpoint_max, keep_checkpoint_per_n_minutes, epochs, steps)
CASES = [
    (steps, keep, minutes, epochs, length)
    for steps in (1, 2, 3, 4, 5, 7, 12, 40)
    for keep, minutes in ((5, 0), (1, 0), (2, 7), (3, None), (100, 0), (None, 0), (0, None))
    for epochs, length in ((3, 4), (1, 6), (5, 1))
]

REAL = """
import json, os, sys
from types import SimpleNamespace
from mindspore import nn, set_context
from mindspore.train.callback import CheckpointConfig, ModelCheckpoint
set_context(mode=1, device_target="CPU")
cases, root = json.loads(sys.argv[1]), sys.argv[2]
net, listings = nn.Dense(1, 1), []
for number, (steps, keep, minutes, epochs, length) in enumerate(cases):
    folder = os.path.join(root, str(number))
    config = CheckpointConfig(save_checkpoint_steps=steps, keep_checkpoint_max=keep,
                              keep_checkpoint_per_n_minutes=minutes)
    callback = ModelCheckpoint("CKP", folder, config)
    callback._graph_saved = True  # there is no compiled graph here; the .ckpt files are compared
    listing = []
    for step in range(1, epochs * length + 1):
        now = SimpleNamespace(cur_step_num=step, cur_epoch_num=(step - 1) // length + 1,
                              batch_num=length, train_network=net)
        context = SimpleNamespace(original_args=lambda: now)
        callback.step_end(context)
        listing.append(sorted(os.listdir(folder)))
    callback.end(context)
    listing.append(sorted(os.listdir(folder)))
    listings.append(listing)
print("listings", json.dumps(listings))
"""


def ours(case: tuple[Any, ...], directory: Path) -> list[list[str]]:
    """The checkpoints in ``directory`` after every step, and at the end."""
    steps, keep, minutes, epochs, length = case
    listing: list[list[str]] = []

    def look() -> None:
        listing.append(sorted(name for name in os.listdir(directory) if name.endswith(".ckpt")))

    train(
        lambda state, batch: (state + batch, {"loss": batch}),
        np.float32(0),
        [np.float32(1)] * length,
        epochs=epochs,
        policy=CheckpointPolicy(steps, keep_max=keep, keep_per_n_minutes=minutes),
        directory=directory,
        async_save=False,
        on_step=lambda step, state, metrics: look(),
    )
    look()
    return listing


@pytest.fixture(scope="module")
def real(run_python, tmp_path_factory) -> list[list[list[str]]]:
    printed = run_python(REAL, json.dumps(CASES), tmp_path_factory.mktemp("mindspore"))
    return json.loads(printed.rpartition("listings")[2])


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_the_files_are_those_of_model_checkpoint_after_every_step(number, real, tmp_path):
    assert ours(CASES[number], tmp_path) == real[number]
