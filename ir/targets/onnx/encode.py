"""A legalized graph as the bytes of an ONNX file, weights as views."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from fnckpt.ir.border import KEY
from fnckpt.ir.graph import Aval, CNode, FuncGraph, Parameter
from fnckpt.ir.passes.cached_attention import caches_of
from fnckpt.ir.targets.external import LEAST_BYTES, Place, beside, fits, raw
from fnckpt.ir.targets.names import value_names
from fnckpt.ir.targets.onnx import rare_large, rare_orders
from fnckpt.ir.targets.onnx.control import written
from fnckpt.ir.targets.onnx.emit_decoders import CANNOT, EMITTERS
from fnckpt.ir.targets.onnx.rare import with_branches
from fnckpt.ir.targets.onnx.sizes import readable
from fnckpt.ir.targets.onnx.writer import Writer, element_type, value_info
from fnckpt.ir.targets.target import Encoded, emit_all
from fnckpt.wire import Part, field

OLDEST_OPSET, NEWEST_OPSET = 13, onnx.defs.onnx_opset_version()
DEFAULT_OPSET = 23  # the fastest; ONNX Runtime 1.23 of 2025 and later read it
MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
OURS = "fnckpt.parameters"  # how many initializers are the user's; they are the first


def encode(
    graph: FuncGraph,
    stem: str = "model",
    *,
    opset: int = DEFAULT_OPSET,
    external_data: bool = False,
    metadata: bool = True,
) -> Encoded:
    """The file of ``graph``, which holds only what ``EMITTERS`` can write.

    Args:
      graph: after ``LEGALIZE``.
      stem: of the file's name.
      opset: the version of ONNX's operators, from 13 to the newest that the onnx package knows.
      external_data: weights go to a file of their own, as they do anyway over 2 GB.
      metadata: nodes tell the module, primitive and source line that made them.

    Raises:
      Refused: an operator or a dtype cannot be written; all such places at once.
      ValueError: an opset that there is not.
    """
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ValueError(f"opset must be {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset}")
    graph = with_branches(graph, (*rare_orders.STEPS, rare_large.RULES))
    names = value_names(graph)
    writer = Writer(
        names, graph.inputs, opset,
        metadata=metadata, outputs=graph.outputs, measured=_measured(graph),
    )  # fmt: skip
    emit_all(written(graph), EMITTERS, CANNOT, writer)
    outputs = _outputs(graph, writer)
    weights = {writer.ref(p): _array(p) for p in graph.weights()}
    arrays = weights | writer.initializers
    model = _model(graph, writer, outputs, opset)
    said = {KEY: graph.border.text()} if graph.border else {}
    helper.set_model_props(model, said | {OURS: str(len(weights))})
    if not external_data and fits(arrays, model.ByteSize()):
        tensors = [_tensor(name, value) for name, value in arrays.items()]
        return Encoded(_parts(model, tensors), writer.count)
    large = {name: value for name, value in arrays.items() if value.nbytes >= LEAST_BYTES}
    held = tuple(large.values())
    data = beside(held, folder="", before=f"{stem}.onnx.", after=".data", front=b"", align=4096)
    places = dict(zip(large, data.places(), strict=True))
    tensors = [
        _external(name, value, data.location, places[name])
        if name in large
        else _tensor(name, value)
        for name, value in arrays.items()
    ]
    return Encoded(_parts(model, tensors), writer.count, data)


def _measured(graph: FuncGraph) -> Sequence[Parameter]:
    """The inputs that sizes are read off: a cache may be longer than what it holds."""
    caches = {id(each) for each in caches_of(graph)}
    others = [each for each in graph.inputs if id(each) not in caches]
    every, some = (readable([p.aval.shape for p in each]) for each in (graph.inputs, others))
    return others if some == every else graph.inputs


def _parts(model: onnx.ModelProto, tensors: Sequence[list[Part]]) -> list[Part]:
    """The model with initializers that are not copied."""
    around = onnx.ModelProto()
    around.CopyFrom(model)
    around.ClearField("graph")
    body: list[Part] = [model.graph.SerializeToString(), *(part for t in tensors for part in t)]
    return [around.SerializeToString(), *field(MODEL_GRAPH, body)]


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
    known = {name for name, _ in outputs}
    between = [
        value_info(name, aval)
        for node in written(graph)
        for name, aval in zip(writer.results(node), node.results, strict=True)
        if name not in known
    ]
    body = helper.make_graph(
        writer.nodes,
        graph.name,
        [value_info(writer.ref(p), p.aval) for p in graph.inputs],
        [value_info(name, aval) for name, aval in outputs],
        value_info=between,
    )
    ids = [helper.make_opsetid("", opset)]
    version = helper.find_min_ir_version_for(ids)
    domains = sorted({node.domain for node in body.node} - {""})
    ids += [helper.make_opsetid(domain, 1) for domain in domains]
    model = helper.make_model(body, opset_imports=ids, ir_version=version, producer_name="fnckpt")
    return model


def _tensor(name: str, value: np.ndarray) -> list[Part]:
    """An initializer: everything but the data as a message, the data as it lies in memory."""
    head = onnx.TensorProto(
        name=name, dims=value.shape, data_type=element_type(value.dtype)
    ).SerializeToString()
    return field(GRAPH_INITIALIZER, [head, *field(TENSOR_RAW_DATA, [raw(value)])])


def _external(name: str, value: np.ndarray, location: str, place: Place) -> list[Part]:
    """An initializer whose data is in another file."""
    tensor = onnx.TensorProto(
        name=name,
        dims=value.shape,
        data_type=element_type(value.dtype),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, held in (("location", location), ("offset", place.offset), ("length", place.length)):
        tensor.external_data.add(key=key, value=str(held))
    return field(GRAPH_INITIALIZER, [tensor.SerializeToString()])
