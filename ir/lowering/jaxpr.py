"""The interpreter: walks a jaxpr and calls the rule of each equation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from fnckpt.ir.graph import Aval, CNode, Constant, FuncGraph, Node, Origin, Parameter
from fnckpt.ir.lowering.registry import RULES, Refusal, Rule, Site, arguments
from fnckpt.ir.lowering.source import user_line

DEFAULT_MAX_UNROLL = 512


@dataclass(frozen=True)
class Problem:
    """An equation that cannot be lowered: its primitive, the user's line, and why."""

    primitive: str
    line: str
    reason: str


class NotLowered(Exception):
    """A jaxpr cannot be lowered; ``problems`` holds every equation that is to blame."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.primitive}: {p.reason}" for p in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class _Place:
    """Where the interpreter is: the equations and scopes that lead to it."""

    path: tuple[JaxprEqn, ...] = ()
    scope: str = ""

    def inside(self, eqn: JaxprEqn) -> "_Place":
        own = str(eqn.source_info.name_stack)
        scope = "/".join(part for part in (self.scope, own) if part)
        return _Place((*self.path, eqn), scope)

    def origin(self) -> Origin:
        return Origin(self.scope, partial(user_line, self.path))


def shaped(atom: Var | Literal) -> jax.core.ShapedArray:
    """What JAX knows of a variable; every array has a shape and a dtype."""
    assert isinstance(atom.aval, jax.core.ShapedArray)
    return atom.aval


def aval_of_var(atom: Var | Literal) -> Aval:
    """The shape and dtype of a jaxpr's variable or literal."""
    return Aval(tuple(shaped(atom).shape), np.dtype(shaped(atom).dtype))


def is_extended(var: Var) -> bool:
    """Whether a variable holds PRNG keys or another dtype that only JAX knows."""
    return jax.numpy.issubdtype(shaped(var).dtype, jax.dtypes.extended)


def numeric_results(eqn: JaxprEqn) -> tuple[Aval, ...]:
    """The shapes and dtypes of an equation's results; ``Refusal`` for what no file holds."""
    for var in eqn.outvars:
        if is_extended(var):
            raise Refusal(
                f"its result is of dtype {shaped(var).dtype}, which no file holds; make random "
                "numbers outside apply_fn and give them as an input"
            )
    return tuple(map(aval_of_var, eqn.outvars))


def rule_of(name: str) -> Rule:
    """The rule of a primitive; ``Refusal`` where there is none."""
    if name not in RULES:
        raise Refusal(
            f"no lowering rule for {name}; write it with other operations, or move it out of "
            "apply_fn"
        )
    return RULES[name]


@dataclass(frozen=True)
class Run:
    """One lowering: its limit on unrolling, its tables, and the problems found so far."""

    max_unroll: int
    rule: Callable[[str], Rule] = rule_of
    results: Callable[[JaxprEqn], tuple[Aval, ...]] = numeric_results
    problems: list[Problem] = field(default_factory=list)


def lower(
    closed: ClosedJaxpr,
    parameters: Sequence[Parameter],
    inputs: Sequence[Parameter],
    *,
    name: str,
    output_names: Sequence[str],
    max_unroll: int = DEFAULT_MAX_UNROLL,
) -> FuncGraph:
    """The graph of a jaxpr.

    Args:
      closed: the function; its arguments are ``parameters`` and then ``inputs``.
      parameters: the weights, with their values.
      inputs: what a caller gives.
      name: of the graph.
      output_names: one for each result.
      max_unroll: the most iterations of a loop that are written out.

    Raises:
      NotLowered: naming every equation that cannot be lowered.
    """
    run = Run(max_unroll)
    consts = [_constant(value) for value in closed.consts]
    outputs = interpret(run, closed.jaxpr, consts, [*parameters, *inputs])
    if run.problems:
        raise NotLowered(tuple(dict.fromkeys(run.problems)))
    return FuncGraph(name, tuple(inputs), tuple(outputs), tuple(output_names))


def interpret(
    run: Run, jaxpr: Jaxpr, consts: Sequence[Node], args: Sequence[Node]
) -> Sequence[Node]:
    """The nodes of the results of an outermost jaxpr."""
    return _jaxpr(run, jaxpr, consts, args, _Place())


def _constant(value: object) -> Constant:
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.extended):
        return Constant(np.asarray(jax.random.key_data(value)))
    return Constant(np.asarray(value))


def _jaxpr(
    run: Run, jaxpr: Jaxpr, consts: Sequence[Node], args: Sequence[Node], place: _Place
) -> list[Node]:
    """The nodes of the results of ``jaxpr``."""
    nodes: dict[Var, Node] = dict(zip(jaxpr.constvars, consts, strict=True))
    nodes.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Var | Literal) -> Node:
        if isinstance(atom, Literal):
            return Constant(np.asarray(atom.val, aval_of_var(atom).dtype))
        return nodes[atom]

    for eqn in jaxpr.eqns:
        results = _equation(run, eqn, [read(v) for v in eqn.invars], place.inside(eqn))
        nodes.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(run: Run, eqn: JaxprEqn, inputs: Sequence[Node], place: _Place) -> Sequence[Node]:
    """The nodes of an equation's results; stand-ins, with the problem noted, if it has no rule."""
    name = eqn.primitive.name
    try:
        results = run.results(eqn)
        rule = run.rule(name)
        call = partial(_call, run, place)
        site = Site(results, place.origin(), call, run.max_unroll)
        nodes = rule(site, *inputs, **arguments(rule, eqn.params))
    except Refusal as refusal:
        run.problems.append(Problem(name, user_line(place.path), str(refusal)))
        return [_stand_in(var) for var in eqn.outvars]
    nodes = [nodes] if isinstance(nodes, Parameter | Constant | CNode) else list(nodes)
    found = tuple(node.aval for node in nodes)
    assert run.problems or found == results, f"{name}: lowered to {found}, JAX says {results}"
    return nodes


def _call(run: Run, place: _Place, jaxpr: object, args: Sequence[Node]) -> tuple[Node, ...]:
    """Lower a jaxpr that an equation holds, in the equation's place."""
    if isinstance(jaxpr, ClosedJaxpr):
        consts = [_constant(value) for value in jaxpr.consts]
        return tuple(_jaxpr(run, jaxpr.jaxpr, consts, args, place))
    assert isinstance(jaxpr, Jaxpr)
    return tuple(_jaxpr(run, jaxpr, (), args, place))


def _stand_in(var: Var) -> Node:
    """A value of the right shape for what could not be lowered, so that the rest is looked at."""
    aval = Aval((), np.dtype(np.uint32)) if is_extended(var) else aval_of_var(var)
    return CNode("NotLowered", (), {}, (aval,))
