"""From a JAX function and its parameters to a file of another world."""

import inspect
import os
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import jax
import jax.core
import numpy as np
from jax.extend.core import Var

from fnckpt.errors import UnsupportedError
from fnckpt.exporting.narrowing import narrowed_and_measured
from fnckpt.exporting.signature import function_name, input_names, leaf_names
from fnckpt.files import check_replaceable, replacing, writing_alone
from fnckpt.ir.cost import Heavy, flops, heaviest
from fnckpt.ir.graph import Aval, FuncGraph, Parameter
from fnckpt.ir.lowering import NotLowered, Problem, lower
from fnckpt.ir.lowering.jaxpr import DEFAULT_MAX_UNROLL, aval_of_var, is_extended
from fnckpt.ir.passes.pipeline import TARGET_PASS, chosen, run
from fnckpt.ir.passes.precision import NARROW, Narrowing, stored
from fnckpt.ir.sizes import is_symbolic, places_of, symbols
from fnckpt.ir.specialize import specialized
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import Encoded, Refused, Target, ValueSummary, legalized, preferred
from fnckpt.picture.graph import graph as drawn

PyTree = object


@dataclass(frozen=True)
class ExportResult(os.PathLike[str]):
    """A file that was written, and what is in it. It can stand wherever a path can.

    Attributes:
      path: the main file.
      file_format: ``"MINDIR"``, ``"ONNX"`` or ``"AIR"``.
      inputs: name, dtype and shape of each input, in the order of ``sample_input``'s leaves.
      outputs: the same of each output.
      nodes: the number of operators in the file.
      traced_nodes: how many there were before any pass.
      passes: the names of the passes that changed the graph, in order.
      parameters: the number of trained numbers in the file, and
      parameter_bytes: what they take.
      bytes: the size of the file.
      seconds: from the call to the renamed file.
      narrowing: what became float16 or bfloat16, what did not, and the error of it; None without
        ``dtype``.
    """

    path: Path
    file_format: str
    inputs: tuple[ValueSummary, ...]
    outputs: tuple[ValueSummary, ...]
    nodes: int
    traced_nodes: int
    passes: tuple[str, ...]
    parameters: int
    parameter_bytes: int
    bytes: int
    seconds: float
    narrowing: Narrowing | None
    graph: FuncGraph = field(repr=False, compare=False)

    def __fspath__(self) -> str:
        """The path of the main file."""
        return str(self.path)

    def rows(self) -> list[tuple[str, str]]:
        """What the result shows of itself, as (name, value)."""
        precision = [] if self.narrowing is None else [("precision", str(self.narrowing))]
        return [
            ("file", str(self.path)),
            ("format", self.file_format),
            ("inputs", ", ".join(map(str, self.inputs))),
            ("outputs", ", ".join(map(str, self.outputs))),
            ("nodes", f"{self.nodes:,}, of {self.traced_nodes:,} that were traced"),
            ("passes", ", ".join(self.passes) or "none"),
            *precision,
            ("FLOPs", f"{self.flops:,}" + "".join(f", {s} = 1" for s in self._symbols())),
            ("parameters", f"{self.parameters:,} ({self.parameter_bytes:,} bytes)"),
            ("bytes", f"{self.bytes:,}"),
            ("seconds", f"{self.seconds:.2f}"),
        ]

    @property
    def flops(self) -> int:
        """The floating-point operations of one run; a multiplication and an addition are two.

        Symbolic sizes count as 1.
        """
        return flops(self._of_ones())

    def heaviest(self) -> Sequence[Heavy]:
        """The ten nodes with the most operations, each with the path of its module."""
        return heaviest(self._of_ones())

    def _of_ones(self) -> FuncGraph:
        return specialized(self.graph, dict.fromkeys(self._symbols(), 1))

    def _symbols(self) -> Sequence[str]:
        return sorted({s for p in self.graph.inputs for n in p.aval.shape for s in symbols(n)})

    def __repr__(self) -> str:
        """One line a fact."""
        lines = "\n".join(f"  {name:<11}{value}" for name, value in self.rows())
        return f"ExportResult\n{lines}"

    def _repr_html_(self) -> str:
        """The table, and the graph of the file as a drawing whose modules open."""
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.rows()
        )
        drawing = drawn(target(self.file_format).summarize(self.path))
        return f"<table>{cells}</table>{drawing}"


def export(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    sample_input: PyTree,
    file_format: str,
    *,
    file_name: str | os.PathLike[str] | None = None,
    max_unroll: int = DEFAULT_MAX_UNROLL,
    optimize: bool | Sequence[str] = True,
    keep_params: bool = False,
    dtype: str | None = None,
    fast_math: bool = False,
    **options: int | str,
) -> ExportResult:
    """Write the function ``apply_fn(params, *inputs)`` as a file that other runtimes run.

    Args:
      params: a pytree; its arrays become the named weights of the file, called by their path
        (``params.Conv_0.kernel``), and its other leaves, Python's numbers among them, are passed
        to ``apply_fn`` as they are.
      apply_fn: a pure function.
      sample_input: an array or ``jax.ShapeDtypeStruct`` that says shape and dtype of the one
        input, or a tuple of them for several; each may be a pytree. Sizes that ONNX and MindIR
        shall leave open are symbols of ``jax.export.symbolic_shape("b, n")``.
      file_format: ``"MINDIR"``, ``"ONNX"`` or ``"AIR"``, in any case.
      file_name: where to write; the format's suffix is added when missing. None takes the name
        of ``apply_fn``.
      max_unroll: loops of known length are written out up to so many iterations.
      optimize: False writes the function as it was traced, operator by operator; a list of names
        runs these passes alone (``docs/optimizer.md`` lists them).
      keep_params: do no arithmetic on weights, so that each holds the numbers of its leaf, if in
        the target's layout, and can be replaced in the file. BatchNorm stays an operator.
      dtype: ``"float16"`` or ``"bfloat16"`` stores float32 weights in it and computes in it what
        bears it; inputs and outputs keep their types. ``docs/optimizer.md`` lists what stays
        float32. Of a small network and a sample of arrays the error is measured.
      fast_math: rewrite also where a NaN, an infinity or an index out of range would give another
        result; ``docs/optimizer.md`` lists where.
      options: of the format. ONNX: ``opset``, an int. MINDIR: ``mindspore``, the oldest version
        that shall read the file: ``"2.3"`` (the default) for 2.3 and newer, ``"2.0"`` for
        MindSpore 1.x to 2.2 and MindSpore Lite 2.0 (``docs/mindir.md`` says what these lack).
        Both: ``external_data=True`` puts the weights into a file beside the graph's, as is done
        anyway where they do not fit into its 2 GB: ``net.onnx`` with ``net.onnx.<digest>.data``,
        ``net_graph.mindir`` with ``net_variables/data_<digest>``.

    Returns:
      What was written.

    Raises:
      UnsupportedError: something in the function cannot be said in the format. The message names
        every such place with the source line that made it. No file was written.
      ValueError: an unknown format, pass or ``dtype``, or an option that the format does not have.
      OSError: the file cannot be written; what was there before is still there.

    Examples:
      >>> import jax, tempfile
      >>> net = lambda params, x: jax.nn.relu(x @ params["w"])
      >>> params = {"w": jax.numpy.ones((3, 2))}
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     result = export(
      ...         params, net, jax.numpy.ones((1, 3)), "ONNX", file_name=f"{directory}/net"
      ...     )
      ...     print(result.path.name, result.nodes, result.parameters)
      net.onnx 2 6
    """
    start = time.perf_counter()
    goal = target(file_format)
    passes = chosen(optimize, keep_params=keep_params, fast_math=fast_math)
    name = function_name(apply_fn)
    _check_dtype(name, goal, dtype)
    path = _destination(file_name, name, goal.suffix)
    inputs = sample_input if isinstance(sample_input, tuple) else (sample_input,)
    try:
        _check_sizes(goal, input_names(apply_fn, inputs), jax.tree.leaves(inputs))
        graph = trace(params, apply_fn, inputs, name=name, max_unroll=max_unroll)
        traced = len(graph.cnodes())
        graph, fired = _optimized(graph, goal, passes, options)
        graph, narrowing = narrowed_and_measured(graph, dtype, jax.tree.leaves(inputs))
        graph = legalized(graph, goal, fast_math=fast_math)
        graph = graph if dtype is None else stored(graph, dtype)
        encoded = _encode(goal, graph, path.stem, options)
    except NotLowered as error:
        raise UnsupportedError(_message(name, goal, error.problems)) from None
    except Refused as error:
        raise UnsupportedError(_message(name, goal, _problems(error))) from None
    path = path.with_name(f"{path.stem}{encoded.ending}{goal.suffix}")
    size = _write(path, encoded)
    weights = graph.weights()
    return ExportResult(
        path=path,
        file_format=goal.name,
        inputs=tuple(_summary(p.name, p.aval) for p in graph.inputs),
        outputs=tuple(
            _summary(n, node.aval)
            for n, node in zip(graph.output_names, graph.outputs, strict=True)
        ),
        nodes=encoded.nodes,
        traced_nodes=traced,
        passes=fired,
        parameters=sum(p.aval.size for p in weights),
        parameter_bytes=sum(p.aval.size * p.aval.dtype.itemsize for p in weights),
        bytes=size,
        seconds=time.perf_counter() - start,
        narrowing=narrowing,
        graph=graph,
    )


def trace(
    params: PyTree,
    apply_fn: Callable[..., PyTree],
    inputs: Sequence[PyTree],
    *,
    name: str,
    max_unroll: int = DEFAULT_MAX_UNROLL,
) -> FuncGraph:
    """The graph of ``apply_fn(params, *inputs)`` as it was traced, without any pass.

    Raises:
      NotLowered: naming every equation that has no rule.
    """
    leaves, structure = jax.tree.flatten(params)
    is_weight = [is_array(leaf) for leaf in leaves]
    arrays = [leaf for leaf, weight in zip(leaves, is_weight, strict=True) if weight]

    def apply(given: Sequence[jax.Array], args: Sequence[PyTree]) -> PyTree:
        rest = iter(given)
        values = [next(rest) if w else leaf for leaf, w in zip(leaves, is_weight, strict=True)]
        return apply_fn(jax.tree.unflatten(structure, values), *args)

    closed, shapes = jax.make_jaxpr(apply, return_shape=True)(arrays, tuple(inputs))
    count = len(arrays)
    found = zip(leaf_names(params), is_weight, strict=True)
    names = [n or "params" for n, weight in found if weight]  # a lone array has no path
    weights = list(map(_weight, names, arrays, closed.jaxpr.invars[:count]))
    avals = [aval_of_var(var) for var in closed.jaxpr.invars[count:]]
    given = list(map(Parameter, input_names(apply_fn, inputs), avals))
    return lower(
        closed,
        weights,
        given,
        name=name,
        output_names=leaf_names(shapes, "output"),
        max_unroll=max_unroll,
    )


def _check_sizes(goal: Target, names: Sequence[str], leaves: Sequence[object]) -> None:
    """The format must know symbolic sizes, and each symbol must be read off an input's shape."""
    shapes = [leaf.shape if isinstance(leaf, jax.ShapeDtypeStruct) else () for leaf in leaves]
    known = set(places_of(shapes))
    sizes = [(name, size) for name, shape in zip(names, shapes, strict=True) for size in shape]
    found = [(name, _why_not(goal, size, known)) for name, size in sizes if is_symbolic(size)]
    problems = [Problem("input", name, reason) for name, reason in found if reason]
    if problems:
        raise NotLowered(problems)


def _why_not(goal: Target, size: int, known: Set[str]) -> str:
    """Why a symbolic size cannot be that of an input; empty where it can."""
    if not goal.symbolic:
        return (
            f"its size {size} is symbolic, and {goal.name} wants numbers; give a number, and "
            "export once for each that is needed"
        )
    lost = ", ".join(sorted(symbols(size) - known))
    return lost and (
        f"its size {size} does not say what {lost} is; give an input of which an axis has that "
        "size alone"
    )


def is_array(leaf: object) -> bool:
    """Whether a leaf is a weight; Python's own numbers and bools are settings, as in Equinox."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def _weight(name: str, leaf: object, var: Var) -> Parameter:
    """The leaf as a named weight; a PRNG key has no value that a file could hold."""
    if is_extended(var):
        return Parameter(name, Aval((), np.dtype(np.uint32)), path=name)
    value = np.asarray(leaf, aval_of_var(var).dtype)
    return Parameter(name, aval_of_var(var), value, path=name)


def _optimized(
    graph: FuncGraph, goal: Target, passes: Sequence[str], options: dict[str, int | str]
) -> tuple[FuncGraph, tuple[str, ...]]:
    """The graph after ``passes``, and the names of those that changed it."""
    fired: list[str] = []
    for name in passes:
        last = name == TARGET_PASS
        after = preferred(graph, goal, **options) if last else run(graph, [name])
        if after is not graph:
            fired.append(name)
        graph = after
    return graph, tuple(fired)


def _check_dtype(name: str, goal: Target, dtype: str | None) -> None:
    if dtype is not None and dtype not in NARROW:
        raise ValueError(f"dtype must be one of {', '.join(NARROW)} or None, got {dtype!r}")
    if dtype is not None and dtype in goal.no_dtype:
        problem = Problem("dtype", dtype, goal.no_dtype[dtype])
        raise UnsupportedError(_message(name, goal, [problem]))


def _destination(file_name: str | os.PathLike[str] | None, name: str, suffix: str) -> Path:
    path = Path(name if file_name is None else file_name)
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def _write(path: Path, encoded: Encoded) -> int:
    """Write the files, the graph last, then remove weights of older graphs; the bytes of all."""
    data = encoded.beside
    if data is None:
        with replacing(path) as file:
            file.writelines(encoded.parts)
        return path.stat().st_size
    check_replaceable(path)
    beside = path.parent / data.location
    with writing_alone(path.parent) as alone:  # of two, each would remove the other's weights
        beside.parent.mkdir(exist_ok=True)
        with replacing(beside) as file:
            file.writelines(data.parts())
        with replacing(path) as file:
            file.writelines(encoded.parts)
        for old in data.older(path.parent) if alone else ():
            old.unlink(missing_ok=True)
        return path.stat().st_size + beside.stat().st_size


def _encode(goal: Target, graph: FuncGraph, stem: str, options: dict[str, int | str]) -> Encoded:
    known = list(inspect.signature(goal.encode).parameters)[2:]
    unknown = [option for option in options if option not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise ValueError(f"{goal.name} has no option {', '.join(unknown)}; its options are: {has}")
    return goal.encode(graph, stem, **options)


def _problems(error: Refused) -> list[Problem]:
    return [Problem(node.op, node.origin.line(), reason) for node, reason in error.places]


def _message(name: str, goal: Target, problems: Sequence[Problem]) -> str:
    """All the places, each with the user's line and the reason below it."""
    lines = [f"{name} cannot be exported to {goal.name}, nothing was written:"]
    for problem in dict.fromkeys(problems):
        lines += [f"  {problem.primitive}: {problem.line}", f"    {problem.reason}"]
    return "\n".join(lines)


def _summary(name: str, aval: Aval) -> ValueSummary:
    shape = tuple(str(size) if is_symbolic(size) else size for size in aval.shape)
    return ValueSummary(name, aval.dtype.name, shape)
