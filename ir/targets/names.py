"""The names that a file gives to values."""

from fnckpt.ir.graph import Constant, FuncGraph, Node, Parameter


def value_names(graph: FuncGraph) -> dict[int, str]:
    """A unique name for every node, by ``id``.

    Inputs and outputs keep their own names, and weights, unless one of these has it; where a
    weight stands twice in different shapes, the second is ``name_1``. An operator is called by
    its scope and kind, ``Encoder/LayerNorm_0/Mul``; an output by the graph's name for it, unless
    it is an input or a weight, or stands twice.
    """
    taken: set[str] = set()
    names: dict[int, str] = {}
    for parameter in graph.inputs:
        names[id(parameter)] = _unused(parameter.name, taken)
    for node, name in zip(graph.outputs, graph.output_names, strict=True):
        if id(node) not in names and not isinstance(node, Parameter):
            names[id(node)] = _unused(name, taken)
    reserved = taken | set(graph.output_names)  # of outputs that are inputs or weights
    for parameter in graph.weights():
        names[id(parameter)] = _unused(parameter.name, reserved)
    taken |= set(names.values())
    counters: dict[str, int] = {}
    for node in graph.nodes():
        if id(node) not in names:
            names[id(node)] = _unused(base_name(node), taken, counters)
    return names


def base_name(node: Node) -> str:
    """What a constant or an operator is called, before it is made unique."""
    if isinstance(node, Constant):
        return "constant"
    assert not isinstance(node, Parameter)
    return f"{node.origin.scope}/{node.op}" if node.origin.scope else node.op


def _unused(name: str, taken: set[str], counters: dict[str, int] | None = None) -> str:
    counters = {} if counters is None else counters
    candidate = name
    while candidate in taken:
        counters[name] = counters.get(name, 0) + 1
        candidate = f"{name}_{counters[name]}"
    taken.add(candidate)
    return candidate
