"""The interpreter: walks a jaxpr and calls the rule of each equation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import jax
import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params

from fnckpt.ir.attributes import integer
from fnckpt.ir.border import Border
from fnckpt.ir.graph import (
    Aval,
    CNode,
    Constant,
    FuncGraph,
    Node,
    Origin,
    Parameter,
    nodes_inside,
    ordered,
)
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.known import (
    IMPURE,
    NOT_LOWERED,
    computed,
    constant_of,
    is_extended,
    is_stand_in,
    known_value,
)
from fnckpt.ir.lowering.parts import as_in_file, is_complex, joined, split
from fnckpt.ir.lowering.random import move_keys, moves_keys
from fnckpt.ir.lowering.registry import (
    CALLS,
    COMPLEX_RULES,
    FACTORIZATIONS,
    KEY_RULES,
    REFUSED,
    RULES,
    Pair,
    Refusal,
    Site,
    Value,
    arguments,
    part_of,
)
from fnckpt.ir.lowering.source import user_line
from fnckpt.ir.sizes import InconclusiveDimensionOperation, is_known

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
        primitive = self.path[-1].primitive.name if self.path else ""
        return Origin(self.scope, partial(user_line, self.path), primitive)


def shaped(atom: Var | Literal) -> jax.core.ShapedArray:
    """What JAX knows of a variable: a shape and a dtype; ``Refusal`` for references and tokens."""
    if not isinstance(atom.aval, jax.core.ShapedArray):
        raise Refusal(
            f"it uses a value of type {atom.aval}, and a graph holds arrays only; write it as a "
            "pure function of arrays"
        )
    return atom.aval


def aval_of_var(atom: Var | Literal) -> Aval:
    """The shape and dtype of a jaxpr's variable or literal; of PRNG keys, of their data."""
    aval = shaped(atom)
    if is_extended(atom):
        data = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct(aval.shape, aval.dtype))
        return Aval(tuple(data.shape), np.dtype(data.dtype))
    return Aval(tuple(aval.shape), np.dtype(aval.dtype))


def avals_of_results(eqn: JaxprEqn) -> tuple[Aval, ...]:
    """The shapes and dtypes of an equation's results."""
    return tuple(map(aval_of_var, eqn.outvars))


def by_rule(site: Site, eqn: JaxprEqn, inputs: Sequence[Value]) -> Value | Sequence[Value]:
    """The results of an equation by its rule, or, where all inputs are known, by JAX itself.

    Raises:
      Refusal: the primitive has no rule, or the rule cannot lower this use of it.
    """
    name = eqn.primitive.name
    holds_keys = any(map(is_extended, (*eqn.invars, *eqn.outvars)))
    holds_complex = any(isinstance(x, Pair) for x in inputs) or any(
        aval.dtype.kind == "c" for aval in site.results
    )
    table = COMPLEX_RULES if holds_complex and name not in CALLS else RULES
    rule = None if holds_keys and name not in CALLS else table.get(name)
    factorizes = factorized(eqn)
    if rule is None or holds_keys or factorizes:
        values = computed(eqn, inputs, weights=factorizes and not site.keeps_weights)
        if values is not None:
            return values
    if rule is not None:
        return rule(site, *inputs, **arguments(rule, eqn.params))
    if holds_keys and name in KEY_RULES:
        return KEY_RULES[name](site, eqn, *inputs)
    if holds_keys and moves_keys(eqn):
        return move_keys(site, eqn, *inputs)
    if name not in RULES and name not in REFUSED:
        known = [
            None if is_extended(v) else known_value(x)
            for v, x in zip(eqn.invars, inputs, strict=True)
        ]
        closed = compat.definition(eqn, known)
        if closed is not None:
            rest = [x for x, value in zip(inputs, known, strict=True) if value is None]
            return site.call(closed, rest)
    raise Refusal(_why_not(name, holds_keys))


def factorized(eqn: JaxprEqn) -> bool:
    """Whether an equation is a factorization, or holds one."""
    return eqn.primitive.name in FACTORIZATIONS or any(
        map(_holds_factorization, jaxprs_in_params(eqn.params))
    )


@lru_cache(maxsize=4096)
def _holds_factorization(jaxpr: Jaxpr) -> bool:
    return any(map(factorized, jaxpr.eqns))


def _why_not(name: str, holds_keys: bool) -> str:
    if name in REFUSED:
        return REFUSED[name]
    if name not in RULES:
        return (
            f"no lowering rule for {name}, and JAX cannot trace its own definition; "
            "write it with other operations, move it out of apply_fn, or add a rule as "
            "docs/adding.md says"
        )
    of = "PRNG keys" if holds_keys else "complex numbers"
    return (
        f"no lowering rule for {name} of {of}; write it with other operations, move it out of "
        "apply_fn, or add a rule as docs/adding.md says"
    )


@dataclass(frozen=True)
class Found:
    """A problem, and whether its equation does something else than to compute its results.

    It is no problem of the function where no output depends on it.
    """

    problem: Problem
    is_effect: bool


@dataclass(frozen=True)
class Run:
    """One lowering: its limit on unrolling, its way with an equation, the problems found so far.

    ``loops``: whether the target has branches and loops. ``recurrent``: whether recurrent cells
    stay loops. ``keeps_weights``: whether nothing is computed of weights.
    """

    max_unroll: int
    lowered: Callable[[Site, JaxprEqn, Sequence[Value]], Value | Sequence[Value]] = by_rule
    results: Callable[[JaxprEqn], tuple[Aval, ...]] = avals_of_results
    problems: list[Found] = field(default_factory=list)
    loops: bool = True
    recurrent: bool = False
    keeps_weights: bool = False
    constant: Callable[[object], Value] = constant_of


def lower(
    closed: ClosedJaxpr,
    parameters: Sequence[Parameter],
    inputs: Sequence[Parameter],
    *,
    name: str,
    output_names: Sequence[str],
    max_unroll: int = DEFAULT_MAX_UNROLL,
    loops: bool = True,
    recurrent: bool = False,
    keeps_weights: bool = False,
    constant: Callable[[object], Value] = constant_of,
) -> FuncGraph:
    """The graph of a jaxpr.

    Args:
      closed: the function; its arguments are ``parameters`` and then ``inputs``.
      parameters: the weights, with their values.
      inputs: what a caller gives.
      name: of the graph.
      output_names: one for each result.
      max_unroll: the most iterations of a loop that are written out.
      loops: whether branches and loops may stay; else they are written out, or refused.
      recurrent: whether a loop that is a gated recurrent cell stays a loop, however short.
      keeps_weights: leaves a factorization of weights to the file, where they can be replaced.
      constant: the value of an array that the function closes over; a weight where it has a name.

    Raises:
      NotLowered: naming every equation that cannot be lowered.
    """
    run = Run(
        max_unroll,
        loops=loops,
        recurrent=recurrent,
        keeps_weights=keeps_weights,
        constant=constant,
    )
    closed = compat.without_dead(closed)
    consts = [run.constant(value) for value in closed.consts]
    held = [as_in_file(parameter) for parameter in (*parameters, *inputs)]
    given = zip((*parameters, *inputs), held, strict=True)
    args = [split(real) if is_complex(old) else real for old, real in given]
    outputs = interpret(run, closed.jaxpr, consts, args)
    reached = _reached(outputs)
    if reached:
        found = [run.problems[i].problem for i in sorted(reached)]
        raise NotLowered(tuple(dict.fromkeys(found)))
    unseen = [each for i, each in enumerate(run.problems) if i not in reached and each.is_effect]
    left_out = dict.fromkeys(f"{e.problem.primitive}: {e.problem.line}" for e in unseen)
    border = Border(
        inputs=tuple(i for i, each in enumerate(inputs) if is_complex(each)),
        outputs=tuple(i for i, each in enumerate(outputs) if isinstance(each, Pair)),
        weights=tuple(weight.name for weight in parameters if is_complex(weight)),
    )
    return FuncGraph(
        name,
        tuple(held[len(parameters) :]),
        tuple(map(joined, outputs)),
        tuple(output_names),
        border=border,
        left_out=tuple(left_out),
    )


def _reached(outputs: Sequence[Value]) -> set[int]:
    """The numbers of the problems that an output depends on."""
    parts = [part for value in outputs for part in _nodes(value)]
    within = [inner for node in ordered(parts) for inner in nodes_inside(node)]
    stand_ins = [node for node in within if isinstance(node, CNode) and is_stand_in(node)]
    return {integer(node, "problem") for node in stand_ins if node.attrs}


def _nodes(value: Value) -> tuple[Node, ...]:
    return (value.real, value.imag) if isinstance(value, Pair) else (value,)


def interpret(
    run: Run, jaxpr: Jaxpr, consts: Sequence[Value], args: Sequence[Value]
) -> Sequence[Value]:
    """The nodes of the results of an outermost jaxpr."""
    return _jaxpr(run, jaxpr, consts, args, _Place())


def _jaxpr(
    run: Run, jaxpr: Jaxpr, consts: Sequence[Value], args: Sequence[Value], place: _Place
) -> list[Value]:
    """The nodes of the results of ``jaxpr``."""
    nodes: dict[Var, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
    nodes.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Var | Literal) -> Value:
        if isinstance(atom, Literal):
            return constant_of(np.asarray(atom.val, aval_of_var(atom).dtype))
        return nodes[atom]

    for eqn in jaxpr.eqns:
        results = _equation(run, eqn, [read(v) for v in eqn.invars], place.inside(eqn))
        nodes.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(run: Run, eqn: JaxprEqn, inputs: Sequence[Value], place: _Place) -> Sequence[Value]:
    """The nodes of an equation's results; stand-ins, with the problem noted, if it has no rule."""
    name = eqn.primitive.name
    try:
        results = run.results(eqn)
        site = Site(
            results,
            place.origin(),
            partial(_call, run, place),
            run.max_unroll,
            run.loops,
            run.recurrent,
            run.keeps_weights,
        )
        values = run.lowered(site, eqn, inputs)
    except Refusal as refusal:
        return _refused(run, eqn, inputs, place, str(refusal))
    except (InconclusiveDimensionOperation, TypeError, ValueError):
        # A rule takes a symbolic size for a number: it needs to know it.
        if not (sizes := _symbolic_sizes(eqn)):
            raise
        reason = f"its size {sizes} is symbolic, and its rule needs numbers; give a number there"
        return _refused(run, eqn, inputs, place, reason)
    values = [values] if isinstance(values, Parameter | Constant | CNode | Pair) else list(values)
    found = tuple(value.aval for value in values)
    assert run.problems or found == results, f"{name}: lowered to {found}, JAX says {results}"
    return values


def _refused(
    run: Run, eqn: JaxprEqn, inputs: Sequence[Value], place: _Place, reason: str
) -> Sequence[Value]:
    """Note the problem; values of the right shapes, so that the rest is looked at."""
    problem = Problem(eqn.primitive.name, user_line(place.path), reason)
    is_effect = bool(eqn.effects) or not eqn.outvars or eqn.primitive.name in IMPURE
    run.problems.append(Found(problem, is_effect))
    behind = tuple(node for value in inputs for node in _nodes(value))
    number = len(run.problems) - 1
    return [_stand_in(_aval_or_scalar(var), behind, number) for var in eqn.outvars]


def _symbolic_sizes(eqn: JaxprEqn) -> str:
    """The symbolic sizes of the arrays that an equation takes and gives, for people."""
    atoms = (*eqn.invars, *eqn.outvars)
    shapes = [a.aval.shape for a in atoms if isinstance(a.aval, jax.core.ShapedArray)]
    found = dict.fromkeys(str(n) for shape in shapes for n in shape if not is_known(n))
    return ", ".join(found)


def _call(
    run: Run, place: _Place, jaxpr: object, args: Sequence[Value], *, keep_loops: bool = False
) -> tuple[Value, ...]:
    """Lower a jaxpr that an equation holds, in the equation's place."""
    run = replace(run, max_unroll=0) if keep_loops and run.loops else run
    if isinstance(jaxpr, ClosedJaxpr):
        consts = [run.constant(value) for value in jaxpr.consts]
        return tuple(_jaxpr(run, jaxpr.jaxpr, consts, args, place))
    assert isinstance(jaxpr, Jaxpr)
    return tuple(_jaxpr(run, jaxpr, (), args, place))


def _aval_or_scalar(var: Var) -> Aval:
    if isinstance(var.aval, jax.core.ShapedArray):
        return aval_of_var(var)
    return Aval((), np.dtype(np.uint32))


def _stand_in(aval: Aval, inputs: tuple[Node, ...] = (), problem: int | None = None) -> Value:
    """A value of the right shape for what could not be lowered, so that the rest is looked at."""
    attrs = {} if problem is None else {"problem": problem}
    if aval.dtype.kind == "c":
        real, imag = (CNode(NOT_LOWERED, inputs, attrs, (part_of(aval),)) for _ in range(2))
        return Pair(real, imag)
    return CNode(NOT_LOWERED, inputs, attrs, (aval,))
