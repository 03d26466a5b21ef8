"""Networks as somebody who works with MindSpore writes them."""

from typing import Any

from mindspore import nn as layers
from mindspore import ops as functions

from tests.ir.sources.mindir.cells import Made, f, places

nn: Any = layers  # what its layers take and give has no types
ops: Any = functions


class Choosing(nn.Cell):
    """A branch, and a loop whose end depends on data."""

    def construct(self, x):
        y = x * 2 if x.sum() > 0 else x - 1
        while y.sum() < 100:
            y = y * 2 + 1
        return y


class Branching(nn.Cell):
    """One of two layers, by what the data are."""

    def __init__(self):
        super().__init__()
        self.high, self.low = nn.Dense(3, 2), nn.Dense(3, 2)

    def construct(self, x):
        y = self.high(x) if x.mean() > 0 else self.low(x) - 1
        return ops.tanh(y)


class Newton(nn.Cell):
    """Square roots, with a bound on the steps beside the tolerance."""

    def construct(self, x):
        y, n = ops.ones_like(x), 0
        while ops.abs(y * y - x).max() > 1e-3:
            y = (y + x / y) / 2
        return y + n


class Extremes(nn.Cell):
    """Where the greatest and the least are, and these."""

    def __init__(self):
        super().__init__()
        self.most = ops.ArgMaxWithValue(axis=1, keep_dims=True)
        self.least = ops.ArgMinWithValue(axis=0)

    def construct(self, x):
        place, most = self.most(x)
        other, least = self.least(x)
        return place, most, other, least


class Block(nn.Cell):
    """A residual block."""

    def __init__(self, width, out, stride):
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride, pad_mode="pad", padding=1)
        self.norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, pad_mode="pad", padding=1)
        self.norm2 = nn.BatchNorm2d(out)
        self.short = nn.SequentialCell(nn.Conv2d(width, out, 1, stride), nn.BatchNorm2d(out))
        self.relu = nn.ReLU()

    def construct(self, x):
        y = self.relu(self.norm(self.first(x)))
        return self.relu(self.norm2(self.second(y)) + self.short(x))


class ResNet(nn.Cell):
    """A stem, two blocks, the mean and a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, pad_mode="pad", padding=3)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(3, 2, pad_mode="same")
        self.blocks = nn.SequentialCell(Block(8, 8, 1), Block(8, 16, 2))
        self.head = nn.Dense(16, 5)

    def construct(self, x):
        x = self.blocks(self.pool(self.relu(self.norm(self.stem(x)))))
        return self.head(ops.mean(x, (2, 3)))


def of_heads(x):
    """Two heads of four features."""
    return x.reshape(x.shape[0], x.shape[1], 2, 4).transpose(0, 2, 1, 3)


class Bert(nn.Cell):
    """Embeddings, attention with a mask, and a feed-forward layer."""

    def __init__(self):
        super().__init__()
        self.words, self.at = nn.Embedding(20, 8), nn.Embedding(6, 8)
        self.norm, self.norm2 = nn.LayerNorm((8,)), nn.LayerNorm((8,))
        self.q, self.k, self.v, self.out = (nn.Dense(8, 8) for _ in range(4))
        self.wide, self.narrow = nn.Dense(8, 16), nn.Dense(16, 8)
        self.gelu = nn.GELU(approximate=False)

    def construct(self, ids, mask):
        x = self.norm(self.words(ids) + self.at(ops.arange(ids.shape[1])))
        q, k, v = of_heads(self.q(x)), of_heads(self.k(x)), of_heads(self.v(x))
        scores = ops.matmul(q, k.swapaxes(2, 3)) / 2.0
        scores = scores + (1 - mask[:, None, None, :]) * -1e9
        y = ops.matmul(ops.softmax(scores, -1), v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + self.out(y)
        return x + self.narrow(self.gelu(self.wide(self.norm2(x))))


class Recurrent(nn.Cell):
    """Two layers of LSTM over embeddings, and a head on the last state."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(12, 4), nn.Dense(5, 3)
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True)

    def construct(self, ids):
        y, _ = self.lstm(self.words(ids))
        return self.head(y[:, -1])


class UNet(nn.Cell):
    """Down, up, and what was before beside what comes back."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.pool, self.up = nn.MaxPool2d(2, 2), nn.Conv2dTranspose(8, 4, 2, 2)
        self.last, self.out = nn.Conv2d(8, 4, 3), nn.Conv2d(4, 2, 1)
        self.resize = nn.Upsample(scale_factor=2.0, mode="nearest", recompute_scale_factor=True)

    def construct(self, x):
        a = ops.relu(self.first(x))
        b = ops.relu(self.second(self.pool(a)))
        c = ops.relu(self.last(ops.cat((a, self.up(b)), 1)))
        return ops.sigmoid(self.resize(self.out(c)))


IDS = places(3, 1, 4, 1, 5, 9).reshape(1, 6)
MASK = (IDS > 1).astype("float32")

NETS: dict[str, Made] = {
    "extremes": (lambda _: Extremes(), [f(3, 5)]),
    "choosing": (lambda _: Choosing(), [f(2, 3)]),
    "net_with_if": (lambda _: Branching(), [f(2, 3)]),
    "net_with_while": (lambda _: Newton(), [abs(f(2, 3)) + 1]),
    "resnet": (lambda _: ResNet(), [f(1, 3, 32, 32)]),
    "bert": (lambda _: Bert(), [IDS, MASK]),
    "lstm_net": (lambda _: Recurrent(), [IDS]),
    "unet": (lambda _: UNet(), [f(1, 1, 8, 8)]),
}
