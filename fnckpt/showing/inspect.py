"""What a file holds, and whether it is valid: one entry for each format."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fnckpt.errors import FormatError
from fnckpt.ir.targets import TARGETS, target
from fnckpt.ir.targets.cost import file_costs
from fnckpt.ir.targets.target import Summary, ValueSummary

MOST_ROWS = 200
MOST_DEPTH = 32  # of parts within parts


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
        FileTable(
            f"parameters, {_bytes(summary.parameters):,} bytes",
            ("name", "dtype", "shape"),
            _value_rows(summary.parameters),
        ),
        FileTable(
            f"{len(summary.nodes)} nodes, by {summary.producer}",
            ("operator", "count"),
            [(op, str(count)) for op, count in counts.most_common()],
        ),
        *_cost_tables(summary),
    ]


def _cost_tables(summary: Summary) -> list[FileTable]:
    """The ten heaviest nodes, where the file tells shapes to count from."""
    if not summary.shapes:
        return []
    total, unknown, heavy = file_costs(summary)
    title = f"{total:,} FLOPs, of the heaviest nodes"
    if unknown:
        title += f"; of {unknown} nodes the file does not tell the shapes"
    rows = [(h.op, h.scope, f"{h.flops:,}", f"{h.flops / total:.1%}") for h in heavy]
    return [FileTable(title, ("operator", "node", "FLOPs", "share"), rows)]


def _bytes(values: Sequence[ValueSummary]) -> int:
    """What the tensors take, those of a type that numpy has a name for."""
    return sum(
        _size_of(v.dtype) * math.prod(max(n, 0) for n in v.shape if isinstance(n, int))
        for v in values
    )


def _size_of(dtype: str) -> int:
    try:
        return np.dtype(dtype).itemsize
    except TypeError:
        return 0


def _value_rows(values: Sequence[ValueSummary]) -> list[tuple[str, ...]]:
    rows = [(v.name, v.dtype, "x".join(map(str, v.shape)) or "scalar") for v in values]
    return [*rows[:MOST_ROWS], *([("...", "", "")] if len(rows) > MOST_ROWS else [])]


def _inspect_checkpoint(path: Path) -> list[FileTable]:
    arrays = _tensors(path)
    rows = [
        (name, a.dtype.name, "x".join(map(str, a.shape)) or "scalar", f"{a.nbytes:,}")
        for name, a in arrays.items()
    ]
    total = sum(a.nbytes for a in arrays.values())
    title = f"{len(rows)} tensors, {total:,} bytes"
    return [FileTable(title, ("name", "dtype", "shape", "bytes"), rows)]


def statistics(path: Path) -> FileTable:
    """Range, mean, norm and what is not finite of each tensor of a checkpoint.

    Raises:
      FormatError: it is no checkpoint.
    """
    rows = [(name, *_figures(array)) for name, array in _tensors(path).items()]
    return FileTable("statistics", ("name", "least", "greatest", "mean", "norm", "NaN, inf"), rows)


def _figures(array: np.ndarray) -> tuple[str, ...]:
    if not array.size:
        return "", "", "", "", "0"
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return "", "", "", "", str(wide.size)
    figures = finite.min(), finite.max(), finite.mean(), np.linalg.norm(finite)
    return *(f"{number:.4g}" for number in figures), str(wide.size - finite.size)


def tree(path: Path) -> FileTable:
    """The tensors and bytes of each part of a checkpoint, parts within parts.

    Raises:
      FormatError: it is no checkpoint.
    """
    totals: dict[tuple[str, ...], tuple[int, int]] = {}
    for name, array in _tensors(path).items():
        parts = tuple(name.split(".", MOST_DEPTH))
        for depth in range(len(parts)):
            count, size = totals.get(parts[:depth], (0, 0))
            totals[parts[:depth]] = count + 1, size + array.nbytes
        totals[parts] = 1, array.nbytes
    rows = [
        ("  " * len(parts) + (parts[-1] if parts else path.name), f"{count:,}", f"{size:,}")
        for parts, (count, size) in sorted(totals.items())
    ]
    return FileTable("parts", ("name", "tensors", "bytes"), rows)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    from fnckpt.checkpoints.pytree import load_checkpoint

    if path.suffix != ".ckpt":
        raise FormatError(f"{path}: only a .ckpt has tensors to look into")
    return load_checkpoint(path, mmap=True)


def _check_checkpoint(path: Path) -> list[str]:
    _tensors(path)
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
