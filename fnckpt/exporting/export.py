"""From a JAX function and its parameters to a file of another world."""

import inspect
import os
import time
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np

from fnckpt.errors import UnsupportedError
from fnckpt.exporting.call import Call, understood
from fnckpt.exporting.names import Names
from fnckpt.exporting.narrowing import narrowed_and_measured
from fnckpt.exporting.quantizing.apply import Sample, quantized
from fnckpt.exporting.quantizing.measured import Quantized
from fnckpt.exporting.quantizing.options import (
    Calibration,
    Quantization,
    Quantize,
    asked,
    checked_opset,
)
from fnckpt.exporting.report import Stages, write_report
from fnckpt.exporting.result import ExportResult
from fnckpt.exporting.runtimes import check_installed, is_installed
from fnckpt.exporting.signature import function_name, input_names
from fnckpt.exporting.tracing import trace, traced
from fnckpt.exporting.training_mode import in_training_mode
from fnckpt.exporting.verify import (
    Subject,
    Verified,
    allowed_in,
    as_in_file,
    filled,
    measured,
    verified,
)
from fnckpt.exporting.writing import destination, write
from fnckpt.ir.graph import Aval, CNode, FuncGraph
from fnckpt.ir.lowering import NotLowered, Problem
from fnckpt.ir.lowering.jaxpr import DEFAULT_MAX_UNROLL
from fnckpt.ir.passes.pipeline import TARGET_PASS, chosen, run
from fnckpt.ir.passes.precision import NARROW, Narrowing, stored
from fnckpt.ir.sizes import is_symbolic, places_of, symbols
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import Encoded, Refused, Target, ValueSummary, legalized, preferred

__all__ = ["ExportResult", "export", "trace"]

PyTree = object
DType = str | np.dtype | type | None


@dataclass(frozen=True)
class _Wish:
    """How the graph is to be made and written.

    Attributes:
      passes: the names of those that run.
      dtype: of ``NARROW``, or None.
      options: of the format.
    """

    name: str
    max_unroll: int
    passes: Sequence[str]
    keep_params: bool
    dtype: str | None
    fast_math: bool
    input_names: Names
    output_names: Names
    quantize: Quantization | Calibration | None
    runtime: str | None
    options: Mapping[str, int | str]


@dataclass(frozen=True)
class _Made:
    """The graph after each stage, the passes that changed it, and the file of the last one.

    ``training`` holds a line for each module that is called as in training.
    """

    graphs: Sequence[tuple[str, FuncGraph]]
    fired: tuple[str, ...]
    narrowing: Narrowing | None
    encoded: Encoded
    training: Sequence[str]
    quantized: Quantized | None = None


def export(
    params: PyTree,
    apply_fn: PyTree = None,
    sample_input: PyTree = None,
    *more: PyTree,
    file_format: str | None = None,
    file_name: str | os.PathLike[str] | None = None,
    max_unroll: int = DEFAULT_MAX_UNROLL,
    optimize: bool | Sequence[str] = True,
    keep_params: bool = False,
    dtype: DType = None,
    fast_math: bool = False,
    input_names: str | Sequence[str] | None = None,
    output_names: str | Sequence[str] | None = None,
    runtime: str | None = None,
    quantize: Quantize = None,
    verify: bool | float = False,
    report: bool = False,
    **options: int | str,
) -> ExportResult:
    """Write the function ``apply_fn(params, *inputs)`` as a file that other runtimes run.

    ``export(model, *inputs, file_format)`` writes a module that holds its weights: of NNX or
    Equinox, a bound linen module, or a function that closes over arrays.

    Args:
      params: a pytree; its arrays become the named weights of the file, called by their path
        (``params.Conv_0.kernel``), and its other leaves, Python's numbers among them, are passed
        to ``apply_fn`` as they are. Or the module. Complex arrays, here and among inputs and
        outputs, are real ones in the file, float32 or float64, with a last axis of 2: real part,
        imaginary part.
      apply_fn: a pure function. Arrays that it closes over become weights too, called by the name
        of their variable. Left out where ``params`` is a module.
      sample_input: an array or ``jax.ShapeDtypeStruct`` that says shape and dtype of the one
        input, or a tuple of them for several; each may be a pytree. Also a shape of float32 in
        which sizes may have names, ``("b", 8, 8, 1)``, or dtype and shape as a text,
        ``"i32[b,n]"``. A size with a name, or a symbol of ``jax.export.symbolic_shape``, is any
        number when the file runs (ONNX and MindIR). int64 stays int64 in the file.
      more: more inputs by position, and the format as the last.
      file_format: ``"MINDIR"``, ``"ONNX"`` or ``"AIR"``, in any case. None takes the suffix of
        ``file_name``.
      file_name: where to write; the format's suffix is added when missing. None takes the name
        of ``apply_fn``. The directory exists.
      max_unroll: a loop of known length is written out if it is short, and has at most so many
        iterations. ONNX keeps one that may be an LSTM or a GRU. Other loops and branches stay what
        they are in ONNX and MINDIR. AIR has no loops: there a longer one is refused, and of a
        branch both sides are computed.
      optimize: False turns the optimizer off. A list of names runs only these passes
        (``docs/optimizer.md`` lists them).
      keep_params: turns off arithmetic on weights. Each weight then has the numbers of its leaf, in
        the layout of the format, and can be replaced in the file. BatchNorm stays an operator.
      dtype: ``"float16"`` or ``"bfloat16"``, or ``jnp.float16``, ``jnp.bfloat16``: stores float32
        weights in this dtype, and computes in it if that is accurate enough. Inputs and outputs
        keep their dtypes. ``docs/optimizer.md`` lists what stays float32. If the network is small
        and the sample has arrays, the error is measured.
      fast_math: also use rewrites whose result differs for NaN, infinity or an index out of range.
        ``docs/optimizer.md`` lists them.
      input_names: a name for each array of the inputs, or for each input.
      output_names: a name for each array of the outputs. Without it the keys of a dict or the
        fields of a dataclass name them: ``logits``, ``present.0.key``; ``output`` and ``output.0``
        if there are no keys.
      runtime: ``"onnxruntime"`` allows operators that only this runtime has, if they are faster;
        ``"onnxruntime-genai"`` also allows ``GroupQueryAttention``, with a key-value cache that
        may be a part of a longer buffer. After the prompt, such a file takes one new token a
        call, or several if the batch is one. None uses only standard operators.
        ``docs/optimizer.md`` lists them.
      quantize: ``"int8"`` or ``"int4"`` stores the matrices of products as integers, a
        ``fnckpt.Quantization`` says in which blocks and which stay; a ``fnckpt.Calibration`` makes
        int8 of weights and what they meet, convolutions too. ONNX only; the error is in the result.
        ``docs/quantization.md`` has what it costs.
      verify: run the file in the runtime of its format before it gets its name, on the sample (or
        on random inputs where it has only shapes), and compare with JAX. A number is the error
        that is allowed instead of 1e-4 (float16: 2e-2, bfloat16: 1e-1, float64: 1e-8), as a
        share of the greatest number of each output.
      report: also write ``<file>.md``: each stage with its nodes and seconds, what the format's
        checker finds, the errors of the run if the runtime is installed.
      options: of the format. ONNX: ``opset``, an int; ``metadata=False`` leaves out of each node
        which module, primitive and source line made it. MINDIR: ``mindspore``, the oldest version
        that shall read the file: ``"2.3"`` (the default) for 2.3 and newer, ``"2.0"`` for
        MindSpore 1.x to 2.2 and MindSpore Lite 2.0 (``docs/mindir.md`` says what these lack).
        Both: ``external_data=True`` puts the weights into a file beside the graph's, as is done
        anyway where they do not fit into its 2 GB: ``net.onnx`` with ``net.onnx.<digest>.data``,
        ``net_graph.mindir`` with ``net_variables/data_<digest>``.

    Returns:
      The path, sizes and node counts of the file that was written.

    Raises:
      UnsupportedError: something in the function cannot be exported to the format. The message
        names every such place with its source line. No file was written.
      VerificationError: with ``verify``, a runtime computes another result than JAX. The message
        names the first node that differs. No file was written.
      TypeError: no function, or an input that is no array.
      ValueError: an unknown format, pass or ``dtype``, an option that the format does not have,
        names that do not fit, a file name of another format; with ``verify``, a runtime that is
        not installed.
      OSError: the file cannot be written; an older file is unchanged.

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

      A module by itself, for every batch size, run by ONNX Runtime before it is written:

      >>> from flax import nnx
      >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     result = export(model, ("b", 3), "ONNX", file_name=f"{directory}/n", verify=True)
      ...     print(result.inputs[0], sorted(w.name for w in result.graph.weights()))
      inputs: float32[b,3] ['bias', 'kernel']
    """
    start = time.perf_counter()
    given = [params, *(each for each in (apply_fn, sample_input) if each is not None), *more]
    call = understood(given, file_format, file_name)
    goal, name = target(call.file_format), function_name(call.apply_fn)
    path = destination(file_name, name, goal)
    _check_options(goal, options)
    _check_runtime(goal, runtime)
    narrow = _narrow_dtype(name, goal, dtype)
    integers = asked(quantize, goal, narrow, name)
    if isinstance(integers, Quantization):
        checked_opset(options, runtime, integers.name)
    wish = _Wish(
        name=name,
        max_unroll=max_unroll,
        passes=chosen(optimize, keep_params=keep_params, fast_math=fast_math),
        keep_params=keep_params,
        dtype=narrow,
        fast_math=fast_math,
        input_names=input_names,
        output_names=output_names,
        quantize=integers,
        runtime=runtime,
        options=options,
    )
    if verify is not False:
        check_installed(goal.name, "verify")
    stages = Stages()
    try:
        made = _made(call, goal, wish, path.stem, stages)
    except NotLowered as error:
        raise UnsupportedError(_message(name, goal, error.problems)) from None
    except Refused as error:
        raise UnsupportedError(_message(name, goal, _problems(error))) from None
    subject = Subject(
        call=call,
        graphs=made.graphs,
        goal=goal,
        encode=lambda graph: _encoded(call, goal, wish, graph, path.stem)[0],
        file_name=path.name,
    )
    for line in made.training:
        warnings.warn(f"{name}: {line}", UserWarning, stacklevel=2)
    outcome = _run(subject, _allowed(made, verify), report=report, stages=stages)
    path = path.with_name(f"{path.stem}{made.encoded.ending}{goal.suffix}")
    size = write(path, made.encoded)
    stages.done("written", f"{size:,} bytes")
    result = _result(path, goal, made, outcome, size, time.perf_counter() - start)
    return replace(result, report=write_report(result, goal, stages)) if report else result


def _made(call: Call, goal: Target, wish: _Wish, stem: str, stages: Stages) -> _Made:
    """Trace, lower, rewrite and encode.

    Raises:
      NotLowered, Refused: naming all that cannot be written.
    """
    leaves = jax.tree.leaves(call.inputs)
    _check_sizes(goal, input_names(call.apply_fn, call.inputs), leaves)
    try:
        jaxpr = traced(
            call.params,
            call.apply_fn,
            call.inputs,
            input_names=wish.input_names,
            output_names=wish.output_names,
        )
    except TypeError as error:
        if any(isinstance(given, list) for given in call.inputs):
            error.add_note(
                "the function gets the list sample_input as it is; several inputs are a tuple"
            )
        raise
    stages.done("traced", f"{len(jaxpr.closed.jaxpr.eqns):,} equations")
    graph = jaxpr.lowered(
        wish.name,
        call.closed,
        wish.max_unroll,
        loops=goal.loops,
        recurrent=goal.recurrent and wish.quantize is None,  # their products are what is stored
        keeps_weights=wish.keep_params,
    )
    graphs = [("lowered", graph)]
    stages.done("lowered", _size(graph))
    fired: list[str] = []
    for step in wish.passes:
        after = (
            preferred(graph, goal, wish.runtime, **wish.options)
            if step == TARGET_PASS
            else run(graph, [step])
        )
        if after is not graph:
            fired.append(step)
            graphs.append((f"the pass {step}", after))
            stages.done(f"pass {step}", _size(after))
        graph = after
    graph, narrowing = narrowed_and_measured(graph, wish.dtype, leaves)
    if wish.dtype is not None:
        graphs.append((f"narrowing to {wish.dtype}", graph))
        stages.done(f"narrowed to {wish.dtype}", _size(graph))
    graph = legalized(graph, goal, fast_math=wish.fast_math)
    graph = graph if wish.dtype is None else stored(graph, wish.dtype)
    graphs.append((f"what {goal.name} lacks was rewritten", graph))
    stages.done("legalized", _size(graph))
    encoded, facts = _encoded(call, goal, wish, graph, stem)
    if facts is not None:
        stages.done("quantized", f"{facts.bytes:,} bytes of weights")
    stages.done("emitted", f"{encoded.nodes:,} nodes of {goal.name}")
    training = in_training_mode(jaxpr.closed)
    return _Made(graphs, tuple(fired), narrowing, encoded, training, facts)


def _encoded(
    call: Call, goal: Target, wish: _Wish, graph: FuncGraph, stem: str
) -> tuple[Encoded, Quantized | None]:
    """The file of ``graph``, with integers where they are asked for."""
    encoded = goal.encode(graph, stem, **wish.options)
    if wish.quantize is None:
        return encoded, None

    def feeds_of(inputs: PyTree) -> list[np.ndarray]:
        leaves = jax.tree.leaves(inputs)
        return [as_in_file(x, p.aval) for x, p in zip(leaves, graph.inputs, strict=True)]

    # GroupQueryAttention takes several new tokens behind a cache in a batch of one alone
    alone = wish.runtime == "onnxruntime-genai"
    given, inputs = filled(call.inputs, batch=1 if alone else None)
    return quantized(
        encoded,
        wish.quantize,
        Sample(given, feeds_of(inputs), feeds_of),
        stem=stem,
        external=bool(wish.options.get("external_data")),
        standard=wish.runtime is None,
    )


def _allowed(made: _Made, verify: bool | float) -> bool | float:
    """What ``verify`` allows; with integers, what these cost comes on top of the usual."""
    if verify is True and made.quantized is not None:
        return 1.01 * made.quantized.error + allowed_in(made.graphs[-1][1])
    return verify


def _run(
    subject: Subject, verify: bool | float, *, report: bool, stages: Stages
) -> Verified | None:
    """What the runtime makes of the file, where that is asked for."""
    if verify is not False:
        outcome = verified(subject, None if verify is True else float(verify))
    elif report and is_installed(subject.goal.name):
        outcome, _ = measured(subject)
    else:
        return None
    stages.done("run", str(outcome))
    return outcome


def _result(
    path: Path, goal: Target, made: _Made, outcome: Verified | None, size: int, seconds: float
) -> ExportResult:
    graph, weights = made.graphs[-1][1], made.graphs[-1][1].weights()
    held = sum(p.aval.size * p.aval.dtype.itemsize for p in weights)
    border = graph.border
    pairs = zip(graph.output_names, graph.outputs, strict=True)
    return ExportResult(
        path=path,
        file_format=goal.name,
        inputs=tuple(
            _summary(p.name, p.aval, i in border.inputs) for i, p in enumerate(graph.inputs)
        ),
        outputs=tuple(
            _summary(name, node.aval, i in border.outputs) for i, (name, node) in enumerate(pairs)
        ),
        nodes=made.encoded.nodes,
        traced_nodes=_count(made.graphs[0][1]),
        passes=made.fired,
        parameters=sum(p.aval.size for p in weights),
        parameter_bytes=held if made.quantized is None else made.quantized.bytes,
        bytes=size,
        seconds=seconds,
        narrowing=made.narrowing,
        quantized=made.quantized,
        graph=graph,
        verified=outcome,
    )


def _size(graph: FuncGraph) -> str:
    return f"{_count(graph):,} nodes"


def _count(graph: FuncGraph) -> int:
    """Of its operators, those of the graphs inside too."""
    return sum(isinstance(node, CNode) for node in graph.every_node())


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
            f"its size {size} is symbolic, and {goal.name} needs numbers; give a number, and "
            "export once for each that is needed"
        )
    lost = ", ".join(sorted(symbols(size) - known))
    return lost and (
        f"its size {size} does not determine {lost}; give an input with an axis of exactly "
        "that size"
    )


def _narrow_dtype(name: str, goal: Target, dtype: DType) -> str | None:
    """The name of the dtype that is asked for; a type of numpy or JAX has one too."""
    if dtype is None:
        return None
    try:
        asked = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        asked = repr(dtype)
    if asked not in NARROW:
        raise ValueError(f"dtype must be one of {', '.join(NARROW)} or None, got {dtype!r}")
    if asked in goal.no_dtype:
        problem = Problem("dtype", asked, goal.no_dtype[asked])
        raise UnsupportedError(_message(name, goal, [problem]))
    return asked


def _check_options(goal: Target, options: Mapping[str, int | str]) -> None:
    known = list(inspect.signature(goal.encode).parameters)[2:]
    unknown = [option for option in options if option not in known]
    if unknown:
        has = ", ".join(known) or "none"
        raise ValueError(f"{goal.name} has no option {', '.join(unknown)}; its options are: {has}")


def _check_runtime(goal: Target, runtime: str | None) -> None:
    if runtime is not None and runtime not in goal.fused_for:
        known = ", ".join(map(repr, goal.fused_for)) or "none"
        raise ValueError(
            f"runtime must be None or one that {goal.name} files can be made for ({known}), got "
            f"{runtime!r}"
        )


def _problems(error: Refused) -> list[Problem]:
    return [Problem(node.op, node.origin.line(), reason) for node, reason in error.places]


def _message(name: str, goal: Target, problems: Sequence[Problem]) -> str:
    """All the places, each with the user's line and the reason below it."""
    lines = [f"{name} cannot be exported to {goal.name}, nothing was written:"]
    for problem in dict.fromkeys(problems):
        lines += [f"  {problem.primitive}: {problem.line}", f"    {problem.reason}"]
    return "\n".join(lines)


def _summary(name: str, aval: Aval, is_complex: bool) -> ValueSummary:
    shape = tuple(str(size) if is_symbolic(size) else size for size in aval.shape)
    return ValueSummary(name, aval.dtype.name, shape, is_complex)
