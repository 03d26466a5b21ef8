"""How padding is written: the numbers are judged with every other operator in test_cases.py."""

from collections import Counter

import numpy as np
import pytest

from fnckpt.ir.graph import Aval, FuncGraph, Node, Parameter
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.targets.mindir import TARGET
from fnckpt.ir.targets.target import legalized
from fnckpt.proto.mind_ir_pb2 import ModelProto

IMAGE = Parameter("x", Aval((2, 3, 8, 9), np.dtype(np.float32)))
FINITE = apply("Tanh", IMAGE)
ZERO = constant(np.float32(0))


COUNTED = {"AvgPool", "BroadcastTo", "Concat", "MaxPool", "PadV3"}


def operators(node: Node) -> Counter[str]:
    """How often pools and paddings stand in the file of ``node``."""
    graph = FuncGraph("net", (IMAGE,), (node,), ("y",))
    model = ModelProto.FromString(b"".join(TARGET.encode(legalized(graph, TARGET)).parts))
    found = (n.op_type.split("::")[-1].split(":")[0] for n in model.graph.node)
    return Counter(op for op in found if op in COUNTED)


def largest(*pads: tuple[int, int]) -> Node:
    return apply("MaxPool", FINITE, window=(3, 3), strides=(2, 2), pads=pads)


def mean(*pads: tuple[int, int], counted: bool) -> Node:
    return apply("AvgPool", FINITE, window=(3, 3), strides=(2, 2), pads=pads, count_padding=counted)


def padded(*low: int) -> Node:
    return apply("Pad", FINITE, ZERO, low=low, high=low)


SAME = ((0, 1), (1, 1))  # of 8 and 9

WRITTEN = {
    "a largest element with SAME pads": (largest(*SAME), {"MaxPool": 1}),
    "a mean with SAME pads": (mean(*SAME, counted=False), {"AvgPool": 1}),
    "a mean that counts its pads": (mean(*SAME, counted=True), {"AvgPool": 1, "Concat": 2}),
    "other pads": (largest((1, 0), (1, 1)), {"MaxPool": 1, "Concat": 2}),
    "rows of an image": (padded(0, 0, 2, 0), {"Concat": 1}),
    "many rows, over a kilobyte": (padded(0, 0, 20, 0), {"Concat": 1, "BroadcastTo": 1}),
    "rows of one": (
        apply("Pad", apply("Reshape", FINITE, shape=(432, 1)), ZERO, low=(0, 1), high=(0, 0)),
        {"PadV3": 1},
    ),
    "rows of nine": (padded(0, 0, 2, 1), {"Concat": 2}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_padding_is_left_to_the_pool_or_copied_in_long_runs(name: str) -> None:
    node, wanted = WRITTEN[name]
    assert operators(node) == wanted
