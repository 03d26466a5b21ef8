"""ONNX files read back: what they hold, and whether they are valid."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from fnckpt.errors import FormatError
from fnckpt.ir.border import KEY, border_of
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
    graph, held = model.graph, {entry.key: entry.value for entry in model.metadata_props}
    return Summary(
        producer=model.producer_name,
        inputs=tuple(map(_value, graph.input)),
        outputs=tuple(map(_value, graph.output)),
        parameters=tuple(
            ValueSummary(t.name, _dtype(t.data_type), tuple(t.dims)) for t in graph.initializer
        ),
        nodes=tuple(
            NodeSummary(n.name, n.op_type, tuple(n.input), tuple(n.output))
            for each in _graphs(graph)
            for n in each.node
        ),
        shapes=_shapes(model),
    ).with_border(border_of(held.get(KEY, "")))


def _graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph, and those that its nodes hold: branches, and bodies of loops."""
    found = [graph]
    for each in found:  # which grows
        found += [a.g for node in each.node for a in node.attribute if a.HasField("g")]
    return found


MOST_BYTES = 1 << 10  # of a constant that may say a shape


def _shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes of all values; where the file lacks some, as ONNX infers them."""
    found: dict[str, Shape] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    found |= _described(model.graph)
    if all(name in found for node in model.graph.node for name in node.output):
        return found
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) > MOST_BYTES:
            tensor.ClearField("raw_data")
    return _described(onnx.shape_inference.infer_shapes(model).graph) | found


def _described(graph: onnx.GraphProto) -> dict[str, Shape]:
    infos = (i for g in _graphs(graph) for i in (*g.input, *g.output, *g.value_info))
    return {value.name: value.shape for value in map(_value, infos)}


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
