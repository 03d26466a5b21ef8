"""``fnckpt export``."""

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fnckpt.cli.registry import command
from fnckpt.cli.users_code import UsersCode

if TYPE_CHECKING:
    from fnckpt.exporting.result import ExportResult
    from fnckpt.ir.targets.target import ValueSummary

PyTree = object


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "function",
        help="module:function, found as Python finds modules from here; a module of NNX or "
        "Equinox, or a function that closes over its weights, needs no --params",
    )
    parser.add_argument(
        "--params", type=Path, help="a checkpoint: its names, split at dots, are nested dicts"
    )
    parser.add_argument("--part", default="", help="only this part of the parameters: params")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        help="f32[1,28,28,1], or f32[b,28,28,1] for a size b that is known later; once for each",
    )
    parser.add_argument("--format", help="MINDIR, ONNX or AIR; the suffix of -o if left out")
    parser.add_argument(
        "-o", "--output", type=Path, help="the file; the function's name if left out"
    )
    parser.add_argument("--input-names", type=_words, metavar="A,B", help="one for each input")
    parser.add_argument("--output-names", type=_words, metavar="A,B", help="one for each output")
    parser.add_argument(
        "--dtype", help="compute in float16 or bfloat16; inputs and outputs keep their types"
    )
    parser.add_argument(
        "--fast-math",
        action="store_true",
        help="also use rewrites whose result differs for NaN and overflow",
    )
    parser.add_argument("--quantize", help="int4 or int8: weights of products, ONNX only")
    parser.add_argument(
        "--runtime", help="onnxruntime: also use operators that only ONNX Runtime has"
    )
    parser.add_argument(
        "--keep-params", action="store_true", help="keep the numbers of all weights"
    )
    passes = parser.add_mutually_exclusive_group()
    passes.add_argument(
        "--no-optimize",
        action="store_true",
        help="do not optimize: write the graph as it was traced",
    )
    passes.add_argument("--optimize", type=_words, metavar="A,B", help="run these passes alone")
    parser.add_argument(
        "--max-unroll", type=int, help="write out loops of up to this many iterations"
    )
    parser.add_argument(
        "--verify",
        nargs="?",
        const=True,
        default=False,
        type=float,
        metavar="ERROR",
        help="run the file and compare it with JAX before it is written",
    )
    parser.add_argument("--report", action="store_true", help="write FILE.md about each stage")
    _format_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs: one JSON document")


def _format_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that only some formats have."""
    parser.add_argument("--opset", type=int, help="ONNX: the version of its operators")
    parser.add_argument(
        "--no-metadata",
        dest="metadata",
        action="store_false",
        default=None,
        help="ONNX: leave out where the nodes come from",
    )
    parser.add_argument("--mindspore", help="MINDIR: the oldest version that reads the file: 2.0")
    parser.add_argument(
        "--external-data",
        action="store_true",
        default=None,
        help="ONNX, MINDIR: weights in a file beside the graph",
    )


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


@command("export", "export module:function, a pure function of parameters and inputs", _arguments)
def export(options: argparse.Namespace) -> int:
    from fnckpt.checkpoints.pytree import load_checkpoint
    from fnckpt.exporting import export as exporting

    function = imported(options.function)
    params: list[PyTree] = []
    if options.params is not None or not takes_inputs_alone(function, len(options.input)):
        arrays = {} if options.params is None else load_checkpoint(options.params)
        params = [part_of(nested(arrays), options.part)]
    chosen = {
        "max_unroll": options.max_unroll,
        "opset": options.opset,
        "metadata": options.metadata,
        "mindspore": options.mindspore,
        "external_data": options.external_data,
    }
    with UsersCode(options.function):
        result = exporting.export(
            *params,
            function,
            *options.input,
            file_format=options.format,
            file_name=options.output,
            input_names=options.input_names,
            output_names=options.output_names,
            dtype=options.dtype,
            fast_math=options.fast_math,
            keep_params=options.keep_params,
            quantize=options.quantize,
            runtime=options.runtime,
            optimize=options.optimize or not options.no_optimize,
            verify=options.verify,
            report=options.report,
            **{name: value for name, value in chosen.items() if value is not None},
        )
    print(json.dumps(document(result), indent=1) if options.json else repr(result))
    return 0


def document(result: "ExportResult") -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "file": str(result.path),
        "format": result.file_format,
        "inputs": list(map(_value, result.inputs)),
        "outputs": list(map(_value, result.outputs)),
        "nodes": result.nodes,
        "traced_nodes": result.traced_nodes,
        "passes": list(result.passes),
        "flops": result.flops,
        "parameters": result.parameters,
        "parameter_bytes": result.parameter_bytes,
        "bytes": result.bytes,
        "seconds": result.seconds,
        "quantized": None if result.quantized is None else str(result.quantized),
        "errors": None if result.verified is None else dict(result.verified.errors),
        "report": None if result.report is None else str(result.report),
    }


def _value(value: "ValueSummary") -> dict[str, object]:
    return {"name": value.name, "dtype": value.dtype, "shape": list(value.shape)}


def imported(name: str) -> Callable[..., PyTree]:
    """The function ``module:function``; the working directory is searched first, as by python -m.

    Raises:
      ValueError: there is none, or the module cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{name}: a function is given as module:function, like nets.digits:apply")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with UsersCode(name):
            found = vars(import_module(module)).get(attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: {error}; start in the directory in which python -m {module} works"
        ) from None
    if not callable(found):
        raise ValueError(f"{name}: the module {module} has no function {attribute}")
    return found


def takes_inputs_alone(function: Callable[..., PyTree], count: int) -> bool:
    """Whether a function takes ``count`` inputs and no parameters before them."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions written in C have no signature
        return False
    return _binds(signature, count) and not _binds(signature, count + 1)


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def nested(arrays: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """``{"a.b": x}`` as ``{"a": {"b": x}}``.

    Raises:
      ValueError: an array has the name of a part: ``a`` beside ``a.b``.
    """
    parts_of = {name: name.split(".") for name in arrays}
    outer = {
        ".".join(parts[:depth]): name
        for name, parts in parts_of.items()
        for depth in range(1, len(parts))
    }
    both = [f"{name} and {outer[name]}" for name in arrays if name in outer]
    if both:
        raise ValueError(
            f"--params: a nested dict cannot hold both names: {', '.join(both)}; rename one of each"
        )
    tree: dict[str, PyTree] = {}
    for name, array in arrays.items():
        place, parts = tree, name.split(".")
        for part in parts[:-1]:
            inner = place.setdefault(part, {})
            assert isinstance(inner, dict), name  # checked above
            place = inner
        if parts[-1] in place:
            raise ValueError(_both(name, arrays))
        place[parts[-1]] = array
    return tree


def _both(name: str, names: Sequence[str] | Mapping[str, PyTree]) -> str:
    other = next(n for n in names if n.startswith(f"{name}.") or name.startswith(f"{n}."))
    return f"--params: {other} and {name} cannot both be in nested dicts; rename one of them"


def part_of(tree: dict[str, PyTree], path: str) -> PyTree:
    """The part of a nested dict at ``a.b``.

    Raises:
      ValueError: it has no such part.
    """
    found: PyTree = tree
    for part in filter(None, path.split(".")):
        if not isinstance(found, dict) or part not in found:
            has = ", ".join(map(str, found)) if isinstance(found, dict) else "nothing"
            raise ValueError(f"--part {path}: the parameters have no {part} there, but {has}")
        found = found[part]
    return found
