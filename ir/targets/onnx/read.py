"""ONNX files read back: what they hold, and whether they are valid."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from fnckpt.errors import FormatError
from fnckpt.ir.targets.brief import brief
from fnckpt.ir.targets.target import NodeSummary, Shape, Summary, ValueSummary


def check(path: Path) -> list[str]:
    """What ``onnx.checker`` finds with inference of all shapes; empty for a good file."""
    problems = list(_data_problems(_load(path), path.parent))
    if problems:
        return problems
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [" ".join(str(error).split())]
    return []


def _data_problems(model: onnx.ModelProto, folder: Path) -> Iterator[str]:
    """Data in other files must be whole; the checker looks for the file alone."""
    for tensor in model.graph.initializer:
        held = {entry.key: entry.value for entry in tensor.external_data}
        file = folder / held.get("location", "")
        numbers = held.get("offset", "0"), held.get("length", "0")
        if all(map(str.isdecimal, numbers)) and file.is_file():
            end, size = sum(map(int, numbers)), file.stat().st_size
            if end > size:
                yield f"{tensor.name}: its data ends at byte {end} of {file.name}, which has {size}"


def summarize(path: Path) -> Summary:
    """What a file holds.

    Raises:
      FormatError: it is no ONNX file.
    """
    model = _load(path)
    graph = model.graph
    return Summary(
        producer=model.producer_name,
        inputs=tuple(map(_value, graph.input)),
        outputs=tuple(map(_value, graph.output)),
        parameters=tuple(_weight(tensor) for tensor in graph.initializer),
        nodes=tuple(map(_node, graph.node)),
        shapes=_shapes(model),
    )


def _node(node: onnx.NodeProto) -> NodeSummary:
    inner = [(a.name, _body(a.g)) for a in node.attribute if a.type == a.GRAPH]
    plain = [(a.name, _attribute(a)) for a in node.attribute if a.type != a.GRAPH]
    inputs, outputs = tuple(node.input), tuple(node.output)
    return NodeSummary(node.name, node.op_type, inputs, outputs, tuple(plain), tuple(inner))


def _body(graph: onnx.GraphProto) -> Summary:
    """A loop's body or a branch; protobuf itself bounds how deep they lie."""
    inputs, outputs = tuple(map(_value, graph.input)), tuple(map(_value, graph.output))
    parameters = tuple(_weight(tensor) for tensor in graph.initializer)
    return Summary("", inputs, outputs, parameters, tuple(map(_node, graph.node)), _known(graph))


def _weight(tensor: onnx.TensorProto) -> ValueSummary:
    return ValueSummary(tensor.name, _dtype(tensor.data_type), tuple(tensor.dims))


def _attribute(attribute: onnx.AttributeProto) -> str:
    fields = {
        attribute.FLOAT: attribute.f,
        attribute.INT: attribute.i,
        attribute.STRING: attribute.s,
        attribute.FLOATS: attribute.floats,
        attribute.INTS: attribute.ints,
        attribute.STRINGS: attribute.strings,
    }
    if attribute.type in fields:
        return brief(fields[attribute.type])
    if attribute.type == attribute.TENSOR:
        return f"{_dtype(attribute.t.data_type)}{brief(attribute.t.dims)}"
    return f"of type {attribute.type}"


MOST_BYTES = 1 << 10  # of a constant that may say a shape


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes of all values; where the file lacks some, as ONNX infers them."""
    found = _known(model.graph)
    if all(name in found for node in model.graph.node for name in node.output):
        return found
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > MOST_BYTES:
            tensor.ClearField("raw_data")
    return _described(onnx.shape_inference.infer_shapes(model).graph) | found


def _known(graph: onnx.GraphProto) -> dict[str, Shape]:
    """The shapes that the file tells."""
    return {t.name: tuple(t.dims) for t in graph.initializer} | _described(graph)


def _described(graph: onnx.GraphProto) -> dict[str, Shape]:
    values = map(_value, (*graph.input, *graph.output, *graph.value_info))
    return {value.name: value.shape for value in values}


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError:
        raise FormatError(f"{path}: no ONNX file, its bytes are no ModelProto") from None
    if not model.HasField("graph"):
        raise FormatError(f"{path}: no ONNX file, it holds no graph")
    return model


def _dtype(element: int) -> str:
    if element not in onnx.TensorProto.DataType.values()[1:]:  # the first is UNDEFINED
        return f"unknown({element})"
    return helper.tensor_dtype_to_np_dtype(element).name


def _value(info: onnx.ValueInfoProto) -> ValueSummary:
    tensor = info.type.tensor_type
    shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
    return ValueSummary(info.name, helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)
