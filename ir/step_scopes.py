"""Modules of the nodes of a train step: of the network, of its gradients, and of the update.

JAX names these apart: ``jvp()`` and ``transpose(jvp())``. Inside, NNX and Equinox name no layers;
their modules are those of the leaves of the state that the nodes use.
"""

from collections.abc import Mapping

from fnckpt.ir.graph import CNode, FuncGraph
from fnckpt.ir.scopes import Module, between, common, module_of, named, of_weights, with_scopes

VALUES, GRADIENTS, UPDATE = "jvp()", "transpose(jvp())", "update"

Path = tuple[str, ...]


def step_scoped(graph: FuncGraph, state: str) -> FuncGraph:
    """A train step with the modules of its nodes, where its name stacks tell none.

    Args:
      graph: the step as it stands, with the leaves of its state as inputs.
      state: how the names of these begin, ``state`` of ``state.params.w``.
    """
    leaves = {id(p): tuple(p.name.split(".")[1:]) for p in graph.inputs if _is_in(p.name, state)}
    sides = _sides(graph)
    trained = _trained(graph, sides)
    network = {key: _of_network(path) for key, path in leaves.items()}
    inside = {path for key, path in network.items() if key in trained}
    updated = {key: _of_leaf(path, inside) for key, path in leaves.items()}
    updated |= {key: path for key, path in network.items() if key in trained}
    modules: dict[int, Module] = {}
    for side in set(sides.values()):
        nodes = [node for node in graph.cnodes() if sides[id(node)] == side]
        paths = updated if side in (UPDATE, "") else network
        own = of_weights(graph, {key: module_of(".".join(path)) for key, path in paths.items()})
        found = between(graph, own, nodes, _known if side == UPDATE else common) | own
        first = (side,) if side else ()
        modules |= {id(node): (*first, *found[id(node)]) for node in nodes}

    def scope(node: CNode) -> str:
        told = node.origin.scope
        return told if named(told) else "/".join(modules[id(node)])

    return with_scopes(graph, scope)


def _is_in(name: str, state: str) -> bool:
    return name == state or name.startswith(f"{state}.")


def _sides(graph: FuncGraph) -> Mapping[int, str]:
    """The part of the step that each node is in; "" if there is no gradient, or in front of it."""
    sides = {id(node): _side(node.origin.scope) for node in graph.cnodes()}
    needed: set[int] = set()
    for node in reversed(graph.cnodes()):
        if sides[id(node)] or id(node) in needed:
            needed |= {id(each) for each in node.inputs}
    after = UPDATE if any(sides.values()) else ""
    return {key: side or ("" if key in needed else after) for key, side in sides.items()}


def _trained(graph: FuncGraph, sides: Mapping[int, str]) -> set[int]:
    """The leaves that the network uses; an optimizer's are used by the update alone."""
    inner = [node for node in graph.cnodes() if sides[id(node)] in (VALUES, GRADIENTS)]
    return {id(each) for node in inner for each in node.inputs}


def _side(scope: str) -> str:
    """What JAX computes there: values, their gradients, or neither.

    >>> _side("transpose(jvp(vmap(eqx.nn.Linear)))"), _side("jvp()/Decoder"), _side("")
    ('transpose(jvp())', 'jvp()', '')
    """
    if "jvp(" not in scope:
        return ""
    return GRADIENTS if "transpose(" in scope else VALUES


def _of_network(path: Path) -> Path:
    """The path of a leaf in its network: without its place in a tuple, or its collection.

    >>> _of_network(("0", "conv", "kernel")), _of_network(("params", "w"))
    (('conv', 'kernel'), ('w',))
    """
    outer = len(path) > 1 and (path[0].isdecimal() or path[0] == "params")
    return path[1:] if outer else path


def _of_leaf(path: Path, network: set[Path]) -> Path:
    """The path of the leaf of the network that one of an optimizer belongs to; () for others.

    >>> _of_leaf(("opt", "0", "mu", "conv", "kernel"), {("conv", "kernel")})
    ('conv', 'kernel')
    """
    ends = (path[at:] for at in range(1, len(path)))
    return next((end for end in ends if end in network), ())


def _known(modules: list[Module]) -> Module:
    """Of an update: what all parameters share, such as the learning rate, tells no module."""
    return common([module for module in modules if module])
