"""JAX's own harnesses, for each primitive with its parameters and dtypes, as graphs to judge."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import jax
import ml_dtypes
import numpy as np
from jax._src.internal_test_util import test_harnesses

from fnckpt.exporting.export import trace
from fnckpt.ir.border import as_complex, as_real
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.lowering import compat
from fnckpt.ir.passes.pipeline import optimized
from tests.ir.harnesses.factors import INVARIANTS

# The greatest difference, of max(1, the greatest magnitude), that a dtype's rounding allows.
TOLERANCES = {
    np.dtype(np.float64): 1e-12,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float16): 4e-3,
    np.dtype(ml_dtypes.bfloat16): 3e-2,
}


class Source(Protocol):
    """What JAX calls a ``Harness``."""

    group_name: str
    fullname: str
    dtype: object

    def dyn_args_maker(self, rng: np.random.RandomState) -> Sequence[object]: ...

    def dyn_fun(self, *args: object) -> object: ...

    def filter(self, device_under_test: str, *, include_jax_unimpl: bool) -> bool: ...


@dataclass(frozen=True, eq=False)
class Harness:
    """One of JAX's harnesses: a function, what it is run on, and its family."""

    name: str
    family: str
    source: Source

    def arguments(self) -> tuple[np.ndarray, ...]:
        """The arrays, the same at every call."""
        made = self.source.dyn_args_maker(np.random.RandomState(0))
        return tuple(np.asarray(x) for x in made)

    def bits(self) -> AbstractContextManager[object]:
        """64-bit numbers are enabled where an argument, or what the harness is for, has them."""
        dtypes = [np.dtype(x.dtype) for x in self.arguments()]
        if isinstance(self.source.dtype, type | np.dtype):
            dtypes.append(np.dtype(self.source.dtype))
        return compat.enable_x64() if any(map(compat.is_wide, dtypes)) else nullcontext()

    def graph(self, *, loops: bool = True) -> FuncGraph:
        """What the harness lowers to, after all passes; without ``loops`` these are written out.

        Raises:
          NotLowered: it cannot be lowered.
        """
        arguments = self.arguments()
        with self.bits():
            function = lambda _, *xs: self.source.dyn_fun(*xs)  # noqa: E731
            return optimized(trace((), function, arguments, name="harness", loops=loops))

    def inputs(self) -> list[np.ndarray]:
        """The arrays as a file takes them."""
        with self.bits():
            return [as_real(np.asarray(jax.numpy.asarray(x))) for x in self.arguments()]

    def expected(self) -> list[np.ndarray]:
        """What JAX computes."""
        with self.bits():
            results = self.source.dyn_fun(*map(jax.numpy.asarray, self.arguments()))
            return [np.asarray(leaf) for leaf in jax.tree.leaves(results)]


def harnesses() -> list[Harness]:
    """Those that JAX itself runs on a CPU, each under a name of its own."""
    found = list(_admitted(test_harnesses.all_harnesses))
    counts, seen = Counter(source.fullname for source in found), Counter[str]()
    result: list[Harness] = []
    for source in found:
        name = source.fullname
        if counts[name] > 1:
            seen[name] += 1
            name = f"{name}#{seen[name]}"
        result.append(Harness(name, source.group_name, source))
    return result


def _admitted(sources: Sequence[Source]) -> Iterator[Source]:
    return (each for each in sources if each.filter("cpu", include_jax_unimpl=False))


def difference(harness: Harness, graph: FuncGraph, found: Sequence[np.ndarray]) -> str | None:
    """Where what a file computed is not what JAX does, in a line; None where it is equal."""
    whole = [as_complex(x) if i in graph.border.outputs else x for i, x in enumerate(found)]
    wanted = harness.expected()
    text = unequal(whole, wanted)
    invariant = INVARIANTS.get(harness.family)
    if text is None or invariant is None or len(whole) != len(wanted):
        return text
    (a, *_) = harness.arguments()
    return unequal(invariant(a, whole), invariant(a, wanted))


def unequal(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> str | None:
    """Where arrays differ by more than rounding, in a line; None where they are equal."""
    if len(found) != len(wanted):
        return f"{len(found)} results for {len(wanted)}"
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if text := _difference(a, b):
            return f"result {i}: {text}"
    return None


def _difference(a: np.ndarray, b: np.ndarray) -> str | None:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype}{list(a.shape)} for {b.dtype}{list(b.shape)}"
    if b.dtype.kind in "biu":
        count = int(np.sum(a != b))
        return f"{count} of {b.size} differ" if count else None
    limit = TOLERANCES.get(np.real(b).dtype, 1e-1)  # float8 has three digits, of base 2
    wide = np.complex128 if b.dtype.kind == "c" else np.float64
    x, y = a.astype(wide), b.astype(wide)
    for test in (np.isnan, np.isinf):
        count = int(np.sum(test(x) != test(y)))
        if count:
            return f"{count} of {b.size} are not {test.__name__} alike"
    if b.dtype.kind != "c" and not np.array_equal(np.sign(x[np.isinf(y)]), np.sign(y[np.isinf(y)])):
        return "an infinity has another sign"
    finite = np.isfinite(y)
    scale = np.max(np.abs(y[finite]), initial=1.0)
    error = np.max(np.abs(x[finite] - y[finite]), initial=0.0) / scale
    return None if error <= limit else f"differs by {error:.3g} of {scale:.3g}"


Choice = Callable[[Harness], bool]
