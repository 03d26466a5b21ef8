"""What a file holds, and whether it is valid: one entry for each format."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fnckpt.errors import FormatError
from fnckpt.ir.targets import TARGETS, target
from fnckpt.ir.targets.target import Summary, ValueSummary

MOST_ROWS = 200


@dataclass(frozen=True)
class FileTable:
    """A titled table of text."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class FileKind:
    """How files of one suffix are shown and checked."""

    inspect: Callable[[Path], list[FileTable]]
    check: Callable[[Path], list[str]]


def inspect_file(path: Path) -> list[FileTable]:
    """The tables that show a file, chosen by its suffix.

    Raises:
      FormatError: the suffix is none of ours, or the file is damaged.
    """
    return kind_of(path).inspect(path)


def check_file(path: Path) -> list[str]:
    """What is wrong with a file, one line each; empty for a good one."""
    try:
        return kind_of(path).check(path)
    except FormatError as error:
        return [str(error).removeprefix(f"{path}: ")]


def kind_of(path: Path) -> FileKind:
    """The entry for a file's suffix."""
    name = path.suffix.removeprefix(".").upper()
    if name in TARGETS:
        goal = target(name)
        return FileKind(lambda p: _graph_tables(goal.summarize(p)), goal.check)
    if path.suffix not in FILES:
        known = ", ".join((*FILES, *(f".{name.lower()}" for name in TARGETS)))
        raise FormatError(f"{path}: its suffix is none that fnckpt reads; they are {known}")
    return FILES[path.suffix]


def _graph_tables(summary: Summary) -> list[FileTable]:
    counts = Counter(node.op for node in summary.nodes)
    return [
        FileTable("inputs", ("name", "dtype", "shape"), _value_rows(summary.inputs)),
        FileTable("outputs", ("name", "dtype", "shape"), _value_rows(summary.outputs)),
        FileTable("parameters", ("name", "dtype", "shape"), _value_rows(summary.parameters)),
        FileTable(
            f"{len(summary.nodes)} nodes, by {summary.producer}",
            ("operator", "count"),
            [(op, str(count)) for op, count in counts.most_common()],
        ),
    ]


def _value_rows(values: Sequence[ValueSummary]) -> list[tuple[str, ...]]:
    rows = [(v.name, v.dtype, "x".join(map(str, v.shape)) or "scalar") for v in values]
    return [*rows[:MOST_ROWS], *([("...", "", "")] if len(rows) > MOST_ROWS else [])]


def _inspect_checkpoint(path: Path) -> list[FileTable]:
    from fnckpt.checkpoint import load_checkpoint

    arrays = load_checkpoint(path, mmap=True)
    rows = [
        (name, a.dtype.name, "x".join(map(str, a.shape)) or "scalar", f"{a.nbytes:,}")
        for name, a in arrays.items()
    ]
    total = sum(a.nbytes for a in arrays.values())
    title = f"{len(rows)} tensors, {total:,} bytes"
    return [FileTable(title, ("name", "dtype", "shape", "bytes"), rows)]


def _check_checkpoint(path: Path) -> list[str]:
    from fnckpt.checkpoint import load_checkpoint

    load_checkpoint(path, mmap=True)
    return []


def _inspect_meta(path: Path) -> list[FileTable]:
    from fnckpt.ir.targets import anf

    return _graph_tables(anf.summarize(path))


def _check_meta(path: Path) -> list[str]:
    from fnckpt.ir.targets import anf

    anf.summarize(path)
    return []


FILES = {
    ".ckpt": FileKind(_inspect_checkpoint, _check_checkpoint),
    ".meta": FileKind(_inspect_meta, _check_meta),
}
