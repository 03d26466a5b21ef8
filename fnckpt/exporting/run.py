"""Running an exported file on arrays, in the runtime of its format."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import jax
import numpy as np

from fnckpt.errors import FormatError
from fnckpt.exporting.runtimes import RUNTIMES, check_installed
from fnckpt.ir.border import as_complex, as_real
from fnckpt.ir.lowering.known import array_of
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import ValueSummary

Array = np.ndarray | np.generic | jax.Array
POSITION = re.compile("(?:arr_)?([0-9]+)")  # what numpy.savez and ``run`` call unnamed arrays
Compute = Callable[[Path, Sequence[np.ndarray]], Sequence[np.ndarray]]
Inputs = Mapping[str, Array] | Sequence[Array] | Array


def run(file: str | os.PathLike[str], inputs: Inputs) -> list[np.ndarray]:
    """The outputs of an exported file, computed by the runtime that is installed.

    ONNX Runtime runs ``.onnx`` files on the CPU, MindSpore ``.mindir`` files in graph mode on the
    CPU, in a process of its own; NumPy computes ``.air`` files operator by operator, as GE
    documents them.

    Args:
      file: a ``.onnx``, ``.mindir`` or ``.air`` file, or an ``ExportResult``.
      inputs: the arrays in order, a dict of them by the names of the inputs, or one array where
        there is one input. Shapes and dtypes are those of the inputs of the file; PRNG keys may
        be keys or their data; an input that stands for complex numbers takes a complex array, or
        a real one with a last axis of 2.

    Returns:
      An array for each output, in order; a complex one where the file says so.

    Raises:
      FormatError: it is not a file of one of these formats.
      ValueError: the arrays are not those of the inputs, or the runtime is not installed.
      RuntimeError: the runtime does not run the file.

    Examples:
      >>> import tempfile
      >>> from fnckpt.exporting.export import export
      >>> x = np.ones((2, 3), np.float32)
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     file = export({}, lambda params, x: x + 1, x, "AIR", file_name=f"{directory}/net")
      ...     (found,) = run(file, x)
      >>> found.sum().item()
      12.0
    """
    if isinstance(inputs, Mapping):
        given = {str(name): array_of(array) for name, array in inputs.items()}
    else:
        arrays = [inputs] if isinstance(inputs, Array) else inputs
        given = {str(i): array_of(array) for i, array in enumerate(arrays)}
    return list(run_named(Path(file), given).values())


def run_named(
    path: Path, given: Mapping[str, np.ndarray], compute: Compute | None = None
) -> dict[str, np.ndarray]:
    """The outputs of a graph's file by name.

    ``compute`` stands for the runtime of the format. ``given`` holds an array for each input: by
    its name, or by its position (``0`` or ``arr_0``).

    Raises:
      FormatError: it is no file of a graph.
      ValueError: the arrays are not those of the inputs.
      RuntimeError: the runtime does not run the file.
    """
    name = path.suffix.removeprefix(".").upper()
    if name not in RUNTIMES:
        known = ", ".join(f".{each.lower()}" for each in RUNTIMES)
        raise FormatError(f"{path}: a file with this suffix cannot be run; use one of {known}")
    summary = target(name).summarize(path)
    inputs = _ordered(path, summary.inputs, given)
    if compute is None:
        check_installed(name, str(path))
        compute = RUNTIMES[name][1]
    outputs = compute(path, inputs)
    if len(outputs) != len(summary.outputs):
        raise FormatError(f"{path}: lists {len(summary.outputs)} outputs, but has {len(outputs)}")
    return {
        value.name: as_complex(array) if value.is_complex else array
        for value, array in zip(summary.outputs, outputs, strict=True)
    }


def _matched(path: Path, names: Sequence[str], given: Sequence[str]) -> list[str]:
    """Which of ``given`` goes to each of the inputs ``names``.

    Names that are only numbers (``0``, or ``arr_0`` of ``numpy.savez``) say the order.

    Raises:
      ValueError: other names, of which a misspelled one would be taken for another input.
    """
    if set(given) == set(names):
        return list(names)
    counted = [POSITION.fullmatch(name) for name in given]
    order = {int(each[1]): each.string for each in counted if each}
    if sorted(order) == list(range(len(given))):
        return [order[position] for position in range(len(given))]
    if len(names) == 1:  # it cannot be another's
        return list(given)
    lines = [f"{path}: the names of the arrays are not those of the inputs:"]
    extra = [name for name in given if name not in names]
    for name in names:
        if name not in given:
            close = get_close_matches(name, extra, n=3)
            lines.append(f"  {name}: not given" + (f"; close: {', '.join(close)}" if close else ""))
    lines += [f"  {name}: given, not an input" for name in extra]
    lines.append("name each array as its input, or give them in order, without names")
    raise ValueError("\n".join(lines))


def _ordered(
    path: Path, inputs: Sequence[ValueSummary], given: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    names = [value.name for value in inputs]
    if len(given) != len(names):
        raise ValueError(
            f"{path}: takes {len(names)} inputs ({', '.join(map(str, inputs))}), {len(given)} given"
        )
    arrays = [given[name] for name in _matched(path, names, list(given))]
    rows = [as_real(x) if v.is_complex else x for v, x in zip(inputs, arrays, strict=True)]
    for value, array in zip(inputs, rows, strict=True):
        fits = array.dtype.name == value.dtype and len(array.shape) == len(value.shape)
        if not fits or any(
            isinstance(n, int) and n >= 0 and n != m
            for n, m in zip(value.shape, array.shape, strict=True)
        ):
            raise ValueError(f"{path}: the input {value}, given {array.dtype}{list(array.shape)}")
    return rows
