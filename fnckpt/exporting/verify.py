"""A file run in its runtime, before it gets its name, and compared with JAX."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from fnckpt.errors import VerificationError
from fnckpt.exporting.call import Call
from fnckpt.exporting.narrowing import greatest_error
from fnckpt.exporting.runtimes import RUNTIMES
from fnckpt.exporting.tracing import Traced, is_array, traced
from fnckpt.exporting.writing import write
from fnckpt.ir.graph import Aval, FuncGraph
from fnckpt.ir.lowering.known import PRNGS
from fnckpt.ir.sizes import Numbers, computed, symbols
from fnckpt.ir.targets.target import Encoded, Target

# The greatest difference over the greatest number of an output, by the narrowest dtype inside; of
# integers and bools, the share of the elements that differ.
TOLERANCES = {"bfloat16": 1e-1, "float16": 2e-2, "float32": 1e-4, "float64": 1e-8}
SMALLEST_SIZES = (2, 3, 5, 7, 4, 6, 8, 9)  # of symbols, where the sample has no arrays

PyTree = object


@dataclass(frozen=True)
class Verified:
    """What the runtime made of a file.

    Attributes:
      runtime: its name.
      given: ``"the sample"`` or ``"random inputs"``.
      errors: of each output by name: the greatest difference from JAX over the greatest number;
        of integers and bools, the share of the elements that differ.
      tolerance: what is allowed.
    """

    runtime: str
    given: str
    errors: Mapping[str, float]
    tolerance: float

    @property
    def error(self) -> float:
        """The error of the worst output."""
        return max(self.errors.values(), default=0.0)

    def __str__(self) -> str:
        """Like ``onnxruntime on the sample, largest error 1.2e-07``."""
        return f"{self.runtime} on {self.given}, largest error {self.error:.1e}"


@dataclass(frozen=True)
class Subject:
    """What is written, and how it came about.

    Attributes:
      call: the function, its parameters and inputs.
      graphs: the graph after each stage: lowered, every pass, legalized; the last is the file's.
      goal: the format.
      encode: the file of a graph.
      file_name: what the file will be called, without a folder.
    """

    call: Call
    graphs: Sequence[tuple[str, FuncGraph]]
    goal: Target
    encode: Callable[[FuncGraph], Encoded]
    file_name: str

    @property
    def graph(self) -> FuncGraph:
        """The graph of the file."""
        return self.graphs[-1][1]


@dataclass(frozen=True)
class Trial:
    """Inputs, and the outputs that JAX computes from them.

    Attributes:
      traced: the function for inputs of these sizes.
      arrays: the weights.
      leaves: the inputs as JAX takes them, and
      feeds: as the file does.
      wanted: the outputs as the file should give them.
    """

    traced: Traced
    arrays: Sequence[object]
    leaves: Sequence[object]
    feeds: Sequence[np.ndarray]
    wanted: Sequence[np.ndarray]


def verified(subject: Subject, tolerance: float | None = None) -> Verified:
    """Run the file of ``subject`` and compare every output with that of JAX.

    Args:
      subject: the file's graph and function.
      tolerance: of each output; None takes ``TOLERANCES`` of the narrowest dtype inside.

    Raises:
      VerificationError: an output differs; the message names the first node that does.
    """
    from fnckpt.exporting.culprit import culprit

    outcome, trial = measured(subject, tolerance)
    if not outcome.error <= outcome.tolerance:
        bad = {n: error for n, error in outcome.errors.items() if not error <= outcome.tolerance}
        found = ", ".join(f"{name} by {error:.2g}" for name, error in bad.items())
        raise VerificationError(
            f"{subject.graph.name}: {outcome.runtime} computes a different result for the "
            f"{subject.goal.name} file than JAX on {outcome.given}: {found}, allowed is "
            f"{outcome.tolerance:g}; nothing was written\n  {culprit(subject, trial, outcome)}"
        )
    return outcome


def measured(subject: Subject, tolerance: float | None = None) -> tuple[Verified, Trial]:
    """What the runtime makes of the file, and what it was given."""
    given, inputs = filled(subject.call.inputs)
    trial = _trial(subject, inputs)
    found = computed_by_runtime(subject, subject.graph, trial.feeds)
    errors = map(error_of, found, trial.wanted)
    names = subject.graph.output_names
    allowed = allowed_in(subject.graph) if tolerance is None else tolerance
    runtime = RUNTIMES[subject.goal.name][0]
    return Verified(runtime, given, dict(zip(names, errors, strict=True)), allowed), trial


def computed_by_runtime(
    subject: Subject, graph: FuncGraph, feeds: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The outputs of the file of ``graph``, which is written to a place that goes again."""
    encoded = subject.encode(graph)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, subject.file_name)
        path = path.with_name(f"{path.stem}{encoded.ending}{path.suffix}")
        write(path, encoded)
        return RUNTIMES[subject.goal.name][1](path, feeds)


def error_of(found: np.ndarray, wanted: np.ndarray) -> float:
    """How far an output is from what it should be; infinite where shape or kind differ."""
    if found.shape != wanted.shape or (found.dtype.kind in "biu") != (wanted.dtype.kind in "biu"):
        return float("inf")
    if wanted.dtype.kind in "biu":
        return float(np.mean(found != wanted)) if wanted.size else 0.0
    return greatest_error([found], [wanted])


def allowed_in(graph: FuncGraph) -> float:
    """The tolerance of the narrowest floating-point dtype in a graph."""
    avals = [aval for node in graph.cnodes() for aval in node.results]
    found = {aval.dtype.name for aval in (*avals, *(p.aval for p in graph.inputs))}
    return max((TOLERANCES[name] for name in found & set(TOLERANCES)), default=0.0)


def filled(inputs: Sequence[PyTree], batch: int | None = None) -> tuple[str, tuple[PyTree, ...]]:
    """The inputs as arrays, random ones where only a shape is given; and which they are.

    ``batch`` is for the symbols in the first size of the first shape.
    """
    leaves, structure = jax.tree.flatten(tuple(inputs))
    shapes = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    names = sorted({name for leaf in shapes for size in leaf.shape for name in symbols(size)})
    sizes = {n: SMALLEST_SIZES[i % len(SMALLEST_SIZES)] for i, n in enumerate(names)}
    if batch is not None and shapes and shapes[0].shape:
        sizes.update(dict.fromkeys(symbols(shapes[0].shape[0]), batch))
    rng, numbers = np.random.default_rng(0), Numbers(sizes)
    arrays = [
        _random(rng, leaf, numbers) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        for leaf in leaves
    ]
    return "random inputs" if shapes else "the sample", jax.tree.unflatten(structure, arrays)


def _random(rng: np.random.Generator, leaf: jax.ShapeDtypeStruct, numbers: Numbers) -> PyTree:
    """Normal numbers; of integers and bools 0 and 1, which are indices of almost anything."""
    shape = tuple(computed(size, numbers) for size in leaf.shape)
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key = jax.random.key(0, impl=PRNGS[str(leaf.dtype)])
        return jax.numpy.broadcast_to(key, shape)
    kind = np.dtype(leaf.dtype).kind
    if kind in "biu":
        return rng.integers(0, 2, shape).astype(leaf.dtype)
    if kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(leaf.dtype)
    return rng.normal(size=shape).astype(leaf.dtype)


def _trial(subject: Subject, inputs: Sequence[PyTree]) -> Trial:
    call = subject.call
    again = traced(call.params, call.apply_fn, inputs)
    arrays = [leaf for leaf in jax.tree.leaves(call.params) if is_array(leaf)]
    leaves = jax.tree.leaves(tuple(inputs))
    results = jax.jit(jaxpr_as_fun(again.closed))(*arrays, *leaves)
    feeds = [as_in_file(x, p.aval) for x, p in zip(leaves, subject.graph.inputs, strict=True)]
    outputs = zip(results, subject.graph.outputs, strict=True)
    return Trial(again, arrays, leaves, feeds, [as_in_file(x, node.aval) for x, node in outputs])


def as_in_file(value: object, aval: Aval) -> np.ndarray:
    """A value of JAX as a file holds it: complex numbers as pairs, keys as their data."""
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    if array.dtype.kind == "c" and aval.dtype.kind != "c":
        array = np.stack([np.real(array), np.imag(array)], axis=-1)
    return array.astype(aval.dtype, copy=False)
