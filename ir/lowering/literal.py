"""The jaxpr itself as a graph: one node an equation, whatever the primitive.

This is what a picture or a ``graph.meta`` shows. It needs no rules and refuses nothing, and
nothing can be computed from it: its operators are JAX's primitives.
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, Var

from fnckpt.ir.graph import Attr, Aval, CNode, FuncGraph, Node, Parameter
from fnckpt.ir.lowering.calls import inline, inline_function
from fnckpt.ir.lowering.jaxpr import Run, aval_of_var, interpret, is_extended, shaped
from fnckpt.ir.lowering.registry import RULES, Rule, Site
from fnckpt.ir.operators import item

MOST_CHARACTERS = 200


def literal(closed: ClosedJaxpr, names: Sequence[str], *, name: str) -> FuncGraph:
    """The graph of a jaxpr, calls inlined and everything else as it stands.

    Args:
      closed: the function.
      names: one for each of its arguments.
      name: of the graph.
    """
    inputs = [Parameter(n, _aval(var)) for n, var in zip(names, closed.jaxpr.invars, strict=True)]
    run = Run(0, rule=_rule, results=lambda eqn: tuple(map(_aval, eqn.outvars)))
    consts = [Parameter(f"const_{i}", _aval(var)) for i, var in enumerate(closed.jaxpr.constvars)]
    outputs = tuple(interpret(run, closed.jaxpr, consts, inputs))
    labels = tuple(f"output_{i}" for i in range(len(outputs)))
    return FuncGraph(name, (*inputs, *consts), outputs, labels)


def _aval(var: Var) -> Aval:
    """Keys are shown as the uint32 that they are made of."""
    if is_extended(var):
        return Aval(tuple(shaped(var).shape), np.dtype(np.uint32))
    return aval_of_var(var)


def _rule(name: str) -> Rule:
    if RULES.get(name) in (inline, inline_function):
        return RULES[name]

    def as_it_stands(site: Site, *inputs: Node, **params: object) -> Sequence[Node]:
        attrs = {key: attribute(value) for key, value in params.items() if value is not None}
        node = CNode(name, inputs, attrs, site.results, site.origin)
        if len(site.results) == 1:
            return [node]
        return [item(node, i) for i in range(len(site.results))]

    return as_it_stands


def attribute(value: object) -> Attr:
    """A primitive's parameter as an attribute: numbers and strings, or tuples of them, or text."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list) and len(value) <= MOST_CHARACTERS:
        parts = tuple(attribute(v) for v in value)
        flat = {type(part) for part in parts}
        if len(flat) <= 1 and flat <= {bool, int, float, str}:
            return parts
    text = " ".join(str(value).split())
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
