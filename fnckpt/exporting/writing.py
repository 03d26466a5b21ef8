"""Where a file goes, and its parts on the disk."""

import os
from pathlib import Path

from fnckpt.files import check_replaceable, replacing, writing_alone
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
    data = encoded.beside
    if data is None or not path.parent.is_dir():
        with replacing(path) as file:
            file.writelines(encoded.parts)
        return path.stat().st_size
    check_replaceable(path)
    beside = path.parent / data.location
    with writing_alone(path.parent) as alone:  # of two, each would remove the other's weights
        beside.parent.mkdir(exist_ok=True)
        with replacing(beside) as file:
            file.writelines(data.parts())
        with replacing(path) as file:
            file.writelines(encoded.parts)
        for old in data.older(path.parent) if alone else ():
            old.unlink(missing_ok=True)
        return path.stat().st_size + beside.stat().st_size
