"""What every graph obeys; called after each pass in tests and with ``debug=True``."""

from collections.abc import Callable

from fnckpt.ir.graph import CNode, FuncGraph, Node, Parameter, graphs_of
from fnckpt.ir.operators import OPERATORS, infer

Predicate = Callable[[FuncGraph, Node], str | None]


def operators_are_known(graph: FuncGraph, node: Node) -> str | None:
    """Each CNode applies an operator of the table."""
    if isinstance(node, CNode) and node.op not in OPERATORS and node.op != "TupleGetItem":
        return f"{node.op} is not an operator"
    return None


def avals_are_inferred(graph: FuncGraph, node: Node) -> str | None:
    """Each CNode's results have the shape and dtype that its operator gives for its inputs."""
    if not isinstance(node, CNode):
        return None
    found = infer(node.op, node.inputs, dict(node.attrs))
    return (
        None if found == node.results else f"{node.op} is {node.results}, its inputs give {found}"
    )


def attributes_are_hashable(graph: FuncGraph, node: Node) -> str | None:
    """Attributes are values, so that equal nodes can be found."""
    if isinstance(node, CNode):
        hash(tuple(sorted(node.attrs.items())))
    return None


def parameters_are_given(graph: FuncGraph, node: Node) -> str | None:
    """A parameter is an input or has a value."""
    if isinstance(node, Parameter) and node.value is None:
        listed = any(node is given for given in graph.inputs)
        return None if listed else f"{node.name} is not an input of the graph and has no value"
    if isinstance(node, Parameter) and node.value is not None:
        stored = (tuple(node.value.shape), node.value.dtype)
        declared = (node.aval.shape, node.aval.dtype)
        return None if stored == declared else f"{node.name} is {declared}, its value is {stored}"
    return None


RULES: tuple[Predicate, ...] = (
    operators_are_known,
    avals_are_inferred,
    attributes_are_hashable,
    parameters_are_given,
)


def verify(graph: FuncGraph) -> None:
    """Check ``graph``, and the graphs inside, against every rule.

    Raises:
      AssertionError: naming every node that breaks one; it is a bug of a pass or of lowering.
    """
    assert len(graph.outputs) == len(graph.output_names)
    faults = [f for node in graph.nodes() for rule in RULES if (f := rule(graph, node)) is not None]
    assert not faults, f"{graph.name}: " + "; ".join(faults)
    for node in graph.nodes():
        for inner in graphs_of(node):
            verify(inner)
