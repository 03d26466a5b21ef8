"""Branches and loops: operators whose attributes are graphs.

The graphs are closed: captured values come first among their inputs and are the same in each trip,
then what is carried from trip to trip. The evaluator gives the graphs as functions of arrays.
"""

from collections.abc import Iterable
from typing import Protocol

import jax
import numpy as np

from fnckpt.ir.graph import Aval, FuncGraph
from fnckpt.ir.operators.arrays import JNP, LAX
from fnckpt.ir.operators.table import operator

Avals = tuple[Aval, ...]


class Function(Protocol):
    """A graph as a function of arrays, with the shapes and dtypes of its results.

    ``traced``: JAX compiles it, so that what runs it has to be JAX's own branch or loop.
    """

    results: Avals
    traced: bool

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]: ...


BOOL, INT32 = Aval((), np.dtype(bool)), Aval((), np.dtype(np.int32))


def _takes(what: str, graph: FuncGraph, given: Avals) -> None:
    found = tuple(parameter.aval for parameter in graph.inputs)
    if found != given:
        raise ValueError(f"{what} takes {_text(found)}, it is given {_text(given)}")


def _gives(what: str, graph: FuncGraph, wanted: Avals) -> None:
    found = results_of(graph)
    if found != wanted:
        raise ValueError(f"{what} gives {_text(found)}, it must give {_text(wanted)}")


def _text(avals: Avals) -> str:
    return ", ".join(map(str, avals)) or "nothing"


def results_of(graph: FuncGraph) -> Avals:
    """The shapes and dtypes of a graph's outputs."""
    return tuple(node.aval for node in graph.outputs)


def _cond_avals(index: Aval, *operands: Aval, branches: tuple[FuncGraph, ...]) -> Avals:
    if index != INT32:
        raise ValueError(f"Cond chooses by {INT32}, it is given {index}")
    wanted = results_of(branches[0])
    for number, branch in enumerate(branches):
        _takes(f"the branch {number}", branch, operands)
        _gives(f"the branch {number}", branch, wanted)
    return wanted


@operator("Cond", _cond_avals)
def cond(
    index: np.ndarray, *operands: np.ndarray, branches: tuple[Function, ...]
) -> tuple[np.ndarray, ...]:
    """The results of the branch number ``index``; the nearest one where there is no such branch."""
    if isinstance(index, jax.Array):
        if len(branches) == 2:
            return tuple(LAX.cond(index > 0, branches[1], branches[0], *operands))
        return tuple(LAX.switch(index, branches, *operands))
    return branches[min(max(int(index), 0), len(branches) - 1)](*operands)


def _while_avals(*inputs: Aval, cond: FuncGraph, body: FuncGraph, captured: int) -> Avals:
    _takes("the condition", cond, inputs)
    _gives("the condition", cond, (BOOL,))
    _takes("the body", body, inputs)
    _gives("the body", body, inputs[captured:])
    return inputs[captured:]


@operator("While", _while_avals)
def while_loop(
    *inputs: np.ndarray, cond: Function, body: Function, captured: int
) -> tuple[np.ndarray, ...]:
    """What is carried, put through ``body`` as long as ``cond`` holds.

    Both take the ``captured`` first inputs and what is carried.
    """
    same, carried = inputs[:captured], inputs[captured:]
    if body.traced:
        found = LAX.while_loop(
            lambda carry: JNP.asarray(cond(*same, *carry)[0]),
            lambda carry: _jax_arrays(body(*same, *carry)),
            _jax_arrays(carried),
        )
        return tuple(found)
    while cond(*same, *carried)[0]:
        carried = body(*same, *carried)
    return carried


def _scan_avals(
    *inputs: Aval, body: FuncGraph, captured: int, carried: int, length: int, reverse: bool
) -> Avals:
    first = captured + carried
    for stacked in inputs[first:]:
        if not stacked.shape or stacked.shape[0] != length:
            raise ValueError(f"Scan of length {length} takes {stacked}")
    rows = tuple(Aval(each.shape[1:], each.dtype) for each in inputs[first:])
    _takes("the body", body, (*inputs[:first], *rows))
    results = results_of(body)
    if results[:carried] != inputs[captured:first]:
        _gives("the body", body, (*inputs[captured:first], *results[carried:]))
    stacks = (Aval((length, *each.shape), each.dtype) for each in results[carried:])
    return (*inputs[captured:first], *stacks)


@operator("Scan", _scan_avals)
def scan(
    *inputs: np.ndarray, body: Function, captured: int, carried: int, length: int, reverse: bool
) -> tuple[np.ndarray, ...]:
    """``body`` for each row of the last inputs, from the last one where ``reverse``.

    ``body`` takes the ``captured`` first inputs, the ``carried`` values, and a row of each other
    input; it gives the values to carry, and a row of each stack of results. As ``LAX.scan``.
    """
    first = captured + carried
    same, values, stacked = inputs[:captured], inputs[captured:first], inputs[first:]
    if body.traced:
        return _scanned(same, values, stacked, body, length, reverse)
    rows = body.results[carried:]
    stacks = tuple(np.empty((length, *row.shape), row.dtype) for row in rows)
    for i in reversed(range(length)) if reverse else range(length):
        results = body(*same, *values, *(each[i] for each in stacked))
        values = results[:carried]
        for stack, row in zip(stacks, results[carried:], strict=True):
            stack[i] = row
    return (*values, *stacks)


def _jax_arrays(arrays: Iterable[np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(map(JNP.asarray, arrays))


def _scanned(
    same: tuple[np.ndarray, ...],
    values: tuple[np.ndarray, ...],
    stacked: tuple[np.ndarray, ...],
    body: Function,
    length: int,
    reverse: bool,
) -> tuple[np.ndarray, ...]:
    """``scan`` as JAX's."""

    def step(carry: tuple[np.ndarray, ...], row: tuple[np.ndarray, ...]) -> object:
        results = _jax_arrays(body(*same, *carry, *row))
        return results[: len(carry)], results[len(carry) :]

    carried, stacks = LAX.scan(
        step, _jax_arrays(values), _jax_arrays(stacked), length, reverse=reverse
    )
    return (*carried, *stacks)
