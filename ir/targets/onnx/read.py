"""ONNX files read back: what they hold."""

from collections.abc import Iterable

import onnx
from google.protobuf.message import DecodeError
from onnx import helper

from fnckpt.errors import FormatError
from fnckpt.ir.border import KEY, border_of
from fnckpt.ir.targets.brief import brief
from fnckpt.ir.targets.foreign import AnyPath, check_texts, content_of, refusing, sound
from fnckpt.ir.targets.target import NodeSummary, Shape, Summary, ValueSummary


@refusing
def summarize(path: AnyPath) -> Summary:
    """What a file holds.

    Raises:
      FormatError: it is no ONNX file.
    """
    model = load(path)
    graph, held = model.graph, {entry.key: entry.value for entry in model.metadata_props}
    summary = Summary(
        producer=model.producer_name,
        inputs=tuple(map(_value, graph.input)),
        outputs=tuple(map(_value, graph.output)),
        parameters=tuple(_weight(tensor) for tensor in graph.initializer),
        nodes=tuple(map(_node, graph.node)),
        shapes=_shapes(model),
    ).with_border(border_of(held.get(KEY, "")))
    return sound(path, summary)


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
    return _inferred(model) | found


def _inferred(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes that ONNX infers; none where it cannot, since the file tells enough without."""
    if unrolled_problem(model):
        return {}
    try:
        return _described(onnx.shape_inference.infer_shapes(model).graph)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, DecodeError):
        return {}


MOST_CALLS, MOST_DEPTH = 100, 64


def unrolled_problem(model: onnx.ModelProto) -> str:
    """What is wrong with functions that call functions: who infers shapes goes through all calls.

    Empty where they are few, at most ``MOST_CALLS`` for each node of the file.
    """
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    if not bodies:
        return ""
    sizes: dict[tuple[str, str, str], int] = {}
    open_now: set[tuple[str, str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > MOST_DEPTH:
            raise RecursionError
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type, node.overload)
            total += 1 + (of(called, depth) if called in bodies else 0)
            for graph in _graphs(node):
                total += size(graph.node, depth + 1)
        return total

    def of(called: tuple[str, str, str], depth: int) -> int:
        if called in open_now:
            raise RecursionError
        if called not in sizes:
            open_now.add(called)
            sizes[called] = size(bodies[called], depth + 1)
            open_now.remove(called)
        return sizes[called]

    try:
        total = size(model.graph.node, 0) + sum(of(called, 0) for called in bodies)
    except RecursionError:
        return f"its functions call each other without end, or over {MOST_DEPTH} levels"
    most = MOST_CALLS * (len(model.graph.node) + sum(map(len, bodies.values()))) + 10_000
    return "" if total <= most else f"its functions call functions {total:.3g} times in all"


def _graphs(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for each in node.attribute:
        if each.HasField("g"):
            yield each.g
        yield from each.graphs


def _every_graph(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """A graph, and those that its nodes hold: branches, and bodies of loops."""
    found = [graph]
    for each in found:  # which grows
        found += [inner for node in each.node for inner in _graphs(node)]
    return found


def _known(graph: onnx.GraphProto) -> dict[str, Shape]:
    """The shapes that the file tells."""
    return {t.name: tuple(t.dims) for t in graph.initializer} | _described(graph)


def _described(graph: onnx.GraphProto) -> dict[str, Shape]:
    infos = (i for g in _every_graph(graph) for i in (*g.input, *g.output, *g.value_info))
    return {value.name: value.shape for value in map(_value, infos)}


def load(path: AnyPath) -> onnx.ModelProto:
    """The message of an ONNX file.

    Raises:
      FormatError: it is no such message, or one without a graph.
    """
    try:
        model = onnx.ModelProto.FromString(content_of(path, "an ONNX file"))
    except DecodeError:
        raise FormatError(f"{path}: not an ONNX file, its bytes are not a ModelProto") from None
    if not model.HasField("graph"):
        raise FormatError(f"{path}: not an ONNX file, it holds no graph")
    check_texts(path, model)
    return model


def _dtype(element: int) -> str:
    if element not in onnx.TensorProto.DataType.values()[1:]:  # the first is UNDEFINED
        return f"unknown({element})"
    return helper.tensor_dtype_to_np_dtype(element).name


def _value(info: onnx.ValueInfoProto) -> ValueSummary:
    tensor = info.type.tensor_type
    shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
    return ValueSummary(info.name, _type(info.type), shape)


def _type(said: onnx.TypeProto) -> str:
    """The element type of a tensor; of what is no tensor the whole type, ``sequence(float32)``."""
    match said.WhichOneof("value"):
        case "sequence_type":
            return f"sequence({_type(said.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({_type(said.optional_type.elem_type)})"
        case "map_type":
            return f"map({_dtype(said.map_type.key_type)}, {_type(said.map_type.value_type)})"
        case "sparse_tensor_type":
            return f"sparse({_dtype(said.sparse_tensor_type.elem_type)})"
        case _:
            return _dtype(said.tensor_type.elem_type)
