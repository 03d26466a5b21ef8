"""The anf_ir of ``<prefix>-graph.meta``: MindSpore's picture of a compiled graph.

A ``ModelProto`` of package ``mindspore.irpb``. It describes and is never run: MindSpore's own
tools draw it. Source: anf_ir.proto and the dump of MindSpore 2.10, which name nodes "1", "2", ...
and constants "cst1", "cst2", ...
"""

import math
import zlib
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError

from fnckpt.errors import FormatError
from fnckpt.ir.graph import Attr, Aval, CNode, Constant, FuncGraph, Node, Parameter
from fnckpt.ir.targets.brief import MOST_ITEMS, brief
from fnckpt.ir.targets.foreign import AnyPath, check_texts, content_of, refusing, sound
from fnckpt.ir.targets.target import NodeSummary, Shape, Summary, ValueSummary
from fnckpt.proto import anf_ir_pb2 as anf

MOST_BYTES = 1 << 16  # a larger constant is described by its type alone

DTYPES = {
    "bool": anf.DT_BOOL,
    "bfloat16": anf.DT_BFLOAT16,
    "complex64": anf.DT_COMPLEX64,
    "complex128": anf.DT_COMPLEX128,
    **{f"int{n}": anf.DataType.Value(f"DT_INT{n}") for n in (8, 16, 32, 64)},
    **{f"uint{n}": anf.DataType.Value(f"DT_UINT{n}") for n in (8, 16, 32, 64)},
    **{f"float{n}": anf.DataType.Value(f"DT_FLOAT{n}") for n in (16, 32, 64)},
}
NAMES = {code: dtype for dtype, code in DTYPES.items()}


def encode(graph: FuncGraph) -> bytes:
    """The serialized ``ModelProto`` of ``graph``; shapes in elements, scopes under ``Default``."""
    model = anf.ModelProto(ir_version=1, domain="fnckpt", model_version=1)
    model.graph.name = graph.name
    names: dict[int, str] = {}
    for parameter in graph.inputs:
        names[id(parameter)] = parameter.name
        model.graph.parameters.add(name=parameter.name, type=_tensor_type(parameter.aval))
    for node in graph.nodes():
        if isinstance(node, Constant):
            names[id(node)] = f"cst{len(model.graph.const_vals) + 1}"
            _add_constant(model.graph, names[id(node)], node)
        elif isinstance(node, CNode):
            names[id(node)] = str(len(model.graph.node) + 1)
            _add_node(model.graph, names, node)
    for node in graph.outputs:
        model.graph.outputs.add(name=names[id(node)], type=_type(node))
    return model.SerializeToString()


@refusing
def summarize(path: AnyPath) -> Summary:
    """What a ``graph.meta`` holds.

    Raises:
      FormatError: the file is no anf_ir ``ModelProto``.
    """
    try:
        model = anf.ModelProto.FromString(content_of(path, "a graph.meta"))
    except DecodeError:
        raise FormatError(f"{path}: not an anf_ir ModelProto (wrong bytes)") from None
    if not model.HasField("graph"):
        raise FormatError(f"{path}: not an anf_ir ModelProto, it holds no graph")
    check_texts(path, model)
    graph = model.graph
    summary = Summary(
        producer=model.domain,
        inputs=tuple(_summary(p.name, p.type) for p in graph.parameters),
        outputs=tuple(_summary(o.name, o.type) for o in graph.outputs),
        parameters=(),
        nodes=tuple(map(_node, graph.node)),
        shapes=dict(_shapes(graph)),
        constants={each.key: _constant(each.value) for each in graph.const_vals},
    )
    return sound(path, summary)


def _node(node: anf.NodeProto) -> NodeSummary:
    """A node by its full name; the values are called ``1``, ``2``, ... as in the file."""
    name = (node.full_name or node.name).removeprefix("Default/")
    attributes = tuple((each.name, _attribute(each.value)) for each in node.attribute)
    return NodeSummary(
        name, node.op_type, tuple(i.name for i in node.input), (node.name,), attributes
    )


def _attribute(value: anf.ValueProto) -> str:
    if value.dtype == anf.DT_TUPLE or value.dtype == anf.DT_LIST:
        return brief([_attribute(each) for each in value.values[: MOST_ITEMS + 1]])
    fields = {
        anf.DT_BOOL: value.bool_val,
        anf.DT_STRING: value.str_val,
        anf.DT_FLOAT32: value.float_val,
        anf.DT_FLOAT64: value.double_val,
    }
    return brief(fields.get(value.dtype, value.int_val))


def _constant(value: anf.ValueProto) -> str:
    """Its dtype and shape with its numbers, or with the CRC-32 of the bytes of many."""
    if value.dtype != anf.DT_TENSOR:
        return _attribute(value)
    tensor, raw = value.tensor_val, value.tensor_val.raw_data
    name, shape = NAMES.get(tensor.data_type, "undefined"), tuple(tensor.dims)
    told = f"{name}[{','.join(map(str, shape))}]"
    if not raw or name == "undefined":
        return told
    dtype = np.dtype(name)
    if len(raw) != math.prod(shape) * dtype.itemsize or math.prod(shape) > MOST_ITEMS:
        return f"{told} CRC-32 {zlib.crc32(raw):08x}"
    return f"{told} {', '.join(map(str, np.frombuffer(raw, dtype)))}"


def _shapes(graph: anf.GraphProto) -> Iterator[tuple[str, Shape]]:
    for parameter in graph.parameters:
        yield parameter.name, _summary("", parameter.type).shape
    for constant in graph.const_vals:
        yield constant.key, tuple(constant.value.tensor_val.dims)
    for node in graph.node:
        if node.output_type.data_type == anf.DT_TENSOR:
            yield node.name, _summary("", node.output_type).shape


def _summary(name: str, described: anf.TypeProto) -> ValueSummary:
    tensor = described.tensor_type
    shape = tuple(dim.size for dim in tensor.shape.dim)
    return ValueSummary(name, NAMES.get(tensor.elem_type, "undefined"), shape)


def _tensor_type(aval: Aval) -> anf.TypeProto:
    element = DTYPES.get(aval.dtype.name, anf.DT_UNDEFINED)
    result = anf.TypeProto(data_type=anf.DT_TENSOR)
    result.tensor_type.elem_type = element
    result.tensor_type.shape.SetInParent()
    for size in aval.shape:
        result.tensor_type.shape.dim.add(size=size)
    return result


def _type(node: Node) -> anf.TypeProto:
    if isinstance(node, Parameter | Constant) or len(node.results) == 1:
        return _tensor_type(node.aval)
    result = anf.TypeProto(data_type=anf.DT_TUPLE)
    result.sequence_type.elem_types.extend(map(_tensor_type, node.results))
    return result


def _add_constant(graph: anf.GraphProto, name: str, node: Constant) -> None:
    entry = graph.const_vals.add(key=name)
    entry.value.dtype = anf.DT_TENSOR
    tensor = entry.value.tensor_val
    tensor.dims.extend(node.aval.shape)
    tensor.data_type = DTYPES.get(node.aval.dtype.name, anf.DT_UNDEFINED)
    if node.value.nbytes <= MOST_BYTES:
        tensor.raw_data = np.ascontiguousarray(node.value).tobytes()


def _add_node(graph: anf.GraphProto, names: dict[int, str], node: CNode) -> None:
    name = names[id(node)]
    scope = f"Default/{node.origin.scope}" if node.origin.scope else "Default"
    entry = graph.node.add(name=name, op_type=node.op, scope=scope, output_type=_type(node))
    entry.full_name = f"{scope}/{node.op}-op{name}"
    for source in node.inputs:
        entry.input.add(name=names[id(source)], type=anf.InputProto.DATA_EDGE)
    for key, value in node.attrs.items():
        entry.attribute.add(name=key, value=_value(value))


def _value(value: Attr) -> anf.ValueProto:
    if isinstance(value, bool):
        return anf.ValueProto(dtype=anf.DT_BOOL, bool_val=value)
    if isinstance(value, int):
        return anf.ValueProto(dtype=anf.DT_INT64, int_val=value)
    if isinstance(value, float):
        return anf.ValueProto(dtype=anf.DT_FLOAT64, double_val=value)
    if isinstance(value, tuple):
        return anf.ValueProto(dtype=anf.DT_TUPLE, values=map(_value, value))
    return anf.ValueProto(dtype=anf.DT_STRING, str_val=str(value))
