"""Checkpoints from one format to another, bit for bit."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from fnckpt.checkpoints.pytree import load_checkpoint, write_leaves
from fnckpt.checkpoints.storable import check_leaves
from fnckpt.errors import UnsupportedError
from fnckpt.visible import visible

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Format:
    """A format of checkpoints.

    Attributes:
      name: what errors call it.
      holds: whether an array can be stored in it.
      read: the arrays of a file or directory, by name; texts have rank 0 and dtype ``U``.
      write: makes the file or directory, whole or not at all.
    """

    name: str
    holds: Callable[[np.ndarray], bool]
    read: Callable[[Path], Arrays]
    write: Callable[[Arrays, Path], object]


def _ckpt() -> Format:
    def read(path: Path) -> Arrays:
        return load_checkpoint(path)

    def write(arrays: Arrays, path: Path) -> None:
        if not arrays:
            raise ValueError(f"{path}: there is no array; MindSpore refuses an empty checkpoint")
        check_leaves(_texts(arrays).items(), where=str(path))
        write_leaves(iter(arrays.items()), path)

    return Format(".ckpt", lambda array: True, read, write)


def _texts(arrays: Arrays) -> dict[str, np.ndarray | str]:
    """``arrays`` with their texts as ``str``, as a tree has them."""
    return {
        name: str(array) if array.dtype.kind == "U" and not array.shape else array
        for name, array in arrays.items()
    }


def _of(module: str, name: str) -> Format:
    """The format that ``module`` holds; imported only when it is asked for."""
    members = vars(import_module(module))
    return Format(name, members["holds"], members["read"], members["write"])


FORMATS: dict[str, Callable[[], Format]] = {
    ".ckpt": _ckpt,
    ".safetensors": lambda: _of("fnckpt.checkpoints.formats.safetensors", ".safetensors"),
    ".npz": lambda: _of("fnckpt.checkpoints.formats.npz", ".npz"),
    "": lambda: _of("fnckpt.checkpoints.formats.orbax", "an Orbax directory"),
    ".orbax": lambda: _of("fnckpt.checkpoints.formats.orbax", "an Orbax directory"),
}
"""Suffix -> format; a directory is Orbax's, whatever it is called."""


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format of ``path``, by its suffix, or because it is a directory.

    Raises:
      ValueError: no format has this suffix.

    >>> format_of("model.npz").name
    '.npz'
    """
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(filter(None, FORMATS))
        raise ValueError(f"{path}: no format has the suffix {suffix}; use {known}, or a directory")
    return FORMATS[suffix]()


def convert(source: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Write the arrays of the checkpoint ``source`` to ``destination``, with the same bits.

    Both are a ``.ckpt``, ``.safetensors`` or ``.npz`` file, or an Orbax directory (a path without
    suffix, or with ``.orbax``). A file that is there is replaced; an Orbax directory is not.

    Returns:
      ``destination``.

    Raises:
      UnsupportedError: arrays that the format cannot hold, all of them named; nothing is written.
      TypeError: arrays that MindSpore could not load from a ``.ckpt``, all of them named.
      FormatError: ``source`` is damaged.
      ValueError: a path of no known format; a ``.ckpt`` or an Orbax directory without any array.

    >>> import tempfile
    >>> from fnckpt.checkpoints.pytree import save_checkpoint
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     path = save_checkpoint({"w": np.arange(3)}, f"{directory}/a.ckpt")
    ...     path = convert(path, f"{directory}/a.npz")
    ...     dict(format_of(path).read(path))
    {'w': array([0, 1, 2])}
    """
    source, destination = Path(source), Path(destination)
    origin, target = format_of(source), format_of(destination)
    arrays = origin.read(source)
    faults = [
        f"  {visible(name)}: {array.dtype} {array.shape}"
        for name, array in arrays.items()
        if not target.holds(array)
    ]
    if faults:
        text = f"{destination}: {target.name} cannot hold these arrays, nothing was written:"
        raise UnsupportedError("\n".join([text, *faults]))
    target.write(arrays, destination)
    return destination
