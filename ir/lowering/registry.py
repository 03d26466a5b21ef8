"""The table of lowering rules: primitive to function of nodes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fnckpt.ir.fold import folded
from fnckpt.ir.graph import Attr, Aval, Node, Origin
from fnckpt.ir.operators import apply, constant

Rule = Callable[..., Node | Sequence[Node]]

RULES: dict[str, Rule] = {}

# What tells a compiler how to place or schedule, and nothing of the values.
WITHOUT_MEANING = frozenset(
    {"accuracy", "out_sharding", "precision", "sharding", "indices_are_sorted", "unique_indices"}
)


class Refusal(Exception):
    """Raised by a rule: this equation cannot be lowered; the message is reason and way out."""


class Call(Protocol):
    """Lowers an inner jaxpr in place of the equation that holds it."""

    def __call__(self, jaxpr: object, args: Sequence[Node]) -> tuple[Node, ...]: ...


@dataclass(frozen=True)
class Site:
    """The equation that a rule lowers.

    Attributes:
      results: shape and dtype of each of its results.
      origin: its scope and source line, stamped on every node that the rule makes.
      call: ``call(jaxpr, args)`` lowers a jaxpr that the equation holds.
      max_unroll: how many copies of a loop's body may be written.
    """

    results: tuple[Aval, ...]
    origin: Origin
    call: Call
    max_unroll: int

    @property
    def aval(self) -> Aval:
        """The shape and dtype of the one result."""
        (aval,) = self.results
        return aval

    def apply(self, op: str, *inputs: Node, **attrs: Attr) -> Node:
        """The operator ``op`` on ``inputs``, computed now where all of them are constants."""
        return folded(apply(op, *inputs, origin=self.origin, **attrs))

    def constant(self, value: np.ndarray | float, like: Node) -> Node:
        """``value`` as a constant of the dtype of ``like``."""
        return constant(value, like.aval.dtype)

    def cast(self, x: Node, dtype: np.dtype) -> Node:
        """``x`` as ``dtype``."""
        return x if x.aval.dtype == dtype else self.apply("Cast", x, dtype=dtype)

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        """The elements of ``x`` as ``shape``."""
        return x if x.aval.shape == tuple(shape) else self.apply("Reshape", x, shape=tuple(shape))

    def transpose(self, x: Node, perm: Sequence[int]) -> Node:
        """``x`` with axis ``i`` taken from axis ``perm[i]``."""
        plain = tuple(perm) == tuple(range(len(perm)))
        return x if plain else self.apply("Transpose", x, perm=tuple(perm))


def lowers(*primitives: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of ``primitives``.

    It gets a ``Site``, the nodes of the inputs, and the primitive's parameters as keywords, but
    for those ``WITHOUT_MEANING`` that it does not ask for.
    """

    def register(rule: Rule) -> Rule:
        for name in primitives:
            if name in RULES:
                raise ValueError(f"{name} is already lowered by {RULES[name].__qualname__}")
            RULES[name] = rule
        return rule

    return register


def arguments(rule: Rule, params: Mapping[str, object]) -> dict[str, object]:
    """The keywords that ``rule`` is called with.

    Raises:
      Refusal: a parameter that the rule does not know; a newer JAX may have added it, and then
        it may mean anything.
    """
    accepted = inspect.signature(rule).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return dict(params)
    unknown = [name for name in params if name not in accepted and name not in WITHOUT_MEANING]
    if unknown:
        raise Refusal(
            f"its parameter {', '.join(unknown)} is not known to this version of fnckpt; "
            "use an older JAX or a newer fnckpt"
        )
    return {name: value for name, value in params.items() if name in accepted}
