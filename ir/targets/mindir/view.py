"""Reads MindIR files, and names what a ``ModelProto`` holds in few words."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from fnckpt.errors import FormatError
from fnckpt.ir.targets.foreign import AnyPath, check_texts, content_of
from fnckpt.ir.targets.mindir.codes import DATA_TYPES
from fnckpt.proto.mind_ir_pb2 import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
)

MOST_DEPTH = 32  # of tuples in tuples
REFERENCE = "REF::"
DTYPES = {code: name for name, code in DATA_TYPES.items()} | {TensorProto.FLOAT64: "float64"}


def read_model(path: AnyPath) -> ModelProto:
    """The message of a MindIR file.

    Raises:
      FormatError: it is no such message, or one without a graph.
    """
    content = content_of(path, "a MindIR file")
    try:
        model = ModelProto.FromString(content)
    except DecodeError:
        found = f"its {len(content)} bytes are not such a message"
        raise FormatError(f"{path}: not a MindIR file (a ModelProto), {found}") from None
    if not model.HasField("graph"):
        raise FormatError(f"{path}: not a MindIR file, its ModelProto holds no graph")
    check_texts(path, model)
    return model


def primitives_of(model: ModelProto) -> dict[str, str]:
    """The operator of each primitive by the name that nodes call it by."""
    return {f"{REFERENCE}{primitive.name}": primitive.op_type for primitive in model.primitives}


BY_SIGNATURE = "S-Prim-"
"""Before a primitive whose inputs are brought to one type first."""


def operator_of(kind: str) -> str:
    """What people call an operator: without the prefixes of what MindSpore makes its graphs of.

    >>> operator_of("REF::ClassType::mindspore.ops.operations._grad_ops.ReluGrad")
    'ReluGrad'
    >>> operator_of("S-Prim-MakeTuple"), operator_of("REF::MetaFuncGraph::mul")
    ('MakeTuple', 'mul')
    """
    if kind.startswith(f"{REFERENCE}ClassType::"):
        return kind.rpartition(".")[2] or kind
    for prefix in (f"{REFERENCE}MetaFuncGraph::", REFERENCE, BY_SIGNATURE):
        if kind.startswith(prefix) and len(kind) > len(prefix):
            return kind.removeprefix(prefix)
    return kind


def attribute_of(node: NodeProto, name: str) -> AttributeProto | None:
    """The attribute of that name."""
    return next((each for each in node.attribute if each.name == name), None)


def tensors_in(attribute: AttributeProto) -> Iterator[TensorProto]:
    """The tensors of a type or value, those of tuples in order, to a bounded depth."""
    stack = [(attribute, 0)]
    while stack:
        each, depth = stack.pop()
        yield from each.tensors
        if depth < MOST_DEPTH:
            stack.extend((inner, depth + 1) for inner in reversed(each.values))


def describe(tensor: TensorProto) -> str:
    """Like ``float32[2,3]``."""
    dtype = DTYPES.get(tensor.data_type, f"dtype {tensor.data_type}")
    return f"{dtype}[{','.join(map(str, tensor.dims))}]"


def types_of(graph: GraphProto) -> dict[str, list[TensorProto]]:
    """What the file says of each value's type; nothing for one that it leaves to the loader."""
    found: dict[str, list[TensorProto]] = {}
    for given in graph.input:
        found[given.name] = list(given.tensor)
    for weight in graph.parameter:
        found[weight.name] = [weight]
    for node in graph.node:
        shape = attribute_of(node, "value" if node.op_type == "Constant" else "shape")
        for name in node.output:
            found[name] = [] if shape is None else list(tensors_in(shape))
    return found
