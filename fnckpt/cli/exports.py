"""``fnckpt export``."""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fnckpt.cli.registry import command

if TYPE_CHECKING:
    from jax.export import SymbolicScope

SPEC = re.compile(r"(?P<dtype>\w+)\[(?P<shape>[\w,\s*+-]*)\]")
SHORT = {"f": "float", "i": "int", "u": "uint", "bf": "bfloat"}
PyTree = object


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("function", help="module:function, found as Python finds modules from here")
    parser.add_argument(
        "--params", type=Path, help="a .ckpt: its names, split at dots, are nested dicts"
    )
    parser.add_argument("--part", default="", help="only this part of the parameters: params")
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        help="f32[1,28,28,1], or f32[b,28,28,1] for a size b that stays open; once for each",
    )
    parser.add_argument("--format", required=True, help="MINDIR, ONNX or AIR")
    parser.add_argument(
        "-o", "--output", type=Path, help="the file; the function's name if left out"
    )
    parser.add_argument("--dtype", help="float16 or bfloat16 inside; inputs and outputs stay")
    parser.add_argument(
        "--fast-math", action="store_true", help="rewrite also where NaN and overflow would differ"
    )


@command("export", "export module:function, a pure function of parameters and inputs", _arguments)
def export(options: argparse.Namespace) -> int:
    import jax.export

    from fnckpt.checkpoints.pytree import load_checkpoint
    from fnckpt.exporting import export as exporting

    function = imported(options.function)
    scope = jax.export.SymbolicScope()
    inputs = tuple(shape_of(text, scope) for text in options.input)
    arrays = {} if options.params is None else load_checkpoint(options.params)
    params = part_of(nested(arrays), options.part)
    result = exporting.export(
        params,
        function,
        inputs,
        options.format,
        file_name=options.output,
        dtype=options.dtype,
        fast_math=options.fast_math,
    )
    print(repr(result))
    return 0


def imported(name: str) -> Callable[..., PyTree]:
    """The function ``module:function``; the working directory is searched first, as by python -m.

    Raises:
      ValueError: there is none.
    """
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(f"{name}: a function is given as module:function, like nets.digits:apply")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = vars(import_module(module)).get(attribute)
    except ModuleNotFoundError as error:
        raise ValueError(f"{name}: {error}; start where python -m {module} would find it") from None
    if not callable(found):
        raise ValueError(f"{name}: the module {module} has no function {attribute}")
    return found


def shape_of(text: str, scope: "SymbolicScope") -> PyTree:
    """``f32[1,28]`` or ``float32[b,28]`` as a ``jax.ShapeDtypeStruct``, its symbols of ``scope``.

    Raises:
      ValueError: it is not of that form.
    """
    import jax.export

    found = SPEC.fullmatch(text.strip())
    if not found:
        raise ValueError(f"--input {text}: give dtype and shape like f32[1,28,28,1]")
    try:
        shape = jax.export.symbolic_shape(found["shape"], scope=scope)
    except ValueError as error:
        raise ValueError(f"--input {text}: {error}") from None
    short = re.fullmatch(r"(f|i|u|bf)(\d+)", found["dtype"])
    name = f"{SHORT[short[1]]}{short[2]}" if short else found["dtype"]
    try:
        return jax.ShapeDtypeStruct(shape, jax.numpy.dtype(name))
    except TypeError:
        raise ValueError(f"--input {text}: {name} is no dtype; f32, bf16, i32, bool are") from None


def nested(arrays: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """``{"a.b": x}`` as ``{"a": {"b": x}}``."""
    tree: dict[str, PyTree] = {}
    for name, array in arrays.items():
        *parts, last = name.split(".")
        place = tree
        for part in parts:
            inner = place.setdefault(part, {})
            assert isinstance(inner, dict), name
            place = inner
        place[last] = array
    return tree


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
