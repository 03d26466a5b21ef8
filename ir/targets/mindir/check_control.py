"""Whether the functions of a MindIR file fit together: names, closures, choices and calls."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fnckpt.ir.targets.mindir.view import REFERENCE
from fnckpt.proto.mind_ir_pb2 import GraphProto, ModelProto, NodeProto

PARTIAL, SWITCH, LAYER, TUPLE = "Partial", "Switch", "switch_layer", "MakeTuple"


def graphs_of(model: ModelProto) -> list[GraphProto]:
    """The main graph and the functions."""
    return [model.graph, *model.functions]


def shared_names(model: ModelProto) -> set[str]:
    """What a function may use that is not its own: weights of the main graph, all constants."""
    constants = {
        name
        for graph in graphs_of(model)
        for node in graph.node
        if node.op_type == "Constant"
        for name in node.output
    }
    return constants | {weight.name for weight in model.graph.parameter}


@dataclass
class Closures:
    """What the names of functions and closures stand for.

    Attributes:
      missing: how many arguments a call must still give, of each function and closure.
      members: of each tuple, what is in it.
    """

    missing: dict[str, int] = field(default_factory=dict)
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)


def closures_of(model: ModelProto, operators: Mapping[str, str]) -> Closures:
    """The functions, and the closures that nodes make of them."""
    found = Closures({graph.name: len(graph.input) for graph in model.functions})
    for graph in graphs_of(model):
        for node in graph.node:
            _add(found, node, operators.get(node.op_type, node.op_type))
    return found


def _add(found: Closures, node: NodeProto, op: str) -> None:
    inputs, name = tuple(node.input), node.output[0] if node.output else ""
    if op == PARTIAL and inputs and inputs[0] in found.missing:
        found.missing[name] = found.missing[inputs[0]] - len(inputs) + 1
    elif op == TUPLE:
        found.members[name] = inputs
    elif op in (SWITCH, LAYER):
        chosen = inputs[1:] if op == SWITCH else found.members.get(inputs[-1] if inputs else "", ())
        known = [found.missing[each] for each in chosen if each in found.missing]
        if known:
            found.missing[name] = known[0]


def function_problems(model: ModelProto) -> Iterator[str]:
    """Functions have names, and one result each; every name of the file is used once."""
    for number, graph in enumerate(model.functions):
        where = f"function {graph.name or number}"
        if not graph.name:
            yield f"{where}: it has no name, without which MindSpore does not load"
        if len(graph.output) != 1:
            yield f"{where}: it has {len(graph.output)} outputs, a function has one"
        if graph.parameter:
            yield f"{where}: it has weights of its own; MindSpore counts them as inputs"
    if not model.functions:
        return
    names = [graph.name for graph in graphs_of(model)]
    names += [name for graph in graphs_of(model) for node in graph.node for name in node.output]
    names += [given.name for graph in graphs_of(model) for given in graph.input]
    for name, count in Counter(names).items():
        if count > 1:
            yield f"{name}: {count} graphs, inputs or nodes of the file have this name"


def is_call(closures: Closures, node: NodeProto) -> bool:
    """Whether a node calls a function or a closure."""
    called = node.op_type.removeprefix(REFERENCE)
    return node.op_type.startswith(REFERENCE) and called in closures.missing


def control_problems(closures: Closures, where: str, node: NodeProto, op: str) -> Iterator[str]:
    """Closures, choices and calls: arguments are as many as inputs, choices are alike."""
    if is_call(closures, node):
        called = node.op_type.removeprefix(REFERENCE)
        wanted, given = closures.missing[called], len(node.input)
        if wanted != given:
            yield f"{where}: it calls {called} with {given} arguments, expected {wanted}"
    elif op == PARTIAL:
        name = node.input[0] if node.input else "nothing"
        if name not in closures.missing:
            yield f"{where}: it closes over {name}, which is not a function of the file"
        elif closures.missing[node.output[0]] < 0:
            yield f"{where}: it gives {name} too many arguments"
    elif op == SWITCH:
        if len(node.input) != 3:
            yield f"{where}: a Switch has a condition and two closures, {len(node.input)} inputs"
        yield from _choice_problems(closures, where, tuple(node.input)[1:])
    elif op == LAYER:
        yield from _choice_problems(closures, where, closures.members.get(node.input[-1], ()))


def _choice_problems(closures: Closures, where: str, chosen: tuple[str, ...]) -> Iterator[str]:
    missing = {closures.missing[each] for each in chosen if each in closures.missing}
    strange = [each for each in chosen if each not in closures.missing]
    if strange or not chosen:
        yield f"{where}: it chooses among {', '.join(strange) or 'nothing'}; expected closures"
    if len(missing) > 1:
        yield f"{where}: its branches take different numbers of arguments: {sorted(missing)}"
