"""What differs between the versions of JAX that are supported, 0.8 to 0.12."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Primitive,
    jaxpr_as_fun,
    jaxprs_in_params,
)
from jax.interpreters import partial_eval

from fnckpt.ir.graph import Aval


def enable_x64() -> AbstractContextManager[object]:
    """In it, JAX keeps 64-bit numbers as they are."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return import_module("jax.experimental").enable_x64()


def is_wide(dtype: np.dtype) -> bool:
    """Whether JAX makes a narrower dtype of this one unless 64 bits are enabled."""
    return (dtype.kind in "iuf" and dtype.itemsize == 8) or dtype == np.complex128


def wide_numbers(values: Iterable[np.ndarray | Aval]) -> AbstractContextManager[object]:
    """Enables 64 bits where one of the values has them."""
    return enable_x64() if any(is_wide(value.dtype) for value in values) else nullcontext()


def bind(eqn: JaxprEqn, args: Sequence[jax.Array]) -> Sequence[jax.Array]:
    """The results of an equation, computed by JAX.

    Before 0.10 an equation's functions are arguments, and since then parameters like others.
    """
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    results = eqn.primitive.bind(*functions, *args, **params)
    return results if eqn.primitive.multiple_results else [results]


def without_dead(closed: ClosedJaxpr) -> ClosedJaxpr:
    """A jaxpr of the same arguments without the equations that no result and no effect needs."""
    every = [True] * len(closed.jaxpr.outvars)
    live, _ = partial_eval.dce_jaxpr(closed.jaxpr, every, instantiate=True)
    return ClosedJaxpr(live, closed.consts)


# What a function may raise that wants numbers where it is given a tracer.
NOT_TRACEABLE = (AttributeError, NotImplementedError, TypeError, ValueError)


def definition(eqn: JaxprEqn, known: Sequence[np.ndarray | None]) -> ClosedJaxpr | None:
    """What a primitive is in terms of others; None where it is not a function JAX can trace.

    A library's primitive is often a JAX function with rules of its own for batching or gradients.
    It is a function of what is not ``known``: some look at the values that are.
    """
    if not all(isinstance(var.aval, ShapedArray) for var in eqn.invars):
        return None
    for function in filter(None, (eqn.primitive.impl, _written_in_jax(eqn.primitive))):
        try:
            closed = traced(eqn, partial(function, **eqn.params), known)
        except NOT_TRACEABLE:
            continue
        if not _comes_back(eqn, closed.jaxpr):
            return closed
    return None


def _written_in_jax(primitive: Primitive) -> Callable[..., object] | None:
    """The JAX function that a primitive is for XLA, where it is one; JAX names it to nobody.

    That of the CPU may be a kernel, beside a function for every platform.
    """
    mlir = import_module("jax._src.interpreters.mlir")
    for table in (mlir._platform_specific_lowerings["cpu"], mlir._lowerings):
        entry = table.get(primitive)
        if entry is not None and isinstance(entry.rule, FunctionType):
            function = inspect.getclosurevars(entry.rule).nonlocals.get("fun")
            if function is not None:
                return function
    return None


def traced(
    eqn: JaxprEqn, function: Callable[..., object], known: Sequence[np.ndarray | None] = ()
) -> ClosedJaxpr:
    """The jaxpr of a function of what an equation takes and is not ``known``."""
    avals = [var.aval for var in eqn.invars if isinstance(var.aval, ShapedArray)]
    values = known or [None] * len(avals)
    rest = [aval for aval, value in zip(avals, values, strict=True) if value is None]
    with wide_numbers([Aval((), a.dtype) for a in avals if isinstance(a.dtype, np.dtype)]):
        given = [None if value is None else jax.numpy.asarray(value) for value in values]

        def of_the_rest(*arrays: jax.Array) -> object:
            left = iter(arrays)
            return function(*(next(left) if value is None else value for value in given))

        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in rest]
        return jax.make_jaxpr(of_the_rest)(*shapes)


def _comes_back(eqn: JaxprEqn, jaxpr: Jaxpr) -> bool:
    """Whether a definition holds the primitive again, of arrays of the same shapes.

    Of others it is a part, as where GMRES solves a small system by other means.
    """
    for each in jaxpr.eqns:
        if each.primitive is eqn.primitive and _shapes(each) == _shapes(eqn):
            return True
        if any(_comes_back(eqn, inner) for inner in jaxprs_in_params(each.params)):
            return True
    return False


def _shapes(eqn: JaxprEqn) -> list[tuple[object, object]]:
    avals = [var.aval for var in eqn.invars]
    return [(a.shape, a.dtype) for a in avals if isinstance(a, ShapedArray)]


@runtime_checkable
class Callback(Protocol):
    """What a callback's equation holds of the Python function."""

    callback_func: Callable[..., object]


def only_raises(branch: object) -> bool:
    """Whether a branch is there to raise an error of Equinox: ``error_if``, a solver's result."""
    assert isinstance(branch, ClosedJaxpr)
    functions = [eqn.params.get("callback") for eqn in branch.jaxpr.eqns]
    return any(
        isinstance(each, Callback) and each.callback_func.__module__ == "equinox._errors"
        for each in functions
    )


class Generator(Protocol):
    """What JAX keeps of a generator of random numbers: functions of one key's data."""

    key_shape: tuple[int, ...]

    def seed(self, seed: jax.Array) -> jax.Array: ...

    def split(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array: ...

    def random_bits(self, key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array: ...

    def fold_in(self, key: jax.Array, data: jax.Array) -> jax.Array: ...


@runtime_checkable
class KeyType(Protocol):
    """The dtype of PRNG keys, which keeps their generator."""

    _impl: Generator


def generator(aval: object) -> Generator:
    """The generator that an array of keys is of."""
    assert isinstance(aval, ShapedArray)
    assert isinstance(aval.dtype, KeyType)
    return aval.dtype._impl


class FlatTree(Protocol):
    """Where JAX 0.12 keeps how many leaves each group of arguments has."""

    def update(self, leaves: Sequence[object]) -> "FlatTree": ...

    def unpack(self) -> Iterable[Iterable[object]]: ...


def scan_counts(groups: FlatTree | None, count: int) -> tuple[int, int]:
    """How many of the ``count`` arguments of a scan are constants, and how many are carried."""
    assert groups is not None
    consts, carry, _ = (len(list(group)) for group in groups.update(range(count)).unpack())
    return consts, carry


class Flattened(Protocol):
    """JAX's ``PyTreeDef``, whose own name is no type."""

    def unflatten(self, leaves: Sequence[object]) -> Sequence[object]: ...


class HighPrimitive(Protocol):
    """What ``call_hi_primitive`` of JAX 0.12 holds."""

    in_tree: Flattened
    in_avals_flat: Sequence[Aval]

    def expand(self, *args: object) -> object: ...


def expanded(primitive: HighPrimitive) -> ClosedJaxpr:
    """The definition of a primitive that JAX keeps as an object, in terms of others."""

    def expand(*leaves: jax.Array) -> list[object]:
        return jax.tree.leaves(primitive.expand(*primitive.in_tree.unflatten(leaves)))

    avals = primitive.in_avals_flat
    with wide_numbers([Aval(tuple(a.shape), np.dtype(a.dtype)) for a in avals]):
        return jax.make_jaxpr(expand)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))


@dataclass(frozen=True)
class Counting:
    """The part of a while loop that its condition depends on.

    ``used`` says which of the condition's constants, the body's, and what is carried that is.
    """

    cond: ClosedJaxpr
    body: ClosedJaxpr
    used: Sequence[bool]
    of_cond: int
    of_body: int

    def trips(self, given: Sequence[np.ndarray], most: int) -> int:
        """The trips, at most ``most``, where the used values are ``given``."""
        consts, rest = given[: self.of_cond], given[self.of_cond :]
        body_consts, carry = rest[: self.of_body], rest[self.of_body :]
        cond, body = jaxpr_as_fun(self.cond), jaxpr_as_fun(self.body)

        def goes_on(state: tuple[jax.Array, Sequence[jax.Array]]) -> jax.Array:
            count, values = state
            return (count < most) & cond(*consts, *values)[0]

        def trip(
            state: tuple[jax.Array, Sequence[jax.Array]],
        ) -> tuple[jax.Array, Sequence[jax.Array]]:
            count, values = state
            return count + 1, body(*body_consts, *values)

        with jax.ensure_compile_time_eval(), wide_numbers(given):
            start = jax.numpy.int32(0), [jax.numpy.asarray(each) for each in carry]
            return int(jax.lax.while_loop(goes_on, trip, start)[0])


def counting_part(
    cond: ClosedJaxpr, body: ClosedJaxpr, of_cond: int, of_body: int
) -> Counting | None:
    """What a loop's condition depends on, through the body; None where the body has effects."""
    if cond.effects or body.effects:
        return None
    _, used_by_cond = partial_eval.dce_jaxpr(cond.jaxpr, [True])
    needed = list(used_by_cond[of_cond:])
    while True:
        _, used_by_body = partial_eval.dce_jaxpr(body.jaxpr, needed)
        more = [a or b for a, b in zip(needed, used_by_body[of_body:], strict=True)]
        if more == needed:
            break
        needed = more
    kept = [*used_by_body[:of_body], *needed]
    slim, _ = partial_eval.dce_jaxpr(body.jaxpr, needed, instantiate=kept)
    test, _ = partial_eval.dce_jaxpr(
        cond.jaxpr, [True], instantiate=[*used_by_cond[:of_cond], *needed]
    )
    return Counting(
        ClosedJaxpr(test, cond.consts),
        ClosedJaxpr(slim, body.consts),
        [*used_by_cond[:of_cond], *kept],
        sum(used_by_cond[:of_cond]),
        sum(kept[:of_body]),
    )
