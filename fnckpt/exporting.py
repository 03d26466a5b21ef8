"""From a JAX function and its parameters to a file of another world."""

import inspect
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import jax
import jax.core
import numpy as np
from jax.extend.core import Var

from fnckpt.errors import UnsupportedError
from fnckpt.files import replacing
from fnckpt.ir.cost import Heavy, flops, heaviest
from fnckpt.ir.graph import Aval, FuncGraph, Parameter
from fnckpt.ir.lowering import NotLowered, Problem, lower
from fnckpt.ir.lowering.jaxpr import DEFAULT_MAX_UNROLL, aval_of_var, is_extended
from fnckpt.ir.passes.pipeline import TARGET_PASS, chosen, run
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import Encoded, Refused, Target, ValueSummary, legalized, preferred
from fnckpt.signature import function_name, input_names, leaf_names

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
    graph: FuncGraph = field(repr=False, compare=False)

    def __fspath__(self) -> str:
        """The path of the main file."""
        return str(self.path)

    def rows(self) -> list[tuple[str, str]]:
        """What the result shows of itself, as (name, value)."""
        return [
            ("file", str(self.path)),
            ("format", self.file_format),
            ("inputs", ", ".join(map(str, self.inputs))),
            ("outputs", ", ".join(map(str, self.outputs))),
            ("nodes", f"{self.nodes:,}, of {self.traced_nodes:,} that were traced"),
            ("passes", ", ".join(self.passes) or "none"),
            ("FLOPs", f"{self.flops:,}"),
            ("parameters", f"{self.parameters:,} ({self.parameter_bytes:,} bytes)"),
            ("bytes", f"{self.bytes:,}"),
            ("seconds", f"{self.seconds:.2f}"),
        ]

    @property
    def flops(self) -> int:
        """The floating-point operations of one run; a multiplication and an addition are two."""
        return flops(self.graph)

    def heaviest(self) -> Sequence[Heavy]:
        """The ten nodes with the most operations, each with the path of its module."""
        return heaviest(self.graph)

    def __repr__(self) -> str:
        """One line a fact."""
        lines = "\n".join(f"  {name:<11}{value}" for name, value in self.rows())
        return f"ExportResult\n{lines}"

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in self.rows()
        )
        return f"<table>{cells}</table>"


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
    **options: int | str,
) -> ExportResult:
    """Write the function ``apply_fn(params, *inputs)`` as a file that other runtimes run.

    Args:
      params: a pytree; its arrays become the named weights of the file, called by their path
        (``params.Conv_0.kernel``), and its other leaves, Python's numbers among them, are passed
        to ``apply_fn`` as they are.
      apply_fn: a pure function.
      sample_input: an array or ``jax.ShapeDtypeStruct`` that says shape and dtype of the one
        input, or a tuple of them for several; each may be a pytree.
      file_format: ``"MINDIR"``, ``"ONNX"`` or ``"AIR"``, in any case.
      file_name: where to write; the format's suffix is added when missing. None takes the name
        of ``apply_fn``.
      max_unroll: loops of known length are written out up to so many iterations.
      optimize: False writes the function as it was traced, operator by operator; a list of names
        runs these passes alone (``docs/optimizer.md`` lists them).
      keep_params: do no arithmetic on weights, so that each holds the numbers of its leaf, if in
        the target's layout, and can be replaced in the file. BatchNorm stays an operator.
      options: of the format. ONNX: ``opset``, an int. MINDIR: ``mindspore``, the oldest version
        that shall read the file: ``"2.3"`` (the default) for 2.3 and newer, ``"2.0"`` for
        MindSpore 1.x to 2.2 and MindSpore Lite 2.0 (``docs/mindir.md`` says what these lack).

    Returns:
      What was written.

    Raises:
      UnsupportedError: something in the function cannot be said in the format. The message names
        every such place with the source line that made it. No file was written.
      ValueError: an unknown format or pass, or an option that the format does not have.
      OSError: the file cannot be written; what was there before is still there.

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
    passes = chosen(optimize, keep_params=keep_params)
    name = function_name(apply_fn)
    path = _destination(file_name, name, goal.suffix)
    inputs = sample_input if isinstance(sample_input, tuple) else (sample_input,)
    try:
        graph = trace(params, apply_fn, inputs, name=name, max_unroll=max_unroll)
        traced = len(graph.cnodes())
        graph, fired = _optimized(graph, goal, passes)
        graph = legalized(graph, goal)
        encoded = _encode(goal, graph, options)
    except NotLowered as error:
        raise UnsupportedError(_message(name, goal, error.problems)) from None
    except Refused as error:
        raise UnsupportedError(_message(name, goal, _problems(error))) from None
    with replacing(path) as file:
        file.writelines(encoded.parts)
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
        bytes=path.stat().st_size,
        seconds=time.perf_counter() - start,
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
    _check_sizes(input_names(apply_fn, inputs), jax.tree.leaves(tuple(inputs)))
    leaves, structure = jax.tree.flatten(params)
    is_weight = [is_array(leaf) for leaf in leaves]
    arrays = [leaf for leaf, weight in zip(leaves, is_weight, strict=True) if weight]

    def apply(given: Sequence[jax.Array], args: Sequence[PyTree]) -> PyTree:
        rest = iter(given)
        values = [next(rest) if w else leaf for leaf, w in zip(leaves, is_weight, strict=True)]
        return apply_fn(jax.tree.unflatten(structure, values), *args)

    closed, shapes = jax.make_jaxpr(apply, return_shape=True)(arrays, tuple(inputs))
    count = len(arrays)
    names = [n for n, weight in zip(leaf_names(params), is_weight, strict=True) if weight]
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


def _check_sizes(names: Sequence[str], leaves: Sequence[object]) -> None:
    """Every size of the inputs must be a number."""
    shapes = [leaf.shape if isinstance(leaf, jax.ShapeDtypeStruct) else () for leaf in leaves]
    problems = [
        Problem(
            "input",
            name,
            f"its size {size} is symbolic, and files hold shapes that are known; give a number, "
            "and export once for each that is needed",
        )
        for name, shape in zip(names, shapes, strict=True)
        for size in shape
        if not isinstance(size, int | np.integer)
    ]
    if problems:
        raise NotLowered(problems)


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
    graph: FuncGraph, goal: Target, passes: Sequence[str]
) -> tuple[FuncGraph, tuple[str, ...]]:
    """The graph after ``passes``, and the names of those that changed it."""
    fired: list[str] = []
    for name in passes:
        after = preferred(graph, goal) if name == TARGET_PASS else run(graph, [name])
        if after is not graph:
            fired.append(name)
        graph = after
    return graph, tuple(fired)


def _destination(file_name: str | os.PathLike[str] | None, name: str, suffix: str) -> Path:
    path = Path(name if file_name is None else file_name)
    return path if path.suffix == suffix else path.with_name(path.name + suffix)


def _encode(goal: Target, graph: FuncGraph, options: dict[str, int | str]) -> Encoded:
    known = list(inspect.signature(goal.encode).parameters)[1:]
    unknown = [option for option in options if option not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise ValueError(f"{goal.name} has no option {', '.join(unknown)}; its options are: {has}")
    return goal.encode(graph, **options)


def _problems(error: Refused) -> list[Problem]:
    return [Problem(node.op, node.origin.line(), reason) for node, reason in error.places]


def _message(name: str, goal: Target, problems: Sequence[Problem]) -> str:
    """All the places, each with the user's line and the reason below it."""
    lines = [f"{name} cannot be exported to {goal.name}, nothing was written:"]
    for problem in dict.fromkeys(problems):
        lines += [f"  {problem.primitive}: {problem.line}", f"    {problem.reason}"]
    return "\n".join(lines)


def _summary(name: str, aval: Aval) -> ValueSummary:
    return ValueSummary(name, aval.dtype.name, aval.shape)
