"""What a conformance case is, and what it stands for: a graph, inputs, and what JAX computes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache

import jax
import ml_dtypes
import numpy as np

from fnckpt.exporting.export import trace
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.lowering import compat
from fnckpt.ir.passes.pipeline import optimized

PyTree = object

# The greatest difference, of max(1, the greatest magnitude), that a dtype's rounding allows.
TOLERANCES = {
    np.dtype(np.float64): 1e-12,
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float16): 4e-3,
    np.dtype(ml_dtypes.bfloat16): 3e-2,
}


@dataclass(frozen=True, eq=False)
class Case:
    """One behaviour.

    Attributes:
      name: unique, ``family: what``.
      fn: a pure function of the arrays.
      args: the arrays.
      tolerance: instead of the dtype's, where the operation itself loses more; say why beside it.
      cannot: for a target's name the reason, a regular expression, that it gives for refusing.
        The target ``"graph"`` is lowering itself.
      alike: False where a target without loops gets another graph than one that has them.
      partitionable: the layout of random numbers, ``jax_threefry_partitionable``.
    """

    name: str
    fn: Callable[..., PyTree]
    args: tuple[np.ndarray, ...]
    tolerance: float | None = None
    cannot: Mapping[str, str] = field(default_factory=dict)
    x64: bool = False
    alike: bool = True
    partitionable: bool = True

    @property
    def id(self) -> str:
        """The name, fit for a command line."""
        return self.name.replace(" ", "_")

    @contextmanager
    def bits(self) -> Iterator[None]:
        """64-bit numbers are enabled where an argument has them."""
        wide = self.x64 or any(compat.is_wide(x.dtype) for x in self.args)
        layout = jax.threefry_partitionable(self.partitionable)
        with compat.enable_x64() if wide else nullcontext(), layout:
            yield


@cache
def graph_of(case: Case, *, loops: bool = True) -> FuncGraph:
    """What ``case.fn`` lowers to, without any pass; without ``loops`` these are written out.

    Raises:
      NotLowered: it cannot be lowered.
    """
    with case.bits():
        return trace((), lambda _, *xs: case.fn(*xs), case.args, name="case", loops=loops)


def optimized_graph(case: Case, *, loops: bool = True) -> FuncGraph:
    """The graph that a target gets, verified before and after each pass."""
    return _optimized(case, loops or case.alike)


@cache
def _optimized(case: Case, loops: bool) -> FuncGraph:
    return optimized(graph_of(case, loops=loops), debug=True)


@cache
def expected(case: Case) -> tuple[np.ndarray, ...]:
    """What JAX computes, operation by operation."""
    with case.bits():
        results = case.fn(*map(jax.numpy.asarray, case.args))
        return tuple(np.asarray(leaf) for leaf in jax.tree.leaves(results))


def assert_close(case: Case, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> None:
    """Shapes, dtypes, NaNs and infinities are equal, and finite numbers within the tolerance."""
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        where = f"{case.name}, result {i}"
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{where}: {a.dtype}{a.shape}"
        if b.dtype.kind in "biu":
            np.testing.assert_array_equal(a, b, err_msg=where)
            continue
        limit = TOLERANCES[b.dtype] if case.tolerance is None else case.tolerance
        x, y = a.astype(np.float64), b.astype(np.float64)
        finite = np.isfinite(y)
        np.testing.assert_array_equal(np.where(finite, 0, x), np.where(finite, 0, y), where)
        assert np.isfinite(x[finite]).all(), f"{where}: not finite where JAX is"
        scale = np.max(np.abs(y[finite]), initial=1.0)
        error = np.max(np.abs(x[finite] - y[finite]), initial=0.0) / scale
        assert error <= limit, f"{where}: differs by {error:.3g} of {scale:.3g}, allowed {limit}"
