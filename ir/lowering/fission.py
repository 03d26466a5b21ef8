"""Loop fission: what of a scan's body only makes stacked results is done once, after the loop.

``f(h[t])`` for every t is ``vmap(f)(h)``: one operator where there was one for each trip.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax
from jax.core import ShapedArray
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    Var,
    jaxpr_as_fun,
    jaxprs_in_params,
)

from fnckpt.ir.graph import Aval
from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.known import is_extended
from fnckpt.ir.lowering.trips import primitives
from fnckpt.ir.sizes import at_most

Atom = Var | Literal

MOST_LARGER = 4  # times the results, what is stacked for them
MOST_AT_ONCE = 1 << 20  # elements of all trips, of a value that is larger than the results

MOVES = frozenset(
    {"broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "rev", "slice",
     "squeeze", "stop_gradient", "transpose"}
)  # fmt: skip
CHEAP = MOVES | {"add", "mul", "neg", "sub"}  # computed twice rather than stacked, if larger
# A batch takes all branches, and draws other numbers, of some kinds of keys.
STAYS = frozenset(
    {"cond", "random_bits", "random_fold_in", "random_seed", "random_split", "rng_bit_generator",
     "rng_uniform", "while"}
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """A scan in two: a shorter one, and what follows it.

    Attributes:
      loop: of the same arguments; gives the carry, the rows of ``kept`` and those of ``border``.
      kept: the places of stacked results that the loop still gives.
      border: the avals of what each trip gives for ``after`` alone.
      after: of all constants, and of all rows and ``border``, stacked; gives the results ``late``.
      late: the places of stacked results that are computed after the loop.
    """

    loop: ClosedJaxpr
    kept: tuple[int, ...]
    border: tuple[Aval, ...]
    after: ClosedJaxpr
    late: tuple[int, ...]


def split(
    body: object, consts: int, carried: int, length: int, *, products: bool = False
) -> Parts | None:
    """A scan's body in two; None if nothing is worth being done after the loop.

    Args:
      body: of the constants, the carry and a row; gives the carry and a row of results.
      consts, carried: how many constants and carried values there are.
      length: the number of trips.
      products: whether only products leave, and what is made of them: the rest may be part of a
        recurrent cell that a target has as an operator, as zeros past the end of a sequence are.
    """
    assert isinstance(body, ClosedJaxpr)
    whole, first = body.jaxpr, consts + carried
    late = () if body.effects else _late(whole, carried, products=products)
    work = [i for i in late if whole.eqns[i].primitive.name not in MOVES]
    if not work:
        return None
    given = [*whole.invars[:consts], *whole.invars[first:]]
    again, border = _border(whole, late, {*whole.constvars, *given})
    rows, made = whole.outvars[carried:], _made(whole, late)
    places = tuple(i for i, row in enumerate(rows) if isinstance(row, Var) and row in made)
    results, every = [rows[i] for i in places], sorted((*late, *again))
    more = len(border) - len(results)  # stacks, each of which is written in each trip
    if len(work) <= more or not _is_worth(whole, every, border, results, length):
        return None
    eqns = [whole.eqns[i] for i in every]
    after = whole.replace(invars=[*given, *border], eqns=eqns, outvars=results)
    try:
        batch = _batched(ClosedJaxpr(after, body.consts), consts, length)
    except NotImplementedError:  # a primitive has no rule for a batch
        return None
    kept = tuple(i for i in range(len(rows)) if i not in places)
    results = [*whole.outvars[:carried], *(rows[i] for i in kept), *border]
    return Parts(_without(body, late, results), kept, tuple(map(_in_ir, border)), batch, places)


def _without(body: ClosedJaxpr, late: Sequence[int], results: Sequence[Atom]) -> ClosedJaxpr:
    """``body`` without the equations ``late``, and with other results."""
    eqns = [eqn for i, eqn in enumerate(body.jaxpr.eqns) if i not in late]
    loop = body.jaxpr.replace(eqns=eqns, outvars=list(results))
    return compat.without_dead(ClosedJaxpr(loop, body.consts))


def _batched(row: ClosedJaxpr, consts: int, length: int) -> ClosedJaxpr:
    """``row`` of all trips; its first ``consts`` arguments are the same in each."""
    avals = [_aval(var) for var in row.jaxpr.invars]
    axes = [None if i < consts else 0 for i in range(len(avals))]
    shapes = [
        jax.ShapeDtypeStruct(aval.shape if axis is None else (length, *aval.shape), aval.dtype)
        for aval, axis in zip(avals, axes, strict=True)
    ]
    function = jax.vmap(jaxpr_as_fun(row), axes, axis_size=length)
    numbers = [_in_ir(var) for var in row.jaxpr.invars if not is_extended(var)]
    with compat.wide_numbers(numbers):
        return jax.make_jaxpr(function)(*shapes)


# ------------------------------------------------------------------------- which equations are late


def _late(whole: Jaxpr, carried: int, *, products: bool) -> tuple[int, ...]:
    """The equations, by place, that are done after the loop.

    What joins values first stays: one value is stacked then, not several.
    """
    alone = _only_for_rows(whole, carried)
    stays = [eqn for i, eqn in enumerate(whole.eqns) if i not in alone]
    made, late = set[Var](), list[int]()
    for i in sorted(alone):
        eqn = whole.eqns[i]
        joins = eqn.primitive.name == "concatenate"
        may_begin = "dot_general" in _names(eqn) if products else not joins
        follows = may_begin or not made.isdisjoint(_variables(eqn.invars))
        if follows and not any(_is_same(eqn, other) for other in stays):
            late.append(i)
            made.update(eqn.outvars)
    return tuple(late)


def _only_for_rows(whole: Jaxpr, carried: int) -> set[int]:
    """The equations, by place, that stacked results need, and nothing else."""
    users: dict[Var, list[int]] = {}
    for i, eqn in enumerate(whole.eqns):
        for var in _variables(eqn.invars):
            users.setdefault(var, []).append(i)
    carry = set(_variables(whole.outvars[:carried]))
    rows = set(_variables(whole.outvars[carried:]))
    found: set[int] = set()
    for i in reversed(range(len(whole.eqns))):
        made = whole.eqns[i].outvars
        after = [user for var in made for user in users.get(var, ())]
        is_needed = bool(after) or not rows.isdisjoint(made)
        if is_needed and found.issuperset(after) and carry.isdisjoint(made):
            found |= {i} if _can_be_late(whole.eqns[i]) else set()
    return found


def _is_same(one: JaxprEqn, other: JaxprEqn) -> bool:
    """Whether one computes what the other does: what is carried may be stacked, too."""
    alike = one.primitive is other.primitive and len(one.invars) == len(other.invars)
    same = alike and all(a is b for a, b in zip(one.invars, other.invars, strict=True))
    return same and one.params == other.params


def _can_be_late(eqn: JaxprEqn) -> bool:
    keys = any(map(is_extended, (*eqn.invars, *eqn.outvars)))
    return not keys and _names(eqn).isdisjoint(STAYS)


def _names(eqn: JaxprEqn) -> frozenset[str]:
    """The primitives of an equation, inside it too."""
    inner = (primitives(each) for each in jaxprs_in_params(eqn.params))
    return frozenset({eqn.primitive.name}).union(*inner)


def _border(whole: Jaxpr, late: Sequence[int], given: set[Var]) -> tuple[set[int], list[Var]]:
    """What is computed again after the loop, and what is stacked for it."""
    maker = {var: i for i, eqn in enumerate(whole.eqns) for var in eqn.outvars}
    again: set[int] = set()
    while True:
        border = _needed(whole, (*late, *again), given)
        more = {maker[var] for var in border if var in maker}
        cheap = {i for i in more if _is_cheap(whole.eqns[i], given.union(border))}
        if not cheap:
            return again, border
        again |= cheap


def _needed(whole: Jaxpr, places: Sequence[int], given: set[Var]) -> list[Var]:
    """What the equations of ``places`` use and do not make, each once."""
    made = _made(whole, places)
    used = (var for i in sorted(places) for var in _variables(whole.eqns[i].invars))
    return [var for var in dict.fromkeys(used) if var not in made and var not in given]


def _made(whole: Jaxpr, places: Sequence[int]) -> set[Var]:
    return {var for i in places for var in whole.eqns[i].outvars}


def _is_cheap(eqn: JaxprEqn, there: set[Var]) -> bool:
    """Whether a value is made of less than it has, and fast."""
    more = [var for var in dict.fromkeys(_variables(eqn.invars)) if var not in there]
    return eqn.primitive.name in CHEAP and at_most(_elements(more) + 1, _elements(eqn.outvars))


def _is_worth(
    whole: Jaxpr, places: Sequence[int], border: Sequence[Var], results: Iterable[Var], length: int
) -> bool:
    """Whether not much more is stacked than the results are, and no value is very large."""
    most = MOST_LARGER * _elements(results)
    values = (_elements([var]) for var in _made(whole, places))
    return at_most(_elements(border), most) and all(
        at_most(size, most) or at_most(size * length, MOST_AT_ONCE) for size in values
    )


def _variables(atoms: Iterable[object]) -> list[Var]:
    return [atom for atom in atoms if isinstance(atom, Var)]


def _elements(variables: Iterable[Var]) -> int:
    return sum(math.prod(_aval(var).shape) for var in variables)


def _in_ir(var: Var) -> Aval:
    return Aval(tuple(_aval(var).shape), _aval(var).dtype)


def _aval(var: Var) -> ShapedArray:
    assert isinstance(var.aval, ShapedArray)
    return var.aval
