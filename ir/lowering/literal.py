"""The jaxpr itself as a graph: one node an equation, whatever the primitive.

This is what a picture or a ``graph.meta`` shows. It needs no rules and refuses nothing, and
nothing can be computed from it: its operators are JAX's primitives.
"""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Var

from fnckpt.ir.graph import Attr, Aval, CNode, FuncGraph, Node, Parameter
from fnckpt.ir.lowering.calls import inline, inline_function
from fnckpt.ir.lowering.jaxpr import Run, aval_of_var, interpret, is_extended, shaped
from fnckpt.ir.lowering.known import known_value
from fnckpt.ir.lowering.registry import RULES, Pair, Site, Value
from fnckpt.ir.operators import constant, item

MOST_CHARACTERS = 200


def literal(closed: ClosedJaxpr, names: Sequence[str], *, name: str) -> FuncGraph:
    """The graph of a jaxpr, calls inlined and everything else as it stands.

    Args:
      closed: the function.
      names: one for each of its arguments.
      name: of the graph.
    """
    inputs = [Parameter(n, _aval(var)) for n, var in zip(names, closed.jaxpr.invars, strict=True)]
    run = Run(0, _as_it_stands, lambda eqn: tuple(map(_aval, eqn.outvars)))
    consts = [Parameter(f"const_{i}", _aval(var)) for i, var in enumerate(closed.jaxpr.constvars)]
    outputs = tuple(map(_whole, interpret(run, closed.jaxpr, consts, inputs)))
    labels = tuple(f"output_{i}" for i in range(len(outputs)))
    return FuncGraph(name, (*inputs, *consts), outputs, labels)


def _aval(var: Var) -> Aval:
    """Keys are shown as the uint32 that they are made of."""
    if is_extended(var):
        return Aval(tuple(shaped(var).shape), np.dtype(np.uint32))
    return aval_of_var(var)


def _whole(value: Value) -> Node:
    """A complex constant, which only lowering splits."""
    if isinstance(value, Pair):
        array = known_value(value)
        assert array is not None
        return constant(array)
    return value


def _as_it_stands(site: Site, eqn: JaxprEqn, inputs: Sequence[Value]) -> Sequence[Value]:
    name = eqn.primitive.name
    if RULES.get(name) in (inline, inline_function):
        results = RULES[name](site, *inputs, **eqn.params)
        assert isinstance(results, tuple)
        return results
    attrs = {key: attribute(value) for key, value in eqn.params.items() if value is not None}
    node = CNode(name, tuple(map(_whole, inputs)), attrs, site.results, site.origin)
    if len(site.results) == 1:
        return [node]
    return [item(node, i) for i in range(len(site.results))]


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
