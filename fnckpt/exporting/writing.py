"""Where a file goes, and its parts on the disk."""

import os
from pathlib import Path

from fnckpt.files import replacing
from fnckpt.ir.targets import TARGETS
from fnckpt.ir.targets.target import Encoded, Target


def destination(file_name: str | os.PathLike[str] | None, name: str, goal: Target) -> Path:
    """The path of the file: with the format's suffix, which is added where it is missing.

    Raises:
      ValueError: the name ends like a file of another format.
    """
    path = Path(name if file_name is None else file_name)
    suffix = path.suffix.lower()
    if suffix == goal.suffix:
        return path.with_suffix(goal.suffix)
    other = suffix.removeprefix(".").upper()
    if other in TARGETS:
        raise ValueError(
            f"file_name {path} ends like a file of {other}, and file_format is {goal.name}; give "
            f"{path.with_suffix(goal.suffix)}, or file_format {other!r}"
        )
    if suffix == ".ckpt":
        raise ValueError(
            f"file_name {path} ends like a checkpoint; give {path.with_suffix(goal.suffix)}"
        )
    return path.with_name(path.name + goal.suffix)


def write(path: Path, encoded: Encoded) -> int:
    """Write the files, the graph last, then remove weights of older graphs; the bytes of all."""
    data, written = encoded.beside, [path]
    if data is not None:
        written.append(path.parent / data.location)
        if path.parent.is_dir():
            written[1].parent.mkdir(exist_ok=True)
        with replacing(written[1]) as file:
            file.writelines(data.parts())
    with replacing(path) as file:
        file.writelines(encoded.parts)
    if data is not None:
        for old in data.older(path.parent):
            old.unlink(missing_ok=True)
    return sum(each.stat().st_size for each in written)
