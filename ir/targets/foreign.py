"""Files of unknown origin: read whole or refused, and no number in them believed too early."""

import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from fnckpt.errors import FormatError
from fnckpt.ir.targets.target import Shape, Summary

MOST_BYTES = 2**31 - 1  # of a message; protobuf's own limit
MOST_AXES = 64  # of NumPy
MOST_ELEMENTS = 1 << 59  # with 8 bytes each the largest array that NumPy can say

BAD_NUMBERS = (ArithmeticError, AssertionError, LookupError, MemoryError, TypeError, ValueError)
"""What Python and NumPy raise where an operator's attributes and inputs do not go together."""

Read = TypeVar("Read")
More = ParamSpec("More")
AnyPath = str | os.PathLike[str]


def content_of(path: AnyPath, kind: str) -> bytes:
    """The bytes of a file that holds one message.

    Args:
      path: the file.
      kind: what errors call it, "an AIR file".

    Raises:
      FormatError: it is larger than a message can be, or no regular file: a pipe may never end.
      OSError: it cannot be read.
    """
    path = Path(path)
    size = regular_size(path, kind)
    if size > MOST_BYTES:
        raise FormatError(f"{path}: {kind} holds at most {MOST_BYTES} bytes, found {size}")
    return path.read_bytes()


def regular_size(path: Path, kind: str) -> int:
    """The size of a file that has an end.

    Raises:
      FormatError: it is no regular file: a pipe may never end.
      OSError: it is a directory, or not there.
    """
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{path}: is a directory; give the name of a file")
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"{path}: is a pipe or a device; {kind} is a regular file")
    return found.st_size


def refusing(
    read: Callable[Concatenate[AnyPath, More], Read],
) -> Callable[Concatenate[AnyPath, More], Read]:
    """The reader ``read``, which raises FormatError also for what only shows when it is used.

    Protobuf decodes a text when it is asked for; nested values are gone through by recursion.
    """

    @wraps(read)
    def refuse(path: AnyPath, *more: More.args, **named: More.kwargs) -> Read:
        try:
            return read(path, *more, **named)
        except UnicodeDecodeError as error:
            sample = bytes(error.object[:40])
            raise FormatError(f"{path}: a text in it is not UTF-8, found {sample!r}") from None
        except RecursionError:
            raise FormatError(f"{path}: its values are nested too deeply") from None

    return refuse


def check_texts(path: AnyPath, message: Message) -> None:
    """Every text in ``message`` is UTF-8; protobuf gives bytes where one is not.

    Raises:
      FormatError: naming the field and its first bytes.
    """
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            texts = (value,) if isinstance(value, str | bytes) else value
            wrong = next((each for each in texts if isinstance(each, bytes)), None)
            if wrong is not None:
                told = f"a text ({field.name}) is not UTF-8, found {wrong[:40]!r}"
                raise FormatError(f"{path}: {told}")
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = value.values() if isinstance(value, Mapping) else value
            for each in (inner,) if isinstance(inner, Message) else inner:
                if isinstance(each, Message):
                    check_texts(path, each)


def elements(sizes: Iterable[int | str]) -> int | None:
    """The product of the sizes that are known; None where no array can have it, or so many axes.

    >>> elements((2, "n", 3)), elements((1 << 40, 1 << 40)), elements((0, 1 << 62))
    (6, None, None)
    """
    given = tuple(sizes)
    if len(given) > MOST_AXES:
        return None
    product = math.prod(size for size in given if isinstance(size, int) and size > 0)
    if product > MOST_ELEMENTS:
        return None
    return 0 if 0 in given else product


def sound(path: AnyPath, summary: Summary) -> Summary:
    """``summary``, all of whose shapes are possible.

    Raises:
      FormatError: one of them is not; names the value.
    """
    values = (*summary.inputs, *summary.outputs, *summary.parameters)
    shapes: list[tuple[str, Shape]] = [(value.name, value.shape) for value in values]
    for name, shape in (*shapes, *summary.shapes.items()):
        if elements(shape) is None:
            raise FormatError(f"{path}: the shape of {name!r} is impossible: {told(shape)}")
    return summary


def told(shape: Shape) -> str:
    """The first sizes of a shape, which may have thousands."""
    few = ",".join(map(str, shape[:8]))
    return f"[{few},...], {len(shape)} axes" if len(shape) > 8 else f"[{few}]"
