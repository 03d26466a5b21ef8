"""The table of lowering rules: primitive to function of nodes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np

from fnckpt.ir.fold import folded
from fnckpt.ir.graph import Attr, Aval, Node, Origin
from fnckpt.ir.operators import apply, constant
from fnckpt.ir.sizes import all_known, is_known
from fnckpt.ir.table import enters

INT32 = np.dtype(np.int32)

Rule = Callable[..., "Value | Sequence[Value]"]

RULES: dict[str, Rule] = {}

# The rules of primitives whose inputs or results hold complex numbers.
COMPLEX_RULES: dict[str, Rule] = {}

# The rules of primitives that take PRNG keys; they get the equation and the keys' data.
KEY_RULES: dict[str, Rule] = {}

# Primitives that hold jaxprs and pass values on as they are, complex numbers and PRNG keys too.
CALLS: set[str] = set()

# What has no rule and why; known by name, unlike a primitive that nobody has looked at.
REFUSED: dict[str, str] = {}

# What costs much more than its result is large: computed at export from weights alone, too.
FACTORIZATIONS: set[str] = set()

# What tells a compiler how to place or schedule, and nothing of the values.
WITHOUT_MEANING = frozenset(
    {
        "accuracy",
        "indices_are_sorted",
        "out_sharding",
        "precision",
        "sharding",
        "unique_indices",
        "use_magma",
    }
)


class Refusal(Exception):
    """Raised by a rule: this equation cannot be lowered; the message is reason and way out."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A complex value while lowering: a graph knows real numbers only."""

    real: Node
    imag: Node

    @property
    def aval(self) -> Aval:
        """The shape, with the complex dtype that is as wide as two of ``real``."""
        return Aval(self.real.aval.shape, np.result_type(self.real.aval.dtype, np.complex64))


Value = Node | Pair


def part_of(aval: Aval) -> Aval:
    """The aval of the real part of a complex one."""
    return Aval(aval.shape, np.real(np.zeros((), aval.dtype)).dtype)


class Call(Protocol):
    """Lowers an inner jaxpr in place of the equation that holds it.

    ``keep_loops``: where the target has loops, those in it stay loops however short they are.
    """

    def __call__(
        self, jaxpr: object, args: Sequence[Value], *, keep_loops: bool = False
    ) -> tuple[Value, ...]: ...


@dataclass(frozen=True)
class Site:
    """The equation that a rule lowers.

    Attributes:
      results: shape and dtype of each of its results.
      origin: its scope and source line, stamped on every node that the rule makes.
      call: ``call(jaxpr, args)`` lowers a jaxpr that the equation holds.
      max_unroll: how many copies of a loop's body may be written.
      loops: whether the target has loops and branches, so that those stay what they are.
      recurrent: whether a loop that is a gated recurrent cell stays a loop, however short.
      keeps_weights: whether nothing may be computed of weights at export.
    """

    results: tuple[Aval, ...]
    origin: Origin
    call: Call
    max_unroll: int
    loops: bool = True
    recurrent: bool = False
    keeps_weights: bool = False

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

    def sizes(self, values: Sequence[int], dtype: np.dtype = INT32) -> Node:
        """A vector of sizes: a constant where all are known."""
        if all_known(values):
            return constant(np.array(values, dtype))
        return self.apply("Sizes", sizes=ints(values), dtype=np.dtype(dtype))

    def cast(self, x: Node, dtype: np.dtype) -> Node:
        """``x`` as ``dtype``."""
        return x if x.aval.dtype == dtype else self.apply("Cast", x, dtype=np.dtype(dtype))

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        """The elements of ``x`` as ``shape``."""
        return x if x.aval.shape == tuple(shape) else self.apply("Reshape", x, shape=ints(shape))

    def transpose(self, x: Node, perm: Sequence[int]) -> Node:
        """``x`` with axis ``i`` taken from axis ``perm[i]``."""
        plain = tuple(perm) == tuple(range(len(perm)))
        return x if plain else self.apply("Transpose", x, perm=ints(perm))


def ints(numbers: Sequence[int]) -> tuple[int, ...]:
    """Python's own integers, as JAX's parameters hold some of numpy; symbolic sizes stay."""
    return tuple(int(number) if is_known(number) else number for number in numbers)


def lowers(*primitives: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of ``primitives``.

    It gets a ``Site``, the nodes of the inputs, and the primitive's parameters as keywords, but
    for those ``WITHOUT_MEANING`` that it does not ask for.
    """
    return enters(RULES, *primitives)


def lowers_complex(*primitives: str) -> Callable[[Rule], Rule]:
    """As ``lowers``, for equations with complex inputs or results; such a value is a ``Pair``."""
    return enters(COMPLEX_RULES, *primitives)


def lowers_factorization(*primitives: str) -> Callable[[Rule], Rule]:
    """As ``lowers`` and ``lowers_complex``; JAX computes it where only weights are involved."""
    FACTORIZATIONS.update(primitives)

    def register(rule: Rule) -> Rule:
        return lowers_complex(*primitives)(lowers(*primitives)(rule))

    return register


def lowers_keys(*primitives: str) -> Callable[[Rule], Rule]:
    """As ``lowers``, for equations with PRNG keys: ``rule(site, eqn, *inputs)``."""
    return enters(KEY_RULES, *primitives)


def lowers_call(*primitives: str) -> Callable[[Rule], Rule]:
    """As ``lowers``, for primitives that hold jaxprs; their inputs may be any ``Value``."""
    CALLS.update(primitives)
    return enters(RULES, *primitives)


def refuses(reason: str, *primitives: str) -> None:
    """Say why ``primitives`` have no rule, and what to do instead."""
    for name in primitives:
        if name in RULES or name in REFUSED:
            raise ValueError(f"{name} is already lowered or refused")
        REFUSED[name] = reason


@cache
def _accepted(rule: Rule) -> frozenset[str] | None:
    """The keywords that a rule knows; None where it takes any. Asking costs more than lowering."""
    parameters = inspect.signature(rule).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return None
    return frozenset(parameters)


def arguments(rule: Rule, params: Mapping[str, object]) -> dict[str, object]:
    """The keywords that ``rule`` is called with.

    Raises:
      Refusal: a parameter that the rule does not know; a newer JAX may have added it, and then
        it may mean anything.
    """
    accepted = _accepted(rule)
    if accepted is None:
        return {name: _plain(value) for name, value in params.items()}
    unknown = [name for name in params if name not in accepted and name not in WITHOUT_MEANING]
    if unknown:
        raise Refusal(
            f"its parameter {', '.join(unknown)} is not known to this version of fnckpt; "
            "use an older JAX or a newer fnckpt"
        )
    return {name: _plain(value) for name, value in params.items() if name in accepted}


def _plain(value: object) -> object:
    """Python's integers in place of numpy's: JAX 0.8 leaves those of a convolution's padding."""
    if isinstance(value, np.integer):
        return int(value)
    if type(value) is tuple or type(value) is list:
        return tuple(map(_plain, value))
    return value
