"""Reads AIR files."""

import os
from pathlib import Path

from google.protobuf.message import DecodeError

from fnckpt.errors import FormatError
from fnckpt.proto.ge_ir_pb2 import ModelDef

MOST_BYTES = 2147483647


def read_model(path: str | os.PathLike[str]) -> ModelDef:
    """The message of an AIR file.

    Raises:
      FormatError: it is no such message.
    """
    size = os.path.getsize(path)
    if size > MOST_BYTES:
        raise FormatError(f"{path}: an AIR file holds at most {MOST_BYTES} bytes, found {size}")
    return model_of(Path(path).read_bytes(), path)


def model_of(content: bytes, path: str | os.PathLike[str]) -> ModelDef:
    """The message in ``content``, which errors call ``path``.

    Raises:
      FormatError: it is no such message.
    """
    model = ModelDef()
    try:
        model.ParseFromString(content)
    except DecodeError as e:
        found = f"found {len(content)} bytes"
        raise FormatError(f"{path}: not an AIR file (a GE ModelDef), {found}") from e
    if not model.graph:
        raise FormatError(f"{path}: an AIR file holds one graph, found none")
    return model
