"""What differs between two files of one kind."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fnckpt.checkpoints.on_demand import arrays_on_demand, is_checkpoint
from fnckpt.errors import FormatError
from fnckpt.ir.targets import TARGETS
from fnckpt.ir.targets.target import Summary
from fnckpt.showing.file_table import FileTable
from fnckpt.showing.inspect import graph_of

Row = tuple[str, str, str, str, int | None, float | None]
MOST_SHOWN = 40  # characters of a text
HEADER = ("what", "a", "b", "difference", "elements", "largest")


def differences(a: Path, b: Path) -> FileTable:
    """A row for each tensor, value or kind of operator that is not the same in both.

    Raises:
      FormatError: a file is damaged, or they are not two checkpoints or two graphs.
    """
    if is_checkpoint(a) and is_checkpoint(b):
        with arrays_on_demand(a) as left, arrays_on_demand(b) as right:
            rows = _of_checkpoints(left, right)
        return _table("1 tensor differs" if len(rows) == 1 else f"{len(rows)} tensors differ", rows)
    rows = _of_graphs(_summary(a), _summary(b))
    return _table("1 difference" if len(rows) == 1 else f"{len(rows)} differences", rows)


def _table(title: str, rows: Sequence[Row]) -> FileTable:
    return FileTable("differences", title, HEADER, rows, {"count": len(rows)}, hidden=2)


def _summary(path: Path) -> Summary:
    summary = graph_of(path)
    if summary is None:
        known = ", ".join([*(f".{each.lower()}" for each in TARGETS), ".meta"])
        raise FormatError(
            f"{path}: not a graph; give two checkpoints of any format, or two graphs of {known}"
        )
    return summary


def _of_checkpoints(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> list[Row]:
    rows = ((name, *_pair(a.get(name), b.get(name))) for name in dict.fromkeys([*a, *b]))
    return [row for row in rows if row[3]]


def _pair(
    a: np.ndarray | None, b: np.ndarray | None
) -> tuple[str, str, str, int | None, float | None]:
    """How each is shown, and the difference; nothing where they are equal."""
    shown = _shown(a), _shown(b)
    if a is None or b is None:
        return *shown, "missing in a" if a is None else "missing in b", None, None
    if a.dtype.kind == b.dtype.kind == "U":  # of other lengths they are of other dtypes
        return *shown, "" if str(a) == str(b) else "another text", None, None
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return *shown, "another dtype or shape", None, None
    if a.tobytes() == b.tobytes():
        return *shown, "", None, None
    return *shown, *_distance(a, b)


def _shown(x: np.ndarray | None) -> str:
    if x is None:
        return ""
    if x.dtype.kind == "U":
        return repr(str(x)[:MOST_SHOWN])
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _distance(a: np.ndarray, b: np.ndarray) -> tuple[str, int, float | None]:
    """In words, how many elements have other bits, and the greatest difference that is a number."""
    other = (_bits(a) != _bits(b)).any(1)
    gaps = _gaps(a.reshape(-1)[other], b.reshape(-1)[other])
    finite = gaps[np.isfinite(gaps)]
    greatest = float(finite.max()) if len(finite) else None
    told = ["1 element" if len(gaps) == 1 else f"{len(gaps):,} elements"]
    told += [] if greatest is None else [f"by up to {greatest:.3g}"]
    lost = len(gaps) - len(finite)
    told += [f"{lost:,} with NaN or an infinity"] if lost else []
    return ", ".join(told), len(gaps), greatest


def _bits(x: np.ndarray) -> np.ndarray:
    """The bytes of each element, shape (elements, bytes)."""
    return np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(x.size, -1)


def _gaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|; of 64-bit integers, which float64 does not hold, exactly."""
    if a.dtype.kind in "iu":
        return np.maximum(a, b).astype(np.uint64) - np.minimum(a, b).astype(np.uint64)
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(invalid="ignore"):
        return np.abs(a.astype(wide) - b.astype(wide))


def _of_graphs(a: Summary, b: Summary) -> list[Row]:
    """By inputs, outputs, parameters, operators; where these are the same, by what is in them."""
    return _by(a, b, _values, _operators) or _by(a, b, _attributes, _constants)


def _by(a: Summary, b: Summary, *parts: Callable[[Summary], dict[str, str]]) -> list[Row]:
    return [row for part in parts for row in _of_texts(part(a), part(b))]


def _values(summary: Summary) -> dict[str, str]:
    parts = {
        "input": summary.inputs, "output": summary.outputs, "parameter": summary.parameters,
    }  # fmt: skip
    return {
        f"{part} {value.name}": str(value).removeprefix(f"{value.name}: ")
        for part, values in parts.items()
        for value in values
    }


def _operators(summary: Summary) -> dict[str, str]:
    counts = Counter(node.op for node in summary.every_node())
    return {f"operator {op}": str(count) for op, count in counts.items()}


def _constants(summary: Summary) -> dict[str, str]:
    return {f"constant {name}": told for name, told in summary.constants.items()}


def _attributes(summary: Summary) -> dict[str, str]:
    """Each attribute by its name and the place of its node among those of its operator."""
    found: dict[str, str] = {}
    places = Counter[str]()
    for node in summary.every_node():
        places[node.op] += 1
        for name, value in node.attributes:
            found[f"{name} of {node.op} {places[node.op]}"] = value
    return found


def _of_texts(a: Mapping[str, str], b: Mapping[str, str]) -> Iterable[Row]:
    for name in {**a, **b}:
        left, right = a.get(name, ""), b.get(name, "")
        if left != right:
            missing = "missing in b" if not right else "missing in a" if not left else "changed"
            yield name, left, right, missing, None, None
