"""How much a loop is, known from its jaxpr: equations, and trips where nothing unknown decides."""

from collections.abc import Sequence
from functools import lru_cache

import jax.core
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Var, jaxprs_in_params

from fnckpt.ir.lowering import compat
from fnckpt.ir.lowering.known import is_extended, known_value
from fnckpt.ir.lowering.registry import Value
from fnckpt.ir.sizes import all_known, is_known

MOST_TRIPS = 1 << 20  # that are counted


def equations(jaxpr: object) -> int:
    """The equations of a jaxpr with those inside, a scan's for each of its trips."""
    whole = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    assert isinstance(whole, Jaxpr)
    return _counted(whole)


@lru_cache(maxsize=4096)
def _counted(jaxpr: Jaxpr) -> int:
    count = 0
    for eqn in jaxpr.eqns:
        inner = sum(_counted(each) for each in jaxprs_in_params(eqn.params))
        length = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        count += 1 + inner * (length if is_known(length) else 1)
    return count


def primitives(jaxpr: object) -> frozenset[str]:
    """The names of the primitives among the equations of a jaxpr, and inside them."""
    whole = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    assert isinstance(whole, Jaxpr)
    return _primitives(whole)


@lru_cache(maxsize=4096)
def _primitives(jaxpr: Jaxpr) -> frozenset[str]:
    own = frozenset(eqn.primitive.name for eqn in jaxpr.eqns)
    return own.union(*(_primitives(j) for eqn in jaxpr.eqns for j in jaxprs_in_params(eqn.params)))


def holds_loops(jaxpr: object) -> bool:
    """Whether a loop is among the equations of a jaxpr, or inside them."""
    return not primitives(jaxpr).isdisjoint({"scan", "while"})


def has_gates(jaxpr: object) -> bool:
    """Whether a body may be a gated recurrent cell: products, and both functions of its gates."""
    return primitives(jaxpr) >= {"dot_general", "logistic", "tanh"}


def _depends_on_sizes(closed: ClosedJaxpr) -> bool:
    """Whether an open size is among the values or their shapes; then JAX does not compute it."""
    return _holds_sizes(closed.jaxpr)


@lru_cache(maxsize=4096)
def _holds_sizes(jaxpr: Jaxpr) -> bool:
    return any(
        eqn.primitive.name == "dim_as_value"
        or any(map(_is_open, eqn.outvars))
        or any(map(_holds_sizes, jaxprs_in_params(eqn.params)))
        for eqn in jaxpr.eqns
    )


def _is_open(atom: Var) -> bool:
    return isinstance(atom.aval, jax.core.ShapedArray) and not all_known(atom.aval.shape)


def known_trips(
    cond: object,
    body: object,
    of_cond: Sequence[Value],
    of_body: Sequence[Value],
    carry: Sequence[Value],
    *,
    weights: bool,
) -> int | None:
    """How often a while loop runs; None where that depends on an input.

    Where it depends on a weight, only if ``weights`` count as known. Only what the condition
    depends on is computed, through any number of trips.
    """
    assert isinstance(cond, ClosedJaxpr)
    assert isinstance(body, ClosedJaxpr)
    counting = compat.counting_part(cond, body, len(of_cond), len(of_body))
    if counting is None or _depends_on_sizes(counting.cond) or _depends_on_sizes(counting.body):
        return None
    values = [
        v for v, used in zip((*of_cond, *of_body, *carry), counting.used, strict=True) if used
    ]
    arrays = [known_value(value, weights=weights) for value in values]
    given = [array for array in arrays if array is not None]
    atoms = (*cond.jaxpr.invars, *body.jaxpr.invars)
    if len(given) < len(arrays) or any(map(is_extended, atoms)) or cond.out_avals[0].shape:
        return None
    trips = counting.trips([np.asarray(array) for array in given], MOST_TRIPS)
    return None if trips >= MOST_TRIPS else trips
