"""What a MindIR file holds, for people."""

from collections.abc import Iterable, Iterator

from fnckpt.ir.border import KEY, border_of
from fnckpt.ir.targets.brief import MOST_ITEMS, brief
from fnckpt.ir.targets.foreign import AnyPath, refusing, sound
from fnckpt.ir.targets.mindir.check import check
from fnckpt.ir.targets.mindir.check_control import graphs_of
from fnckpt.ir.targets.mindir.view import (
    DTYPES,
    REFERENCE,
    operator_of,
    primitives_of,
    read_model,
    tensors_in,
    types_of,
)
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.proto.mind_ir_pb2 import (
    AttributeProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

__all__ = ["check", "summarize"]

# What holds a file together and computes nothing.
NOT_SHOWN = frozenset({"input_names", "output_names", "shape", "is_load"})
HIDDEN = frozenset({"Constant", "Depend", "Load", "MakeTuple", "TupleGetItem", "UpdateState"})


@refusing
def summarize(path: AnyPath) -> Summary:
    """The inputs, results, weights and operators of a MindIR file.

    Several results are one tuple in the file, so that they are called ``name:index``.

    Raises:
      FormatError: the file is no ``ModelProto`` with a graph.
    """
    return sound(path, summary_of(read_model(path)))


def summary_of(model: ModelProto) -> Summary:
    """The same of the message of a file."""
    graph, kinds = model.graph, primitives_of(model)
    graphs = graphs_of(model)
    every = [node for each in graphs for node in each.node]
    nodes = [(node, operator_of(kinds.get(node.op_type, node.op_type))) for node in every]
    said = {f"{REFERENCE}{each.name}": each.attribute for each in model.primitives}
    items = _items(every)
    return Summary(
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(value for given in graph.input for value in values_of(given)),
        outputs=tuple(value for result in graph.output for value in values_of(result)),
        parameters=tuple(value_of(weight, weight.name) for weight in graph.parameter),
        nodes=tuple(
            NodeSummary(
                node.name,
                kind,
                tuple(node.input),
                (*node.output, *items.get(node.name, ())),
                tuple(_attributes((*said.get(node.op_type, ()), *node.attribute))),
            )
            for node, kind in nodes
            if kind not in HIDDEN
        ),
        shapes={
            name: tuple(tensors[0].dims)  # the first of several
            for each in graphs
            for name, tensors in types_of(each).items()
            if tensors
        },
    ).with_border(border_of(model.user_info.get(KEY, "")))


def _items(nodes: Iterable[NodeProto]) -> dict[str, list[str]]:
    """The names that the file gives to the items of a node's results, by the node's name."""
    items: dict[str, list[str]] = {}
    for node in nodes:
        if node.op_type.removeprefix(REFERENCE).startswith("TupleGetItem") and node.input:
            items.setdefault(node.input[0], []).extend(node.output)
    return items


def _attributes(attributes: Iterable[AttributeProto]) -> Iterator[tuple[str, str]]:
    """What the file says of how a node computes, without the types of its results."""
    for each in attributes:
        if each.name not in NOT_SHOWN and (text := _text(each)):
            yield each.name, text


def _text(value: AttributeProto) -> str:
    kinds = AttributeProto.AttributeType
    if value.type in (kinds.TUPLE, kinds.LIST):
        return brief([_text(each) for each in value.values[: MOST_ITEMS + 1]])
    if value.type == kinds.STRING:
        return brief(value.s)
    numbers = [*value.ints, *value.floats, *value.doubles]
    if numbers:
        return brief(numbers[0] if len(numbers) == 1 else numbers)
    if value.type == kinds.BOOL:
        return brief(bool(value.i))
    if value.type in (kinds.FLOAT, kinds.DOUBLE):
        return brief(value.f if value.type == kinds.FLOAT else value.d)
    return brief(value.i) if value.type in (kinds.INT32, kinds.INT64) else ""


def value_of(tensor: TensorProto, name: str) -> ValueSummary:
    """A tensor's name, dtype and shape; ``?`` is a size that the file leaves open."""
    dtype = DTYPES.get(tensor.data_type, "unknown")
    return ValueSummary(name, dtype, tuple("?" if size < 0 else size for size in tensor.dims))


def values_of(info: ValueInfoProto) -> list[ValueSummary]:
    """The tensors of an input or output; of one without a type the name alone is known."""
    if not info.tensor and not info.HasField("attr_info"):
        return [ValueSummary(info.name, "unknown", ("?",))]
    if not info.HasField("attr_info"):
        return [value_of(tensor, info.name) for tensor in info.tensor]
    tensors = enumerate(tensors_in(info.attr_info))
    return [value_of(tensor, f"{info.name}:{index}") for index, tensor in tensors]
