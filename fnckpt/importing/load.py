"""``load_graph``: a file of a graph as a pure JAX function with its parameters."""

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.core
import jax.numpy
import numpy as np

from fnckpt.errors import UnsupportedError
from fnckpt.importing.names import KeyPath, leaf_at, nested, paths_of
from fnckpt.ir.graph import FuncGraph
from fnckpt.ir.sizes import is_symbolic
from fnckpt.ir.sources import SUFFIXES, format_of, reader
from fnckpt.ir.sources.mapping import stored
from fnckpt.ir.sources.source import Imported, Input, NotImported, Place, Source
from fnckpt.ir.sources.spelled import respelled
from fnckpt.ir.targets.foreign import content_of
from fnckpt.ir.targets.target import Summary, ValueSummary
from fnckpt.ir.traced import TracedFunction, canonical
from fnckpt.picture.facts import facts

Array = jax.Array | np.ndarray
Params = dict[str, "np.ndarray | Params"]
PyTree = object
Shape = tuple[int, ...]

WIDE = ("float64", "int64", "uint64")
MOST_KEPT = 16  # graphs, one for each combination of shapes


class File(Protocol):
    """What is read where a path could stand: an open file."""

    def read(self) -> bytes: ...


class Apply(Protocol):
    """``apply_fn(params, *inputs)``: the one output, or a tuple of them."""

    def __call__(self, params: PyTree, *inputs: Array) -> Any: ...


class Unpacked(NamedTuple):
    """What a loaded graph is as a tuple.

    Attributes:
      params: its weights, a nested dict by their names, which are split at the dots.
      apply_fn: ``apply_fn(params, *inputs)``, pure: to be compiled, derived, mapped.
    """

    params: Params
    apply_fn: Apply


@dataclass(frozen=True)
class About:
    """What a loaded graph knows beside: its file's name, its source, and what is narrower."""

    name: str
    source: Source
    narrowed: tuple[str, ...]


class LoadedGraph(Unpacked):
    """A graph of a file as a function; ``params, apply_fn = load_graph(...)`` unpacks it."""

    _about: About

    @classmethod
    def of(cls, params: Params, apply_fn: Apply, about: About) -> "LoadedGraph":
        """The pair, with what is known beside."""
        loaded = cls(params, apply_fn)
        loaded._about = about
        return loaded

    @property
    def name(self) -> str:
        """The file."""
        return self._about.name

    @property
    def source(self) -> Source:
        """What was read."""
        return self._about.source

    @property
    def inputs(self) -> tuple[ValueSummary, ...]:
        """Name, dtype and shape of each input; open sizes are called as in the file."""
        return self.source.summary.inputs

    @property
    def outputs(self) -> tuple[ValueSummary, ...]:
        """The same of the outputs."""
        return self.source.summary.outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """Who wrote the file, its version, what else it says of itself."""
        return self.source.metadata

    @property
    def narrowed(self) -> tuple[str, ...]:
        """What has 64 bits in the file and 32 in JAX, because these are not enabled."""
        return self._about.narrowed

    @property
    def graph(self) -> FuncGraph:
        """The graph, whose open sizes are symbols.

        Raises:
          UnsupportedError: it can be made for sizes that are numbers alone.
        """
        return _built(self.name, self.source, _declared(self.name, self.source.inputs), {}).graph

    @property
    def summary(self) -> Summary:
        """The file's inputs, outputs, parameters and operators."""
        return self.source.summary

    def rows(self) -> list[tuple[str, str]]:
        """What the result shows of itself, as (name, value)."""
        leaves = list(jax.tree.leaves(self.params))
        numbers, size = sum(x.size for x in leaves), sum(x.nbytes for x in leaves)
        narrowed = [("narrowed", ", ".join(self.narrowed))] if self.narrowed else []
        return [
            ("file", self.name),
            *self.metadata.items(),
            ("inputs", ", ".join(map(str, self.inputs))),
            ("outputs", ", ".join(map(str, self.outputs))),
            ("nodes", f"{len(self.summary.nodes):,}"),
            ("parameters", f"{numbers:,} ({size:,} bytes)"),
            *narrowed,
        ]

    def __repr__(self) -> str:
        """One line a fact."""
        lines = "\n".join(f"  {name:<11}{value}" for name, value in self.rows())
        return f"LoadedGraph\n{lines}"

    def _repr_html_(self) -> str:
        """The table, and the graph of the file as a drawing whose modules open."""
        from fnckpt.picture.graph import graph as drawn  # with what lays it out, for notebooks

        return facts(self.rows()) + drawn(self.summary)


def load_graph(file: str | os.PathLike[str] | bytes | File) -> LoadedGraph:
    """A file of a graph as a pure JAX function and its parameters.

    Args:
      file: the path of a ``.onnx``, ``.mindir`` or ``.air`` file, its bytes, or an open file that
        is read to its end.

    Returns:
      What unpacks as ``params, apply_fn``. ``params`` are the float weights, mapped from the file
      and not copied until they are used; integers, and what shapes are computed from, are
      constants. ``apply_fn(params, *inputs)`` takes the inputs in the order of ``inputs`` and gives
      the one output, or a tuple of them. Each new combination of shapes is imported when it is
      traced.

    Raises:
      FormatError: it is no such file, or damaged. Nothing in it is executed or fetched.
      UnsupportedError: naming every operator that has no rule, and all that asks for a shape that
        depends on data.
      UserWarning: (a warning) inputs, outputs or weights of 64 bits, where JAX has 32.
      OSError: it cannot be read.

    Examples:
      >>> import tempfile
      >>> from fnckpt.exporting.export import export
      >>> x = jax.numpy.ones((1, 3))
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     net = lambda params, x: x @ params["w"]
      ...     weights, name = {"w": jax.numpy.ones((3, 2))}, f"{directory}/net"
      ...     file = export(weights, net, x, "ONNX", file_name=name)
      ...     params, apply_fn = load_graph(file)
      >>> jax.jit(apply_fn)(params, x).tolist(), list(params)
      ([[3.0, 3.0]], ['w'])
    """
    name, data, folder, file_format = _opened(file)
    try:
        source = reader(file_format)(data, name, folder)
    except NotImported as error:
        raise UnsupportedError(_message(name, error.places)) from None
    fixed = _fixed(source)
    weights = {key: value for key, value in source.weights.items() if key not in fixed}
    narrowed = tuple(_narrowed(source, weights))
    if narrowed:
        told = f"{name}: {', '.join(narrowed)}, since JAX's 64 bits are not enabled"
        warnings.warn(f"{told}; set jax_enable_x64", UserWarning, stacklevel=2)
    paths = paths_of(list(weights))
    params = nested({paths[key]: value for key, value in weights.items()})
    apply_fn = _function(name, source, paths)
    return LoadedGraph.of(params, apply_fn, About(name, source, narrowed))


def _opened(
    file: str | os.PathLike[str] | bytes | File,
) -> tuple[str, memoryview, Path | None, str]:
    """What errors call the file, its bytes, its folder, and its format."""
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        whole = stored(path)
        known = SUFFIXES.get(path.suffix.lower())
        known = known or format_of(whole.part(0, min(1, whole.size)), str(path))
        # The messages of the others are copied when they are parsed, so they are not mapped.
        data = (
            whole.part(0, whole.size)
            if known == "ONNX"
            else memoryview(content_of(path, f"a {known} file"))
        )
        return str(path), data, path.parent, known
    content = file if isinstance(file, bytes | bytearray | memoryview) else file.read()
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"load_graph reads bytes, got {type(content).__name__}; open it as binary")
    data = memoryview(content)
    return "bytes", data, None, format_of(data, "bytes")


def _function(name: str, source: Source, paths: Mapping[str, KeyPath]) -> Apply:
    """``apply_fn`` of a source."""
    kept: dict[tuple[Shape, ...], FuncGraph] = {}
    function = partial(TracedFunction, keep_loops=source.writer is not None)

    def apply_fn(params: PyTree, *inputs: Array) -> jax.Array | tuple[jax.Array, ...]:
        arrays = [_array(name, *each) for each in _paired(name, source.inputs, inputs)]
        shapes = tuple(array.shape for array in arrays)
        graph = kept.get(shapes)
        if graph is None:
            built = _built(name, source, shapes, _numbers(source.inputs, inputs))
            graph = built.graph
            if built.fixed.isdisjoint(each.name for each in source.inputs):
                while len(kept) >= MOST_KEPT:
                    kept.pop(next(iter(kept)))
                kept[shapes] = graph
        weights = {key: jax.numpy.asarray(leaf_at(params, path)) for key, path in paths.items()}
        outputs = function(graph, weights)(*arrays)
        results = tuple(map(jax.numpy.asarray, outputs))
        return results[0] if len(results) == 1 else results

    names = [each.name for each in source.inputs]
    if not all(map(str.isidentifier, names)) or len({*names, "params"}) <= len(names):
        names = [f"input_{i}" for i in range(len(names))] if len(names) > 1 else ["input"]
    kind = inspect.Parameter.POSITIONAL_ONLY
    given = [inspect.Parameter(each, kind) for each in ("params", *names[: len(source.inputs)])]
    vars(apply_fn)["__signature__"] = inspect.Signature(given)
    stem = Path(name).stem
    apply_fn.__name__ = stem if stem.isidentifier() else "model"
    return apply_fn


def _numbers(inputs: Sequence[Input], given: Sequence[Array]) -> dict[str, np.ndarray]:
    """The inputs whose values are there while the function is traced."""
    pairs = zip(inputs, given, strict=True)
    return {
        each.name: np.asarray(value, each.dtype)
        for each, value in pairs
        if not isinstance(value, jax.core.Tracer)
    }


def _paired(
    name: str, inputs: Sequence[Input], given: Sequence[Array]
) -> list[tuple[Input, Array]]:
    if len(given) != len(inputs):
        wanted = ", ".join(each.name for each in inputs) or "none"
        raise TypeError(f"{name}: takes {len(inputs)} inputs ({wanted}), {len(given)} given")
    return list(zip(inputs, given, strict=True))


def _array(name: str, wanted: Input, given: Array) -> jax.Array:
    """An input as JAX's array, of the dtype and rank that the file says."""
    array = jax.numpy.asarray(given)
    dtype = canonical(wanted.dtype)
    fits = wanted.shape is None or (
        len(wanted.shape) == len(array.shape)
        and all(
            is_symbolic(size) or is_symbolic(found) or size == found
            for size, found in zip(wanted.shape, array.shape, strict=True)
        )
    )
    if array.dtype != dtype or not fits:
        shape = "[...]" if wanted.shape is None else f"[{','.join(map(str, wanted.shape))}]"
        found = f"{array.dtype}[{','.join(map(str, array.shape))}]"
        raise ValueError(f"{name}: {wanted.name}: expected {dtype}{shape}, found {found}")
    return array


def _built(
    name: str, source: Source, shapes: Sequence[Shape], given: Mapping[str, np.ndarray]
) -> Imported:
    try:
        built = source.build(shapes, given)
    except NotImported as error:
        raise UnsupportedError(_message(name, error.places)) from None
    if source.writer is None:
        return built
    return replace(built, graph=respelled(built.graph, source.writer))


def _declared(name: str, inputs: Sequence[Input]) -> list[Shape]:
    """The shapes that the file says."""
    unknown = [each.name for each in inputs if each.shape is None]
    if unknown:
        places = [Place("input", each, "the file does not say its rank") for each in unknown]
        raise UnsupportedError(_message(name, places))
    return [each.shape for each in inputs if each.shape is not None]


def _fixed(source: Source) -> frozenset[str]:
    """The weights whose numbers become shapes, as far as the file's own sizes tell."""
    shapes = [each.shape for each in source.inputs if each.shape is not None]
    if len(shapes) < len(source.inputs):
        return frozenset()
    try:
        return source.build(shapes, {}).fixed
    except NotImported:  # told when it is traced, where sizes are numbers
        return frozenset()


def _narrowed(source: Source, weights: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What has a wider type in the file than in JAX."""
    arrays = ((key, value.dtype) for key, value in weights.items())
    values = ((v.name, np.dtype(v.dtype)) for v in source.summary.outputs if v.dtype in WIDE)
    for key, dtype in (*((i.name, i.dtype) for i in source.inputs), *values, *arrays):
        if canonical(dtype) != dtype:
            yield f"{key} is {canonical(dtype)} for {dtype}"


def _message(name: str, places: Sequence[Place]) -> str:
    """All the places, each with the reason below it; those of one reason together."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for place in places:
        by_reason.setdefault((place.op, place.reason), []).append(place.name)
    lines = [f"{name} cannot become a JAX function:"]
    for (op, reason), names in by_reason.items():
        lines += [f"  {op}: {', '.join(map(repr, names))}", f"    {reason}"]
    return "\n".join(lines)
