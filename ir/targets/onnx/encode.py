"""A legalized graph as the bytes of an ONNX file, weights as views."""

import sys
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from fnckpt.ir.graph import Aval, CNode, FuncGraph, Parameter
from fnckpt.ir.sizes import is_known
from fnckpt.ir.targets.names import value_names
from fnckpt.ir.targets.onnx.emit import CANNOT, EMITTERS
from fnckpt.ir.targets.onnx.writer import Writer, element_type
from fnckpt.ir.targets.target import Encoded, emit_all
from fnckpt.wire import Part, field, size

OLDEST_OPSET, NEWEST_OPSET = 13, onnx.defs.onnx_opset_version()
DEFAULT_OPSET = 20  # the first with Gelu; ONNX Runtime 1.17 of 2024 and later read it
MOST_BYTES = 2**31 - 1
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9


def encode(graph: FuncGraph, *, opset: int = DEFAULT_OPSET) -> Encoded:
    """The file of ``graph``, which holds only what ``EMITTERS`` can write.

    Args:
      graph: after ``LEGALIZE``.
      opset: the version of ONNX's operators, from 13 to the newest that the onnx package knows.

    Raises:
      Refused: an operator or a dtype cannot be written; all such places at once.
      ValueError: an opset that there is not, or a file over protobuf's limit of 2 GB.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(f"opset must be {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    writer = Writer(value_names(graph), graph.inputs, opset)
    nodes = [node for node in graph.cnodes() if node.op != "TupleGetItem"]
    emit_all(nodes, EMITTERS, CANNOT, writer)
    outputs = _outputs(graph, writer)
    model = _model(graph, writer, outputs, opset)
    arrays = {writer.ref(p): _array(p) for p in graph.weights()} | writer.initializers
    tensors = [part for name, value in arrays.items() for part in _tensor(name, value)]
    body: list[Part] = [model.graph.SerializeToString(), *tensors]
    model.ClearField("graph")
    parts = [model.SerializeToString(), *field(MODEL_GRAPH, body)]
    if size(parts) > MOST_BYTES:
        raise ValueError(
            f"{graph.name}: an ONNX file holds at most {MOST_BYTES} bytes, this one has "
            f"{size(parts)}; export it in parts, or with float16 weights"
        )
    return Encoded(parts, len(writer.nodes))


def _array(parameter: Parameter) -> np.ndarray:
    assert parameter.value is not None
    return parameter.value


def _outputs(graph: FuncGraph, writer: Writer) -> list[tuple[str, Aval]]:
    """Names that are the graph's own; what is no fresh result is copied by an Identity."""
    found: list[tuple[str, Aval]] = []
    for node, label in zip(graph.outputs, graph.output_names, strict=True):
        name = writer.ref(node)
        if not isinstance(node, CNode) or name in [used for used, _ in found]:
            copied = writer.unused(label)
            writer.add("Identity", [node], [copied], copied)
            name = copied
        found.append((name, node.aval))
    return found


def _model(
    graph: FuncGraph, writer: Writer, outputs: Sequence[tuple[str, Aval]], opset: int
) -> onnx.ModelProto:
    known = {id(node) for node in (*graph.inputs, *graph.outputs)}
    between = [
        _info(name, aval)
        for node in graph.cnodes()
        if id(node) not in known and node.op != "TupleGetItem"
        for name, aval in zip(writer.results(node), node.results, strict=True)
    ]
    body = helper.make_graph(
        writer.nodes,
        graph.name,
        [_info(writer.ref(p), p.aval) for p in graph.inputs],
        [_info(name, aval) for name, aval in outputs],
        value_info=between,
    )
    ids = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(ids)
    return helper.make_model(body, opset_imports=ids, ir_version=version, producer_name="fnckpt")


def _info(name: str, aval: Aval) -> onnx.ValueInfoProto:
    shape = [size if is_known(size) else str(size) for size in aval.shape]
    return helper.make_tensor_value_info(name, element_type(aval.dtype), shape)


def _tensor(name: str, value: np.ndarray) -> list[Part]:
    """An initializer: everything but the data as a message, the data as it lies in memory."""
    head = onnx.TensorProto(
        name=name, dims=value.shape, data_type=element_type(value.dtype)
    ).SerializeToString()
    return field(GRAPH_INITIALIZER, [head, *field(TENSOR_RAW_DATA, [_raw(value)])])


def _raw(value: np.ndarray) -> Part:
    """The bytes in row-major order, little end first."""
    swapped = value.byteswap() if sys.byteorder == "big" else value
    return np.ascontiguousarray(swapped).reshape(-1).view(np.uint8).data
