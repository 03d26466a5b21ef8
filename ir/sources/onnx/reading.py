"""An ONNX file as a ``Source``."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from fnckpt.ir.sources.onnx.constants import keep_as_weights
from fnckpt.ir.sources.onnx.functions import Definitions
from fnckpt.ir.sources.onnx.importer import imported, kind_of, no_rule
from fnckpt.ir.sources.onnx.model import Model, read
from fnckpt.ir.sources.onnx.registry import CANNOT, rule_of
from fnckpt.ir.sources.source import Input, NotImported, Place, Source, Writer
from fnckpt.ir.sources.symbols import Dimension, shapes_of
from fnckpt.ir.targets.onnx.encode import NEWEST_OPSET, OLDEST_OPSET, OURS
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary


def source(data: memoryview, name: str, folder: Path | None) -> Source:
    """What is in the bytes of an ONNX file.

    Args:
      data: its bytes.
      name: what errors call it.
      folder: where the files of its weights lie; None where there is none.

    Raises:
      FormatError: it is no ONNX file, or damaged.
      NotImported: it has operators without a rule; all of them are named.
    """
    model = read(data, name, folder)
    keep_as_weights(model)
    check(model)
    arrays = model.initializers()
    trained = weights_of(model, arrays)
    inputs = inputs_of(model, arrays)
    return Source(
        summary=_summary(model, arrays, inputs),
        metadata=_metadata(model),
        inputs=inputs,
        weights={each: arrays[each] for each in trained},
        build=partial(imported, model, arrays, trained, inputs),
        writer=_writer(model),
    )


def _writer(model: Model) -> Writer | None:
    """Ours, with the opset of the file."""
    if model.proto.producer_name != "fnckpt":
        return None
    opset = {each.domain: each.version for each in model.proto.opset_import}.get("", 0)
    return Writer("ONNX", (("opset", min(max(opset, OLDEST_OPSET), NEWEST_OPSET)),))


def check(model: Model) -> None:
    """Name every operator that has no rule.

    Raises:
      NotImported: there are some.
    """
    definitions = Definitions(model)
    places = [
        Place(kind_of(node), node.name, reason)
        for node, opsets in every_node(model, definitions)
        if (reason := _why_not(node, opsets, definitions))
    ]
    if places:
        raise NotImported(places)


def every_node(
    model: Model, definitions: Definitions
) -> Iterator[tuple[onnx.NodeProto, dict[str, int]]]:
    """The nodes of a model, of the graphs inside and of its functions, with their versions."""
    stack = [(node, definitions.opsets) for node in model.proto.graph.node]
    for function in model.proto.functions:
        opsets = {each.domain: each.version for each in function.opset_import}
        stack += [(node, opsets) for node in function.node]
    while stack:
        node, opsets = stack.pop()
        yield node, opsets
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            stack += [(inner, opsets) for graph in graphs for inner in graph.node]


def _why_not(node: onnx.NodeProto, opsets: dict[str, int], definitions: Definitions) -> str:
    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = opsets.get(domain, 0)
    if definitions.of_file(node.domain, node.op_type) is not None:
        return ""
    if rule_of(domain, node.op_type, opset) is not None:
        return ""
    if not domain and node.op_type in CANNOT:
        return CANNOT[node.op_type]
    return "" if definitions.is_defined(node, opset) else no_rule(domain, opset)


def weights_of(model: Model, arrays: dict[str, np.ndarray]) -> list[str]:
    """The arrays that are trained: floats; of a file of ours those that were parameters."""
    said = {entry.key: entry.value for entry in model.proto.metadata_props}
    names = [tensor.name for tensor in model.proto.graph.initializer]
    if OURS in said and said[OURS].isdecimal():
        names = names[: int(said[OURS])]
    return [name for name in names if is_float(arrays[name].dtype)]


def is_float(dtype: np.dtype) -> bool:
    """Whether numbers of a type can be trained."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def inputs_of(model: Model, arrays: dict[str, np.ndarray]) -> list[Input]:
    """What a caller gives: the graph's inputs without those that have a value.

    Raises:
      NotImported: one is no array.
    """
    infos = [value for value in model.proto.graph.input if value.name not in arrays]
    odd = [value for value in infos if value.type.WhichOneof("value") != "tensor_type"]
    texts = [v for v in infos if v not in odd
             and v.type.tensor_type.elem_type == onnx.TensorProto.STRING]  # fmt: skip
    if odd or texts:
        reason = "it is not an array of numbers but a sequence, an optional value or texts"
        raise NotImported([Place("input", value.name, reason) for value in (*odd, *texts)])
    shapes = shapes_of({value.name: _sizes(value) for value in infos})
    return [
        Input(v.name, model.dtype(v.type.tensor_type.elem_type, v.name), shapes[v.name])
        for v in infos
    ]


def _sizes(value: onnx.ValueInfoProto) -> Sequence[Dimension] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        each.dim_value
        if each.dim_value >= 0 and each.HasField("dim_value")
        else each.dim_param or None
        for each in tensor.shape.dim
    ]


def _metadata(model: Model) -> dict[str, str]:
    proto = model.proto
    opsets = {f"opset {each.domain}".strip(): str(each.version) for each in proto.opset_import}
    own = {entry.key: entry.value for entry in proto.metadata_props if entry.key != OURS}
    said = {"producer": f"{proto.producer_name} {proto.producer_version}".strip(),
            "domain": proto.domain, "doc": proto.doc_string}  # fmt: skip
    return {key: value for key, value in (said | opsets | own).items() if value}


def _summary(model: Model, arrays: dict[str, np.ndarray], inputs: Sequence[Input]) -> Summary:
    graph = model.proto.graph
    outputs = [
        ValueSummary(v.name, _dtype_name(model, v), tuple(s if s is not None else "?"
                                                         for s in _sizes(v) or ("?",)))
        for v in graph.output
    ]  # fmt: skip
    return Summary(
        producer=model.proto.producer_name,
        inputs=tuple(
            ValueSummary(each.name, each.dtype.name, tuple(
                size if isinstance(size, int) else str(size) for size in each.shape or ("...",)
            ) if each.shape != () else ())
            for each in inputs
        ),
        outputs=tuple(outputs),
        parameters=tuple(
            ValueSummary(name, value.dtype.name, value.shape) for name, value in arrays.items()
        ),
        nodes=tuple(
            NodeSummary(n.name or n.op_type, n.op_type, tuple(n.input), tuple(n.output))
            for n in graph.node
        ),
        shapes={value.name: tuple(size if size is not None else "?" for size in _sizes(value) or ())
                for value in (*graph.value_info, *graph.output)},
    )  # fmt: skip


def _dtype_name(model: Model, value: onnx.ValueInfoProto) -> str:
    element = value.type.tensor_type.elem_type
    return model.dtype(element, value.name).name if element else "unknown"
