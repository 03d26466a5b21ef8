"""Exports cells of MindSpore, and what they compute: ``python -m ...cells <folder>``."""

import pickle
import sys
from pathlib import Path

import mindspore
import numpy as np
from mindspore import Tensor, nn


class Choosing(nn.Cell):
    """A branch, and a loop whose end depends on data."""

    def construct(self, x):
        y = x * 2 if x.sum() > 0 else x - 1
        while y.sum() < 100:
            y = y * 2 + 1
        return y


def f(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


CELLS = {
    "dense": (lambda: nn.Dense(3, 4), [f(2, 5, 3)]),
    "conv": (lambda: nn.Conv2d(4, 4, 3, stride=2, group=2), [f(1, 4, 8, 8)]),
    "conv_transpose": (lambda: nn.Conv2dTranspose(3, 4, 3, stride=2), [f(1, 3, 5, 5)]),
    "batch_norm": (lambda: nn.BatchNorm2d(3), [f(2, 3, 4, 4)]),
    "layer_norm": (lambda: nn.LayerNorm((4,)), [f(2, 4)]),
    "group_norm": (lambda: nn.GroupNorm(2, 4), [f(2, 4, 3, 3)]),
    "max_pool": (lambda: nn.MaxPool2d(3, 2, pad_mode="same"), [f(1, 3, 7, 7)]),
    "avg_pool": (lambda: nn.AvgPool2d(2, 2), [f(1, 3, 8, 8)]),
    "adaptive": (lambda: nn.AdaptiveAvgPool2d(2), [f(1, 3, 7, 7)]),
    "gelu": (lambda: nn.GELU(), [f(2, 3)]),
    "prelu": (lambda: nn.PReLU(3), [f(2, 3, 4)]),
    "embedding": (lambda: nn.Embedding(9, 4), [np.array([[1, 2], [3, 4]], np.int32)]),
    "upsample": (lambda: nn.Upsample(size=(6, 6), mode="nearest"), [f(1, 1, 3, 3)]),
    "padding": (lambda: nn.ReflectionPad2d(1), [f(1, 1, 3, 3)]),
    "lstm": (lambda: nn.LSTM(3, 4, batch_first=True), [f(2, 5, 3)]),
    "gru": (lambda: nn.GRU(3, 4), [f(5, 2, 3)]),
    "attention": (lambda: nn.MultiheadAttention(8, 2), [f(4, 1, 8)] * 3),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16), [f(4, 1, 8)]),
    "loss": (lambda: nn.CrossEntropyLoss(), [f(2, 3), np.array([0, 2], np.int32)]),
    "choosing": (Choosing, [f(2, 3)]),
}


def flat(value: object) -> list[np.ndarray]:
    if isinstance(value, tuple | list):
        return [leaf for each in value for leaf in flat(each)]
    assert isinstance(value, Tensor)
    return [value.asnumpy()]


def main(folder: Path) -> None:
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    for name, (make, arrays) in CELLS.items():
        cell = make()
        cell.set_train(False)
        inputs = [Tensor(x) for x in arrays]
        found = flat(cell(*inputs))
        mindspore.export(cell, *inputs, file_name=str(folder / name), file_format="MINDIR")
        (folder / f"{name}.pkl").write_bytes(pickle.dumps((arrays, found)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
