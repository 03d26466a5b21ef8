"""What differs between two graphs when both are run on the same random inputs."""

from pathlib import Path

import numpy as np

from fnckpt.exporting.narrowing import greatest_error
from fnckpt.exporting.run import run
from fnckpt.ir.targets import target
from fnckpt.ir.targets.target import ValueSummary
from fnckpt.showing.inspect import FileTable

HEADER = ("output", "a", "b", "difference")
MOST = 1e-4  # of the greatest number: two runtimes round otherwise
OPEN = 2  # elements of an axis whose size is open


def ran(a: Path, b: Path) -> FileTable:
    """A row for each output that is not the same in both.

    Raises:
      FormatError: one is no file of a graph.
      ValueError: they take other inputs, or a runtime is not installed.
    """
    inputs = [random(value, seed) for seed, value in enumerate(_inputs(a))]
    if len(inputs) != len(_inputs(b)):
        raise ValueError(f"{a} takes {len(inputs)} inputs, {b} {len(_inputs(b))}")
    found, wanted = run(b, inputs), run(a, inputs)
    if len(found) != len(wanted):
        rows = [("outputs", str(len(wanted)), str(len(found)), "another number")]
        return FileTable("outputs", "the outputs differ", HEADER, rows)
    pairs = enumerate(zip(wanted, found, strict=True))
    rows = [(str(i), _shown(x), _shown(y), told) for i, (x, y) in pairs if (told := _gap(x, y))]
    return FileTable("outputs", f"{len(rows)} of {len(wanted)} outputs differ", HEADER, rows)


def random(value: ValueSummary, seed: int) -> np.ndarray:
    """Numbers of the shape and dtype of an input."""
    shape = [size if isinstance(size, int) and size >= 0 else OPEN for size in value.shape]
    generator, dtype = np.random.default_rng(seed), np.dtype(value.dtype)
    if dtype.kind in "biu":  # 0 and 1 are indices of any axis; a loop of no trips says nothing
        return generator.integers(0, 2, shape).astype(dtype) if shape else np.ones((), dtype)
    return generator.standard_normal(shape).astype(dtype)


def _inputs(path: Path) -> tuple[ValueSummary, ...]:
    return target(path.suffix.removeprefix(".").upper()).summarize(path).inputs


def _shown(x: np.ndarray) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _gap(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return "another shape"
    if a.dtype.kind in "biu":
        other = int((a != b).sum())
        return ("1 element" if other == 1 else f"{other:,} elements") if other else ""
    error = greatest_error([b], [a])
    return f"by up to {error:.3g} of the greatest" if error > MOST else ""
