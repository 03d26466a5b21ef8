"""What differs between the versions of JAX that are supported, 0.8 to 0.12."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun
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
