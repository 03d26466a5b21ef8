"""Whether GE will take an AIR file, by its operator prototypes; no Ascend machine is needed.

Each test below is a function of the whole file or of one operator that yields what is wrong. The
real loader accepts most of these faults and the result is wrong numbers, so that we are stricter.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from fnckpt.ir.targets.air.check_attributes import (
    Problem,
    attribute_problems,
    port_name_problems,
)
from fnckpt.ir.targets.air.codes import (
    LAYOUTS,
    OF_FILE_CODE,
    UNCONNECTED,
)
from fnckpt.ir.targets.air.infer import Mismatch, Site
from fnckpt.ir.targets.air.infer_network import RULES
from fnckpt.ir.targets.air.prototypes import (
    NEWER,
    RELEASE,
    Port,
    Prototype,
    prototype,
    types_of,
)
from fnckpt.ir.targets.air.read import read_model
from fnckpt.ir.targets.air.view import (
    Desc,
    const_of,
    desc_of,
    has_count,
    links,
    members,
    output_names,
    split,
    view,
)
from fnckpt.ir.targets.foreign import BAD_NUMBERS, AnyPath, elements, refusing, told
from fnckpt.proto.ge_ir_pb2 import GraphDef, ModelDef, OpDef, TensorDescriptor

CONSTS = ("Const", "Constant")


@dataclass
class Context:
    """The graph with what several tests ask for."""

    graph: GraphDef
    ops: Mapping[str, OpDef] = field(init=False)
    outputs: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.ops = {op.name: op for op in self.graph.op}
        self.outputs = output_names(self.graph)

    def source(self, link: str) -> TensorDescriptor | str:
        """The type of what ``producer:index`` names, or what is wrong with it."""
        parts = split(link)
        if parts is None or parts[1] < 0:
            return f"{link!r} is not of the form producer:index"
        producer, index = parts
        if producer not in self.ops:
            return f"{link!r} names the operator {producer!r}, which is not there"
        results = self.ops[producer].output_desc
        if index >= len(results):
            return f"{link!r} is result {index} of an operator with {len(results)}"
        return results[index]


def check(path: AnyPath) -> list[str]:
    """Why GE may refuse or misread the file: one line a fault, empty for a good file.

    Raises:
      FormatError: the file is no ``ModelDef`` with a graph.
    """
    return [str(each) for each in problems(path) if not each.warning]


def warnings(path: AnyPath) -> list[str]:
    """What is unusual in the file but not wrong.

    Raises:
      FormatError: the file is no ``ModelDef`` with a graph.
    """
    return [str(each) for each in problems(path) if each.warning]


@refusing
def problems(path: AnyPath) -> list[Problem]:
    """All faults and warnings of the file.

    Raises:
      FormatError: the file is no ``ModelDef`` with a graph.
    """
    return problems_of(read_model(path))


def problems_of(model: ModelDef) -> list[Problem]:
    """All faults and warnings of a message that holds at least one graph."""
    found: list[Problem] = []
    if len(model.graph) > 1:
        found.append(Problem("", f"a file holds one graph, found {len(model.graph)}"))
    context = Context(model.graph[0])
    found += graph_problems(context)
    for op in context.graph.op:
        found += op_problems(context, op)
    return found


def graph_problems(context: Context) -> Iterator[Problem]:
    """What concerns more than one operator."""
    yield from name_problems(context)
    yield from data_problems(context)
    yield from output_problems(context)
    yield from order_problems(context)
    yield from use_problems(context)


def name_problems(context: Context) -> Iterator[Problem]:
    for name, count in Counter(op.name for op in context.graph.op).items():
        if count > 1:
            yield Problem(name, f"{count} operators have this name; the last would win every link")
        if not name:
            yield Problem("", "an operator has no name")


def data_problems(context: Context) -> Iterator[Problem]:
    """GE looks the shapes of inputs up by index, but collects them in the order of the file."""
    inputs = [op for op in context.graph.op if op.type == "Data"]
    seen: dict[int, str] = {}
    for place, op in enumerate(inputs):
        if op.attr["index"].WhichOneof("value") != "i":
            yield Problem(op.name, "a Data operator needs the attribute index, an Int")
            continue
        index = op.attr["index"].i
        if index in seen:
            yield Problem(op.name, f"index {index} is also that of {seen[index]}")
        elif index != place:
            yield Problem(op.name, f"index is {index}, but it is Data number {place} of the file")
        seen[index] = op.name


def output_problems(context: Context) -> Iterator[Problem]:
    if not context.outputs:
        yield Problem("", "the graph has no output")
    for link, count in Counter(context.outputs).items():
        if count > 1:
            fault = (
                f"the output {link!r} is listed {count} times; GE drops repeated ones, add Identity"
            )
            yield Problem(link.rpartition(":")[0], fault)
        source = context.source(link)
        if isinstance(source, str):
            yield Problem(link.rpartition(":")[0], f"the graph's output {source}")


def order_problems(context: Context) -> Iterator[Problem]:
    """What is left when operators are taken away whose inputs are gone stands on a cycle."""
    waiting = {op.name: set(producers(context, op)) for op in context.graph.op}
    ready = [name for name, needed in waiting.items() if not needed]
    users: dict[str, list[str]] = {}
    for name, needed in waiting.items():
        for producer in needed:
            users.setdefault(producer, []).append(name)
    while ready:
        done = ready.pop()
        waiting.pop(done)
        for user in users.get(done, ()):
            waiting[user].discard(done)
            if not waiting[user]:
                ready.append(user)
    if waiting:
        yield Problem(min(waiting), f"is on a cycle or after one, with {len(waiting) - 1} others")


def producers(context: Context, op: OpDef) -> Iterator[str]:
    """The operators that exist and come before ``op``."""
    for link in op.input:
        parts = split(link)
        if parts and parts[0] in context.ops:
            yield parts[0]


def use_problems(context: Context) -> Iterator[Problem]:
    used = {link.rpartition(":")[0] for op in context.graph.op for link in op.input}
    used |= {link.rpartition(":")[0] for link in context.outputs}
    for op in context.graph.op:
        if op.name not in used and op.type in (*CONSTS, "Data"):
            yield Problem(op.name, f"a {op.type} that nothing uses", warning=True)


def op_problems(context: Context, op: OpDef) -> list[Problem]:
    """What is wrong with one operator; its results are inferred only where all else is right."""
    proto = prototype(op.type)
    if proto is None:
        return [] if op.type == "NetOutput" else [unknown_type(op)]
    found = [
        *frame_problems(op),
        *port_problems(op, proto),
        *link_problems(context, op, proto),
        *dtype_problems(op, proto),
        *attribute_problems(op, proto),
        *port_name_problems(op, proto),
        *const_flag_problems(context, op),
    ]
    if op.type in CONSTS:
        found += const_problems(op)
    if all(each.warning for each in found):
        found += inference_problems(context, op)
    return found


def unknown_type(op: OpDef) -> Problem:
    if op.type in types_of(NEWER):
        fault = f"the type {op.type} is newer than {RELEASE}; compose it from other operators"
        return Problem(op.name, fault)
    return Problem(op.name, f"the type {op.type!r} is not a GE operator")


def frame_problems(op: OpDef) -> Iterator[Problem]:
    if not op.has_out_attr:
        yield Problem(op.name, "has_out_attr is false: the loader drops all of its ports")
    sides = (("input", op.input_desc), ("output", op.output_desc))
    for side, descs in sides:
        for place, desc in enumerate(descs):
            where = f"{side} {place}"
            if not desc.has_out_attr:
                yield Problem(op.name, f"{where}: has_out_attr of its type is false", warning=True)
            if desc.layout not in LAYOUTS | {UNCONNECTED}:
                yield Problem(op.name, f"{where}: GE has no layout {desc.layout!r}")
            if min(desc.shape.dim, default=0) < 0:
                yield Problem(op.name, f"{where}: the shape {list(desc.shape.dim)} is not static")
            elif elements(desc.shape.dim) is None:
                shape = told(tuple(desc.shape.dim))
                yield Problem(op.name, f"{where}: the shape {shape} is impossible for a tensor")
            if 0 in desc.shape.dim:
                yield Problem(op.name, f"{where}: has no elements; GE may refuse it", warning=True)


def port_problems(op: OpDef, proto: Prototype) -> Iterator[Problem]:
    """The number of inputs and outputs, by the prototype and by the two lists of the file."""
    for port in proto.inputs:
        if port.kind == "dyn" and not has_count(op, port):
            yield Problem(op.name, f"needs the attribute __dynamic_input_{port.name}_cnt, an Int")
    expected = members(op, proto)
    least = max((i + 1 for i, (_, port) in enumerate(expected) if port.kind != "opt"), default=0)
    found = len(links(op))
    if not least <= found <= len(expected):
        wanted = str(least) if least == len(expected) else f"{least} to {len(expected)}"
        yield Problem(op.name, f"{op.type} takes {wanted} inputs, found {found}")
    if found != len(op.input_desc):
        yield Problem(op.name, f"has {found} inputs and {len(op.input_desc)} types of inputs")
    if not any(port.kind == "dyn" for port in proto.outputs) and len(op.output_desc) != len(
        proto.outputs
    ):
        gives = f"{op.type} has {len(proto.outputs)} outputs"
        yield Problem(op.name, f"{gives}, found {len(op.output_desc)} types of them")


def link_problems(context: Context, op: OpDef, proto: Prototype) -> Iterator[Problem]:
    for (name, port), link, desc in zip(members(op, proto), links(op), op.input_desc, strict=False):
        if not link:
            if port.kind != "opt" and op.type != "Data":
                yield Problem(op.name, f"the input {name} is required, but it is not connected")
            continue
        source = context.source(link)
        if isinstance(source, str):
            yield Problem(op.name, f"the input {name}: {source}")
        elif desc_of(source) != desc_of(desc):
            both = f"its type is {desc_of(desc)}, {link!r} gives {desc_of(source)}"
            yield Problem(op.name, f"the input {name}: {both}")
    for link in op.input:
        if link.endswith(":-1") and link.removesuffix(":-1") not in context.ops:
            yield Problem(op.name, f"the control edge {link!r} does not name an operator")


def dtype_problems(op: OpDef, proto: Prototype) -> Iterator[Problem]:
    ports = [
        (name, port, desc)
        for (name, port), link, desc in zip(
            members(op, proto), links(op), op.input_desc, strict=False
        )
        if link or op.type == "Data"
    ]
    ports += [
        (port.name, port, desc)
        for port, desc in zip(proto.outputs, op.output_desc, strict=False)
        if port.kind != "dyn"
    ]
    for name, port, desc in ports:
        fault = dtype_fault(op, port, desc)
        if fault:
            yield Problem(op.name, f"{name}: {fault}")


def dtype_fault(op: OpDef, port: Port, desc: TensorDescriptor) -> str | None:
    dtype = desc_of(desc).dtype
    if desc.dtype not in OF_FILE_CODE or dtype == "UNDEFINED":
        return f"the type code {desc.dtype} is none of the file's"
    if port.dtypes is not None and dtype not in port.dtypes:
        return f"{op.type} takes no {dtype}, but {', '.join(sorted(port.dtypes))}"
    return None


def const_flag_problems(context: Context, op: OpDef) -> Iterator[Problem]:
    connected = [split(link) for link in links(op) if link]
    expected = [
        bool(p and p[0] in context.ops and context.ops[p[0]].type in CONSTS) for p in connected
    ]
    if list(op.is_input_const) != expected and op.is_input_const:
        fault = f"is_input_const is {list(op.is_input_const)}, its inputs are {expected}"
        yield Problem(op.name, fault)


def const_problems(op: OpDef) -> Iterator[Problem]:
    if op.attr["value"].WhichOneof("value") != "t":
        yield Problem(op.name, f"a {op.type} needs the attribute value, a Tensor")
        return
    tensor = op.attr["value"].t
    held = desc_of(tensor.desc)
    for desc in op.output_desc:
        if desc_of(desc) != held:
            yield Problem(op.name, f"its value is {held}, its output {desc_of(desc)}")
    known = OF_FILE_CODE.get(tensor.desc.dtype)
    if known is not None and known.dtype is not None:
        count = elements(held.shape)
        if count is None:
            shape = told(held.shape)
            yield Problem(op.name, f"the shape {shape} of its value is impossible")
            return
        size = known.dtype.itemsize * count
        if len(tensor.data) != size:
            yield Problem(op.name, f"its value {held} has {size} bytes, found {len(tensor.data)}")


def inference_problems(context: Context, op: OpDef) -> Iterator[Problem]:
    """The declared results against GE's own inference, for the types that we emit."""
    if op.type in ("Data", *CONSTS):
        if op.type == "Data" and desc_of(op.input_desc[0]) != desc_of(op.output_desc[0]):
            both = f"{desc_of(op.input_desc[0])} and {desc_of(op.output_desc[0])}"
            yield Problem(op.name, f"the types of its input and output differ: {both}")
        return
    if op.type not in RULES:
        fault = f"its results are not checked: there is no shape function of {op.type} here"
        yield Problem(op.name, fault, warning=True)
        return
    site = Site(view(op), input_descs(context, op), partial(constant, context))
    try:
        expected = list(RULES[op.type](site))
    except Mismatch as mismatch:
        yield Problem(op.name, f"{op.type}: {mismatch}")
        return
    except BAD_NUMBERS as error:
        fault = f"{op.type} does not accept these inputs and attributes"
        yield Problem(op.name, f"{fault} ({type(error).__name__}: {error})")
        return
    declared = [desc_of(desc) for desc in op.output_desc]
    for place, (right, found) in enumerate(zip(expected, declared, strict=True)):
        if right != found:
            yield Problem(op.name, f"output {place} of {op.type} is {right}, declared {found}")


def input_descs(context: Context, op: OpDef) -> dict[str, Desc]:
    """The types of the connected inputs."""
    sources = {link: context.source(link) for link in links(op) if link}
    return {
        link: desc_of(source) for link, source in sources.items() if not isinstance(source, str)
    }


def constant(context: Context, link: str) -> np.ndarray | None:
    """What the Const holds that ``link`` names; None where it is none."""
    parts = split(link)
    producer = context.ops.get(parts[0]) if parts else None
    return const_of(producer) if producer is not None else None
