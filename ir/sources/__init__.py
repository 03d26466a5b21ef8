"""The formats whose files become graphs."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import cast

from fnckpt.errors import FormatError
from fnckpt.ir.sources.source import Source

Read = Callable[[memoryview, str, Path | None], Source]

FORMATS: dict[str, str] = {"AIR": "air", "MINDIR": "mindir", "ONNX": "onnx"}
"""The package of each format; what it needs is imported when a file of it is read."""

SUFFIXES = {f".{name.lower()}": name for name in FORMATS}


def reader(file_format: str) -> Read:
    """What reads the files of a format."""
    package = import_module(f"fnckpt.ir.sources.{FORMATS[file_format]}")
    return cast(Read, vars(package)["source"])


def format_of(data: memoryview, name: str) -> str:
    """The format of bytes that have no suffix, by their first field.

    Raises:
      FormatError: they begin as no file of these formats.
    """
    if bytes(data[:1]) == b"\x08":  # the version of ONNX's format, a number
        return "ONNX"
    if bytes(data[:1]) == b"\x0a":  # the same of MindIR, a text
        return "MINDIR"
    if bytes(data[:1]) in (b"\x3a", b"\x5a"):  # AIR's graph, or an attribute of the model
        return "AIR"
    raise FormatError(f"{name}: its bytes do not begin as a file of {', '.join(FORMATS)}")
