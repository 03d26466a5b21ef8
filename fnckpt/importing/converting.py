"""``convert``: a checkpoint or a graph from one format to another."""

import os
from collections.abc import Callable
from pathlib import Path

import jax

from fnckpt.checkpoints import convert as checkpoints
from fnckpt.errors import UnsupportedError
from fnckpt.exporting.export import ExportResult, export
from fnckpt.importing.load import load_graph
from fnckpt.ir.lowering import compat
from fnckpt.ir.sources import SUFFIXES
from fnckpt.ir.targets import TARGETS

GRAPHS = {f".{name.lower()}": name for name in TARGETS}


def convert(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], **options: int | str
) -> Path:
    """Write what is in ``source`` in the format of ``destination``, which their suffixes say.

    Args:
      source: a checkpoint: ``.ckpt``, ``.safetensors``, ``.npz`` or an Orbax directory; or a
        graph: ``.onnx``, ``.mindir`` or ``.air``.
      destination: the file to write: a checkpoint from a checkpoint, bit for bit; ``.onnx``,
        ``.mindir`` or ``.air`` from a graph.
      options: of a graph's format, as ``fnckpt.export`` takes them.

    Returns:
      ``destination``, with the suffix and the ending that its format gives.

    Raises:
      FormatError: ``source`` is damaged or of another format.
      UnsupportedError: ``destination`` cannot hold it; nothing was written.
      ValueError: a suffix that is none of these, or an option that there is not.
      OSError: a file cannot be read or written.

    Examples:
      >>> import tempfile, numpy
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     net = export({}, lambda params, x: x + 1, numpy.ones(2, "float32"), "ONNX",
      ...                  file_name=f"{directory}/net")
      ...     convert(net, f"{directory}/net.air").name
      'net.air'
    """
    first, last = Path(source), Path(destination)
    if first.suffix not in GRAPHS and last.suffix not in GRAPHS:
        if options:
            raise ValueError(f"a checkpoint is converted without options, got {', '.join(options)}")
        return checkpoints.convert(source, destination)
    if first.suffix not in SUFFIXES or last.suffix not in GRAPHS:
        known = f"{', '.join(SUFFIXES)} to {', '.join(GRAPHS)}"
        raise ValueError(f"{first} to {last}: graphs are converted from {known}")
    return _graph(first, last, options)


def _graph(source: Path, target: Path, options: dict[str, int | str]) -> Path:
    """With 64 bits where the file has them: its types are what it says."""
    with compat.enable_x64():
        loaded = load_graph(source)
        unknown = [each.name for each in loaded.source.inputs if each.shape is None]
        if unknown:
            raise UnsupportedError(f"{source}: it does not say the rank of {', '.join(unknown)}")
        inputs = tuple(
            jax.ShapeDtypeStruct(each.shape, each.dtype)
            for each in loaded.source.inputs
            if each.shape is not None
        )
        write: Callable[..., ExportResult] = export  # the options are those of the format
        goal = GRAPHS[target.suffix]
        return write(loaded.params, loaded.apply_fn, inputs, goal, file_name=target, **options).path
