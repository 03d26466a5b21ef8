"""Whether MindSpore will take a MindIR file; MindSpore itself is not needed.

Each test below yields what is wrong with one part of the file. The loader stops at the first of
most of these faults, at some it ends the process, and a wrong type it believes.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fnckpt.ir.targets.foreign import AnyPath, elements, refusing, told
from fnckpt.ir.targets.mindir.check_control import (
    Closures,
    closures_of,
    control_problems,
    function_problems,
    graphs_of,
    is_call,
    shared_names,
)
from fnckpt.ir.targets.mindir.codes import DTYPES
from fnckpt.ir.targets.mindir.primitives import PRIMITIVES, form_of
from fnckpt.ir.targets.mindir.view import (
    MOST_DEPTH,
    REFERENCE,
    attribute_of,
    describe,
    primitives_of,
    read_model,
    tensors_in,
    types_of,
)
from fnckpt.proto.mind_ir_pb2 import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    PrimitiveProto,
    TensorProto,
    ValueInfoProto,
)

Kind = AttributeProto.AttributeType
NEWEST = 3  # the mind_ir_version of MindSpore 2.10

# The field that holds a number, alone and inside a tuple; the loader aborts on the other.
FIELDS = {
    Kind.BOOL: ("i", "ints"),
    Kind.INT64: ("i", "ints"),
    Kind.FLOAT: ("f", "floats"),
    Kind.STRING: ("s", "strings"),
}


@refusing
def check(path: AnyPath) -> list[str]:
    """The problems of a file, each one line naming node and fault; empty for a good file.

    Raises:
      FormatError: the file is no ``ModelProto`` with a graph.
    """
    model, directory = read_model(path), Path(path).parent
    whole = whole_of(model)
    context = Context(model, whole, directory, model.graph)
    inside = [Context(model, whole, directory, graph) for graph in model.functions]
    return [
        *model_problems(context),
        *function_problems(model),
        *name_problems(context),
        *tensor_problems(context),
        *(
            problem
            for each in (context, *inside)
            for node in each.graph.node
            for problem in node_problems(each, node)
        ),
        *output_problems(context),
        *(problem for each in inside for problem in result_problems(each)),
    ]


@dataclass(frozen=True)
class Whole:
    """What all graphs of a file have in common, found once: there may be very many graphs."""

    primitives: Mapping[str, PrimitiveProto]
    operators: Mapping[str, str]
    closures: Closures
    functions: Set[str]
    shared: Set[str]  # what functions may use of each other and of the main graph


def whole_of(model: ModelProto) -> Whole:
    """What the graphs of ``model`` refer to."""
    operators = primitives_of(model)
    return Whole(
        {f"{REFERENCE}{p.name}": p for p in model.primitives},
        operators,
        closures_of(model, operators),
        {each.name for each in model.functions},
        shared_names(model),
    )


@dataclass
class Context:
    """A graph of the message with what several tests ask for."""

    model: ModelProto
    whole: Whole
    folder: Path
    graph: GraphProto
    types: dict[str, list[TensorProto]] = field(init=False)
    own: set[str] = field(init=False)  # the graph's values that stand before the present node

    def __post_init__(self) -> None:
        self.types = types_of(self.graph)
        self.own = {given.name for given in self.graph.input}
        self.own |= {weight.name for weight in self.graph.parameter}

    def knows(self, name: str) -> bool:
        """Whether the present node may use the value ``name``."""
        inside = self.graph is not self.model.graph
        return (
            name in self.own
            or name in self.whole.functions
            or (inside and name in self.whole.shared)
        )


def model_problems(context: Context) -> Iterator[str]:
    """What stands around the graph."""
    model = context.model
    for name in ("producer_name", "model_version"):
        if not model.HasField(name):
            yield f"model: {name} is missing, without which MindSpore does not load"
    if model.mind_ir_version > NEWEST:
        yield f"model: mind_ir_version is {model.mind_ir_version}, MindSpore 2.10 reads {NEWEST}"
    if model.HasField("little_endian") and not model.little_endian:
        yield "model: little_endian is false, but MindSpore runs only on little-endian machines"
    if not model.graph.name:
        yield "graph: it has no name"
    for name, count in Counter(p.name for p in model.primitives).items():
        if count > 1:
            yield f"primitive {name}: {count} primitives have this name"
    referred = {node.op_type for graph in graphs_of(model) for node in graph.node}
    for name in context.whole.primitives:
        if name not in referred:
            yield f"primitive {name.removeprefix(REFERENCE)}: no node refers to it"


def name_problems(context: Context) -> Iterator[str]:
    """Every value has one name of its own."""
    graph = context.model.graph
    names = [given.name for given in graph.input] + [weight.name for weight in graph.parameter]
    names += [name for node in graph.node for name in node.output]
    for name, count in Counter(names).items():
        if not name:
            yield f"graph: {count} values have no name"
        elif count > 1:
            yield f"{name}: {count} values have this name"


def tensor_problems(context: Context) -> Iterator[str]:
    """Inputs and weights have a dtype and a shape, and weights the bytes for it."""
    graph = context.model.graph
    for given in graph.input:
        if len(given.tensor) != 1:
            yield f"input {given.name}: it has {len(given.tensor)} types, an input has one"
        for tensor in given.tensor:
            yield from type_problems(f"input {given.name}", tensor)
    for weight in graph.parameter:
        where = f"parameter {weight.name}"
        if weight.HasField("external_data"):
            yield from external_problems(where, weight, context.folder)
        else:
            yield from data_problems(where, weight)


def type_problems(where: str, tensor: TensorProto) -> Iterator[str]:
    """A dtype that there is, and sizes of at least -1."""
    if tensor.data_type not in DTYPES:
        yield f"{where}: data_type is {tensor.data_type}, which is not a dtype of MindIR"
    if any(size < -1 for size in tensor.dims):
        yield f"{where}: dims are {list(tensor.dims)}, a size is at least 0, or -1 for unknown"
    elif elements(tensor.dims) is None:
        yield f"{where}: dims are {told(tuple(tensor.dims))}, which is impossible for a tensor"


def data_problems(where: str, tensor: TensorProto) -> Iterator[str]:
    """The bytes are as many as dtype and shape say."""
    faults = list(type_problems(where, tensor))
    yield from faults
    if faults:
        return
    wanted = math.prod(tensor.dims) * DTYPES[tensor.data_type].itemsize
    found = len(tensor.raw_data)
    if found != wanted:
        yield f"{where}: raw_data has {found} bytes, {describe(tensor)} has {wanted}"


def external_problems(where: str, tensor: TensorProto, folder: Path) -> Iterator[str]:
    """The bytes are in another file, inside the graph's directory, as many as they should be."""
    faults = list(type_problems(where, tensor))
    yield from faults
    place = tensor.external_data
    file = folder / place.location
    if PurePath(place.location).is_absolute() or ".." in PurePath(place.location).parts:
        yield f"{where}: its data is in {place.location}, outside the graph's directory"
        return
    if not _is_file(file):
        yield f"{where}: its data is in {place.location}, and there is no such file"
        return
    wanted = 0 if faults else math.prod(tensor.dims) * DTYPES[tensor.data_type].itemsize
    if not faults and place.length != wanted:
        yield f"{where}: external_data has {place.length} bytes, {describe(tensor)} has {wanted}"
    end, size = place.offset + place.length, file.stat().st_size
    if place.offset < 0 or place.length < 0 or end > size:
        yield f"{where}: its data ends at byte {end} of {place.location}, which has {size}"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def node_problems(context: Context, node: NodeProto) -> Iterator[str]:
    """One node: what it uses, what it is, what it says of its result."""
    where = f"node {node.name or '(no name)'}"
    if len(node.output) != 1:
        yield f"{where}: it has {len(node.output)} outputs, a node has one; several are a tuple"
    for name in node.input:
        if not context.knows(name):
            late = name in context.types
            fault = "comes after it" if late else "is nowhere in the file"
            yield f"{where}: its input {name} {fault}"
    context.own.update(node.output)
    if node.op_type == "Constant":
        yield from constant_problems(where, node)
        return
    yield from operator_problems(context, where, node)
    for each in node.attribute:
        yield from value_problems(f"{where}: attribute {each.name}", each)
    shape = attribute_of(node, "shape")
    if shape is not None:
        yield from empty_problems(f"{where}: shape", shape)
    for tensor in tensors_in(shape) if shape is not None else ():
        yield from type_problems(f"{where}: shape", tensor)


def empty_problems(where: str, value: AttributeProto, depth: int = 0) -> Iterator[str]:
    """Where a type should be a tensor's there is one; without, the loader ends the process."""
    if value.type == Kind.TENSORS and not value.tensors:
        yield f"{where}: its type is TENSORS, but it has no tensor"
    for inner in value.values if depth < MOST_DEPTH else ():
        yield from empty_problems(where, inner, depth + 1)


def constant_problems(where: str, node: NodeProto) -> Iterator[str]:
    """A constant holds one whole value."""
    value = attribute_of(node, "value")
    if value is None:
        yield f"{where}: a Constant without the attribute value"
        return
    if node.input:
        yield f"{where}: a Constant has {len(node.input)} inputs"
    yield from empty_problems(f"{where}: value", value)
    if value.type == Kind.TENSORS:
        for tensor in value.tensors:
            if tensor.HasField("raw_data") or tensor.dims:
                yield from data_problems(where, tensor)
    yield from value_problems(f"{where}: value", value)


def value_problems(where: str, value: AttributeProto, depth: int = 0) -> Iterator[str]:
    """A number stands in the field of its type; inside a tuple in the repeated one."""
    if value.type in FIELDS:
        alone, repeated = FIELDS[value.type]
        inside = depth > 0
        count = len(list(_repeated(value, repeated)))
        if inside and (count != 1 or value.HasField(alone)):
            yield f"{where}: a number in a tuple must be alone in the field {repeated}"
        if not inside and not value.HasField(alone):
            yield f"{where}: its type is {Kind.Name(value.type)}, but the field {alone} is missing"
    elif value.type in (Kind.UNDEFINED, Kind.GRAPH):
        yield f"{where}: its type is {Kind.Name(value.type)}"
    for inner in value.values if depth < MOST_DEPTH else ():
        yield from value_problems(where, inner, depth + 1)


def _repeated(value: AttributeProto, name: str) -> Iterator[int | float | bytes]:
    yield from {"ints": value.ints, "floats": value.floats, "strings": value.strings}[name]


def operator_problems(context: Context, where: str, node: NodeProto) -> Iterator[str]:
    """The primitive is there, and the node gives what it takes."""
    if not node.op_type:
        yield f"{where}: it has no op_type"
        return
    op = context.whole.operators.get(node.op_type, node.op_type)
    yield from control_problems(context.whole.closures, where, node, op)
    if is_call(context.whole.closures, node):
        return
    if not node.op_type.startswith(REFERENCE):
        if context.model.mind_ir_version >= 2:
            yield f"{where}: op_type is {node.op_type}, this version needs a reference, REF::"
        return
    if node.op_type not in context.whole.primitives:
        yield f"{where}: op_type is {node.op_type}, there is no such primitive"
        return
    primitive = context.whole.primitives[node.op_type]
    form = form_of(primitive.op_type)
    if primitive.op_type not in PRIMITIVES:
        return
    is_function = primitive.prim_type == PrimitiveProto.PRIMITIVE_FUNCTION
    if is_function != (form.arguments is not None):
        wanted = "PRIMITIVE_FUNCTION" if form.arguments is not None else "PRIMITIVE"
        yield f"{where}: {primitive.op_type} is a {wanted} in MindSpore 2.10"
    elif form.arguments is not None and len(node.input) <= len(form.arguments):
        yield (
            f"{where}: {primitive.op_type} has {len(node.input)} inputs, it takes tensors and "
            f"{', '.join(form.arguments)}"
        )


def output_problems(context: Context) -> Iterator[str]:
    """The result is a value of the file, of the type that its node says."""
    outputs = context.model.graph.output
    if len(outputs) != 1:
        yield f"graph: it has {len(outputs)} outputs, MindSpore takes one; several are a tuple"
    for output in outputs:
        if output.name not in context.types:
            yield f"output {output.name}: no value has this name"
            continue
        yield from _type_differences(context, output)


def result_problems(context: Context) -> Iterator[str]:
    """The result of a function is a value that it has."""
    for output in context.graph.output:
        if not context.knows(output.name):
            yield f"function {context.graph.name}: its output {output.name} is not a value of it"


def _type_differences(context: Context, output: ValueInfoProto) -> Iterator[str]:
    held = tensors_in(output.attr_info) if output.HasField("attr_info") else iter(output.tensor)
    said = [describe(tensor) for tensor in held]
    made = [describe(tensor) for tensor in context.types[output.name]]
    if made and said != made:
        yield f"output {output.name}: it is {', '.join(said)}, its node gives {', '.join(made)}"
