"""A legalized graph as the bytes of a MindIR file, weights as views."""

from collections.abc import Mapping

import numpy as np

from fnckpt.ir.border import KEY
from fnckpt.ir.graph import CNode, Constant, FuncGraph, aval_of, everywhere
from fnckpt.ir.operators import apply
from fnckpt.ir.passes.rewrite import rewrite
from fnckpt.ir.targets.external import Beside, beside, fits
from fnckpt.ir.targets.mindir.codes import DATA_TYPES, no_dtype
from fnckpt.ir.targets.mindir.inner_sizes import with_sizes
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

MODEL_GRAPH, MODEL_FUNCTIONS, GRAPH_PARAMETER = 7, 8, 3
ALIGNMENT = 64  # of arrays in the file of weights, as MindSpore writes them


def encode(
    graph: FuncGraph, stem: str = "model", *, mindspore: str = "2.3", external_data: bool = False
) -> Encoded:
    """The file of ``graph``, which holds only what ``EMITTERS`` can write.

    Args:
      graph: after ``LEGALIZE``.
      stem: of the file's name.
      mindspore: the oldest version that shall read the file: ``"2.3"`` for 2.3 and newer,
        ``"2.0"`` for up to 2.2 and for MindSpore Lite.
      external_data: weights go to a file of their own, as they do anyway over 2 GB.

    Raises:
      Refused: an operator or a dtype cannot be written; all such places at once.
      ValueError: another version.
    """
    if mindspore not in DIALECTS:
        raise ValueError(f"mindspore must be one of {', '.join(DIALECTS)}, got {mindspore!r}")
    dialect = DIALECTS[mindspore]
    graph = everywhere(graph, lambda each: rewrite(each, dialect.legalize))
    graph = everywhere(graph, with_sizes)
    _refuse_dtypes(graph)
    writer = Writer(graph, dialect)
    emit_all(graph.cnodes(), EMITTERS, CANNOT, writer)
    if not dialect.arguments:
        _refuse_bfloat16(graph)
    # A node may not have the graph's name: "Duplicate CNode name".
    head = mind_ir.GraphProto(name=writer.unused(graph.name))
    for parameter in graph.inputs:
        head.input.add(name=writer.ref(parameter), tensor=[tensor_type(parameter.aval)])
    head.output.append(_output(graph, writer))
    arrays = {writer.ref(w): _array(w.value) for w in graph.weights()}
    rest = head.ByteSize() + size(writer.parts) + sum(map(size, writer.functions))
    data = _beside(arrays, stem) if external_data or not fits(arrays, rest) else None
    body: list[Part] = [
        head.SerializeToString(),
        *_parameters(arrays, data),
        *writer.live(head.output[0].name),
    ]
    model = mind_ir.ModelProto(
        ir_version="1.1",
        producer_name="fnckpt",
        model_version="1",
        little_endian=True,
        mind_ir_version=writer.dialect.mind_ir_version,
        primitives=writer.needed(),
        user_info={KEY: graph.border.text()} if graph.border else {},
    )
    parts = [model.SerializeToString(), *field(MODEL_GRAPH, body)]
    for function in writer.functions:
        parts += field(MODEL_FUNCTIONS, function)
    return Encoded(parts, writer.count, data, "_graph" if data else "")


def _beside(arrays: Mapping[str, np.ndarray], stem: str) -> Beside:
    """MindSpore reads any relative path; the first byte says that numbers are little-endian."""
    front = b"\x01".ljust(ALIGNMENT, b"\0")
    return beside(
        tuple(arrays.values()),
        folder=f"{stem}_variables",
        before="data_",
        after="",
        front=front,
        align=ALIGNMENT,
    )


def _parameters(arrays: Mapping[str, np.ndarray], data: Beside | None) -> list[Part]:
    """The weights, as they are or as places in ``data``."""
    if data is None:
        tensors = (tensor_parts(GRAPH_PARAMETER, n, value) for n, value in arrays.items())
        return [part for tensor in tensors for part in tensor]
    parts: list[Part] = []
    for (name, value), place in zip(arrays.items(), data.places(), strict=True):
        tensor = tensor_type(aval_of(value))
        tensor.name = name
        tensor.external_data.location = data.location
        tensor.external_data.offset, tensor.external_data.length = place.offset, place.length
        parts += field(GRAPH_PARAMETER, [tensor.SerializeToString()])
    return parts


def _refuse_dtypes(graph: FuncGraph) -> None:
    """What the format has no number for; an input may be the output, or not used."""
    given = [(x, f"{x.name} is {x.aval}: ") for x in (*graph.inputs, *graph.weights())]
    places = [(apply("Identity", x), told, x.aval) for x, told in given]
    places += [(node, "", aval) for node in graph.cnodes() for aval in node.results]
    known = (x for x in graph.outputs if isinstance(x, Constant))
    places += [(apply("Identity", x), "an output: ", x.aval) for x in known]
    found = [(node, told + no_dtype(aval.dtype)) for node, told, aval in places
             if aval.dtype.name not in DATA_TYPES]  # fmt: skip
    if found:
        raise Refused(found)


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
