"""Modules of nodes, from the weights that they use, where JAX's name stack has none.

Linen names the scope of each module. NNX names nothing, and Equinox the class but not the layer.
Their weights have paths: what uses ``blocks.0.conv.kernel`` is in the module ``blocks/0/conv``.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fnckpt.ir.call_scopes import Module, layers_beside
from fnckpt.ir.graph import CNode, FuncGraph, Node, Parameter

_COLLECTIONS = ("params", "batch_stats")
_LEAF = ("value", "raw_value")  # NNX's own attribute below a variable
# a class, transforms, both, nothing; an einsum
_UNNAMED = re.compile(r"(\w+\()*((equinox|eqx)\.[\w.]+)?\)*|.*->.*")


def scoped(graph: FuncGraph) -> FuncGraph:
    """``graph`` with the modules of its nodes, unless its name stacks tell them.

    A node that uses weights is in their module, the common one where they are of several. A node
    that uses none is in the innermost module that holds both what it uses and what uses it, or all
    layers that its method calls.
    """
    if _tells(graph):
        return graph
    own = of_weights(graph, {id(p): module_of(p.path or p.name) for p in graph.weights()})
    modules = {**between(graph, own, graph.cnodes()), **own}
    for key, layers in layers_beside(graph.cnodes(), own).items():
        block = common(layers) if len(set(layers)) > 1 else ()
        if block[: len(modules[key])] == modules[key]:
            modules[key] = block

    def scope(node: CNode) -> str:
        return named(node.origin.scope) or "/".join(modules.get(id(node), ()))

    return with_scopes(graph, scope)


def with_scopes(graph: FuncGraph, scope: Callable[[CNode], str]) -> FuncGraph:
    """``graph`` whose nodes have the scopes that ``scope`` tells."""
    inputs = {id(node) for node in graph.inputs}
    new: dict[int, Node] = {}
    for node in graph.nodes():
        new[id(node)] = node
        if isinstance(node, CNode) and id(node) not in inputs:
            origin = replace(node.origin, scope=scope(node))
            used = tuple(new[id(each)] for each in node.inputs)
            new[id(node)] = replace(node, inputs=used, origin=origin)
    return replace(graph, outputs=tuple(new[id(node)] for node in graph.outputs))


def _tells(graph: FuncGraph) -> bool:
    """Whether the name stacks name the modules of most nodes that use weights."""
    weights = {id(node) for node in graph.weights()}
    using = [n for n in graph.cnodes() if any(id(each) in weights for each in n.inputs)]
    return 2 * sum(bool(named(node.origin.scope)) for node in using) >= len(using)


def named(scope: str) -> str:
    """``scope`` without the parts that name no module.

    >>> named("eqx.nn.MLP/vmap()"), named("jvp()/Decoder"), named("vmap(ij,jk->ik)")
    ('', 'Decoder', '')
    """
    return "/".join(part for part in scope.split("/") if not _UNNAMED.fullmatch(part))


def module_of(path: str) -> Module:
    """The module that has the weight ``path``.

    >>> module_of("params.blocks.0.conv.kernel.value"), module_of("w")
    (('blocks/0', 'conv'), ())
    """
    parts = path.split(".")
    parts = parts[:-1] if parts[-1] in _LEAF else parts
    parts = parts[1:] if parts[0] in _COLLECTIONS else parts
    module: list[str] = []
    for part in parts[:-1]:
        if part.isdigit() and module:
            module[-1] += f"/{part}"
        else:
            module.append(part)
    return tuple(module)


def of_weights(graph: FuncGraph, weights: Mapping[int, Module]) -> dict[int, Module]:
    """The modules of the nodes that use weights, themselves or reshaped."""
    given = {id(node) for node in graph.inputs} - weights.keys()
    fixed: dict[int, Module] = {}  # nodes that are computed from weights alone
    own: dict[int, Module] = {}
    for node in graph.nodes():
        if id(node) in weights:
            fixed[id(node)] = weights[id(node)]
        if not isinstance(node, CNode):
            continue
        used = [fixed[id(each)] for each in node.inputs if id(each) in fixed]
        if not used:
            continue
        own[id(node)] = common(used)
        whole = all(id(n) in fixed for n in node.inputs if isinstance(n, CNode | Parameter))
        if whole and not any(id(each) in given for each in node.inputs):
            fixed[id(node)] = own[id(node)]
    return own


def common(modules: list[Module]) -> Module:
    """The innermost module that holds all; () where there is none."""
    if not modules:
        return ()
    shortest = min(modules, key=len)
    for at, part in enumerate(shortest):
        if any(module[at] != part for module in modules):
            return shortest[:at]
    return shortest


def between(
    graph: FuncGraph,
    own: Mapping[int, Module],
    nodes: Sequence[CNode],
    common: Callable[[list[Module]], Module] = common,
) -> dict[int, Module]:
    """The modules of the other ``nodes``; at the beginning and the end of the graph the whole."""
    before: dict[int, Module] = {}
    counts = {id(node) for node in nodes}
    for node in nodes:
        used = [n for n in node.inputs if id(n) in counts]
        before[id(node)] = common([own.get(id(n), before.get(id(n), ())) for n in used])
    users: dict[int, list[Module]] = {id(node): [()] for node in graph.outputs}
    modules: dict[int, Module] = {}
    for node in reversed(nodes):
        after = common(users.get(id(node), []))
        modules[id(node)] = common([before[id(node)], after])
        for each in node.inputs:
            users.setdefault(id(each), []).append(own.get(id(node), after))
    return modules
