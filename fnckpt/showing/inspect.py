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
from fnckpt.showing.file_table import FileTable, Row, Share

MOST_ROWS = 200
MOST_DEPTH = 32  # of parts within parts


@dataclass(frozen=True)
class FileKind:
    """How files of one suffix are shown and checked."""

    inspect: Callable[[Path], list[FileTable]]
    check: Callable[[Path], list[str]]


def inspect_file(path: Path) -> list[FileTable]:
    """The tables that show a file, chosen by its suffix; a directory is one of Orbax.

    Raises:
      FormatError: fnckpt does not know the suffix, or the file is damaged.
    """
    return kind_of(path).inspect(path)


def check_file(path: Path) -> list[str]:
    """What is wrong with a file, one line each; empty for a good one.

    Raises:
      FormatError: fnckpt does not know its suffix.
    """
    kind = kind_of(path)
    try:
        return kind.check(path)
    except FormatError as error:
        return [str(error).removeprefix(f"{path}: ")]


def kind_of(path: Path) -> FileKind:
    """The entry for a file's suffix, or for a directory of Orbax."""
    from fnckpt.checkpoints.on_demand import is_checkpoint

    name = path.suffix.removeprefix(".").upper()
    if name in TARGETS:
        goal = target(name)
        return FileKind(lambda p: _graph_tables(goal.summarize(p)), goal.check)
    if path.suffix == ".meta":
        return FileKind(_inspect_meta, _check_meta)
    if is_checkpoint(path):
        return FileKind(_inspect_checkpoint, _check_checkpoint)
    path.stat()  # says so if there is nothing
    raise FormatError(f"{path}: fnckpt does not read {_unread(path)}; it reads {_known()}")


def _unread(path: Path) -> str:
    return "this directory, which Orbax did not write" if path.is_dir() else "files of this suffix"


def _known() -> str:
    """What can be shown, for errors."""
    from fnckpt.checkpoints.convert import FORMATS

    files = [".meta", *(f".{name.lower()}" for name in TARGETS)]
    return f"{', '.join([*filter(None, FORMATS), *files])} and the directories of Orbax"


def _graph_tables(summary: Summary) -> list[FileTable]:
    nodes = summary.every_node()
    counts = Counter(node.op for node in nodes)
    size = _bytes(summary.parameters)
    return [
        _values("inputs", "inputs", summary.inputs),
        _values("outputs", "outputs", summary.outputs),
        _values("parameters", f"parameters, {size:,} bytes", summary.parameters, bytes=size),
        FileTable(
            "nodes",
            f"{len(nodes)} nodes, by {summary.producer}",
            ("operator", "count"),
            counts.most_common(),
            {"count": len(nodes)},
        ),
        *_cost_tables(summary),
    ]


def _cost_tables(summary: Summary) -> list[FileTable]:
    """The ten heaviest nodes, where the file tells shapes to count from."""
    total, unknown, heavy = file_costs(summary)
    if not heavy:
        return []
    title = f"{total:,} FLOPs, of the heaviest nodes"
    if unknown:
        title = f"FLOPs of the heaviest nodes; the file does not have the shapes of {unknown} nodes"
    share = 0 if unknown else total  # of a total that is not known there is none
    rows = [(h.op, h.scope, h.flops, Share(h.flops / share) if share else None) for h in heavy]
    totals = {"flops": None if unknown else total, "unknown": unknown}
    return [FileTable("costs", title, ("operator", "node", "FLOPs", "share"), rows, totals)]


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


def _values(name: str, title: str, values: Sequence[ValueSummary], **totals: int) -> FileTable:
    rows = [(v.name, v.dtype, v.shape) for v in values]
    totals |= {"count": len(rows)}
    return FileTable(name, title, ("name", "dtype", "shape"), rows, totals, most=MOST_ROWS)


def _inspect_checkpoint(path: Path) -> list[FileTable]:
    arrays = _outlines(path)
    rows = [(name, a.dtype.name, a.shape, a.nbytes) for name, a in arrays.items()]
    total = sum(a.nbytes for a in arrays.values())
    title = f"{len(rows)} tensors, {total:,} bytes"
    totals = {"count": len(rows), "bytes": total}
    return [FileTable("tensors", title, ("name", "dtype", "shape", "bytes"), rows, totals)]


def statistics(path: Path) -> FileTable:
    """Range, mean, norm and what is not finite of each tensor of a checkpoint.

    A text has none of them; complex numbers have no range.

    Raises:
      FormatError: it is not a checkpoint.
    """
    from fnckpt.checkpoints.on_demand import arrays_on_demand

    _want_checkpoint(path)
    with arrays_on_demand(path) as arrays:
        rows = [(name, *_figures(array)) for name, array in arrays.items()]
    header = ("name", "least", "greatest", "mean", "norm", "NaN, inf")
    return FileTable("statistics", "statistics", header, rows)


def _figures(array: np.ndarray) -> Row:
    if array.dtype.kind == "U":
        return None, None, None, None, None
    if not array.size:
        return None, None, None, None, 0
    is_complex = array.dtype.kind == "c"
    wide = array.astype(np.complex128 if is_complex else np.float64)
    finite = wide[np.isfinite(wide)]
    if not finite.size:
        return None, None, None, None, wide.size
    ends = (None, None) if is_complex else (float(finite.min()), float(finite.max()))
    mean = f"{finite.mean():.4g}" if is_complex else float(finite.mean())
    return *ends, mean, float(np.linalg.norm(finite)), wide.size - finite.size


def tree(path: Path) -> FileTable:
    """The tensors and bytes of each part of a checkpoint, parts within parts.

    Raises:
      FormatError: it is not a checkpoint.
    """
    totals: dict[tuple[str, ...], tuple[int, int]] = {}
    for name, array in _outlines(path).items():
        parts = tuple(name.split(".", MOST_DEPTH))
        for depth in range(len(parts) + 1):  # "a" may be a tensor and, beside "a.b", a part
            count, size = totals.get(parts[:depth], (0, 0))
            totals[parts[:depth]] = count + 1, size + array.nbytes
    rows = [
        ("  " * len(parts) + (parts[-1] if parts else path.name), count, size, ".".join(parts))
        for parts, (count, size) in sorted(totals.items())
    ]
    header = ("name", "tensors", "bytes", "path")
    return FileTable("parts", "parts", header, rows, hidden=1)


def _outlines(path: Path) -> dict[str, np.ndarray]:
    """Arrays of the dtypes and shapes in ``path``; their content is not read."""
    from fnckpt.checkpoints.on_demand import outlines

    _want_checkpoint(path)
    return outlines(path)


def _want_checkpoint(path: Path) -> None:
    from fnckpt.checkpoints.convert import FORMATS
    from fnckpt.checkpoints.on_demand import is_checkpoint

    if not is_checkpoint(path):
        known = ", ".join(filter(None, FORMATS))
        raise FormatError(
            f"{path}: not a checkpoint; statistics and trees are for {known} and the directories "
            "of Orbax"
        )


def _check_checkpoint(path: Path) -> list[str]:
    from fnckpt.checkpoints.on_demand import arrays_on_demand

    with arrays_on_demand(path) as arrays:
        for name in arrays:
            arrays[name]  # is read, so that what cannot be read is found
    return []


def graph_of(path: Path) -> Summary | None:
    """What a file of a graph holds; None where the suffix is not one of these.

    Raises:
      FormatError: the file is damaged.
    """
    name = path.suffix.removeprefix(".").upper()
    if name in TARGETS:
        return target(name).summarize(path)
    if path.suffix != ".meta":
        return None
    from fnckpt.ir.targets import anf

    return anf.summarize(path)


def _inspect_meta(path: Path) -> list[FileTable]:
    from fnckpt.ir.targets import anf

    return _graph_tables(anf.summarize(path))


def _check_meta(path: Path) -> list[str]:
    from fnckpt.ir.targets import anf

    anf.summarize(path)
    return []
