"""A legalized graph as the bytes of a MindIR file, weights as views."""

import numpy as np

from fnckpt.ir.graph import CNode, FuncGraph
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets.mindir.registry import CANNOT, EMITTERS, NO_BFLOAT16
from fnckpt.ir.targets.mindir.writer import (
    DIALECTS,
    Writer,
    tensor_parts,
    tensor_type,
    type_attribute,
)
from fnckpt.ir.targets.target import Encoded, Part, Refused, emit_all
from fnckpt.proto import mind_ir_pb2 as mind_ir
from fnckpt.wire import field, size

MODEL_GRAPH, GRAPH_PARAMETER = 7, 3
MOST_BYTES = 2**31 - 1


def encode(graph: FuncGraph, *, mindspore: str = "2.3") -> Encoded:
    """The file of ``graph``, which holds only what ``EMITTERS`` can write.

    Args:
      graph: after ``LEGALIZE``.
      mindspore: the oldest version that shall read the file: ``"2.3"`` for 2.3 and newer,
        ``"2.0"`` for up to 2.2 and for MindSpore Lite.

    Raises:
      Refused: an operator or a dtype cannot be written; all such places at once.
      ValueError: another version, or a file over protobuf's limit of 2 GB.
    """
    if mindspore not in DIALECTS:
        raise ValueError(f"mindspore must be one of {', '.join(DIALECTS)}, got {mindspore!r}")
    dialect = DIALECTS[mindspore]
    graph = rewrite(graph, dialect.legalize)
    writer = Writer(graph, dialect)
    emit_all(graph.cnodes(), EMITTERS, CANNOT, writer)
    if not dialect.arguments:
        _refuse_bfloat16(graph)
    # A node may not have the graph's name: "Duplicate CNode name".
    head = mind_ir.GraphProto(name=writer.unused(graph.name))
    for parameter in graph.inputs:
        head.input.add(name=writer.ref(parameter), tensor=[tensor_type(parameter.aval)])
    head.output.append(_output(graph, writer))
    weights = [
        part
        for weight in graph.weights()
        for part in tensor_parts(GRAPH_PARAMETER, writer.ref(weight), _array(weight.value))
    ]
    body: list[Part] = [head.SerializeToString(), *weights, *writer.parts]
    model = mind_ir.ModelProto(
        ir_version="1.1",
        producer_name="fnckpt",
        model_version="1",
        little_endian=True,
        mind_ir_version=writer.dialect.mind_ir_version,
        primitives=writer.primitives.values(),
    )
    parts = [model.SerializeToString(), *field(MODEL_GRAPH, body)]
    if size(parts) > MOST_BYTES:
        raise ValueError(
            f"{graph.name}: a MindIR file holds at most {MOST_BYTES} bytes, this one has "
            f"{size(parts)}; export it in parts, or with float16 weights"
        )
    return Encoded(parts, writer.count)


def _refuse_bfloat16(graph: FuncGraph) -> None:
    """What no operator takes, too: an input that is not used, or is the output."""
    values = (*graph.inputs, *graph.weights(), *graph.outputs)
    narrow = [x for x in values if not isinstance(x, CNode) and x.aval.dtype.name == "bfloat16"]
    if narrow:
        raise Refused([(apply("Identity", x), NO_BFLOAT16) for x in narrow])


def _array(value: np.ndarray | None) -> np.ndarray:
    assert value is not None
    return np.asarray(value)


def _output(graph: FuncGraph, writer: Writer) -> mind_ir.ValueInfoProto:
    """The one result, or a tuple of all."""
    avals = [node.aval for node in graph.outputs]
    if len(graph.outputs) == 1:
        (node,) = graph.outputs
        return mind_ir.ValueInfoProto(name=writer.ref(node), tensor=[tensor_type(node.aval)])
    name = writer.unused("outputs")
    writer.add("MakeTuple", graph.outputs, avals, name, "")
    info = mind_ir.ValueInfoProto(name=name, denotation="Tuple")
    held = type_attribute(avals, is_tuple=True)
    held.ClearField("name")
    info.attr_info.CopyFrom(held)
    return info
