"""What ``load_checkpoint`` gives without ``like``: arrays by name that show themselves."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

import numpy as np

from fnckpt.visible import visible

MOST_ROWS = 40  # of a repr
MOST_DEPTH = 32  # of branches within branches
MOST_READ = 1 << 26  # elements that a display reads for their norms


class Arrays(dict[str, np.ndarray]):
    """A dict, name -> array; it prints names, dtypes, shapes, bytes and norms in place of numbers.

    Examples:
      >>> Arrays({"dense.bias": np.ones(4, np.float32)})
      1 array, 16 bytes
        dense.bias  float32[4]  16 bytes  norm 2
    """

    def __repr__(self) -> str:
        """A line an array; of many the first."""
        rows = [(visible(name), *facts) for name, facts in _facts(self).items()][:MOST_ROWS]
        wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  " + "  ".join(cell.ljust(n) for cell, n in zip(row, wide, strict=True)).rstrip()
            for row in rows
        ]
        rest = [f"  and {len(self) - MOST_ROWS} more"] if len(self) > MOST_ROWS else []
        return "\n".join([_title(self), *lines, *rest])

    def _repr_html_(self) -> str:
        """The tree of names; a branch opens."""
        rows = {tuple(name.split(".", MOST_DEPTH)): facts for name, facts in _facts(self).items()}
        return f"<div><b>{_title(self)}</b>{_branches(rows, self, (), opened=True)}</div>"


def _title(arrays: Mapping[str, np.ndarray]) -> str:
    count, size = len(arrays), sum(array.nbytes for array in arrays.values())
    return f"{count} array{'s' * (count != 1)}, {size:,} bytes"


def _facts(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[str, str, str]]:
    """Type, bytes and norm of each array; norms only while few elements were read."""
    read, found = 0, {}
    for name, array in arrays.items():
        read += array.size
        kind = f"{array.dtype}[{','.join(map(str, array.shape))}]"
        norm = f"norm {_norm(array):.4g}" if read <= MOST_READ and array.dtype.kind != "U" else ""
        found[name] = (kind, f"{array.nbytes:,} bytes", norm)
    return found


def _norm(array: np.ndarray) -> float:
    """The Euclidean norm over all elements."""
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return float(np.linalg.norm(array.astype(wide).reshape(-1)))


def _branches(
    rows: Mapping[tuple[str, ...], Sequence[str]],
    arrays: Mapping[str, np.ndarray],
    path: tuple[str, ...],
    *,
    opened: bool = False,
) -> str:
    """The names below ``path``: a table of what ends here, a ``<details>`` for each branch."""
    below = [key for key in rows if key[: len(path)] == path]
    leaves = [key for key in below if len(key) == len(path) + 1]
    cells = "".join(_row((key[-1], *rows[key])) for key in leaves)
    inner = [key for key in below if len(key) > len(path) + 1]
    parts = [f"<table>{cells}</table>"] if leaves else []
    for name, group in groupby(sorted(inner), key=lambda key: key[len(path)]):
        held = [arrays[".".join(key)].nbytes for key in group]
        told = f"{escape(visible(name))} <small>{len(held)}, {sum(held):,} bytes</small>"
        branch = _branches({k: rows[k] for k in inner}, arrays, (*path, name))
        parts.append(
            f"<details{' open' * opened} style='margin-left:1em'><summary>{told}</summary>{branch}"
            "</details>"
        )
    return "".join(parts)


def _row(cells: Sequence[str]) -> str:
    inner = "".join(f"<td style='text-align:left'>{escape(visible(cell))}</td>" for cell in cells)
    return f"<tr>{inner}</tr>"
