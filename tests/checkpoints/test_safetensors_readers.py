"""What train keeps as .safetensors, safetensors itself and MindSpore read."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from fnckpt import CheckpointPolicy, load_checkpoint, train


@pytest.fixture
def path(tmp_path):
    state = {"params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, "n": 0}

    def step(state, batch):
        return state | {"n": state["n"] + 1}, {"loss": batch}

    result = train(
        step,
        state,
        [np.float32(1)] * 3,
        policy=CheckpointPolicy(1),
        directory=tmp_path,
        checkpoint_format="safetensors",
    )
    assert [path.name for path in result.checkpoints] == [
        f"CKP-1_{at}.safetensors" for at in (1, 2, 3)
    ]
    return result.checkpoints[-1]


def test_safetensors_itself_reads_the_same_arrays(path):
    found, own = load_file(path), load_checkpoint(path)
    assert set(found) == {name for name, array in own.items() if array.dtype.kind != "U"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, own[name])


def test_mindspore_reads_the_same_arrays(path, run_python):
    code = (
        "import mindspore\n"
        f"found = mindspore.load_checkpoint({str(path)!r}, format='safetensors')\n"
        "print(found['params.w'].asnumpy().tolist(), int(found['n'].asnumpy()))\n"
    )
    assert run_python(code).strip().endswith("[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] 3")
