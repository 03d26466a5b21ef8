"""Reads AIR files."""

import os

from google.protobuf.message import DecodeError

from fnckpt.errors import FormatError
from fnckpt.ir.targets.foreign import content_of
from fnckpt.proto.ge_ir_pb2 import ModelDef


def read_model(path: str | os.PathLike[str]) -> ModelDef:
    """The message of an AIR file.

    Raises:
      FormatError: it is no such message.
    """
    return model_of(content_of(path, "an AIR file"), path)


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
