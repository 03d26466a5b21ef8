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
    model = ModelDef()
    try:
        model.ParseFromString(Path(path).read_bytes())
    except DecodeError as e:
        raise FormatError(f"{path}: not an AIR file (a GE ModelDef), found {size} bytes") from e
    if not model.graph:
        raise FormatError(f"{path}: an AIR file holds one graph, found none")
    return model
