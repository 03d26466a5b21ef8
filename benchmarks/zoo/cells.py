"""Three networks twice: in Flax, and in ``mindspore.nn`` with the names that the bridge gives.

``build`` makes the cell, so that MindSpore is imported only where it is wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from benchmarks.zoo.images import Network, ResNet50, image, initialized


class BertBlock(nn.Module):
    """Attention of 12 heads and two Dense of 768 features, each with its norm behind."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.LayerNorm(1e-12)(x + nn.MultiHeadDotProductAttention(12, deterministic=True)(x, x))
        y = nn.gelu(nn.Dense(3072)(x), approximate=False)
        y = nn.Dense(768)(y)
        return nn.LayerNorm(1e-12)(x + y)


class Mlp(nn.Module):
    """Three Dense."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(512)(x))
        x = nn.relu(nn.Dense(512)(x))
        return nn.Dense(10)(x)


def _resnet50() -> Any:
    import mindspore as ms

    def conv(before: int, after: int, size: int, stride: int = 1) -> Any:
        return ms.nn.Conv2d(before, after, size, stride, pad_mode="same")

    class Block(ms.nn.Cell):
        def __init__(self, before: int, features: int, stride: int) -> None:
            super().__init__()
            after = 4 * features
            self.Conv_0 = conv(before, features, 1)
            self.Conv_1 = conv(features, features, 3, stride)
            self.Conv_2 = conv(features, after, 1)
            self.BatchNorm_0 = ms.nn.BatchNorm2d(features)
            self.BatchNorm_1 = ms.nn.BatchNorm2d(features)
            self.BatchNorm_2 = ms.nn.BatchNorm2d(after)
            self.wider = before != after
            if self.wider:
                self.Conv_3 = conv(before, after, 1, stride)
                self.BatchNorm_3 = ms.nn.BatchNorm2d(after)
            self.relu = ms.nn.ReLU()

        def construct(self, x: Any) -> Any:
            y = self.relu(self.BatchNorm_0(self.Conv_0(x)))
            y = self.relu(self.BatchNorm_1(self.Conv_1(y)))
            y = self.BatchNorm_2(self.Conv_2(y))
            if self.wider:
                x = self.BatchNorm_3(self.Conv_3(x))
            return self.relu(x + y)

    class Net(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.Conv_0 = ms.nn.Conv2d(3, 64, 7, 2, pad_mode="pad", padding=3)
            self.BatchNorm_0 = ms.nn.BatchNorm2d(64)
            self.relu = ms.nn.ReLU()
            self.pool = ms.nn.MaxPool2d(3, 2, pad_mode="same")
            before, self.blocks = 64, []
            for stage, count in enumerate((3, 4, 6, 3)):
                for at in range(count):
                    block = Block(before, 64 << stage, 2 if stage and not at else 1)
                    setattr(self, f"Bottleneck_{len(self.blocks)}", block)
                    self.blocks.append(block)
                    before = 4 * (64 << stage)
            self.Dense_0 = ms.nn.Dense(2048, 1000)

        def construct(self, x: Any) -> Any:
            x = self.pool(self.relu(self.BatchNorm_0(self.Conv_0(x))))
            for block in self.blocks:
                x = block(x)
            return self.Dense_0(x.mean((2, 3)))

    return Net()


def _bert_block() -> Any:
    import mindspore as ms

    class Attention(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = ms.nn.Dense(768, 768), ms.nn.Dense(768, 768)
            self.value, self.out = ms.nn.Dense(768, 768), ms.nn.Dense(768, 768)
            self.product = ms.ops.BatchMatMul()
            self.turned = ms.ops.BatchMatMul(transpose_b=True)
            self.softmax = ms.nn.Softmax(-1)

        def construct(self, x: Any) -> Any:
            def heads(y: Any) -> Any:
                return y.reshape(1, -1, 12, 64).transpose(0, 2, 1, 3)

            q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
            y = self.product(self.softmax(self.turned(q * 0.125, k)), v)
            return self.out(y.transpose(0, 2, 1, 3).reshape(1, -1, 768))

    class Net(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.MultiHeadDotProductAttention_0 = Attention()
            self.LayerNorm_0 = ms.nn.LayerNorm((768,), epsilon=1e-12)
            self.LayerNorm_1 = ms.nn.LayerNorm((768,), epsilon=1e-12)
            self.Dense_0, self.Dense_1 = ms.nn.Dense(768, 3072), ms.nn.Dense(3072, 768)
            self.gelu = ms.nn.GELU(approximate=False)

        def construct(self, x: Any) -> Any:
            x = self.LayerNorm_0(x + self.MultiHeadDotProductAttention_0(x))
            return self.LayerNorm_1(x + self.Dense_1(self.gelu(self.Dense_0(x))))

    return Net()


def _mlp() -> Any:
    import mindspore as ms

    class Net(ms.nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.Dense_0, self.Dense_1 = ms.nn.Dense(784, 512), ms.nn.Dense(512, 512)
            self.Dense_2, self.relu = ms.nn.Dense(512, 10), ms.nn.ReLU()

        def construct(self, x: Any) -> Any:
            return self.Dense_2(self.relu(self.Dense_1(self.relu(self.Dense_0(x)))))

    return Net()


@dataclass(frozen=True)
class Twice:
    """A network in Flax and in MindSpore; ``feed`` turns the one's input into the other's."""

    flax: Callable[[], Network]
    build: Callable[[], Any]
    feed: Callable[[np.ndarray], np.ndarray] = lambda x: x


def _rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


TWICE = {
    "ResNet-50": Twice(
        lambda: initialized(ResNet50(), image()),
        _resnet50,
        lambda x: np.ascontiguousarray(x.transpose(0, 3, 1, 2)),
    ),
    "BERT block": Twice(lambda: initialized(BertBlock(), _rows(1, 128, 768)), _bert_block),
    "MLP": Twice(lambda: initialized(Mlp(), _rows(32, 784)), _mlp),
}
