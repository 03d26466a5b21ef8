"""What a MindIR file holds, for people."""

from pathlib import Path

from fnckpt.ir.targets.mindir.check import check
from fnckpt.ir.targets.mindir.check_control import graphs_of
from fnckpt.ir.targets.mindir.view import DTYPES, primitives_of, read_model, tensors_in, types_of
from fnckpt.ir.targets.target import NodeSummary, Summary, ValueSummary
from fnckpt.proto.mind_ir_pb2 import ModelProto, TensorProto, ValueInfoProto

__all__ = ["check", "summarize"]

# What holds a file together and computes nothing.
HIDDEN = frozenset({"Constant", "Depend", "Load", "MakeTuple", "TupleGetItem", "UpdateState"})


def summarize(path: Path) -> Summary:
    """The inputs, results, weights and operators of a MindIR file.

    Several results are one tuple in the file, so that they are called ``name:index``.

    Raises:
      FormatError: the file is no ``ModelProto`` with a graph.
    """
    return summary_of(read_model(path))


def summary_of(model: ModelProto) -> Summary:
    """The same of the message of a file."""
    graph, kinds = model.graph, primitives_of(model)
    graphs = graphs_of(model)
    nodes = [(n, kinds.get(n.op_type, n.op_type)) for each in graphs for n in each.node]
    return Summary(
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=tuple(value for given in graph.input for value in values_of(given)),
        outputs=tuple(value for result in graph.output for value in values_of(result)),
        parameters=tuple(value_of(weight, weight.name) for weight in graph.parameter),
        nodes=tuple(
            NodeSummary(node.name, kind, tuple(node.input), tuple(node.output))
            for node, kind in nodes
            if kind not in HIDDEN
        ),
        shapes={
            name: tuple(tensors[0].dims)  # the first of several
            for each in graphs
            for name, tensors in types_of(each).items()
            if tensors
        },
    )


def value_of(tensor: TensorProto, name: str) -> ValueSummary:
    """A tensor's name, dtype and shape; ``?`` is a size that the file leaves open."""
    dtype = DTYPES.get(tensor.data_type, "unknown")
    return ValueSummary(name, dtype, tuple("?" if size < 0 else size for size in tensor.dims))


def values_of(info: ValueInfoProto) -> list[ValueSummary]:
    """The tensors of an input or output."""
    if not info.HasField("attr_info"):
        return [value_of(tensor, info.name) for tensor in info.tensor]
    tensors = enumerate(tensors_in(info.attr_info))
    return [value_of(tensor, f"{info.name}:{index}") for index, tensor in tensors]
