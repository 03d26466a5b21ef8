"""Weights that a file keeps in its nodes.

Paddle's exporter, and others, write no initializers: each weight is a node ``Constant``.
"""

import numpy as np
import onnx

from fnckpt.ir.sources.onnx.model import Model

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16,
     onnx.TensorProto.BFLOAT16}
)  # fmt: skip


def keep_as_weights(model: Model) -> None:
    """Make the floats of ``Constant`` nodes initializers, where no initializer is an array of such.

    A file that has weights among its initializers means its constants as constants.
    """
    graph = model.proto.graph
    if any(_is_weight(tensor) for tensor in graph.initializer):
        return
    own = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        tensor = _weight_in(node)
        if tensor is None or node.output[0] in own:
            kept.append(node)
            continue
        own.add(node.output[0])
        graph.initializer.append(tensor)
        graph.initializer[-1].name = node.output[0]
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _weight_in(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    held = [each.t for each in node.attribute if each.name == "value"]
    return held[0] if held and _is_weight(held[0]) else None


def _is_weight(tensor: onnx.TensorProto) -> bool:
    """Whether it has several numbers that can be trained."""
    return tensor.data_type in FLOATS and int(np.prod([*tensor.dims], dtype=object)) > 1
