"""Graphs that the tests of the AIR target write to files."""

from pathlib import Path

import numpy as np

from fnckpt.ir.graph import Aval, FuncGraph, Node, Parameter
from fnckpt.ir.operators import apply, constant, item
from fnckpt.ir.targets.air import TARGET
from fnckpt.ir.targets.target import legalized

FLOAT32 = np.dtype(np.float32)


def given(name: str, *shape: int, dtype: np.dtype = FLOAT32) -> Parameter:
    """An input of a graph."""
    return Parameter(name, Aval(shape, dtype))


def weight(name: str, *shape: int) -> Parameter:
    """A weight with values that differ."""
    count = int(np.prod(shape))
    value = np.linspace(-1, 1, count, dtype=np.float32).reshape(shape)
    return Parameter(name, Aval(shape, FLOAT32), value)


def graph_of(inputs: tuple[Parameter, ...], *outputs: Node) -> FuncGraph:
    """A graph with results ``y0``, ``y1``, ..."""
    return FuncGraph("net", inputs, outputs, tuple(f"y{i}" for i in range(len(outputs))))


def small_network() -> FuncGraph:
    """Convolution, pooling, a product with a bias, a concatenation and two results of TopK."""
    x, scale = given("x", 2, 3, 8, 8), given("scale", 2, 6)
    kernel, bias = weight("params.Conv_0.kernel", 4, 3, 3, 3), weight("params.Conv_0.bias", 4)
    conv = apply(
        "Conv", x, kernel, bias,
        strides=(1, 1), pads=((1, 1), (1, 1)), dilation=(1, 1), groups=1,
    )  # fmt: skip
    pooled = apply(
        "MaxPool", apply("Relu", conv), window=(2, 2), strides=(2, 2), pads=((0, 0), (0, 0))
    )
    flat = apply("Reshape", pooled, shape=(2, 64))
    dense = weight("params.Dense_0.kernel", 64, 5)
    product = apply("MatMul", flat, dense, transpose_a=False, transpose_b=False)
    biased = apply("Add", product, weight("params.Dense_0.bias", 5))
    joined = apply("Concat", biased, apply("Mul", scale, constant(np.float32(2))), axis=1)
    best = apply("TopK", joined, k=3)
    chosen = apply("Cast", item(best, 1), dtype=FLOAT32)
    return graph_of((x, scale), apply("Softmax", joined, axis=1), item(best, 0), chosen)


def content(graph: FuncGraph) -> bytes:
    """The file of ``graph``."""
    return b"".join(TARGET.encode(legalized(graph, TARGET)).parts)


def write(graph: FuncGraph, directory: Path) -> Path:
    """The file of ``graph``, written."""
    path = directory / "net.air"
    path.write_bytes(content(graph))
    return path
